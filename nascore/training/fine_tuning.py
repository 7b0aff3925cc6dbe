"""Slower training of layers that start from trained weights: rates by layer, and freezing.

The rate of a layer is that of the layer behind it times a factor (layer-wise decay, as in ULMFiT,
arXiv 1801.06146); layers with initial weights have the full rate. In the first epochs the taken
layers can be frozen: they get no gradients, and their normalisations keep the averages of the file.
Works on the parameter groups of any optimiser of torch.
"""

import re
from collections.abc import Sequence

import torch
from torch import nn

_FACTOR, _IS_TAKEN = "rate_factor", "is_taken"
_BLOCK = re.compile(r"(?:[^.]*\.)*?\d+(?=\.|$)")


class FineTuning:
    """Rates and freezing of the layers that a network has taken from a file.

    Args:
        network: whose parameters are trained.
        taken: names of its layers that were taken.
        freeze_epochs: epochs in which they stay as they are.
        lr_decay: factor of the rate from each layer to the one before it.
    """

    def __init__(
        self, network: nn.Module, taken: Sequence[str], *, freeze_epochs: int, lr_decay: float
    ) -> None:
        self._freeze_epochs = freeze_epochs
        self._layers = [network.get_submodule(name) for name in taken]
        factors = layer_factors(network, lr_decay)
        self._factors = {
            id(parameter): factors[name]
            for name, layer in zip(taken, self._layers, strict=True)
            for parameter in layer.parameters(recurse=False)
        }

    def divide(self, optimizer: torch.optim.Optimizer) -> None:
        """Divide the groups of an optimiser by rate; call it before the first step."""
        groups = []
        for group in optimizer.param_groups:
            parts: dict[tuple[float, bool], list[nn.Parameter]] = {}
            for parameter in group["params"]:
                known = self._factors.get(id(parameter))
                parts.setdefault((known or 1.0, known is not None), []).append(parameter)
            for (factor, is_taken), parameters in parts.items():
                own = {_FACTOR: factor, _IS_TAKEN: is_taken, "params": parameters}
                groups.append({**group, **own})
        optimizer.param_groups[:] = groups

    def begin_epoch(self, epoch: int) -> None:
        """Keep the averages of frozen normalisations; call it in training mode, from epoch 0."""
        if epoch < self._freeze_epochs:
            for layer in self._layers:
                layer.eval()

    def before_step(self, optimizer: torch.optim.Optimizer, epoch: int) -> None:
        """Drop the gradients of frozen layers, before gradients are clipped."""
        if epoch < self._freeze_epochs:
            for group in optimizer.param_groups:
                if group[_IS_TAKEN]:
                    for parameter in group["params"]:
                        parameter.grad = None


def rate_factor(group: dict[str, object]) -> float:
    """Return the factor of the learning rate of a group of parameters; 1 of undivided groups."""
    factor = group.get(_FACTOR, 1.0)
    assert isinstance(factor, float)
    return factor


def layer_factors(network: nn.Module, decay: float) -> dict[str, float]:
    """Return the factor of the rate by module: 1 for the last block, lower towards the first.

    A block is a module with a number, such as `blocks.3` or `layer1.0`, or one outside of them;
    normalisations belong to the block before them.
    """
    depth, blocks, before = -1, dict[str, int](), ""
    for name, module in network.named_modules():
        own = list(module.parameters(recurse=False))
        if not own:
            continue
        match = _BLOCK.match(name)
        block = match[0] if match else name
        if block != before and (depth < 0 or any(one.ndim > 1 for one in own)):
            depth, before = depth + 1, block
        blocks[name] = depth
    return {name: decay ** (depth - place) for name, place in blocks.items()}
