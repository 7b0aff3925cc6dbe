"""Checkpoint files, which are complete or refused.

A checkpoint is a line with the SHA-256 of the rest, then what `torch.save` writes for a dictionary:
kind, version, metadata and tensors. Nothing is read before the hash fits, so damage in any byte is
found; the dictionary is read with `weights_only`, so no pickled object is ever made.
"""

import hashlib
import io
import json
import os
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nascore.errors import CheckpointError
from nascore.files import replacing

VERSION = 2


def save(path: Path, tensors: Mapping[str, Tensor], meta: Mapping[str, Any], kind: str) -> None:
    """Write a checkpoint atomically: a reader sees the old file or the new one, never a part.

    Args:
        tensors: flat, by name; they are loaded to the CPU, whatever their device.
        meta: values that JSON can hold.
        kind: of the content, such as `nases-autoencoder`; `load` asks for it.
    """
    buffer = io.BytesIO()
    # JSON, because weights_only refuses the scalars of NumPy, which metadata may contain.
    described = {"kind": kind, "version": VERSION, "meta": json.dumps(dict(meta), sort_keys=True)}
    torch.save({**described, "tensors": dict(tensors)}, buffer)
    content = buffer.getvalue()
    with replacing(path) as temporary, open(temporary, "wb") as file:
        file.write(hashlib.sha256(content).hexdigest().encode() + b"\n" + content)
        file.flush()
        os.fsync(file.fileno())
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # only then the new name survives a power failure
    finally:
        os.close(folder)


def load(path: Path, kind: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors, on the CPU, and the metadata.

    Raises:
        CheckpointError: the file is missing, damaged in any byte, or of another kind or version.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"cannot read checkpoint {path}: {error}") from error
    digest, newline, content = data.partition(b"\n")
    if not newline or digest != hashlib.sha256(content).hexdigest().encode():
        raise CheckpointError(f"{path} is damaged: its content does not fit its SHA-256")
    try:
        found = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, LookupError, ValueError) as error:
        raise CheckpointError(
            f"{path} is no checkpoint of this version of the program: {error}"
        ) from error
    if not isinstance(found, dict):
        raise CheckpointError(f"{path} is no checkpoint: it contains a {type(found).__name__}")
    if (found.get("kind"), found.get("version")) != (kind, VERSION):
        raise CheckpointError(
            f"{path} holds {found.get('kind')!r} version {found.get('version')!r}, "
            f"expected {kind!r} version {VERSION}"
        )
    return found["tensors"], json.loads(found["meta"])


def below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors whose names start with `prefix`, by the rest of their names."""
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
