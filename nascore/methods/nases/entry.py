"""Entries of NASES in the registry of methods. No torch here."""

from nascore.methods.base import Method
from nascore.methods.nases.options import NasesOptions, NasesPaperOptions

METHODS = {
    "nases": Method(
        "reinforcement learning in an architecture-embedding space",
        NasesOptions,
        "nascore.methods.nases.method",
    ),
    "nases-paper": Method(
        "NASES exactly as released, with its known defects as switches",
        NasesPaperOptions,
        "nascore.methods.nases.method",
        is_serial=True,
    ),
}
