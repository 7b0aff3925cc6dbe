"""How a budget divides exploration from exploitation, as functions of its spent share u.

NASIB (arXiv 1910.08665) takes the budget as an input and adapts the search to it; how is not
published, so all of this is our choice (docs/nasib.md):

    u_x(T)  = u_min + (u_max - u_min) log(T / T_min) / log(T_max / T_min), within [u_min, u_max]
    eps(u)  = eps0 max(0, 1 - u / u_x),   eps0 = u_x / u_max
    tau(u)  = tau0 (tau1 / tau0)^u
    w_H(u)  = w0 (1 - u), and a penalty of the same size in the last fifth

Functions of u are rescaled by any budget; u_x makes it more than that: a larger budget explores for
a larger share of itself, and more strongly.
"""

import math
from dataclasses import dataclass
from itertools import pairwise

from nascore.errors import InputError, Problem

_PENALTY_FROM = 0.8
_KEY = "search.options.schedule"


@dataclass(frozen=True, slots=True)
class Schedule:
    """Of a search of `steps` weight updates, T; `ScheduleOptions.over` makes it.

    Attributes:
        shortest, longest: T_min and T_max; budgets beyond them explore as these do.
        least, most: u_min and u_max, the share of a budget in which there is exploration.
        warmup: share in which paths are uniform and no logit learns; part of the budget.
        hot, cold: temperatures of the Gumbel softmax at the start and at the end.
        entropy_weight: w0.
        eliminate_at: growing shares at which values are dropped, instead of those that follow from
            u_x; the more values an axis has, the more it loses at each.

    Raises:
        InputError: values that contradict each other, all of them told.
    """

    steps: int
    shortest: int
    longest: int
    least: float
    most: float
    warmup: float
    hot: float
    cold: float
    entropy_weight: float
    eliminate_at: tuple[float, ...] | None

    def __post_init__(self) -> None:
        wrong = [
            (self.steps < 1, "steps", self.steps, "a search takes one step at least"),
            (
                not 0 < self.shortest < self.longest,
                "shortest",
                self.shortest,
                f"must be above 0 and below longest={self.longest}",
            ),
            (
                not 0 < self.least <= self.most <= 1,
                "least",
                self.least,
                f"must be above 0 and at most most={self.most:g}, which is at most 1",
            ),
            (not 0 <= self.warmup < 1, "warmup", self.warmup, "must be within 0 and below 1"),
            (
                not 0 < self.cold <= self.hot,
                "cold",
                self.cold,
                f"must be above 0 and at most hot={self.hot:g}",
            ),
            (self.entropy_weight < 0, "entropy_weight", self.entropy_weight, "must be 0 or more"),
        ]
        problems = [
            Problem(f"{_KEY}.{name}", f"{value:g}", message)
            for is_wrong, name, value, message in wrong
            if is_wrong
        ]
        problems += self._contradictory_milestones()
        if problems:
            raise InputError(problems)

    def _contradictory_milestones(self) -> list[Problem]:
        given = self.eliminate_at
        if given is None:
            return []
        wrong = []
        if not given:
            wrong.append("give one share at least, or leave it out")
        if any(a >= b for a, b in pairwise(given)):
            wrong.append("each must be above the one before")
        if any(not 0 < share <= 1 for share in given):
            wrong.append("each must be above 0 and at most 1, a share of the budget")
        early = [share for share in given if 0 < share < self.warmup]
        if early:
            wrong.append(
                f"nothing is known of any value before the end of warmup={self.warmup:g}, so none "
                f"can be dropped at {', '.join(f'{share:g}' for share in early)}"
            )
        shown = ", ".join(f"{share:g}" for share in given)
        return [Problem(f"{_KEY}.eliminate_at", f"[{shown}]", "; ".join(wrong))] if wrong else []

    @property
    def exploring_share(self) -> float:
        """u_x: after it, no choice is uniform any more."""
        place = math.log(self.steps / self.shortest) / math.log(self.longest / self.shortest)
        return self.least + (self.most - self.least) * min(1.0, max(0.0, place))

    def exploration(self, u: float) -> float:
        """eps: the probability that a choice of an edge is drawn uniformly; 1 while warming up."""
        if u < self.warmup:
            return 1.0
        share = self.exploring_share
        return share / self.most * max(0.0, 1 - u / share)

    def temperature(self, u: float) -> float:
        """tau, from `hot` to `cold`."""
        return self.hot * math.pow(self.cold / self.hot, u)

    def entropy_bonus(self, u: float) -> float:
        """Of the entropy in the objective; below 0 it is a penalty, so that choices become sure."""
        if u < _PENALTY_FROM:
            return self.entropy_weight * (1 - u)
        return -self.entropy_weight * (u - _PENALTY_FROM) / (1 - _PENALTY_FROM)

    def milestones(self, num_values: int) -> tuple[float, ...]:
        """Shares at which an axis of that many values loses its least likely one.

        Equally spaced from the end of warm-up and exploration on, unless they are given. After the
        last, or the end of the budget, one value is left.
        """
        if num_values < 1:
            raise ValueError(f"an axis has one value at least, got {num_values}")
        if self.eliminate_at is not None:
            return self.eliminate_at if num_values > 1 else ()
        start = max(self.warmup, self.exploring_share)
        return tuple(
            start + (1 - start) * place / (num_values - 1) for place in range(1, num_values)
        )

    def num_left(self, u: float, num_values: int) -> int:
        """Values of such an axis that are still in the search; one at least."""
        milestones = self.milestones(num_values)
        if not milestones or u >= 1:
            return 1
        passed = sum(u >= share for share in milestones)
        return num_values - (num_values - 1) * passed // len(milestones)
