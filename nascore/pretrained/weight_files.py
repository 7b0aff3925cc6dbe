"""Files with trained weights: state dicts of torch, safetensors, and `weights.pt` of this project.

The kind is recognised by the content, not by the name. A file is read as numbers only: a pickle
that holds code is refused before any of it runs (`torch.load` with `weights_only`).
"""

import pickle
import pickletools
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from nascore import checkpoint
from nascore.errors import CheckpointError, InputError, visible
from nascore.files import sha256_of
from nascore.genotype import Genotype
from nascore.redaction import redact

KEY = "training.weights"
FINAL_MODEL = "final-model"
"""Kind of the checkpoint `weights.pt` in the folder of a final model."""

_NESTED = ("state_dict", "model", "model_state_dict")
"""Keys below which training scripts store a state dict together with other things."""
_PREFIXES = ("module.", "_orig_mod.", "network.")
"""Put before every name by DDP, by `torch.compile`, and by exported models of this project."""
_DIGEST = re.compile(rb"[0-9a-f]{64}\n")
_NORMALISATION = ("scale_C11", "shift_C11")
_FORMATS = "a state dict of torch (.pt, .pth), safetensors, or the weights.pt of a final model"


@dataclass(frozen=True, slots=True)
class WeightFile:
    """Trained weights by name, and what is known of their network.

    Attributes:
        source: path or URI without secrets, for messages.
        sha256: of the file.
        genotype: of the network, where this project has trained it.
        classes: names of its classes in the order of its outputs; None where they are not known.
    """

    tensors: Mapping[str, Tensor]
    source: str
    sha256: str
    genotype: Genotype | None = None
    classes: tuple[str, ...] | None = None


def read_weight_file(path: Path, *, source: str | None = None) -> WeightFile:
    """Return the weights in a file, on the CPU.

    Args:
        path: of the file on this machine.
        source: the value of `training.weights`, if the file is a copy of it.

    Raises:
        InputError: the file is missing, damaged, contains code, or holds no weights by name.
    """
    source = redact(str(path) if source is None else source)
    try:
        with open(path, "rb") as file:
            start = file.read(65)
        sha256 = sha256_of(path)
    except OSError as error:
        message = f"cannot be read ({error.strerror}); write the path of {_FORMATS}"
        raise InputError.of(KEY, source, message) from error
    if _DIGEST.match(start):
        return _own(path, source, sha256)
    tensors = _safetensors(path, source) if start[8:9] == b"{" else _torch(path, source)
    return WeightFile(_plain_names(tensors), source, sha256)


def _own(path: Path, source: str, sha256: str) -> WeightFile:
    try:
        tensors, meta = checkpoint.load(path, FINAL_MODEL)
    except CheckpointError as error:
        raise InputError.of(KEY, source, f"{error}; copy the file again") from error
    classes = meta.get("classes")
    return WeightFile(
        _plain_names(tensors),
        source,
        sha256,
        Genotype.from_dict(meta["genotype"]),
        None if classes is None else tuple(classes),
    )


def _safetensors(path: Path, source: str) -> Mapping[str, Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        message = f"is damaged, or no file of safetensors ({_line(error)}); copy the file again"
        raise InputError.of(KEY, source, message) from error


def _torch(path: Path, source: str) -> Mapping[str, Tensor]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns of kinds of files that are refused below
            found = torch.load(path, map_location="cpu", weights_only=True)
    except (
        pickle.UnpicklingError,
        RuntimeError,
        EOFError,
        LookupError,
        ValueError,
        AttributeError,  # torch's unpickler, of a text that begins like a pickle
    ) as error:
        raise InputError.of(KEY, source, _refusal(path, error)) from error
    for key in _NESTED:
        if isinstance(found, Mapping) and isinstance(found.get(key), Mapping):
            found = found[key]
    if not isinstance(found, Mapping):
        message = f"contains a {type(found).__name__}, not tensors by name; write {_FORMATS}"
        raise InputError.of(KEY, source, message)
    tensors = {str(name): value for name, value in found.items() if isinstance(value, Tensor)}
    if not tensors:
        raise InputError.of(KEY, source, f"contains no tensors by name; write {_FORMATS}")
    return tensors


def _refusal(path: Path, error: Exception) -> str:
    """Return why torch did not read a file, without torch's advice to allow code."""
    if "TorchScript" in str(error):
        return f"is a TorchScript program, not weights by name; write {_FORMATS}"
    named = re.search(r"GLOBAL ([\w.]+)", str(error))
    if isinstance(error, pickle.UnpicklingError) and (named is not None or _has_code(path)):
        what = "" if named is None else f" ({named[1]})"
        return (
            f"is a pickle that contains code or objects{what}, and is not loaded: only tensors are "
            "read; where the file is trusted, load it elsewhere and save the weights alone with "
            "torch.save(network.state_dict(), FILE), or as safetensors"
        )
    # Of a text torch reports the letter that is no instruction of a pickle.
    reason = "" if isinstance(error, LookupError) else f" ({_line(error)})"
    return f"is damaged, or no file of weights{reason}; write {_FORMATS}"


def _has_code(path: Path) -> bool:
    """Return whether a file is a pickle that would call something, without loading it."""
    with open(path, "rb") as file:
        try:
            return any("GLOBAL" in opcode.name for opcode, _, _ in pickletools.genops(file))
        except (ValueError, UnicodeDecodeError):
            return False


def _line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return visible(redact(lines[0]))[:120]


def _plain_names(tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Return the tensors by names without a prefix that all of them have."""
    named = {name: value for name, value in tensors.items() if name not in _NORMALISATION}
    for prefix in _PREFIXES:
        if named and all(name.startswith(prefix) for name in named):
            named = checkpoint.below(prefix, named)
    return named
