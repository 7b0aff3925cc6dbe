"""Stage 2: controller and meta-graph are trained in turn, while the window of latencies falls.

In the controller's turn each image is classified twice, by its greedy policy m and by a sample a
from the bounded probabilities p', and the difference of the two rewards is the advantage of the
sample (self-critical). The meta-graph does not change, not even its batch normalisation. In the
meta-graph's turn samples are assigned to *other* images of the batch, so that all weights are
trained on all images. Source: InstaNAS (arXiv 1811.10201, released code `search.py`). Departures:
the window follows the spent fraction of the budget in any unit; the meta-graph's rate follows one
cosine; before a turn of the controller, the averages of batch normalisation are recomputed with
the greedy policies.

B images, L blocks, O operations, C channels.
"""

from typing import Any

import torch
from torch import Tensor

from nascore import checkpoint
from nascore.methods.common.one_shot_loop import CHECK_EVERY, OneShotLoop
from nascore.methods.common.weight_updates import WeightUpdates
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
from nascore.methods.instanas.decisions import num_distinct
from nascore.methods.instanas.networks import Context, identity
from nascore.methods.instanas.point_series import PointSeries, recalibrate_batch_norm
from nascore.methods.instanas.pretraining import random_policy, routed_step
from nascore.methods.instanas.reward import Window, policy_loss, reward, window_schedule
from nascore.methods.instanas.search_points import Point
from nascore.methods.instanas.supernet import MetaGraph
from nascore.training.loop import fitting_threads
from nascore.training.resumable import load_optimizer, optimizer_tensors, tensors_of
from nascore.training.schedule import half_cosine


