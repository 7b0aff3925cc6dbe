"""Entries of Auto-Meta in the registry of methods. No torch here."""

from nascore.methods.auto_meta.options import AutoMetaOptions
from nascore.methods.base import Method

METHODS = {
    "auto-meta": Method(
        "cells that grow block by block, for networks that learn from few examples",
        AutoMetaOptions,
        "nascore.methods.auto_meta.method",
        space="fewshot-cell",
        few_shot=True,
        only_accuracy="is scored by tasks with as many images of each class",
        report="nascore.methods.auto_meta.report",
    ),
}
