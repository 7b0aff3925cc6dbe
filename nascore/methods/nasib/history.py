"""What a search keeps of its way: the distribution at equally spaced shares of the budget."""

from typing import Any

import torch

from nascore.methods.nasib.distribution import Distribution

NUM_MARKS = 50
"""Looks in a search, at most."""


class DistributionHistory:
    """Rows for the report; JSON, and part of the checkpoint."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    def is_due(self, u: float) -> bool:
        """Whether a mark was passed since the last look."""
        last = -1 if not self.rows else int(self.rows[-1]["u"] * NUM_MARKS)
        return int(u * NUM_MARKS) > last

    @torch.no_grad()
    def add(self, distribution: Distribution, *, u: float, step: int, exploration: float) -> None:
        """`probs` has for each axis its values' probabilities in the mean over the edges."""
        self.rows.append(
            {
                "u": u,
                "step": step,
                "exploration": exploration,
                "candidates": distribution.num_candidates(),
                "entropy": {k: float(v.mean()) for k, v in distribution.entropies().items()},
                "probs": {
                    k: [round(p, 5) for p in v.exp().mean(0).tolist()]
                    for k, v in distribution.log_probs().items()
                },
            }
        )
