"""Entries of NASES in the registry of methods. No torch here."""

from nascore.methods.base import Method
from nascore.methods.nases.options import NasesOptions, NasesPaperOptions
from nascore.methods.requirements import OneWorker

METHODS = {
    "nases": Method(
        "reinforcement learning in an architecture-embedding space",
        NasesOptions,
        "nascore.methods.nases.method",
    ),
    "nases-paper": Method(
        "NASES as released by its authors, known defects included",
        NasesPaperOptions,
        "nascore.methods.nases.paper_release",
        requirements=(OneWorker(),),
    ),
}
