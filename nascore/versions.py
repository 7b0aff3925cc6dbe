"""The versions that a result carries."""

import platform
from importlib.metadata import version

import torch


def versions() -> dict[str, str]:
    """What a result depends on beside its configuration."""
    return {
        "nas-pipelines": version("nas-pipelines"),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
