"""Predictions of a network on a split, and their scores.

B images, C channels.
"""

import torch
from torch import Tensor, nn

from nascore.config import Objective
from nascore.data.batches import Split
from nascore.evaluation.scoring import score_of


@torch.inference_mode()
def predict(network: nn.Module, split: Split, *, batch_size: int = 512) -> Tensor:
    """Return logits (N, num_classes) of all images of a split, in its order, in evaluation mode."""
    network.eval()
    return torch.cat([network(x_BCHW) for x_BCHW, _ in split.eval_batches(batch_size)])


def accuracy_and_score(
    network: nn.Module, split: Split, objective: Objective
) -> tuple[float, float]:
    """Return the accuracy on a split and its score in the objective, as fractions."""
    logits_NK = predict(network, split)
    accuracy = score_of("accuracy", logits_NK, split.labels)
    if objective == "accuracy":
        return accuracy, accuracy
    return accuracy, score_of(objective, logits_NK, split.labels)


def evaluate(network: nn.Module, split: Split, *, batch_size: int = 512) -> float:
    """Return the accuracy on a split, as a fraction."""
    return score_of("accuracy", predict(network, split, batch_size=batch_size), split.labels)
