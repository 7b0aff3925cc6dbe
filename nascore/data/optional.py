"""Packages that read one kind of file, and that nothing else needs."""

import importlib
import importlib.util
from types import ModuleType

from nascore.errors import InputError


def load_pyarrow(key: str, value: str) -> ModuleType:
    """Return `pyarrow.parquet`; it comes with MLflow, and `nascore` alone does without.

    Raises:
        InputError: it is not installed.
    """
    if importlib.util.find_spec("pyarrow") is None:
        message = "is a Parquet file; install pyarrow to read it, or write it as .csv or .npz"
        raise InputError.of(key, value, message)
    return importlib.import_module("pyarrow.parquet")
