"""Exploration and exploitation within a budget, as functions of its spent fraction u.

NASIB (arXiv 1910.08665) takes the budget as an input and adapts the search to it. The formulas are
not published; these are our choice (docs/nasib.md):

    u_x(T)  = u_min + (u_max - u_min) log(T / T_min) / log(T_max / T_min), within [u_min, u_max]
    eps(u)  = eps0 max(0, 1 - u / u_x),   eps0 = u_x / u_max
    tau(u)  = tau0 (tau1 / tau0)^u
    w_H(u)  = w0 (1 - u), and a penalty of the same size in the last fifth

Functions of u stretch with the budget. In addition, by u_x, a larger budget explores for a larger
fraction of itself, and more strongly.
"""

import math
from dataclasses import dataclass

_PENALTY_FROM = 0.8


@dataclass(frozen=True, slots=True)
class Schedule:
    """The schedule of a search of `steps` weight updates, T; see `ScheduleOptions.over`.

    Attributes:
        steps: at least 1.
        min_steps, max_steps: T_min and T_max; budgets beyond them explore as these do.
        min_explore_fraction, max_explore_fraction: u_min and u_max, the fraction of the budget in
            which choices are explored.
        warmup: fraction in which paths are uniform and the distribution is not trained; part of
            the budget.
        temperature_start, temperature_end: tau0 and tau1, of the Gumbel softmax.
        entropy_weight: w0.
    """

    steps: int
    min_steps: int
    max_steps: int
    min_explore_fraction: float
    max_explore_fraction: float
    warmup: float
    temperature_start: float
    temperature_end: float
    entropy_weight: float

    @property
    def exploring_share(self) -> float:
        """u_x, the spent fraction after which no choice is uniform."""
        place = math.log(self.steps / self.min_steps) / math.log(self.max_steps / self.min_steps)
        least, most = self.min_explore_fraction, self.max_explore_fraction
        return least + (most - least) * min(1.0, max(0.0, place))

    def exploration(self, u: float) -> float:
        """Return eps, the probability that an edge samples uniformly; 1 in the warm-up."""
        if u < self.warmup:
            return 1.0
        share = self.exploring_share
        return share / self.max_explore_fraction * max(0.0, 1 - u / share)

    def temperature(self, u: float) -> float:
        """Return tau, the temperature of the Gumbel softmax."""
        ratio = self.temperature_end / self.temperature_start
        return self.temperature_start * math.pow(ratio, u)

    def entropy_bonus(self, u: float) -> float:
        """Return the weight of the entropy in the objective; a penalty if negative."""
        if u < _PENALTY_FROM:
            return self.entropy_weight * (1 - u)
        return -self.entropy_weight * (u - _PENALTY_FROM) / (1 - _PENALTY_FROM)

    def milestones(self, num_values: int) -> tuple[float, ...]:
        """Return the spent fractions at which an axis of so many values loses its least likely one.

        Equally spaced from the end of warm-up and exploration to the end of the budget, where one
        value is left.
        """
        if num_values < 1:
            raise ValueError(f"an axis has at least one value, got {num_values}")
        start = max(self.warmup, self.exploring_share)
        return tuple(
            start + (1 - start) * place / (num_values - 1) for place in range(1, num_values)
        )

    def num_left(self, u: float, num_values: int) -> int:
        """Return the number of values of such an axis that are left; at least one."""
        if u >= 1:
            return 1
        return num_values - sum(u >= share for share in self.milestones(num_values))
