"""Size and cost of a network. The FLOPs of many papers are two for each multiply-add."""

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
        update_cost: of a weight update, without a unit: it says how long the updates of one network
            take relative to those of another. Activations, that is, values in the outputs of
            convolutions and linear layers, follow the time more closely than multiply-adds do
            (RegNet, arXiv 2003.13678, section 4). The weights of the other terms were fitted to the
            times of 123 networks of the space `residual` on a CPU thread, batches of 32 images
            (docs/results/update_cost.md).
    """

    num_params: int
    macs: int
    update_cost: float


_MACS_OF_ACTIVATION = 100.0  # multiply-adds that take as long as one activation
_DEPTHWISE = 0.15  # activations that take as long as one multiply-add of a depthwise convolution
_LAYER = 1000.0  # activations that take as long as what a layer costs by itself


def count(network: nn.Module, shape: ImageShape) -> Cost:
    """Count by running one image through the network, on the network's own device.

    A module that runs twice counts twice in all but `num_params`. Modes and running
    statistics of the network do not change.

    Args:
        network: to be measured.
        shape: of the image.
    """
    macs, update_cost = 0, 0.0

    def add(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal macs, update_cost
        activations = output[0].numel()
        if isinstance(module, nn.Conv2d):
            own = activations * module.weight[0].numel()  # C_in / groups * kH * kW
            depthwise = own if module.groups > 1 else 0
        else:
            assert isinstance(module, nn.Linear)
            own = activations * (module.in_features + (module.bias is not None))
            depthwise = 0
        macs += own
        update_cost += activations + own / _MACS_OF_ACTIVATION + _DEPTHWISE * depthwise + _LAYER

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
    num_params = sum(parameter.numel() for parameter in network.parameters())
    return Cost(num_params, macs, update_cost)
