"""The reward of a policy: a correct answer, with a latency in a window that moves.

    q(l) = max(0, (ub - l) (l - lb) / ((ub - lb)^2 / 4))
    R = 30 q   where the answer is correct,   0   where it is wrong

The parabola is 1 in the middle of the window and 0 at both ends: policies that are too slow have no
reward, nor those that are too cheap, which excludes the empty network. The upper end falls during
the search. Source: InstaNAS (arXiv 1811.10201, released code `search.py`).

B images.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from nascore.errors import InputError
from nascore.methods.common.reinforce import reinforce_loss
from nascore.methods.instanas.cost_table import LatencyTable
from nascore.methods.instanas.options import InstanasOptions

_MAX_REWARD = 30.0  # as in the release; only its ratio to the entropy weight matters to Adam


@dataclass(frozen=True, slots=True)
class Window:
    """The rewarded latencies, in the unit of the latency table.

    Raises:
        ValueError: upper <= lower, where the parabola would be negative, or not finite.
    """

    lower: float
    upper: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.lower) and math.isfinite(self.upper)):
            raise ValueError(f"a window must be finite, got {self.lower} to {self.upper}")
        if self.upper <= self.lower:
            raise ValueError(
                f"the upper end of a window must be above the lower one, got {self.lower:.6g} to "
                f"{self.upper:.6g}"
            )


@dataclass(frozen=True, slots=True)
class WindowSchedule:
    """The window over the search: lb = minimum, ub falls from start maximum to end baseline.

    Attributes:
        minimum: latency of the policy without operations (basic ones where one is needed).
        baseline: latency of the network that has the first operation everywhere, MobileNetV2.
        maximum: latency of the policy with all operations.
        start, end: fractions of `maximum` and of `baseline`; 0.7 and 0.5 in the release.
        key: setting that the error message names.

    Raises:
        InputError: at some time the window would be empty, or it would not fall. A table that was
            measured on a busy machine may be the cause.
    """

    minimum: float
    baseline: float
    maximum: float
    start: float = 0.7
    end: float = 0.5
    key: str = "search.options.window"

    def __post_init__(self) -> None:
        first, last = self.start * self.maximum, self.end * self.baseline
        # NaN fails every comparison, and then too.
        if self.minimum < last <= first < math.inf:
            return
        raise InputError.of(
            self.key,
            f"{self.start:g} of {self.maximum:.6g} to {self.end:g} of {self.baseline:.6g}",
            f"the upper end of the window goes from {first:.6g} to {last:.6g}; it must fall and "
            f"stay above the lower end, {self.minimum:.6g}, the cheapest policy. Policies cost "
            f"{self.minimum:.6g} to {self.maximum:.6g} by the latency table: choose other shares, "
            "or measure the table again while the machine is idle",
        )

    def at(self, rho: float) -> Window:
        """Return the window when the fraction `rho` of the search is done, 0 to 1."""
        if not 0 <= rho <= 1:
            raise ValueError(f"rho must be within 0 and 1, got {rho}")
        first, last = self.start * self.maximum, self.end * self.baseline
        return Window(self.minimum, first - (first - last) * rho)


def quality(latency_B: Tensor, window: Window) -> Tensor:
    """Return q of each latency, (B,), within [0, 1]."""
    half = (window.upper - window.lower) / 2
    middle = window.lower + half
    # The same parabola about its middle: exactly 1 there, and no difference of large products.
    offset_B = (latency_B - middle) / half
    return ((1 - offset_B) * (1 + offset_B)).clamp(min=0)


def reward(correct_B: Tensor, latency_B: Tensor, window: Window) -> Tensor:
    """Return R of each image, (B,); 0 exactly where `correct_B` is false.

    A negative reward of wrong answers would, with a weak meta-graph, drive the policy to one
    constant answer.
    """
    gained_B = _MAX_REWARD * quality(latency_B, window)
    return torch.where(correct_B, gained_B, torch.zeros_like(gained_B))


def window_schedule(table: LatencyTable, options: InstanasOptions) -> WindowSchedule:
    """Return the window over the search, from the latencies of the blocks.

    Raises:
        InputError: at some time it would be empty.
    """
    return WindowSchedule(
        minimum=table.baseline_min,
        baseline=table.baseline,
        maximum=table.baseline_max,
        start=options.reward.start,
        end=options.reward.end,
        key="search.options.reward",
    )


def policy_loss(
    log_prob_B: Tensor,
    entropy_B: Tensor,
    sampled_reward_B: Tensor,
    greedy_reward_B: Tensor,
    *,
    entropy_weight: float = 0.8,
) -> Tensor:
    """Return the loss of self-critical REINFORCE, averaged over images.

        L = mean_b [-(R(a_b) - R(m_b)) log p'(a_b) - beta H_b]

    Args:
        log_prob_B: log-probability of each sampled policy, with gradient.
        entropy_B: entropy of each image's policy in nats, with gradient.
        sampled_reward_B: reward of each sampled policy, no gradient.
        greedy_reward_B: reward of each greedy policy, the baseline of its image, no gradient.
        entropy_weight: beta.

    Returns:
        Scalar to minimise.
    """
    advantage_B = sampled_reward_B - greedy_reward_B
    return reinforce_loss(log_prob_B, advantage_B) - entropy_weight * entropy_B.mean()
