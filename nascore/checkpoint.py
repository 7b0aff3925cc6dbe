"""Files of tensors that are whole or refused.

A checkpoint is one file: a line of JSON (kind, version, metadata, SHA-256 and length of the
rest), then what `torch.save` writes for a dictionary of tensors. Nothing of it is interpreted
before the hash fits, and it is loaded with `weights_only`: no pickled object is ever made.
"""

import hashlib
import io
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nascore.errors import CheckpointError

VERSION = 1


def save(path: Path, tensors: Mapping[str, Tensor], meta: Mapping[str, Any], kind: str) -> None:
    """Writes a checkpoint atomically: a reader sees the old file or the new one, never a part.

    Args:
        tensors: flat, by name; saved as they are (move them to the CPU first).
        meta: values that JSON can hold.
        kind: what this is, such as `nases-coder`; asked for again when loading.
    """
    buffer = io.BytesIO()
    torch.save(dict(tensors), buffer)
    body = buffer.getvalue()
    header = {"kind": kind, "version": VERSION, "meta": dict(meta), "bytes": len(body)}
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with open(temporary, "wb") as file:
        file.write(_signed(header, body))
        file.write(body)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def load(path: Path, kind: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors, on the CPU, and the metadata.

    Raises:
        CheckpointError: the file is missing, damaged in any byte, or of another kind or version.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"cannot read checkpoint {path}: {error}") from error
    line, _, body = data.partition(b"\n")
    try:
        header = json.loads(line)
        digest = header.pop("sha256")
    except (ValueError, KeyError, AttributeError) as error:
        raise CheckpointError(f"{path} is damaged or not a checkpoint") from error
    if digest != _digest(header, body):
        raise CheckpointError(f"{path} is damaged: its content does not fit its SHA-256")
    if header["kind"] != kind or header["version"] != VERSION:
        raise CheckpointError(
            f"{path} holds {header['kind']!r} version {header['version']}, "
            f"expected {kind!r} version {VERSION}"
        )
    tensors: dict[str, Tensor] = torch.load(io.BytesIO(body), map_location="cpu", weights_only=True)
    return tensors, header["meta"]


def _digest(header: Mapping[str, Any], body: bytes) -> str:
    digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    digest.update(body)
    return digest.hexdigest()


def _signed(header: dict[str, Any], body: bytes) -> bytes:
    return json.dumps({**header, "sha256": _digest(header, body)}, sort_keys=True).encode() + b"\n"
