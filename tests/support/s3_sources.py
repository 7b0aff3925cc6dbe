"""Data sources in S3 as the tests of the object store prepare them."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from s3 import SECRET_KEY

from components.object_store.remote import S3
from nascore.config import DataConfig
from nascore.data.prepared import DatasetInfo, prepare
from nascore.errors import InputError

CPU = torch.device("cpu")
CACHE = 50 * 2**20


def archive(**arrays: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def digits(count: int = 40) -> bytes:
    x = np.random.default_rng(0).integers(0, 256, (count, 8, 8), dtype=np.uint8)
    return archive(x_train=x, y_train=np.arange(count) % 2)


def prepared(
    source: str, folder: Path, *, remote: S3 | None = None, **settings: Any
) -> DatasetInfo:
    config = DataConfig(source=source, **settings)
    return prepare(config, 0, folder / "dataset", remote=remote)


def message(function: Any, *arguments: Any, **settings: Any) -> str:
    with pytest.raises(InputError) as caught:
        function(*arguments, **settings)
    assert SECRET_KEY not in str(caught.value)
    return str(caught.value)
