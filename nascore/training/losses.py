"""The loss of a batch, as one object that the training loop calls.

B images, C channels, K classes.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nascore.config import TrainingConfig


@dataclass(frozen=True, slots=True)
class Targets:
    """Targets of a batch.

    Attributes:
        labels_B: int64 (B,).
        mixed_B: labels of the images that were mixed into the batch; None where nothing was mixed.
        share: of `labels_B` in the target; the rest is that of `mixed_B`.
    """

    labels_B: Tensor
    mixed_B: Tensor | None = None
    share: float = 1.0


class Loss(Protocol):
    """A loss that the training loop minimises."""

    def __call__(
        self, network: "Forward", x_BCHW: Tensor, targets: Targets
    ) -> tuple[Tensor, Tensor]:
        """Return the loss, a scalar, and the logits (B, K) in single precision."""
        ...


class Forward(Protocol):
    """Forward pass of a network in training mode: x (B, C, H, W) to logits (B, K)."""

    def __call__(self, x_BCHW: Tensor, /) -> Tensor: ...


class BatchLoss:
    """Cross-entropy with label smoothing, class weights, mixed targets and soft targets.

    The soft targets are those of a teacher, which classifies the same images as the network
    (arXiv 2106.05237), at a temperature (Hinton et al., arXiv 1503.02531): the loss is
    (1 - w) * cross-entropy + w * T^2 * KL(teacher at T, network at T).

    Args:
        label_smoothing: share of a target that is spread over all classes (arXiv 1512.00567).
        class_weights_K: weights of the classes, on the device; None weighs all the same.
        teacher: on the device; x (B, C, H, W) to logits (B, K). It is not trained.
        temperature: T of the soft targets.
        teacher_weight: w, a fraction.
    """

    def __init__(
        self,
        *,
        label_smoothing: float = 0.0,
        class_weights_K: Tensor | None = None,
        teacher: nn.Module | None = None,
        temperature: float = 4.0,
        teacher_weight: float = 0.5,
    ) -> None:
        self._smoothing, self._class_weights_K = label_smoothing, class_weights_K
        self._teacher = None if teacher is None else teacher.eval()
        self._temperature, self._teacher_weight = temperature, teacher_weight

    def __call__(self, network: Forward, x_BCHW: Tensor, targets: Targets) -> tuple[Tensor, Tensor]:
        """Return the loss, a scalar, and the logits (B, K) in single precision."""
        logits_BK = network(x_BCHW).float()
        loss = self._cross_entropy(logits_BK, targets.labels_B)
        if targets.mixed_B is not None:
            other = self._cross_entropy(logits_BK, targets.mixed_B)
            loss = targets.share * loss + (1 - targets.share) * other
        if self._teacher is not None:
            soft = self._distance_to_teacher(self._teacher, x_BCHW, logits_BK)
            loss = (1 - self._teacher_weight) * loss + self._teacher_weight * soft
        return loss, logits_BK

    def _cross_entropy(self, logits_BK: Tensor, y_B: Tensor) -> Tensor:
        return F.cross_entropy(
            logits_BK, y_B, weight=self._class_weights_K, label_smoothing=self._smoothing
        )

    def _distance_to_teacher(self, teacher: nn.Module, x_BCHW: Tensor, logits_BK: Tensor) -> Tensor:
        with torch.no_grad():
            taught_BK = teacher(x_BCHW).detach().float()
        distance = F.kl_div(
            F.log_softmax(logits_BK / self._temperature, 1),
            F.log_softmax(taught_BK / self._temperature, 1),
            reduction="batchmean",
            log_target=True,
        )
        return distance * self._temperature**2


def loss_of(
    config: TrainingConfig,
    class_weights_K: Tensor | None,
    *,
    teacher: nn.Module | None = None,
    temperature: float = 4.0,
    teacher_weight: float = 0.5,
) -> BatchLoss:
    """Return the loss of a training by its settings.

    Args:
        config: settings of the training.
        class_weights_K: weights of the classes (`Split.class_weights_K`).
        teacher: see `BatchLoss`, like the other arguments.
        temperature: of the soft targets.
        teacher_weight: of the soft targets, a fraction.
    """
    return BatchLoss(
        label_smoothing=config.label_smoothing,
        class_weights_K=class_weights_K,
        teacher=teacher,
        temperature=temperature,
        teacher_weight=teacher_weight,
    )
