"""SGD of shared weights along paths of a supernet.

With several processes each has its part of a batch, and gradients are summed.

B images, C channels, K classes.
"""

from typing import Generic, TypeVar

from torch import Tensor, nn
from torch.nn import functional as F

from nascore import checkpoint
from nascore.config import TrainingConfig
from nascore.training import distributed
from nascore.training.optimizers import sgd
from nascore.training.resumable import load_optimizer, optimizer_tensors, tensors_of

SupernetT = TypeVar("SupernetT", bound=nn.Module)


class WeightUpdates(Generic[SupernetT]):
    """SGD of a supernet; what a path does not contain keeps its weights and momentum.

    Args:
        class_weights_K: weights of the classes in the loss; None weighs all the same.
    """

    def __init__(
        self, supernet: SupernetT, training: TrainingConfig, class_weights_K: Tensor | None = None
    ) -> None:
        self.supernet, self.class_weights_K = supernet, class_weights_K
        self._max_grad_norm = training.max_grad_norm
        self._sgd = sgd(supernet.parameters(), training)

    def step(self, path: nn.Module, x_BCHW: Tensor, y_B: Tensor, *, lr: float) -> Tensor:
        """Update the weights of one path.

        Args:
            path: a network that consists of modules of the supernet.
            x_BCHW, y_B: the whole batch; each process takes its part.

        Returns:
            Scalar; the loss of this process's part, divided by the size of the whole batch.
        """
        path.train()
        loss = path_loss(path, x_BCHW, y_B, self.class_weights_K)
        self.descend(loss, path, lr=lr)
        return loss.detach()

    def descend(self, loss: Tensor, path: nn.Module, *, lr: float) -> None:
        """Make one step of SGD on a loss of a path."""
        self._sgd.zero_grad(set_to_none=True)
        loss.backward()
        learned = [parameter for parameter in path.parameters() if parameter.grad is not None]
        distributed.sum_([parameter.grad for parameter in learned if parameter.grad is not None])
        if self._max_grad_norm is not None:
            nn.utils.clip_grad_norm_(learned, self._max_grad_norm)
        for group in self._sgd.param_groups:
            group["lr"] = lr
        self._sgd.step()

    def tensors(self) -> dict[str, Tensor]:
        """Return everything that later steps depend on, by name."""
        return tensors_of("weights", self.supernet) | optimizer_tensors("sgd", self._sgd)

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Continue from what `tensors` returned."""
        self.supernet.load_state_dict(checkpoint.below("weights.", tensors))
        load_optimizer("sgd", self._sgd, tensors)


def path_loss(
    path: nn.Module, x_BCHW: Tensor, y_B: Tensor, class_weights_K: Tensor | None
) -> Tensor:
    """Return the cross-entropy of this process's part of a batch, divided by the whole batch.

    The sum over the processes is the mean over the batch.

    Args:
        path: x (B, C, H, W) -> logits (B, K).
        class_weights_K: weights of the classes; None weighs all the same.
    """
    logits_BK = path(distributed.part(x_BCHW))
    loss = F.cross_entropy(
        logits_BK, distributed.part(y_B), weight=class_weights_K, reduction="sum"
    )
    return loss / len(y_B)
