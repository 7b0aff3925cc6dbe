"""Entries of InstaNAS in the registry of methods. No torch here."""

from nascore.methods.base import Method
from nascore.methods.instanas.options import InstanasOptions

METHODS = {
    "instanas": Method(
        "an architecture for each image, by accuracy and latency",
        InstanasOptions,
        "nascore.methods.instanas.method",
        is_serial=True,
        budget_units=("steps", "seconds", "gpu_hours"),
        control="random-ws",
        space="mobile",
        keeps_weights=True,
        only_accuracy="rewards the architecture of each image by whether that image is right",
        report="nascore.methods.instanas.report",
    ),
}
