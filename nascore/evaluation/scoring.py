"""Scores of logits in the objective of a search, at once or batch by batch."""

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor

from nascore.config import Objective


def score_of(objective: Objective, logits_BK: Tensor, y_B: Tensor) -> float:
    """Return the score that a search maximises, a fraction.

    Raises:
        ChildFailedError: see `nascore.evaluation.class_metrics.score`.
    """
    if objective == "accuracy":
        return float((logits_BK.argmax(1) == y_B).double().mean())
    from nascore.evaluation import (
        class_metrics,  # scikit-learn takes a second, which most searches need not wait
    )

    return class_metrics.score(objective, logits_BK.float().cpu().numpy(), y_B.cpu().numpy())


def score_on(
    objective: Objective,
    answer: Callable[[Tensor], Tensor],
    batches: Iterable[tuple[Tensor, Tensor]],
) -> float:
    """Return the score of all batches at once: most objectives are no mean over batches."""
    answers = [(answer(x_BCHW), y_B) for x_BCHW, y_B in batches]
    logits_NK, y_N = (torch.cat(parts) for parts in zip(*answers, strict=True))
    return score_of(objective, logits_NK, y_N)


class Epochs:
    """Accuracy and score of each epoch; one list where they are the same."""

    def __init__(self, objective: Objective) -> None:
        self.accuracies: list[float] = []
        self.scores = self.accuracies if objective == "accuracy" else []

    def add(self, accuracy: float, score: float) -> None:
        """Add an epoch."""
        self.accuracies.append(accuracy)
        if self.scores is not self.accuracies:
            self.scores.append(score)

    def load(self, accuracies: list[float], scores: list[float]) -> None:
        """Replace all epochs."""
        self.accuracies[:] = accuracies
        if self.scores is not self.accuracies:
            self.scores[:] = scores


class Answers:
    """Logits of a network, collected batch by batch; only counted for the accuracy."""

    def __init__(self, objective: Objective, device: torch.device) -> None:
        self._objective = objective
        self._correct = torch.zeros((), dtype=torch.long, device=device)
        self._seen = 0
        self._kept: list[tuple[Tensor, Tensor]] = []

    def add(self, logits_BK: Tensor, y_B: Tensor) -> None:
        """Add a batch of logits."""
        self._correct += (logits_BK.argmax(1) == y_B).sum()
        self._seen += len(y_B)
        if self._objective != "accuracy":
            self._kept.append((logits_BK, y_B))

    def accuracy(self) -> float:
        """Return the accuracy of all batches."""
        return int(self._correct) / self._seen

    def score(self) -> float:
        """Return the score of all batches."""
        if self._objective == "accuracy":
            return self.accuracy()
        logits_NK, y_N = (torch.cat(parts) for parts in zip(*self._kept, strict=True))
        return score_of(self._objective, logits_NK, y_N)

    def tensors(self) -> dict[str, Tensor]:
        """Return what `load` needs."""
        found = {"correct": self._correct.clone(), "seen": torch.tensor(self._seen)}
        if self._kept:
            logits_NK, y_N = (torch.cat(parts) for parts in zip(*self._kept, strict=True))
            found |= {"logits": logits_NK, "labels": y_N}
        return found

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Continue from what `tensors` returned."""
        device = self._correct.device
        self._correct, self._seen = tensors["correct"].to(device), int(tensors["seen"])
        if "logits" in tensors:
            self._kept = [(tensors["logits"].to(device), tensors["labels"].to(device))]
