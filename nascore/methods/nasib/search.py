"""The search: weights and distribution learn side by side until the budget is spent.

Each step trains the weights along one sampled path on one half of the training images and then,
once the warm-up is over, the distribution along another path on the other half. All that changes on
the way is a function of u, the spent share (`nascore.methods.nasib.schedule`). At any moment the
arg-max of the distribution is an architecture, and it is part of every checkpoint.

Source: what NASIB (arXiv 1910.08665) does here is not published; after SNAS and DARTS, our choices
are in docs/nasib.md. E edges, A axes.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nascore.context import SearchContext, device_of
from nascore.data.batches import Split
from nascore.errors import WeightsDivergedError
from nascore.evaluation.scoring import score_on
from nascore.genotype import Genotype
from nascore.methods.common import one_shot_loop
from nascore.methods.nasib.budget_tracker import BudgetTracker
from nascore.methods.nasib.distribution import Distribution
from nascore.methods.nasib.history import DistributionHistory
from nascore.methods.nasib.options import NasibOptions
from nascore.methods.nasib.supernet import make_superkernel_supernet
from nascore.methods.nasib.updates import LogitUpdates, WeightUpdates
from nascore.spaces.superkernel.space import AXES, SuperkernelSpace
from nascore.training import checkpoint, distributed
from nascore.training.loop import fitting_threads, half_cosine
from nascore.training.resumable import TrainingCheckpoint

KIND = "nasib"
_CHECK_EVERY = 16  # steps between looks at the loss: each one makes the host wait for a GPU


def space_of(task: SearchContext) -> SuperkernelSpace:
    assert isinstance(task.space, SuperkernelSpace)
    return task.space


def options_of(task: SearchContext) -> NasibOptions:
    assert isinstance(task.options, NasibOptions)
    return task.options


def path_of(state: Path, arm: str = "method") -> Path:
    return state / f"{arm}.ckpt"


def best_so_far(state: Path) -> Genotype:
    """The architecture of the last checkpoint, of a search that is under way, done or dead.

    Raises:
        CheckpointError: there is none, or it is damaged.
    """
    _, meta = checkpoint.load(path_of(state), f"{KIND}-method")
    return Genotype.from_dict(meta["genotype"])


class BudgetSearch:
    """One arm. All randomness is drawn by the number of a step, and all that the future depends on
    is in one checkpoint, so a search that was killed goes on exactly (budgets of steps).

    Args:
        arm: `method` or `control`; names random streams, and the checkpoint.
    """

    def __init__(self, task: SearchContext, arm: str = "method") -> None:
        self.task, self.arm, self.options = task, arm, options_of(task)
        self.device = device_of(task.training)
        self._kept = TrainingCheckpoint(
            path_of(task.state, arm),
            f"{KIND}-{arm}",
            self._identity(),
            every_s=one_shot_loop.CHECKPOINT_EVERY_S,
        )
        space = space_of(task)
        self.distribution = Distribution(
            space, task.shape, max_parameterless_edges=self.options.max_parameterless_edges
        )
        supernet = make_superkernel_supernet(
            space, task.shape, seed=task.seeds.integer(arm, "shared weights")
        )
        weights_K = task.splits.train.class_weights_K
        self._training = self.options.weights.resolve(task.training)
        self._weights = WeightUpdates(supernet.to(self.device), self._training, weights_K)
        self._logits = LogitUpdates(self.distribution, self.options.max_logit_change, weights_K)
        self._halves = self.halves()
        self._clock = BudgetTracker(
            task.search.budget,
            num_steps=self.num_steps(),
            seconds=lambda: self._kept.seconds,
            warmup=self.options.schedule.warmup,
            device=self.device,
        )
        self.history = DistributionHistory()
        self._step = self._decisions = 0
        self._ended_s: float | None = None
        self.schedule = self.options.schedule.over(max(1, self._clock.total_steps))

    @property
    def seconds(self) -> float:
        """Wall seconds that the arm has cost so far, those before a crash included; what comes
        after the end of `run` is not counted."""
        return self._kept.seconds if self._ended_s is None else self._ended_s

    @property
    def step(self) -> int:
        """Weight updates so far."""
        return self._step

    @property
    def decisions(self) -> int:
        """Updates of the distribution so far."""
        return self._decisions

    @property
    def clock(self) -> BudgetTracker:
        return self._clock

    def halves(self) -> tuple[Split, Split]:
        """The training images of the weights, and those of the distribution."""
        return self.task.splits.train.halves(self.task.seeds.torch(self.arm, "halves"))

    def num_steps(self) -> int | None:
        """Weight updates of a budget of steps; None when it is one of time."""
        return self.task.search.budget.steps

    def genotype(self) -> Genotype:
        """The arg-max architecture as of now."""
        return self.distribution.genotype()

    def run(self, *, until: float = 1.0) -> None:
        """Until that share of the budget is spent or the task is told to stop.

        Raises:
            WeightsDiverged: the loss is not finite.
            InputError: the budget is smaller than one step, or the checkpoint that is there is
                damaged, or of another search.
        """
        with fitting_threads(self.task.splits.train, self.options.weights):
            if not self.restore():
                self._save()  # there is an architecture from the beginning
            weights, logits = self._batches("weights"), self._batches("logits")
            while not self._is_over(u := self._clock.share(self._step), until):
                self._clock.begin()
                self._eliminate(u)
                self._note(u)
                self._train(weights, logits, u)
                if self._clock.end(self._step, u):
                    self.schedule = self.options.schedule.over(max(1, self._clock.total_steps))
                if self._step % _CHECK_EVERY == 0:
                    self._look(u)
                if distributed.any_of(self._kept.is_due(), device=self.device):
                    self._save()
            if until >= 1 and not self._must_stop():
                self._clock.finish(self._step)
                self.schedule = self.options.schedule.over(max(1, self._step))
                self._eliminate(1.0)
                self._note(1.0)
            self._save()
            self._ended_s = self._kept.seconds

    def _is_over(self, u: float, until: float) -> bool:
        return self._must_stop() or self._clock.is_over(self._step, u, until=until)

    def _must_stop(self) -> bool:
        return distributed.any_of(self.task.callbacks.should_stop(), device=self.device)

    # One step.

    def _train(
        self,
        weights: Iterator[tuple[Tensor, Tensor]],
        logits: Iterator[tuple[Tensor, Tensor]],
        u: float,
    ) -> None:
        x_BCHW, y_B = next(weights)
        settings = self.options.weights
        rate = half_cosine(u, settings.lr, settings.min_lr)
        self._loss = self._weights.step(self._sampled("path", self._step, u), x_BCHW, y_B, lr=rate)
        self._step += 1
        if u >= self.schedule.warmup:
            self._decide(*next(logits), u)

    def _sampled(self, stream: str, number: int, u: float) -> nn.Module:
        """The path of a step of the weights."""
        tokens_EA = self.distribution.sample(
            *self._noise(stream, number, u), temperature=self.schedule.temperature(u)
        ).tokens_EA
        return self._weights.supernet.path(tokens_EA)

    def _decide(self, x_BCHW: Tensor, y_B: Tensor, u: float) -> None:
        """One update of the distribution; the weights stay as they are."""
        sample = self.distribution.sample(
            *self._noise("decision", self._decisions, u), temperature=self.schedule.temperature(u)
        )
        num_updates = (1 - self.schedule.warmup) * self._clock.total_steps
        self._logits.step(
            self._weights.supernet,
            sample,
            x_BCHW,
            y_B,
            lr=self._logits.rate(num_updates),
            entropy_bonus=self.schedule.entropy_bonus(u),
        )
        self._decisions += 1

    def _noise(self, stream: str, number: int, u: float) -> tuple[Tensor, Tensor]:
        """Gumbel noise, and which edges explore."""
        generator = self.task.seeds.torch(self.arm, stream, number)
        noise_ES = self.distribution.noise(generator)
        drawn_E = torch.rand(len(noise_ES), generator=generator)
        return noise_ES, drawn_E < self.schedule.exploration(u)

    def _eliminate(self, u: float) -> None:
        if u < self.schedule.warmup:
            return
        for axis, size in zip(AXES, space_of(self.task).axis_sizes, strict=True):
            self.distribution.eliminate(axis, self.schedule.num_left(u, size))

    def _batches(self, stream: str) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches of a half from the present step on, for ever."""
        half = self._halves[stream == "logits"]
        number = self._decisions if stream == "logits" else self._step
        settings = self._training
        while True:
            epoch, done = divmod(number, half.steps_per_epoch(settings))
            generator = self.task.seeds.torch(self.arm, stream, epoch)
            for batch in half.train_batches(settings, generator, start=done):
                yield batch
                number += 1

    # What shared weights are worth.

    @torch.no_grad()
    def accuracies(
        self, genotypes: Sequence[Genotype], split: Split | None = None, *, hasty: bool = False
    ) -> list[float]:
        """With shared weights on a split, the validation split when not given; on one batch of it
        in haste."""
        split = self.task.splits.valid if split is None else split
        right_N = torch.zeros(len(genotypes), dtype=torch.float64, device=self.device)
        num_images = 0
        count = max(1, round(split.num_images / self.options.eval_batch_size))
        with fitting_threads(self.task.splits.train, self.options.weights):
            for x_BCHW, y_B in split.eval_batches(math.ceil(split.num_images / count)):
                for i in range(distributed.rank(), len(genotypes), distributed.size()):
                    network = self._weights.supernet.child(genotypes[i])
                    right_N[i] += (network(x_BCHW).argmax(1) == y_B).sum()
                num_images += len(y_B)
                if hasty:
                    break
        distributed.sum_([right_N])
        return (right_N.cpu() / num_images).tolist()

    @torch.no_grad()
    def scores(self, genotypes: Sequence[Genotype], *, hasty: bool = False) -> list[float]:
        """The same on the validation split in the objective of the search."""
        objective, valid = self.task.search.objective, self.task.splits.valid
        if objective == "accuracy":
            return self.accuracies(genotypes, hasty=hasty)
        score_N = torch.zeros(len(genotypes), dtype=torch.float64, device=self.device)
        count = max(1, round(valid.num_images / self.options.eval_batch_size))
        with fitting_threads(self.task.splits.train, self.options.weights):
            for i in range(distributed.rank(), len(genotypes), distributed.size()):
                network = self._weights.supernet.child(genotypes[i])
                batches = valid.eval_batches(math.ceil(valid.num_images / count))
                score_N[i] = score_on(
                    objective, network, itertools.islice(batches, 1 if hasty else None)
                )
        distributed.sum_([score_N])
        values: list[float] = score_N.tolist()
        return values

    # What the outside sees, and what survives.

    def _note(self, u: float) -> None:
        if self.history.is_due(u):
            self.history.add(
                self.distribution,
                u=u,
                step=self._step,
                exploration=self.schedule.exploration(u),
            )

    def _look(self, u: float) -> None:
        loss = distributed.agree(float(self._loss), device=self.device)
        if not math.isfinite(loss):
            raise WeightsDivergedError(
                f"the loss of the shared weights is {loss} at step {self._step}; lower "
                f"search.options.weights.lr={self.options.weights.lr:g}"
            )
        if not distributed.is_first():
            return
        self.task.callbacks.on_progress(self.arm, min(1.0, u))
        self.task.callbacks.on_metrics(
            self._metrics(u) | {f"weights/{self.arm}/loss": loss}, self._step
        )

    def _metrics(self, u: float) -> dict[str, float]:
        entropies = self.distribution.entropies()
        return {
            **{
                f"nasib/entropy_{name}": float(h_E.detach().mean())
                for name, h_E in entropies.items()
            },
            "nasib/exploration": self.schedule.exploration(u),
            "nasib/exploring_share": self.schedule.exploring_share,
            "nasib/candidates": self.distribution.num_candidates(),
            "nasib/spent": u,
            "nasib/total_steps": float(self._clock.total_steps),
        }

    def _save(self) -> None:
        if distributed.is_first():
            self._kept.save(
                self._weights.tensors() | self._logits.tensors(),
                step=self._step,
                decisions=self._decisions,
                genotype=self.genotype().to_dict(),
                clock=self._clock.state(),
                history=self.history.rows,
            )

    def restore(self) -> bool:
        """Takes up what an earlier process has left; whether there was anything."""
        found = self._kept.load()
        if found is None:
            return False
        tensors, meta = found
        self._weights.load(tensors)
        self._logits.load(tensors)
        self._step, self._decisions = int(meta["step"]), int(meta["decisions"])
        self._clock.load_state(meta["clock"])
        self.schedule = self.options.schedule.over(max(1, self._clock.total_steps))
        self.history.rows = list(meta["history"])
        return True

    def _identity(self) -> dict[str, Any]:
        """What a checkpoint must have been made with to be gone on from."""
        task = self.task
        return {
            "arm": self.arm,
            "space": space_of(task).config.model_dump(mode="json"),
            "seed": task.seeds.seed,
            "options": self.options.model_dump(mode="json"),
            "budget": task.search.budget.model_dump(mode="json"),
            "shape": [task.shape.channels, task.shape.size, task.shape.num_classes],
            "data": task.splits.info.data_sha256,
            **task.objective_settings(),
        }
