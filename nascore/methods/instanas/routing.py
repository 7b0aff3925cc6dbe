"""Inference of one image through the meta-graph that computes only the chosen operations.

No other operation is called, and nothing is gathered or scattered. The logits are those of
`MetaGraph.forward` in evaluation mode but for rounding: convolutions of several images may add up
in another order.

B images, L blocks, O operations, C channels, K classes.
"""

from functools import reduce

import torch
from torch import Tensor

from nascore.methods.instanas.supernet import MetaGraph
from nascore.spaces.mobilenet.space import active_operations


@torch.inference_mode()
def run_one(graph: MetaGraph, x_1CHW: Tensor, policy_LO: Tensor) -> Tensor:
    """Return the logits (1, K) of one image.

    Args:
        policy_LO: bool, on any device.

    Raises:
        ValueError: not one image, or image or policy of another shape.
        RuntimeError: the graph is in training mode, where the output depends on the batch.
    """
    graph.check(x_1CHW, policy_LO[None])
    if graph.training:
        raise RuntimeError("inference needs the meta-graph in evaluation mode: call graph.eval()")
    # One transfer of a few bits; from here on the choice is plain Python.
    chosen = policy_LO.tolist()
    x_1CHW = graph.stem(x_1CHW)
    for plan, bits in zip(graph.plans, chosen, strict=True):
        active = active_operations(bits, is_first=plan.is_first)
        terms = (graph.operation(plan.index, operation)(x_1CHW) for operation in active)
        x_1CHW = reduce(Tensor.add_, terms) if active else x_1CHW
        if graph.space.takes_mean and len(active) > 1:
            x_1CHW.div_(len(active))
    logits_1K: Tensor = graph.head(x_1CHW)
    return logits_1K
