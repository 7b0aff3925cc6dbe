"""The identical-state test: are architectures that are sampled from one state alike?

If the controller conditions on earlier tokens, samples from one state are more alike than samples
from different states. arXiv 1904.00438 finds that this is not so in ENAS; the two forms of the test
are ours.

- start: the state after a whole architecture is the start state of a new one.
- prefix: the state after the first half of an architecture is completed twice, and compared with a
  completion from the state after another half. All are appended to the same first half, so that
  only the completions differ.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.distance import squareform
from torch import Tensor

from nascore.methods.enas.controller import Controller
from nascore.methods.enas.diagnosis.correlation import Interval, mean_interval

Floats = NDArray[np.float64]
Distances = Callable[[Tensor], dict[str, Floats]]
"""Token strings (N, T) -> distances between them by name, condensed (P,)."""


@dataclass(frozen=True, slots=True)
class StateTest:
    """Mean distances between architectures, in the units of that distance.

    Attributes:
        within: distance of architectures from the same state.
        between: distance of architectures from different states.
        difference: between minus within, paired by state; above 0 the state matters.
        interval: 95 % interval of the difference, bootstrap over states.
    """

    within: float
    between: float
    difference: float
    interval: Interval

    @classmethod
    def paired(cls, within: Floats, between: Floats, rng: np.random.Generator) -> "StateTest":
        difference = between - within
        return cls(
            float(within.mean()),
            float(between.mean()),
            float(difference.mean()),
            mean_interval(difference, rng),
        )


def same_start(
    controller: Controller,
    tokens_ST: Tensor,
    distances: Distances,
    *,
    generator: torch.Generator,
    rng: np.random.Generator,
    num_samples: int = 10,
) -> dict[str, StateTest]:
    """Run the start form of the test, by distance.

    Args:
        tokens_ST: architectures whose last states are the S start states.
        num_samples: architectures sampled from each of them.
    """
    with torch.no_grad():
        hidden_SH, cell_SH = controller.read_prefix(tokens_ST)
    num, repeat = len(tokens_ST), num_samples
    start = hidden_SH.repeat_interleave(repeat, 0), cell_SH.repeat_interleave(repeat, 0)
    sampled_NT = controller.sample(num * repeat, generator, start=start)
    found = {}
    for name, condensed in distances(sampled_NT).items():
        sums_SS = squareform(condensed).reshape(num, repeat, num, repeat).sum(axis=(1, 3))
        own_S = sums_SS.diagonal()
        within_S = own_S / (repeat * (repeat - 1))
        between_S = (sums_SS.sum(axis=1) - own_S) / (repeat * repeat * (num - 1))
        found[name] = StateTest.paired(within_S, between_S, rng)
    return found


def same_prefix(
    controller: Controller,
    tokens_ST: Tensor,
    distances: Distances,
    *,
    generator: torch.Generator,
    rng: np.random.Generator,
) -> dict[str, StateTest]:
    """Run the prefix form of the test, by distance, for the first halves of S architectures.

    The other state of each is that of the architecture before it.
    """
    position = tokens_ST.shape[1] // 2
    prefix_SP = tokens_ST[:, :position]
    with torch.no_grad():
        state = controller.read_prefix(prefix_SP)
    other = state[0].roll(1, 0), state[1].roll(1, 0)
    ends = [controller.complete(one, position, generator) for one in (state, state, other)]
    sampled_NT = torch.cat([torch.cat([prefix_SP, end], dim=1) for end in ends])
    num = len(tokens_ST)
    first, second, different = (np.arange(num) + i * num for i in range(3))
    found = {}
    for name, condensed in distances(sampled_NT).items():
        between_NN = squareform(condensed)
        found[name] = StateTest.paired(between_NN[first, second], between_NN[first, different], rng)
    return found
