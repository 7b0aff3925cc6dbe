"""Entries of the methods with shared weights in the registry of methods. No torch here."""

from typing import Any

from nascore.methods.base import Method
from nascore.methods.enas.options import EnasOptions, MemoryEnasOptions, RandomWsOptions
from nascore.methods.requirements import BudgetOfSharedWeights, SpaceWithSharedWeights

_SHARED: Any = {
    "requirements": (BudgetOfSharedWeights(), SpaceWithSharedWeights()),
    "worker_layout": "group",
    "control": "random-ws",
}

_DIAGNOSIS = "nascore.methods.enas.diagnosis.run"

METHODS = {
    "memory-enas": Method(
        "shared weights, and a controller that must remember what it samples",
        MemoryEnasOptions,
        "nascore.methods.enas.method",
        diagnosis=_DIAGNOSIS,
        **_SHARED,
    ),
    "enas": Method(
        "shared weights, and a controller that learns by policy gradients",
        EnasOptions,
        "nascore.methods.enas.method",
        diagnosis=_DIAGNOSIS,
        **_SHARED,
    ),
    "random-ws": Method(
        "random search with shared weights: the baseline of those that share",
        RandomWsOptions,
        "nascore.methods.enas.method",
        **_SHARED,
    ),
}
