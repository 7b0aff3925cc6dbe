"""Check that this machine has the GPUs that the configuration asks for."""

import subprocess
import sys

from components.config.devices import asking_for_cuda
from components.config.schema import Config
from nascore.errors import Problem


def missing_devices(config: Config) -> list[Problem]:
    """Return a problem for each setting that asks for CUDA if this machine has none.

    Torch is imported in another process, and only if a setting asks for CUDA.
    """
    asking = asking_for_cuda(config)
    code = "import sys, torch; sys.exit(not torch.cuda.is_available())"
    if not asking or subprocess.run([sys.executable, "-c", code]).returncode == 0:
        return []
    message = "torch finds no CUDA device here (see `nas doctor`); use auto or cpu"
    return [Problem(key, "cuda", message) for key in asking]
