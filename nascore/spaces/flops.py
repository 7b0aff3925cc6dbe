"""Parameters and multiply-adds of a network. FLOPs, as many papers count them, are 2 MACs."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nascore.spaces.base import ImageShape
from nascore.spaces.ops import evaluation_mode


@dataclass(frozen=True, slots=True)
class Cost:
    """Size of a network.

    Attributes:
        num_params: trainable parameters, without running statistics.
        macs: multiply-adds for one image, in convolutions and linear layers only; the bias of a
            linear layer counts as one more input, as in NAS-Bench-201.
    """

    num_params: int
    macs: int


def count(network: nn.Module, shape: ImageShape) -> Cost:
    """Count by running one image through the network, on the network's own device.

    A module that runs twice counts twice in `macs` and once in `num_params`. Modes and running
    statistics of the network do not change.

    Args:
        network: to be measured.
        shape: of the image.
    """
    macs = 0

    def add(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal macs
        if isinstance(module, nn.Conv2d):
            per_output = module.weight[0].numel()  # C_in / groups * kH * kW
            macs += output[0].numel() * per_output
        elif isinstance(module, nn.Linear):
            macs += output[0].numel() * (module.in_features + (module.bias is not None))

    hooks = [
        module.register_forward_hook(add)
        for module in network.modules()
        if isinstance(module, nn.Conv2d | nn.Linear)
    ]
    device = next(network.parameters()).device
    try:
        # In training mode batch norm rejects one pixel, and its statistics would change.
        with evaluation_mode(network), torch.inference_mode():
            network(torch.zeros(1, shape.channels, shape.size, shape.size, device=device))
    finally:
        for hook in hooks:
            hook.remove()
    return Cost(sum(parameter.numel() for parameter in network.parameters()), macs)
