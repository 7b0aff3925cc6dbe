"""Versions of the software that a result depends on."""

import platform
from importlib.metadata import version

import torch


def versions() -> dict[str, str]:
    """Return the versions of this project, torch and Python."""
    return {
        "nas-pipelines": version("nas-pipelines"),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