class AlternatingTrainer:
    """One arm of a search.

    Args:
        arm: `method` or `control`; names random streams and the checkpoint.
        graph: pre-trained; it is trained in place, as is the controller.
        controller: None trains the meta-graph alone, on uniform policies.
        prior_cost_s: seconds that the arm has cost before.
    """

    def __init__(
        self,
        context: Context,
        arm: str,
        graph: MetaGraph,
        controller: PolicyNetwork | None,
        table: LatencyTable,
        *,
        prior_cost_s: float = 0.0,
    ) -> None:
        self._context, self._arm, self._options = context, arm, context.options
        self._graph, self._controller, self._table = graph, controller, table
        self._schedule = window_schedule(table, self._options)
        self._training = self._options.weights.resolve(context.training)
        train = context.splits.train
        self._weights = WeightUpdates(graph, self._training, train.class_weights_K)
        self._adam = None
        if controller is not None:
            self._adam = torch.optim.Adam(controller.parameters(), lr=self._options.controller.lr)
        self._loop = OneShotLoop(
            context,
            arm,
            kind=f"instanas-{arm}",
            training=self._training,
            identity=identity(context, budget=context.search.budget.model_dump(mode="json")),
            snapshot=self._snapshot,
            prior_cost_s=prior_cost_s,
        )
        self._turn = self._options.turn_steps or train.steps_per_epoch(self._training)
        self._step = self._decisions = 0
        self._fraction_at_turn = 0.0
        self._series = PointSeries(context, graph, controller, table)

    @property
    def seconds(self) -> float:
        """Wall seconds that the arm has cost so far, those before a crash included."""
        return self._loop.seconds

    @property
    def graph(self) -> MetaGraph:
        return self._graph

    @property
    def points(self) -> list[Point]:
        return self._series.points

    def run(self) -> None:
        """Search until the budget is spent or the search has to stop; there is a point then.

        Raises:
            WeightsDivergedError: the loss is not finite.
            InputError: the checkpoint that exists is damaged, or of another search.
        """
        train = self._context.splits.train
        with fitting_threads(train, self._training):
            self._restore()
            decisions = self._loop.batches("controller", train, start=self._decisions)
            weights = self._loop.batches("weights", train, start=self._step)
            for fraction in self._loop.until_spent(self._spent):
                if self._is_controller_turn():
                    if self._decisions % self._turn == 0:
                        self._recalibrate()
                    self._train_controller(*next(decisions))
                    self._loop.end_step(self._decisions, fraction)
                else:
                    loss = self._train_weights(*next(weights), fraction)
                    self._add_points()
                    self._loop.end_step(self._step, fraction, loss=loss)
            self._add_points()  # a budget of time may end in a turn of the controller
            if self._controller is not None and not self.points:
                self._add_point()
            self._loop.save()

    def _is_controller_turn(self) -> bool:
        """Return whether the controller, which has the first half of a turn, is trained next."""
        if self._controller is None:
            return False
        return self._decisions < (self._step // self._turn + 1) * self._turn

    # The controller.

    def _train_controller(self, x_BCHW: Tensor, y_B: Tensor) -> None:
        """Update the controller once; the meta-graph and its statistics are unchanged."""
        controller, settings, adam = self._controller, self._options.controller, self._adam
        assert controller is not None
        assert adam is not None
        window = self._schedule.at(self._fraction_at_turn)
        controller.train()
        self._graph.eval()
        p_BLO = controller(x_BCHW)
        explored_BLO = bounded(p_BLO, settings.alpha)
        generator = self._loop.generator("decision", self._decisions)
        sampled_BLO = sample(explored_BLO.detach(), generator)
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
        num_decays = int(self._fraction_at_turn / settings.lr_decay_every)
        for group in adam.param_groups:
            group["lr"] = settings.lr * 0.1**num_decays
        adam.step()
        self._decisions += 1
        if self._decisions % CHECK_EVERY == 0:
            self._report_policy(greedy_BLO, greedy_B, window)

    @torch.no_grad()
    def _rewards(
        self, x_BCHW: Tensor, y_B: Tensor, policies: tuple[Tensor, Tensor], window: Window
    ) -> tuple[Tensor, Tensor]:
        """Return R of each image by each of the two policies, (B,), from one forward pass."""
        both_BLO = torch.cat(policies)
        logits_BK = self._graph(torch.cat([x_BCHW, x_BCHW]), both_BLO)
        is_correct_B = logits_BK.argmax(1) == torch.cat([y_B, y_B])
        rewards_B = reward(is_correct_B, self._table.predict(both_BLO).float(), window)
        return rewards_B[: len(y_B)], rewards_B[len(y_B) :]

    def _report_policy(self, greedy_BLO: Tensor, reward_B: Tensor, window: Window) -> None:
        latency_B = self._table.predict(greedy_BLO)
        metrics = {
            "policy/reward": float(reward_B.mean()),
            f"policy/latency_{self._table.unit}": float(latency_B.mean()),
            "policy/window_upper": window.upper,
            "policy/num_distinct": float(num_distinct(greedy_BLO)),
        }
        self._loop.report(metrics, self._step)

    # The meta-graph.

    def _train_weights(self, x_BCHW: Tensor, y_B: Tensor, fraction: float) -> Tensor:
        """Update the meta-graph once, with policies of other images. Returns the loss."""
        policy_BLO = self._policies(x_BCHW, self._loop.generator("path", self._step))
        rate = half_cosine(fraction, self._training.lr, self._training.min_lr)
        loss, num_correct = routed_step(self._weights, x_BCHW, y_B, policy_BLO, lr=rate)
        self._series.count(num_correct, len(y_B))
        self._step += 1
        if self._step % self._turn == 0:
            self._fraction_at_turn = min(1.0, self._spent())
        return loss

    @torch.no_grad()
    def _policies(self, x_BCHW: Tensor, generator: torch.Generator) -> Tensor:
        if self._controller is None:
            shape = self._graph.policy_shape
            return random_policy(len(x_BCHW), shape, 0.5, generator).to(x_BCHW.device)
        self._controller.eval()
        p_BLO = bounded(self._controller(x_BCHW), self._options.controller.alpha)
        return permuted(sample(p_BLO, generator), generator)

    def _recalibrate(self) -> None:
        assert self._controller is not None
        recalibrate_batch_norm(
            self._context, self._graph, self._controller, self._loop.generator("settle", self._step)
        )

    # Points, budget and checkpoint.

    def _add_points(self) -> None:
        while self._series.is_due(self._spent()):
            self._add_point()

    def _add_point(self) -> None:
        self._recalibrate()
        self._series.add(self._step)
        self._loop.save()

    def _spent(self) -> float:
        return self._loop.spent(self._step)

    def _snapshot(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        tensors = self._weights.tensors()
        if self._controller is not None and self._adam is not None:
            tensors |= tensors_of("controller", self._controller)
            tensors |= optimizer_tensors("adam", self._adam)
        return tensors, {
            "step": self._step,
            "decisions": self._decisions,
            "fraction_at_turn": self._fraction_at_turn,
            **self._series.state(),
        }

    def _restore(self) -> None:
        found = self._loop.restore()
        if found is None:
            return
        tensors, state = found
        self._weights.load(tensors)
        if self._controller is not None and self._adam is not None:
            self._controller.load_state_dict(checkpoint.below("controller.", tensors))
            load_optimizer("adam", self._adam, tensors)
        self._step, self._decisions = int(state["step"]), int(state["decisions"])
        self._fraction_at_turn = float(state["fraction_at_turn"])
        self._series.load_state(state)
