"""The points of a search, each a trade-off of accuracy and latency, and the choice among them.

B or N images, L blocks, O operations.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from string import ascii_uppercase
from typing import Any

import torch
from torch import Tensor, nn

from nascore.data.batches import Split
from nascore.methods.instanas.controller import PolicyNetwork, greedy
from nascore.methods.instanas.cost_table import LatencyTable
from nascore.methods.instanas.supernet import MetaGraph
from nascore.spaces.ops import evaluation_mode

_BATCH = 256


@dataclass(frozen=True, slots=True)
class Point:
    """A controller and its meta-graph at one time of the search.

    Attributes:
        step: updates of the meta-graph until then.
        shared_accuracy: validation accuracy with each image's greedy policy, a fraction.
        valid_accuracy: the same after further training with the policy frozen; None before.
        train_accuracy: accuracy on the augmented training images since the previous point, each
            evaluated before the update with it, by the policy of another image.
        latency: mean over the images, controller included, in the unit of the table.
        num_distinct: number of distinct policies among the images.
        tokens: tokens of the policy that most images have.
    """

    number: int
    step: int
    shared_accuracy: float
    train_accuracy: float
    latency: float
    num_distinct: int
    tokens: tuple[int, ...]
    valid_accuracy: float | None = None

    @property
    def name(self) -> str:
        """A, B, ... in the order of the search."""
        return ascii_uppercase[self.number]

    @property
    def accuracy(self) -> float:
        """Accuracy after further training, if any, else that in the search."""
        return self.shared_accuracy if self.valid_accuracy is None else self.valid_accuracy

    def to_dict(self) -> dict[str, Any]:
        return {"name": self.name, **asdict(self)}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "Point":
        values = {key: data[key] for key in cls.__dataclass_fields__}
        return cls(**{**values, "tokens": tuple(values["tokens"])})


@dataclass(frozen=True, slots=True)
class Chosen:
    """The chosen point, and the rule as text."""

    point: Point
    rule: str


def choose(points: Sequence[Point], *, tolerance: float, target: float | None) -> Chosen:
    """Choose one of the points.

    With a target: the most accurate point within it, or the fastest if there is none. Without: the
    fastest whose validation accuracy is at most `tolerance` below the best.

    Raises:
        ValueError: there are no points.
    """
    if not points:
        raise ValueError("there is no point to choose")
    if target is not None:
        within = [point for point in points if point.latency <= target]
        if within:
            best = max(within, key=lambda point: (point.accuracy, -point.latency))
            return Chosen(best, f"the most accurate within latency.target_ms={target:g}")
        fastest = min(points, key=lambda point: point.latency)
        return Chosen(fastest, f"the fastest: none is within latency.target_ms={target:g}")
    floor = max(point.accuracy for point in points) - tolerance
    near = [point for point in points if point.accuracy >= floor - 1e-12]
    fastest = min(near, key=lambda point: (point.latency, -point.accuracy))
    return Chosen(
        fastest,
        f"the fastest whose validation accuracy is within {100 * tolerance:g} points of the best",
    )


@dataclass(frozen=True, slots=True)
class EvaluatedPoint:
    """Evaluation on a split, image by image; all tensors on the CPU.

    Attributes:
        is_correct_N: whether each image is classified correctly.
        p_NLO: the controller's probabilities.
        policy_NLO: the computed operations, bool.
        latency_N: whole latency, in the unit of the table.
    """

    is_correct_N: Tensor
    p_NLO: Tensor
    policy_NLO: Tensor
    latency_N: Tensor

    @property
    def accuracy(self) -> float:
        return float(self.is_correct_N.double().mean())


@torch.inference_mode()
def evaluate(
    graph: MetaGraph, controller: PolicyNetwork, table: LatencyTable, split: Split
) -> EvaluatedPoint:
    """Evaluate the greedy policies on a split; modes are restored."""
    probabilities, policies, right = [], [], []
    with evaluation_mode(graph), evaluation_mode(controller):
        for x_BCHW, y_B in split.eval_batches(_BATCH):
            p_BLO = controller(x_BCHW)
            policy_BLO = graph.effective(greedy(p_BLO))
            probabilities.append(p_BLO.cpu())
            policies.append(policy_BLO.cpu())
            right.append((graph(x_BCHW, policy_BLO).argmax(1) == y_B).cpu())
    policy_NLO = torch.cat(policies)
    return EvaluatedPoint(
        torch.cat(right), torch.cat(probabilities), policy_NLO, table.total(policy_NLO)
    )


@torch.inference_mode()
def is_correct_by(graph: MetaGraph, policy_NLO: Tensor, split: Split) -> Tensor:
    """Return whether these policies classify each image of a split correctly, bool (N,), CPU."""
    right, start = [], 0
    with evaluation_mode(graph):
        for x_BCHW, y_B in split.eval_batches(_BATCH):
            policy_BLO = policy_NLO[start : start + len(y_B)].to(x_BCHW.device)
            right.append((graph(x_BCHW, policy_BLO).argmax(1) == y_B).cpu())
            start += len(y_B)
    return torch.cat(right)


@torch.inference_mode()
def is_correct(network: nn.Module, split: Split) -> Tensor:
    """Return whether a network classifies each image of a split correctly, bool (N,), CPU."""
    with evaluation_mode(network):
        found = [
            (network(x_BCHW).argmax(1) == y_B).cpu() for x_BCHW, y_B in split.eval_batches(_BATCH)
        ]
    return torch.cat(found)
