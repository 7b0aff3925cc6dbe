"""Checkpoint files, which are complete or refused.

A checkpoint is one file of three parts: a line with the SHA-256 of all that follows, a line of JSON
(kind, version, metadata), then what `torch.save` writes for a dictionary of tensors. Nothing is
interpreted before the hash fits, so damage in any byte is found; the tensors are read with
`weights_only`, so no pickled object is ever made.
"""

import contextlib
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

VERSION = 1


def save(path: Path, tensors: Mapping[str, Tensor], meta: Mapping[str, Any], kind: str) -> None:
    """Write a checkpoint atomically: a reader sees the old file or the new one, never a part.

    Args:
        tensors: flat, by name; saved as they are (move them to the CPU first).
        meta: values that JSON can hold.
        kind: what this is, such as `nases-coder`; asked for again when loading.
    """
    header = json.dumps({"kind": kind, "version": VERSION, "meta": dict(meta)}, sort_keys=True)
    buffer = io.BytesIO()
    torch.save(dict(tensors), buffer)
    content = header.encode() + b"\n" + buffer.getvalue()
    digest = hashlib.sha256(content).hexdigest().encode()
    _write_atomically(path, digest + b"\n" + content)


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
    header_line, _, body = content.partition(b"\n")
    header = _read_header(path, header_line)
    if header.get("kind") != kind or header.get("version") != VERSION:
        raise CheckpointError(
            f"{path} holds {header.get('kind')!r} version {header.get('version')!r}, "
            f"expected {kind!r} version {VERSION}"
        )
    try:
        tensors = torch.load(io.BytesIO(body), map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, LookupError, ValueError) as error:
        raise CheckpointError(f"{path} holds no tensors that can be read: {error}") from error
    return tensors, header["meta"]


def below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors whose names start with `prefix`, by the rest of their names."""
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _read_header(path: Path, line: bytes) -> dict[str, Any]:
    try:
        header = json.loads(line)
    except ValueError as error:
        raise CheckpointError(f"{path} is not a checkpoint: {error}") from error
    if not isinstance(header, dict):
        raise CheckpointError(f"{path} is not a checkpoint: its header is no JSON object")
    return header


def _write_atomically(path: Path, data: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:  # a full disk, an interrupt: leave no half of a file behind
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # the new name itself survives a power failure only after this
    finally:
        os.close(folder)
