"""Entries of the baselines in the registry of methods. No torch here."""

from nascore.methods.base import Method
from nascore.methods.baselines.options import (
    LocalSearchOptions,
    RandomOptions,
    RegularizedEvolutionOptions,
    TpeOptions,
)

METHODS = {
    "random": Method(
        "random search: the baseline that every method must beat",
        RandomOptions,
        "nascore.methods.baselines.method",
    ),
    "regularized-evolution": Method(
        "evolution in which the oldest dies, not the worst",
        RegularizedEvolutionOptions,
        "nascore.methods.baselines.method",
    ),
    "local-search": Method(
        "hill climbing over neighbours, with random restarts",
        LocalSearchOptions,
        "nascore.methods.baselines.method",
    ),
    "tpe": Method(
        "Optuna's tree-structured Parzen estimator",
        TpeOptions,
        "nascore.methods.baselines.method",
    ),
}
