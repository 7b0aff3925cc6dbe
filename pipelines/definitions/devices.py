"""Check that this machine has the GPUs that the configuration asks for."""

import subprocess
import sys

from components.config.devices import asking_for_cuda
from components.config.schema import Config
from nascore.errors import Problem


def missing_devices(config: Config) -> list[Problem]:
    """Return a problem for each setting that asks for GPUs that this machine does not have.

    Torch is imported in another process, and only if a setting asks for GPUs.
    """
    asking, devices = asking_for_cuda(config), config.training.devices
    shares = devices > 1 and config.training.device != "cpu"
    if not asking and not shares:
        return []
    count = _num_gpus()
    if count == 0:
        message = "torch finds no CUDA device here (see `nas doctor`); use "
        return [Problem(one.key, one.value, message + one.otherwise) for one in asking]
    if shares and devices > count:
        message = f"this machine has {count} GPUs; use at most {count}, or training.device=cpu"
        return [Problem("training.devices", str(devices), message)]
    return []


def _num_gpus() -> int:
    code = "import torch; print(torch.cuda.device_count())"
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    return int(done.stdout) if done.returncode == 0 else 0
