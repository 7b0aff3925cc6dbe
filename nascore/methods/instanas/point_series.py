"""The points of a search: when they are due, and how they are evaluated and saved."""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from nascore.methods.instanas.controller import PolicyNetwork, greedy
from nascore.methods.instanas.cost_table import LatencyTable
from nascore.methods.instanas.decisions import most_used, num_distinct
from nascore.methods.instanas.networks import Context
from nascore.methods.instanas.point_checkpoints import point_path, save_point
from nascore.methods.instanas.routed_network import Routed
from nascore.methods.instanas.search_points import Point, evaluate
from nascore.methods.instanas.supernet import MetaGraph

_MOMENTUM, _NUM_BATCHES = 0.3, 8  # after so many batches, 6 % of the old averages is left


class PointSeries:
    """The points that one arm has saved so far.

    Args:
        controller: None for the control, which has no points.

    Attributes:
        points: in the order of the search.
    """

    def __init__(
        self,
        context: Context,
        graph: MetaGraph,
        controller: PolicyNetwork | None,
        table: LatencyTable,
    ) -> None:
        self._context, self._table = context, table
        self._graph, self._controller = graph, controller
        self._num_correct, self._num_seen = torch.zeros((), dtype=torch.int64), 0
        self.points: list[Point] = []

    def count(self, num_correct: Tensor, num_images: int) -> None:
        """Count training images, for the training accuracy of the next point."""
        self._num_correct = self._num_correct + num_correct.cpu()
        self._num_seen += num_images

    def is_due(self, fraction: float) -> bool:
        """Return whether a point is due at this spent fraction of the budget."""
        options = self._context.options
        if self._controller is None or len(self.points) == options.num_points:
            return False
        first, number = options.points_start, options.num_points
        position = len(self.points) + (number == 1)  # a single point is the end
        return fraction >= first + (1 - first) * position / max(1, number - 1)

    def add(self, step: int) -> None:
        """Evaluate the present networks on the validation split, and save them as a point."""
        controller, table = self._controller, self._table
        assert controller is not None
        evaluated = evaluate(self._graph, controller, table, self._context.splits.valid)
        ((policy, _), *_) = most_used(evaluated.policy_NLO, 1)
        point = Point(
            number=len(self.points),
            step=step,
            shared_accuracy=evaluated.accuracy,
            train_accuracy=int(self._num_correct) / max(1, self._num_seen),
            latency=float(evaluated.latency_N.mean()),
            num_distinct=num_distinct(evaluated.policy_NLO),
            tokens=tuple(int(bit) for block in policy for bit in block),
        )
        # Copies, since `Routed` freezes its controller.
        network = Routed.by_table(copy.deepcopy(controller), copy.deepcopy(self._graph), table)
        save_point(point_path(self._context.state, point), network, point)
        self.points.append(point)
        self._num_correct, self._num_seen = torch.zeros_like(self._num_correct), 0
        self._context.callbacks.on_metrics(
            {
                "points/shared_accuracy": point.shared_accuracy,
                f"points/latency_{table.unit}": point.latency,
                "points/num_distinct": float(point.num_distinct),
            },
            step,
        )

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint has to contain; JSON."""
        return {
            "num_correct": int(self._num_correct),
            "num_seen": self._num_seen,
            "points": [point.to_dict() for point in self.points],
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state` returned."""
        self._num_correct = torch.tensor(state["num_correct"])
        self._num_seen = int(state["num_seen"])
        self.points = [Point.from_dict(point) for point in state["points"]]


@torch.no_grad()
def recalibrate_batch_norm(
    context: Context, graph: MetaGraph, controller: PolicyNetwork, generator: torch.Generator
) -> None:
    """Replace the averages of batch normalisation by those of the greedy policies.

    During training they are the averages of sampled policies, which have more operations than the
    greedy ones late in a search, and sums of another number of terms: evaluated with them, a greedy
    policy has chance accuracy, and there is no reward to learn from.
    """
    norms = [module for module in graph.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    controller.eval()
    graph.train()
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = _MOMENTUM
    for _ in range(_NUM_BATCHES):
        size = 2 * context.options.weights.batch_size
        x_BCHW, _ = context.splits.train.random_batch(size, generator)
        graph(x_BCHW, greedy(controller(x_BCHW)))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
