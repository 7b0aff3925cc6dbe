"""Check of the packages that `promote.int8_max_drop` needs. No torch here."""

import importlib.util
import sys

from components.config.schema import Config
from nascore.errors import InputError

PACKAGES = ("onnx", "onnxruntime", "onnxscript")


def check_packages(settings: Config) -> str:
    """Check that what quantises is installed, before anything is trained.

    Returns:
        No warning.

    Raises:
        InputError: a package is missing.
    """
    max_drop = settings.promote.int8_max_drop
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if max_drop is None or not missing:
        return ""
    message = (
        f"needs {', '.join(missing)}; install with `{sys.executable} -m pip install "
        f"{' '.join(missing)}`, or set it to null"
    )
    raise InputError.of("promote.int8_max_drop", f"{max_drop:g}", message)
