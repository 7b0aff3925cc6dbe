"""Inference through the meta-graph that computes the chosen operations and nothing else.

`run_one` is for one image: no operation that is not chosen is called, nothing is gathered or
scattered. `run_grouped` is for a batch: in each block, the images that have an operation go through
it together. Both answer what `MetaGraph.forward` does in evaluation mode, and neither lets an image
change the answer for another (but for rounding: convolutions of several images may add up in
another order).

B images, L blocks, O operations, C channels, K classes.
"""

from functools import reduce

import torch
from torch import Tensor

from nascore.methods.instanas.supernet import MetaGraph
from nascore.spaces.mobilenet.space import active_operations


@torch.inference_mode()
def run_one(graph: MetaGraph, x_1CHW: Tensor, policy_LO: Tensor) -> Tensor:
    """Logits (1, K) of one image; `policy_LO` is bool, on any device.

    Raises:
        ValueError: not one image, or image or policy of another shape.
        RuntimeError: the graph is in training mode, where an answer would depend on the batch.
    """
    _check(graph, x_1CHW, policy_LO[None])
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


@torch.inference_mode()
def run_grouped(graph: MetaGraph, x_BCHW: Tensor, policy_BLO: Tensor) -> Tensor:
    """Logits (B, K); images with the same operation in a block are computed together.

    Raises:
        ValueError: images or policy are of another shape.
        RuntimeError: the graph is in training mode, where an answer would depend on the batch.
    """
    _check(graph, x_BCHW, policy_BLO)
    logits_BK: Tensor = graph(x_BCHW, policy_BLO)
    return logits_BK


def _check(graph: MetaGraph, x_BCHW: Tensor, policy_BLO: Tensor) -> None:
    graph.check(x_BCHW, policy_BLO)
    if graph.training:
        raise RuntimeError("inference needs the meta-graph in evaluation mode: call graph.eval()")
