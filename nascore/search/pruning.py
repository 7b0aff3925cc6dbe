"""Optuna's pruners, which end trainings early."""

from optuna.pruners import (
    BasePruner,
    HyperbandPruner,
    MedianPruner,
    NopPruner,
    SuccessiveHalvingPruner,
)

from nascore.config import PrunerName


def make_pruner(name: PrunerName, num_epochs: int) -> BasePruner:
    """Return the pruner of that name for trainings of `num_epochs`; the resource is one epoch."""
    if name == "median":
        return MedianPruner(n_startup_trials=5)
    if name == "successive-halving":
        return SuccessiveHalvingPruner(min_resource=1, reduction_factor=3)
    if name == "hyperband":
        return HyperbandPruner(min_resource=1, max_resource=num_epochs, reduction_factor=3)
    return NopPruner()
