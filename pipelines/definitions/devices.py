"""Settings that ask for a GPU where there is none, found before hours of training rest on it."""

import subprocess
import sys

from components.config.schema import Config
from nascore.errors import Problem

# The setting, and the steps whose machine must have the device.
DEVICES = {
    "training.device": ("pretrain_controller", "search", "search_worker", "train_final"),
    "latency.device": ("profile_latency",),
}


def asking_for_cuda(config: Config) -> list[str]:
    """The settings that do."""
    devices = (config.training.device, config.latency.device)
    return [key for key, device in zip(DEVICES, devices, strict=True) if device == "cuda"]


def missing_devices(config: Config) -> list[Problem]:
    """On this machine. Torch is asked, in a process of its own, when a GPU is asked for."""
    asking = asking_for_cuda(config)
    code = "import sys, torch; sys.exit(not torch.cuda.is_available())"
    if not asking or subprocess.run([sys.executable, "-c", code]).returncode == 0:
        return []
    message = "torch finds no CUDA device here (see `nas doctor`); use auto or cpu"
    return [Problem(key, "cuda", message) for key in asking]
