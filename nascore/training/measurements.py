"""Accuracies and scores of the epochs of a training, and the weights of its best epoch."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nascore import checkpoint
from nascore.config import Objective
from nascore.data.batches import Split
from nascore.evaluation.scoring import Answers, Epochs
from nascore.training.prediction import accuracy_and_score


@dataclass(frozen=True, slots=True)
class Training:
    """Measurements of one training.

    Attributes:
        train_accuracy: one entry an epoch, fraction of the augmented images seen in that epoch,
            each evaluated just before the update that learns from it.
        valid_accuracy: one entry an epoch, fraction; empty when no split was given.
        train_score, valid_score: the same in the metric of the objective.
        num_steps: weight updates.
        duration_s: wall seconds, those before a crash included.
        data_wait_s: the part of them that was spent waiting for batches by this process.
        messages: sentences for the user.
    """

    train_accuracy: tuple[float, ...]
    valid_accuracy: tuple[float, ...]
    train_score: tuple[float, ...]
    valid_score: tuple[float, ...]
    num_steps: int
    duration_s: float
    data_wait_s: float = 0.0
    messages: tuple[str, ...] = ()


class Measurements:
    """Measurements of a training as it proceeds.

    Args:
        objective: metric of the scores.
        device: of the logits.

    Attributes:
        answers: logits of the running epoch.
        epoch: number of epochs that have ended.
    """

    def __init__(self, objective: Objective, device: torch.device) -> None:
        self._objective, self._device = objective, device
        self._trained, self._validated = Epochs(objective), Epochs(objective)
        self.answers = Answers(objective, device)
        self.epoch = 0

    @property
    def train_accuracy(self) -> float:
        """Accuracy of the last epoch."""
        return self._trained.accuracies[-1]

    def end_epoch(self, network: nn.Module, valid: Split | None) -> float | None:
        """Evaluate an epoch; return its validation score, None without a split."""
        self._trained.add(self.answers.accuracy(), self.answers.score())
        self.answers = Answers(self._objective, self._device)
        score = None
        if valid is not None:
            self._validated.add(*accuracy_and_score(network, valid, self._objective))
            score = self._validated.scores[-1]
        self.epoch += 1
        return score

    def summary(self, **more: Any) -> Training:
        """Return the measurements of the whole training.

        Args:
            more: the attributes of `Training` that are not measured here.
        """
        return Training(
            train_accuracy=tuple(self._trained.accuracies),
            valid_accuracy=tuple(self._validated.accuracies),
            train_score=tuple(self._trained.scores),
            valid_score=tuple(self._validated.scores),
            **more,
        )

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors that `load` needs."""
        return {f"answers.{name}": value for name, value in self.answers.tensors().items()}

    def to_dict(self) -> dict[str, Any]:
        """Return the values that `load` needs, as JSON."""
        return {
            "epoch": self.epoch,
            "trained": [list(self._trained.accuracies), list(self._trained.scores)],
            "validated": [list(self._validated.accuracies), list(self._validated.scores)],
        }

    def load(self, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
        """Continue from what `tensors` and `to_dict` returned."""
        self.epoch = values["epoch"]
        self._trained.load(*values["trained"])
        self._validated.load(*values["validated"])
        self.answers = Answers(self._objective, self._device)
        self.answers.load(checkpoint.below("answers.", tensors))
