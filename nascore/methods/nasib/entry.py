"""Entries of NASIB in the registry of methods. No torch here."""

from nascore.methods.base import Method
from nascore.methods.nasib.options import NasibOptions
from nascore.methods.requirements import BudgetOfSharedWeights, OneSpace

METHODS = {
    "nasib": Method(
        "twelve times the operations on an edge, searched within any budget",
        NasibOptions,
        "nascore.methods.nasib.method",
        requirements=(BudgetOfSharedWeights(), OneSpace("superkernel")),
        worker_layout="group",
        control="random-ws",
        report="nascore.methods.nasib.report",
    ),
}
