"""Entries of InstaNAS in the registry of methods. No torch here."""

from nascore.methods.base import Method
from nascore.methods.instanas.options import InstanasOptions
from nascore.methods.requirements import (
    AccuracyObjective,
    BudgetOfSharedWeights,
    NoInt8,
    OneDevice,
    OneSpace,
    OneWorker,
    OwnWeights,
)

METHODS = {
    "instanas": Method(
        "an architecture for each image, by accuracy and latency",
        InstanasOptions,
        "nascore.methods.instanas.method",
        requirements=(
            OneWorker(),
            OneDevice(),
            AccuracyObjective(
                "rewards the architecture of each image by whether that image is right"
            ),
            BudgetOfSharedWeights(),
            OneSpace("mobile"),
            OwnWeights(),
            NoInt8("send each image along a path of its own"),
        ),
        control="random-ws",
        new_search_reason="continues training the weights of its search",
        report="nascore.methods.instanas.report",
    ),
}
