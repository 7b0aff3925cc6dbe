"""Applies a function of one task to several tasks: one after the other, or all at once by `vmap`.

`vmap` over tasks with parameters of their own turns convolutions into grouped ones, which is slow
on a CPU for all but small networks. Functions of first order need no transformation of
`torch.func`: they run in a loop, with autograd alone and with images in the channels-last layout,
in which pooling and batch norm on a CPU are several times as fast. Figures: docs/auto-meta.md.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.func import vmap
from torch.utils._pytree import tree_map

OneTask = Callable[..., Any]
"""A function of one task's tensors to a tensor, or a tree of tensors."""


def run_vmapped(function: OneTask, *tensors: Tensor) -> Any:
    """Apply a function to all tasks at once; dropout differs between tasks.

    Args:
        tensors: arguments of `function`, (T, ...) each.

    Returns:
        The results stacked over tasks, (T, ...).
    """
    return vmap(function, randomness="different")(*tensors)


def run_looped(function: OneTask, *tensors: Tensor) -> Any:
    """Apply a function to one task after the other; equal to `run_vmapped` up to rounding.

    Images (T, B, C, H, W) are passed in the channels-last layout.
    """
    laid_out = [_channels_last(x) if x.ndim == 5 else x for x in tensors]
    results = [function(*task) for task in zip(*laid_out, strict=True)]
    return tree_map(lambda *parts: torch.stack(parts), *results)


def _channels_last(x_TBCHW: Tensor) -> Tensor:
    # Not `contiguous`: it would leave the strides of images with one channel as they are, and
    # convolutions choose their kernel by the strides.
    return x_TBCHW.movedim(2, -1).clone(memory_format=torch.contiguous_format).movedim(-1, 2)
