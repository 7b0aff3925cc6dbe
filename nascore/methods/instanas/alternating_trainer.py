"""Stage 2: controller and meta-graph learn in turn, while the window of latencies comes down.

In the controller's turn each image is answered twice, by its greedy policy m and by a sample a from
the bounded probabilities p', and the difference of the two rewards is the advantage of the sample
(self-critical). The meta-graph does not change then, not even its batch normalisation. In the
meta-graph's turn samples are given to *other* images of the batch, so that all weights go on
learning for all images. Source: InstaNAS (arXiv 1811.10201, released code `search.py`). Departures:
the window comes down with the share of the budget that is spent, whatever its unit; one cosine of
the meta-graph's rate; before a turn of the controller, batch normalisation's averages are taken
anew with the greedy policies.

B images, L blocks, O operations, C channels.
"""

import copy
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from nascore.context import SearchContext
from nascore.methods.common import one_shot_loop
from nascore.methods.instanas.controller import (
    PolicyNetwork,
    bounded,
    entropy,
    greedy,
    log_prob,
    permuted,
    sample,
)
from nascore.methods.instanas.cost_table import LatencyTable
from nascore.methods.instanas.decisions import most_used, num_distinct
from nascore.methods.instanas.options import InstanasOptions
from nascore.methods.instanas.point_checkpoints import keep_point, point_path
from nascore.methods.instanas.pretraining import WeightSteps, finite, random_policy
from nascore.methods.instanas.reward import Window, WindowSchedule, policy_loss, reward
from nascore.methods.instanas.routed_network import Routed
from nascore.methods.instanas.search_points import Point, judge
from nascore.methods.instanas.supernet import MetaGraph
from nascore.training import checkpoint
from nascore.training.loop import fitting_threads, half_cosine
from nascore.training.resumable import (
    TrainingCheckpoint,
    load_optimizer,
    optimizer_tensors,
    tensors_of,
)

_CHECK_EVERY = 16  # steps between looks at the loss: each one makes the host wait for a GPU
_SECONDS_PER_HOUR = 3600.0
_SETTLING, _SETTLING_BATCHES = 0.3, 8  # after so many, 6 % is left of the averages before


