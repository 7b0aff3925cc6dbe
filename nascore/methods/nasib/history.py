"""The history of a search: the distribution at equally spaced fractions of the budget."""

from typing import Any

import torch

from nascore.methods.nasib.distribution import Distribution

NUM_MARKS = 50
"""Largest number of rows of a search."""


class DistributionHistory:
    """Rows for the report, as JSON; part of the checkpoint."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    def is_due(self, u: float) -> bool:
        """Return whether a mark was passed since the last row."""
        last = -1 if not self.rows else int(self.rows[-1]["u"] * NUM_MARKS)
        return int(u * NUM_MARKS) > last

    @torch.no_grad()
    def add(self, distribution: Distribution, *, u: float, step: int, exploration: float) -> None:
        """Add a row; `probs` has the probabilities of each axis, the mean over the edges."""
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
