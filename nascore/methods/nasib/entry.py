"""Entries of NASIB in the registry of methods. No torch here."""

from nascore.methods.base import Method
from nascore.methods.nasib.options import NasibOptions

METHODS = {
    "nasib": Method(
        "twelve times the operations on an edge, searched within any budget",
        NasibOptions,
        "nascore.methods.nasib.method",
        shares_batches=True,
        budget_units=("steps", "seconds", "gpu_hours"),
        control="random-ws",
        space="superkernel",
        plans=True,
        report="nascore.methods.nasib.report",
    ),
}