class AlternatingTrainer:
    """One arm of a search. All randomness is drawn by the number of a step, and all that the future
    depends on is in one checkpoint, so a search that was killed goes on exactly (budgets of steps).

    Args:
        arm: `method` or `control`; names random streams, and the checkpoint.
        graph: pre-trained; is trained in place, as is the controller.
        controller: None trains the meta-graph alone, on uniform policies.
        prior_cost_s: seconds that the arm has cost before.
    """

    def __init__(
        self,
        task: SearchContext,
        arm: str,
        graph: MetaGraph,
        controller: PolicyNetwork | None,
        table: LatencyTable,
        *,
        identity: Mapping[str, Any],
        prior_cost_s: float,
    ) -> None:
        options = task.options
        assert isinstance(options, InstanasOptions)
        self._task, self._arm, self._options = task, arm, options
        self._graph, self._controller, self._table = graph, controller, table
        self._schedule = window_schedule(table, options)
        self._training = options.weights.resolve(task.training)
        self._weights = WeightSteps(graph, self._training, task.splits.train.class_weights_K)
        self._adam = None
        if controller is not None:
            self._adam = torch.optim.Adam(controller.parameters(), lr=options.controller.lr)
        self._kept = TrainingCheckpoint(
            task.state / f"{arm}.ckpt",
            f"instanas-{arm}",
            identity,
            every_s=one_shot_loop.CHECKPOINT_EVERY_S,
            prior_cost_s=prior_cost_s,
        )
        self._turn = options.turn_steps or task.splits.train.steps_per_epoch(options.weights)
        self._step = self._decisions = self._seen = 0
        self._right = torch.zeros((), dtype=torch.int64)
        self._share_at_turn = 0.0
        self.points: list[Point] = []

    @property
    def seconds(self) -> float:
        """Wall seconds that the arm has cost so far, those before a crash included."""
        return self._kept.seconds

    @property
    def graph(self) -> MetaGraph:
        return self._graph

    def run(self) -> None:
        """Until the budget is spent or the task is told to stop; there is a point then at least.

        Raises:
            WeightsDiverged: the loss is not finite.
            InputError: the checkpoint that is there is damaged, or of another search.
        """
        with fitting_threads(self._task.splits.train, self._options.weights):
            self._restore()
            decisions, weights = self._batches("controller"), self._batches("weights")
            while (share := self._share()) < 1 and not self._task.callbacks.should_stop():
                if self._is_deciding():
                    if self._decisions % self._turn == 0:
                        self._recalibrate_batch_norm()
                    self._decide(*next(decisions))
                else:
                    self._train_weights(*next(weights), share)
                    self._add_points()
                if (self._step + self._decisions) % _CHECK_EVERY == 0:
                    self._task.callbacks.on_progress(self._arm, min(1.0, share))
                    if self._kept.is_due():
                        self._save()
            self._add_points()  # a budget of time may end in a turn of the controller
            if self._controller is not None and not self.points:
                self._add_point()
            self._save()

    # The two that alternate.

    def _decide(self, x_BCHW: Tensor, y_B: Tensor) -> None:
        """One update of the controller; the meta-graph and its statistics stay as they are."""
        controller, settings, adam = self._controller, self._options.controller, self._adam
        assert controller is not None
        assert adam is not None
        window = self._schedule.at(self._share_at_turn)
        controller.train()
        self._graph.eval()
        p_BLO = controller(x_BCHW)
        explored_BLO = bounded(p_BLO, settings.alpha)
        sampled_BLO = sample(explored_BLO.detach(), self._generator("decision", self._decisions))
        greedy_BLO = greedy(p_BLO.detach())
        sampled_B, greedy_B = self._rewards(x_BCHW, y_B, (sampled_BLO, greedy_BLO), window)
        loss = policy_loss(
            log_prob(sampled_BLO, explored_BLO),
            entropy(explored_BLO),
            sampled_B,
            greedy_B,
            entropy_weight=settings.entropy_weight,
        )
        adam.zero_grad(set_to_none=True)
        loss.backward()
        for group in adam.param_groups:
            group["lr"] = settings.lr * 0.1 ** int(self._share_at_turn / settings.lr_decay_every)
        adam.step()
        self._decisions += 1
        if self._decisions % _CHECK_EVERY == 0:
            self._report_decision(greedy_BLO, greedy_B, window)

    @torch.no_grad()
    def _rewards(
        self, x_BCHW: Tensor, y_B: Tensor, policies: tuple[Tensor, Tensor], window: Window
    ) -> tuple[Tensor, Tensor]:
        """R of each image by each of the two policies, (B,), from one pass of the meta-graph."""
        both_BLO = torch.cat(policies)
        logits_BK = self._graph(torch.cat([x_BCHW, x_BCHW]), both_BLO)
        rewards_B = reward(
            logits_BK.argmax(1) == torch.cat([y_B, y_B]),
            self._table.predict(both_BLO).float(),
            window,
        )
        return rewards_B[: len(y_B)], rewards_B[len(y_B) :]

    def _train_weights(self, x_BCHW: Tensor, y_B: Tensor, share: float) -> None:
        """One update of the meta-graph, with policies that belong to other images."""
        settings = self._options.weights
        generator = self._generator("path", self._step)
        policy_BLO = self._policies(x_BCHW, generator)
        rate = half_cosine(share, settings.lr, settings.min_lr)
        loss, num_right = self._weights.step(x_BCHW, y_B, policy_BLO, lr=rate)
        self._right = self._right + num_right.cpu()
        self._seen += len(y_B)
        self._step += 1
        if self._step % _CHECK_EVERY == 0:
            self._report({f"weights/{self._arm}/loss": finite(loss, self._step, settings.lr)})
        if self._step % self._turn == 0:
            self._share_at_turn = min(1.0, self._share())

    @torch.no_grad()
    def _recalibrate_batch_norm(self) -> None:
        """Batch normalisation's averages become those of the greedy policies, by some batches.

        In training they are of sampled policies, which have more operations than the greedy ones
        late in a search, and sums of another number of terms: judged by them, a greedy policy is
        judged at chance, and earns nothing to learn from.
        """
        controller, norms = self._controller, _batch_norms(self._graph)
        assert controller is not None
        controller.eval()
        self._graph.train()
        momenta = [norm.momentum for norm in norms]
        generator = self._generator("settle", self._step)
        for norm in norms:
            norm.momentum = _SETTLING
        for _ in range(_SETTLING_BATCHES):
            x_BCHW, _ = self._task.splits.train.random_batch(
                2 * self._options.weights.batch_size, generator
            )
            self._graph(x_BCHW, greedy(controller(x_BCHW)))
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum

    @torch.no_grad()
    def _policies(self, x_BCHW: Tensor, generator: torch.Generator) -> Tensor:
        if self._controller is None:
            shape = self._graph.policy_shape
            return random_policy(len(x_BCHW), shape, 0.5, generator).to(x_BCHW.device)
        self._controller.eval()
        p_BLO = bounded(self._controller(x_BCHW), self._options.controller.alpha)
        return permuted(sample(p_BLO, generator), generator)

    # Turns, batches and random streams by number.

    def _is_deciding(self) -> bool:
        """The controller has the first half of a turn."""
        if self._controller is None:
            return False
        return self._decisions < (self._step // self._turn + 1) * self._turn

    def _batches(self, stream: str) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches from the present step on, for ever."""
        train, settings = self._task.splits.train, self._training
        number = self._decisions if stream == "controller" else self._step
        while True:
            epoch, done = divmod(number, train.steps_per_epoch(settings))
            generator = self._task.seeds.torch(self._arm, stream, epoch)
            for batch in train.train_batches(settings, generator, start=done):
                yield batch
                number += 1

    def _generator(self, stream: str, number: int) -> torch.Generator:
        return self._task.seeds.torch(self._arm, stream, number)

    def _share(self) -> float:
        """Of the budget, how much is spent."""
        budget = self._task.search.budget
        if budget.unit == "steps":
            return self._step / budget.amount
        unit_s = _SECONDS_PER_HOUR if budget.unit == "gpu_hours" else 1.0
        return self.seconds / (budget.amount * unit_s)

    # Points.

    def _add_points(self) -> None:
        if self._controller is None:
            return
        share = self._share()
        while len(self.points) < self._options.num_points and share >= self._next_point():
            self._add_point()

    def _next_point(self) -> float:
        """The share of the budget at which the next point is due; the last one at its end."""
        first, number = self._options.points_start, self._options.num_points
        gaps = max(1, number - 1)
        place = len(self.points) + (number == 1)  # a single point is the end
        return first + (1 - first) * place / gaps

    def _add_point(self) -> None:
        """Judges what there is on the validation split, and keeps it with its weights."""
        assert self._controller is not None
        self._recalibrate_batch_norm()
        judged = judge(self._graph, self._controller, self._table, self._task.splits.valid)
        ((policy, _), *_) = most_used(judged.policy_NLO, 1)
        point = Point(
            number=len(self.points),
            step=self._step,
            shared_accuracy=judged.accuracy,
            train_accuracy=int(self._right) / max(1, self._seen),
            latency=float(judged.latency_N.mean()),
            num_distinct=num_distinct(judged.policy_NLO),
            tokens=tuple(int(bit) for block in policy for bit in block),
        )
        both = copy.deepcopy(self._controller), copy.deepcopy(self._graph)
        network = Routed.by_table(*both, self._table)  # which would freeze the controller
        keep_point(point_path(self._task.state, point), network, point)
        self.points.append(point)
        self._right, self._seen = torch.zeros_like(self._right), 0
        self._save()
        self._report(
            {
                "points/shared_accuracy": point.shared_accuracy,
                f"points/latency_{self._table.unit}": point.latency,
                "points/num_distinct": float(point.num_distinct),
            }
        )

    # What the outside sees, and what survives.

    def _report(self, metrics: dict[str, float]) -> None:
        self._task.callbacks.on_metrics(metrics, self._step)

    def _report_decision(self, greedy_BLO: Tensor, reward_B: Tensor, window: Window) -> None:
        latency_B = self._table.predict(greedy_BLO)
        self._report(
            {
                "policy/reward": float(reward_B.mean()),
                f"policy/latency_{self._table.unit}": float(latency_B.mean()),
                "policy/window_upper": window.upper,
                "policy/num_distinct": float(num_distinct(greedy_BLO)),
            }
        )

    def _save(self) -> None:
        tensors = self._weights.tensors()
        if self._controller is not None and self._adam is not None:
            tensors |= tensors_of("controller", self._controller)
            tensors |= optimizer_tensors("adam", self._adam)
        self._kept.save(
            tensors,
            step=self._step,
            decisions=self._decisions,
            right=int(self._right),
            seen=self._seen,
            share_at_turn=self._share_at_turn,
            points=[point.to_dict() for point in self.points],
        )

    def _restore(self) -> None:
        found = self._kept.load()
        if found is None:
            return
        tensors, meta = found
        self._weights.load(tensors)
        if self._controller is not None and self._adam is not None:
            self._controller.load_state_dict(checkpoint.below("controller.", tensors))
            load_optimizer("adam", self._adam, tensors)
        self._step, self._decisions = int(meta["step"]), int(meta["decisions"])
        self._right, self._seen = torch.tensor(meta["right"]), int(meta["seen"])
        self._share_at_turn = float(meta["share_at_turn"])
        self.points = [Point.from_dict(one) for one in meta["points"]]


def _batch_norms(graph: MetaGraph) -> list[torch.nn.BatchNorm2d]:
    return [module for module in graph.modules() if isinstance(module, torch.nn.BatchNorm2d)]


def window_schedule(table: LatencyTable, options: InstanasOptions) -> WindowSchedule:
    """The window over the search, by what the table says of the blocks.

    Raises:
        InputError: at some time it would be empty.
    """
    return WindowSchedule(
        minimum=table.baseline_min,
        baseline=table.baseline,
        maximum=table.baseline_max,
        start=options.reward.start,
        end=options.reward.end,
        key="search.options.reward",
    )
