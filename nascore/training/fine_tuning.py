"""Slower training of layers that start from trained weights: rates by layer, and freezing.

The rate of a layer is that of the layer behind it times a factor (layer-wise decay, as in ULMFiT,
arXiv 1801.06146); layers with initial weights have the full rate. In the first epochs the taken
layers can be frozen: they get no gradients, and their normalisations keep the averages of the file.
Both act on the updates, so that they are the same for every optimiser.
"""

import contextlib
import re
from collections.abc import Iterator, Sequence

import torch
from torch import nn

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
        self._network, self._taken, self._freeze_epochs = network, taken, freeze_epochs
        factors = layer_factors(network, lr_decay)
        self._parameters = [
            (parameter, factors[name])
            for name in taken
            for parameter in network.get_submodule(name).parameters(recurse=False)
        ]

    def begin_epoch(self, epoch: int) -> None:
        """Keep the averages of frozen normalisations; call it in training mode.

        Args:
            epoch: of the training, from 0.
        """
        if epoch < self._freeze_epochs:
            for name in self._taken:
                self._network.get_submodule(name).eval()

    def drop_gradients(self, epoch: int) -> None:
        """Drop the gradients of frozen layers; call it between backward and clipping."""
        if epoch < self._freeze_epochs:
            for parameter, _ in self._parameters:
                parameter.grad = None

    @contextlib.contextmanager
    def slower(self) -> Iterator[None]:
        """Scale the changes that the block makes to the parameters by the factors of the rates."""
        scaled = [(parameter, factor) for parameter, factor in self._parameters if factor < 1]
        with torch.no_grad():
            before = [parameter.clone() for parameter, _ in scaled]
            yield
            for (parameter, factor), old in zip(scaled, before, strict=True):
                parameter.copy_(torch.lerp(old, parameter, factor))


def layer_factors(network: nn.Module, decay: float) -> dict[str, float]:
    """Return the factor of the rate by module: 1 for the last block, lower towards the first.

    A block is a module with a number, such as `blocks.3` or `layer1.0`, or one outside of them;
    normalisations belong to the block before them.

    Args:
        network: any network.
        decay: factor from one block to the one before it.
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
