"""Optimisers of a training, without weight decay of biases and normalisations."""

from collections.abc import Iterable
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from nascore.config import TrainingConfig

_KERNEL_DIMENSIONS = 4


class Descent(Protocol):
    """The settings of SGD."""

    @property
    def lr(self) -> float: ...
    @property
    def momentum(self) -> float: ...
    @property
    def weight_decay(self) -> float: ...


def sgd(
    parameters: Iterable[nn.Parameter], config: Descent, *, fused: bool = False
) -> torch.optim.SGD:
    """Return SGD, by Nesterov where there is momentum, without decay of biases and batch norm.

    Args:
        fused: one kernel for all parameters; each of them needs a gradient then.
    """
    return torch.optim.SGD(
        _decayed_groups(parameters),
        lr=config.lr,
        momentum=config.momentum,
        nesterov=config.momentum > 0,
        weight_decay=config.weight_decay,
        fused=fused,
    )


class KernelMuon(torch.optim.Muon):
    """Muon of convolution kernels, each as a matrix with a row for each output channel.

    torch's Muon takes matrices only. Here they are views of the kernels, so that their updates are
    those of the kernels. The size of an update is that of AdamW (arXiv 2502.16982).

    Args:
        kernels: (out, in, height, width) each.
        lr: learning rate.
        weight_decay: decoupled, as in AdamW.
    """

    def __init__(self, kernels: Iterable[nn.Parameter], *, lr: float, weight_decay: float) -> None:
        self._kernels = list(kernels)
        matrices = [nn.Parameter(_matrix(kernel.detach())) for kernel in self._kernels]
        super().__init__(matrices, lr=lr, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw")

    def take_gradients(self) -> None:
        """Make the gradients of the kernels those of the matrices; call it after a backward."""
        for kernel, matrix in zip(self._kernels, self.param_groups[0]["params"], strict=True):
            matrix.grad = None if kernel.grad is None else _matrix(kernel.grad)


def make_optimizers(network: nn.Module, config: TrainingConfig) -> list[torch.optim.Optimizer]:
    """Return the optimisers that together update all parameters of a network once a step."""
    if config.optimizer == "adamw":
        return [_adamw(network.parameters(), config)]
    if config.optimizer == "muon":
        given = [p for p in network.parameters() if p.requires_grad]
        kernels = [p for p in given if p.ndim == _KERNEL_DIMENSIONS and p.size(1) > 1]
        taken = {id(kernel) for kernel in kernels}
        others = [p for p in given if id(p) not in taken]
        if not kernels:
            return [_adamw(others, config)]
        muon = KernelMuon(kernels, lr=config.lr, weight_decay=config.weight_decay)
        return [muon, _adamw(others, config)] if others else [muon]
    return [_fused_sgd(network, config)]


def parameters_of(optimizers: Iterable[torch.optim.Optimizer]) -> list[Tensor]:
    """Return all tensors that optimisers update."""
    return [p for one in optimizers for group in one.param_groups for p in group["params"]]


def _adamw(parameters: Iterable[nn.Parameter], config: TrainingConfig) -> torch.optim.AdamW:
    groups = _decayed_groups(parameters)
    return torch.optim.AdamW(groups, lr=config.lr, weight_decay=config.weight_decay, fused=True)


def _fused_sgd(network: nn.Module, config: TrainingConfig) -> torch.optim.SGD:
    # Fused: small children are bound by call overhead.
    optimizer = sgd(network.parameters(), config, fused=True)
    if config.momentum > 0:
        # The fused kernel needs a momentum buffer from the first step on.
        for parameter in parameters_of([optimizer]):
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return optimizer


def _decayed_groups(parameters: Iterable[nn.Parameter]) -> list[dict[str, Any]]:
    """Return groups of parameters with weight decay (kernels) and without (all others)."""
    given = [p for p in parameters if p.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in given if p.ndim > 1]},
        {"params": [p for p in given if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def _matrix(kernel: Tensor) -> Tensor:
    """Return a view of a kernel as a matrix; the order of its columns follows the memory."""
    if kernel.is_contiguous():
        return kernel.flatten(1)
    return kernel.permute(0, 2, 3, 1).flatten(1)
