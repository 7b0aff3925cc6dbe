"""Entries of Auto-Meta in the registry of methods. No torch here."""

from nascore.methods.auto_meta.options import AutoMetaOptions
from nascore.methods.base import Method
from nascore.methods.requirements import AccuracyObjective, NoInt8, OneDevice, OneSpace

METHODS = {
    "auto-meta": Method(
        "cells that grow block by block, for networks that learn from few examples",
        AutoMetaOptions,
        "nascore.methods.auto_meta.method",
        requirements=(
            AccuracyObjective("is scored by tasks with as many images of each class"),
            OneDevice(),
            OneSpace("fewshot-cell"),
            NoInt8("learn the classes of each task"),
        ),
        split_by="class",
        report="nascore.methods.auto_meta.report",
    ),
}
