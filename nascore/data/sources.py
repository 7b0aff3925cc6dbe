"""Kinds of sources, and the reader of each. Only numpy and Pillow are imported, no torch.

A source is either all images as one array, or the list of files of a folder that is too large for
memory. All problems of it are reported in one message.
"""

import difflib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from nascore.config import DataConfig
from nascore.data.archives import is_archive_name
from nascore.data.arrays import read_arrays
from nascore.data.file_access import S3, Remote, parse_s3
from nascore.data.findings import KEY, Findings
from nascore.data.image_folders import open_archive, read_files, read_folder
from nascore.data.omniglot import read_omniglot
from nascore.data.parquet import read_parquet
from nascore.data.raw_dataset import Raw, from_arrays
from nascore.errors import InputError
from nascore.redaction import redact

_USAGE = (
    "digits, cifar10, cifar100, omniglot, npz:PATH or imagefolder:PATH, also npy:, safetensors: or "
    "parquet:PATH (a path may be s3://BUCKET/KEY)"
)
_ARRAYS = ("npz", "npy", "safetensors", "parquet")
_WITH_PATH = (*_ARRAYS, "imagefolder")


def read(config: DataConfig, remote: Remote | None = None, findings: Findings | None = None) -> Raw:
    """Read the source that `config.source` names.

    Args:
        remote: opens `s3://` URIs; without it they are refused.
        findings: collects problems and warnings; where it is not given, or not lenient, the first
            problems that are found together are raised.

    Raises:
        InputError: There are problems; all are listed.
    """
    if findings is not None:
        return _read(config, remote, findings)
    findings = Findings()
    raw = _read(config, remote, findings)
    findings.refuse()
    return raw


def _read(config: DataConfig, remote: Remote | None, findings: Findings) -> Raw:
    message = uri_error(config.source)
    if message:
        raise InputError.of(KEY, config.source, message)
    name, _, path = config.source.partition(":")
    _check_tables(name, config)
    if not path.startswith(S3):
        return SOURCES[name](config, path, findings)
    if remote is None:
        raise InputError.of(KEY, config.source, "S3 cannot be read here; copy the data to a path")
    if name in _ARRAYS:
        return SOURCES[name](config, str(remote.file(path)), findings)
    if is_archive_name(path):
        return read_files(config, open_archive(remote.file(path), config, root=path), findings)
    return read_files(config, remote.folder(path), findings)


def _check_tables(kind: str, config: DataConfig) -> None:
    """Check that a table of labels is named only where it is read.

    Raises:
        InputError: A table is named that the source does not read.
    """
    for key, given in (("data.labels", config.labels), ("data.group", config.group)):
        is_read = kind == "imagefolder" or (kind == "npy" and key == "data.labels")
        if given is not None and not is_read:
            message = f"is for images in folders and archives, not for {kind}; leave it out"
            raise InputError.of(key, given, message)


def named(path: str) -> str:
    """Return the source that a command line names; the ending of a lone path gives its kind."""
    if not uri_error(path):
        return path
    is_remote = path.startswith(S3)
    if is_remote or is_archive_name(path) or Path(path).expanduser().is_dir():
        return f"{'npz' if path.endswith('.npz') else 'imagefolder'}:{path}"
    kind = Path(path).suffix.lower()[1:]
    return f"{kind}:{path}" if kind in _WITH_PATH else path


def uri_error(source: str) -> str:
    """Return the error in the name of a source; empty for a valid name. Nothing is read."""
    name, _, path = source.partition(":")
    if source.startswith(S3):
        kind = "npz" if source.endswith(".npz") else "imagefolder"
        shown = redact(source)
        return f"does not say what is there; write '{kind}:{shown}'"
    if name not in SOURCES:
        given = Path(source).expanduser()
        if given.suffix == ".npz" or given.is_dir():
            kind = "npz" if given.suffix == ".npz" else "imagefolder"
            return f"unknown source; did you mean '{kind}:{source}'?"
        close = difflib.get_close_matches(name, SOURCES, n=1)
        hint = f"did you mean {close[0]!r}? Known are" if close else "use"
        return f"unknown source; {hint} {_USAGE}"
    if name in _WITH_PATH and not path:
        return f"names no path; write {name}:PATH"
    if name not in _WITH_PATH and path:
        return f"{name} takes no path; write {name!r} (data.root names the folder of its files)"
    return _misnamed_s3(name, path) if path.startswith(S3) else ""


def _misnamed_s3(name: str, uri: str) -> str:
    try:
        _, key = parse_s3(uri)
    except ValueError as error:
        return str(error)
    if name in _ARRAYS and (not key or key.endswith("/")):
        return f"names no object; write {name}:s3://BUCKET/KEY.{name}"
    return ""


def _digits(config: DataConfig, path: str, findings: Findings) -> Raw:
    """Read 1,797 handwritten digits, 8x8, from scikit-learn (values 0..16)."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return from_arrays(
        np.rint(bunch.images * (255 / 16)).astype(np.uint8)[..., None],
        bunch.target.astype(np.int64),
        classes=[str(digit) for digit in bunch.target_names],
        num_test=0,
        config=config,
    )


def _cifar(config: DataConfig, path: str, findings: Findings) -> Raw:
    """Read CIFAR by torchvision, which is imported here since it imports torch."""
    from torchvision import datasets

    kind = {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}[config.source]
    root = config.root or Path.home() / ".cache" / "nas" / config.source
    try:
        parts = [kind(str(root), train=train, download=True) for train in (True, False)]
    except (OSError, RuntimeError) as error:
        raise InputError.of(
            "data.root",
            root,
            f"{config.source} is not there and cannot be downloaded ({error}); put torchvision's "
            "files into this folder, or use data.source=npz:PATH",
        ) from error
    return from_arrays(
        np.concatenate([part.data for part in parts]),
        np.concatenate([np.asarray(part.targets, np.int64) for part in parts]),
        classes=parts[0].classes,
        num_test=len(parts[1].data),
        config=config,
    )


SOURCES: dict[str, Callable[[DataConfig, str, Findings], Raw]] = {
    "digits": _digits,
    "cifar10": _cifar,
    "cifar100": _cifar,
    "omniglot": read_omniglot,
    "npz": read_arrays("npz"),
    "npy": read_arrays("npy"),
    "safetensors": read_arrays("safetensors"),
    "parquet": read_parquet,
    "imagefolder": read_folder,
}
