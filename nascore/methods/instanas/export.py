"""Programs of `torch.export`, which need no class of this project.

`export` takes a `folded` controller, the `folded` network of one policy (an expert,
`MetaGraph.static`), a `RoutedModel` or a `MaskedModel`.

`MetaGraph.forward` itself cannot be exported: it skips operations without an image, and a program
cannot depend on data. `RoutedModel` calls every operation, also on no image. That needs batch
normalisation folded into the convolutions before it, since torch.export cannot prove that the batch
is large enough for batch normalisation. In a batch the empty calls are cheap; for one image each
takes 0.1 to 0.2 ms, so `routing.run_one` or an expert is faster. (`torch.cond` around each
operation can be exported too; it takes minutes, and is no faster.) `MaskedModel` saves no time; it
is for runtimes that cannot change the number of images.

All programs accept any number of images. B images, L blocks, O operations, C channels, K classes.
"""

import copy
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.nn.utils.fusion import fuse_conv_bn_eval

from nascore.methods.instanas.controller import PolicyNetwork, greedy
from nascore.methods.instanas.supernet import MetaGraph, passed_on
from nascore.spaces.base import ImageShape
from nascore.spaces.mobilenet.network import OPS

Network = TypeVar("Network", bound=nn.Module)

Answer = tuple[Tensor, Tensor, Tensor]
"""Logits (B, K), the computed operations as bool (B, L, O), and their latency (B,)."""


def folded(network: Network) -> Network:
    """Return a copy for inference, with batch normalisation folded into convolutions.

    Outputs are equal but for rounding. Only pairs in an `nn.Sequential` are folded.
    """
    # In evaluation mode, so that the copy does not depend on the mode of the original.
    network = copy.deepcopy(network).eval()
    for module in network.modules():
        if isinstance(module, nn.Sequential):
            layers: list[nn.Module] = []
            for layer in module:
                before = layers[-1] if layers else None
                if isinstance(layer, nn.BatchNorm2d) and isinstance(before, nn.Conv2d):
                    layers[-1] = fuse_conv_bn_eval(before, layer)
                else:
                    layers.append(layer)
            del module[:]
            module.extend(layers)
    return network


class RoutedModel(nn.Module):
    """Controller and meta-graph in one, with the greedy policy: (B, C, H, W) -> `Answer`.

    Both are copied. Its control flow does not depend on values, so it can be exported.

    Args:
        cost_LO: latency of each operation.
        constant: latency of the parts that all images need: stem, head and controller.
    """

    cost_LO: Tensor
    answers = ("logits", "policy", "latency")

    def __init__(
        self, controller: PolicyNetwork, graph: MetaGraph, *, cost_LO: Tensor, constant: float
    ) -> None:
        super().__init__()
        # Not `graph`: modules that torch.export makes have an attribute of that name.
        self.controller, self.meta_graph = folded(controller), folded(graph)
        self.constant = constant
        self.register_buffer("cost_LO", cost_LO.detach().clone())

    def forward(self, x_BCHW: Tensor) -> Answer:
        policy_BLO = self.meta_graph.effective(greedy(self.controller(x_BCHW)))
        latency_B = (policy_BLO * self.cost_LO).sum(dim=(1, 2)) + self.constant
        x_BCHW = self.meta_graph.stem(x_BCHW)
        for plan in self.meta_graph.plans:
            active_BO = policy_BLO[:, plan.index]
            total_BCHW = passed_on(x_BCHW, active_BO, plan)
            for operation in range(len(OPS)):
                module = self.meta_graph.operation(plan.index, operation)
                total_BCHW = self._add(total_BCHW, module, x_BCHW, active_BO[:, operation])
            scale_B111 = self.meta_graph.scale(active_BO)
            x_BCHW = total_BCHW if scale_B111 is None else total_BCHW * scale_B111
        return self.meta_graph.head(x_BCHW), policy_BLO, latency_B

    def _add(
        self, total_BCHW: Tensor, operation: nn.Module, x_BCHW: Tensor, is_active_B: Tensor
    ) -> Tensor:
        """Add the output of an operation on the images that have it."""
        rows_N = is_active_B.nonzero().squeeze(1)
        return total_BCHW.index_add(0, rows_N, operation(x_BCHW.index_select(0, rows_N)))


class MaskedModel(RoutedModel):
    """Computes all operations on all images, with equal outputs."""

    def _add(
        self, total_BCHW: Tensor, operation: nn.Module, x_BCHW: Tensor, is_active_B: Tensor
    ) -> Tensor:
        # Chosen, not multiplied: what is infinite for one image must not become NaN for others.
        return total_BCHW + torch.where(is_active_B[:, None, None, None], operation(x_BCHW), 0.0)


def export(network: nn.Module, shape: ImageShape) -> ExportedProgram:
    """Export a network, which should be in evaluation mode, for any number of images."""
    device = next(network.parameters()).device
    example_BCHW = torch.zeros(2, shape.channels, shape.size, shape.size, device=device)
    batch = Dim("batch", min=1)
    return torch.export.export(network, (example_BCHW,), dynamic_shapes=({0: batch},))
