"""Arrays by name from NumPy archives, NumPy files and safetensors files. Nothing is unpickled."""

import json
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nascore.config import DataConfig
from nascore.data.class_splits import SPLITS
from nascore.data.findings import finding, join_first, refusal
from nascore.data.split_names import name_words, split_of
from nascore.errors import InputError, Problem

Arrays = dict[str, NDArray[Any] | None]

_IMAGES = frozenset({"x", "image", "images", "img", "imgs", "data", "pixels"})
_LABELS = frozenset({"y", "label", "labels", "target", "targets"})
_OTHERS = ("classes", "groups")
_NAMES_OF_CLASSES = ("class_names", "label_names", "labels_names", "names")
# What numpy, zipfile and zlib raise on files that are damaged, encrypted or not archives at all.
_UNREADABLE = (
    OSError,
    ValueError,
    EOFError,
    KeyError,
    RuntimeError,
    SyntaxError,
    MemoryError,
    zipfile.BadZipFile,
    zlib.error,
)
_ARRAYS = "arrays"  # kind of finding
_NUMPY_DTYPES = frozenset({"BOOL", *(f"{kind}{bits}" for kind in "UI" for bits in (8, 16, 32, 64))})
_NUMPY_DTYPES |= {"F16", "F32", "F64"}


def load_npz(path: Path, config: DataConfig) -> tuple[Arrays, list[Problem]]:
    """Return the arrays by name (None for one that cannot be read), and problems of those."""
    with _reading(path, config, "npz"), open(path, "rb") as raw:
        # numpy would leave a file open that is no archive.
        file = np.load(raw, allow_pickle=False)
        if not isinstance(file, np.lib.npyio.NpzFile):
            message = "holds a single array; write it with numpy.savez, or use npy:PATH"
            raise refusal(config, _ARRAYS, message)
        wanted = _wanted(file.files, config)
        return _loaded(wanted, file.__getitem__, "array {}", config)


def load_npy(path: Path, config: DataConfig) -> tuple[Arrays, list[Problem]]:
    """Return the arrays of a folder of .npy files, or of one file and its siblings."""
    folder = path if path.is_dir() else path.parent
    files = {file.stem: file for file in sorted(folder.glob("*.npy"))}
    if not path.is_dir():
        with _reading(path, config, "npy"):
            pass
        if canonical(path.stem) is None:
            files = {"x_train": path, **{n: f for n, f in files.items() if n in _OTHERS}}
    arrays, problems = _loaded(
        _wanted(files, config),
        lambda stored: np.load(files[stored], allow_pickle=False),
        "{}.npy",
        config,
    )
    if "y_train" not in files and config.labels is not None:
        arrays["y_train"] = _labels_of(config.labels, config)
    return arrays, problems


def _loaded(
    wanted: dict[str, str],
    load: Callable[[str], NDArray[Any]],
    called: str,
    config: DataConfig,
) -> tuple[Arrays, list[Problem]]:
    """Return the arrays that can be read, and a problem for each other one.

    Args:
        wanted: name under which an array is stored, by our name.
        load: reads an array by the name under which it is stored.
        called: name of an array in messages, with `{}` for that name.
        config: settings of the data.
    """
    arrays: Arrays = {}
    problems: list[Problem] = []
    for name, stored in wanted.items():
        try:
            arrays[name] = load(stored)
        except _UNREADABLE as error:
            arrays[name] = None
            message = f"{called.format(stored)} {_reason(error)}"
            problems.append(finding(config, _ARRAYS, message))
    return arrays, problems


def load_safetensors(path: Path, config: DataConfig) -> tuple[Arrays, list[Problem]]:
    """Return the arrays of a safetensors file by name; its metadata may name the classes."""
    from safetensors import SafetensorError, safe_open

    with _reading(path, config, "safetensors"):
        try:
            with safe_open(path, framework="numpy") as file:
                metadata = file.metadata() or {}
                arrays: Arrays = {
                    name: _tensor(file, stored, config)
                    for name, stored in _wanted(file.keys(), config).items()
                }
        except SafetensorError as error:
            raise ValueError(str(error)) from error
        if "classes" in metadata:
            arrays["classes"] = np.array(json.loads(metadata["classes"]))
    return arrays, []


def _tensor(file: Any, name: str, config: DataConfig) -> NDArray[Any]:
    dtype = file.get_slice(name).get_dtype()
    if dtype not in _NUMPY_DTYPES:
        message = f"array {name} is of type {dtype}; write whole numbers or floats"
        raise refusal(config, _ARRAYS, message)
    found: NDArray[Any] = file.get_tensor(name)
    return found


def _labels_of(name: str, config: DataConfig) -> NDArray[Any]:
    """Return labels in the order of the images from a .npy or the only column of a table."""
    from nascore.data.tables import TableError, read_table

    path = Path(name).expanduser()
    try:
        if path.suffix == ".npy":
            found: NDArray[Any] = np.load(path, allow_pickle=False)
            return found
        table = read_table(path.name, path.read_bytes())
    except (TableError, *_UNREADABLE) as error:
        raise InputError.of("data.labels", name, f"cannot be read ({error})") from error
    only = next(iter(table.columns)) if len(table.columns) == 1 else "label"
    column = config.label_column or only
    if column not in table.columns:
        message = f"set data.label_column to one of {join_first(table.columns)}"
        raise InputError.of("data.labels", name, message)
    return np.array(table.columns[column])


# --- names ----------------------------------------------------------------------------------


def canonical(name: str) -> str | None:
    """Return `x_train` for `train_images` or `X`; None for a name without meaning."""
    splits, axes = [], []
    for word in name_words(name):
        split = split_of(word)
        if split is not None:
            splits.append(split)
        elif word in _IMAGES or word in _LABELS:
            axes.append("x" if word in _IMAGES else "y")
        else:
            return None
    if len(axes) != 1 or len(splits) > 1:
        return None
    return f"{axes[0]}_{splits[0] if splits else 'train'}"


def _wanted(stored: Iterable[str], config: DataConfig) -> dict[str, str]:
    """Return the known names, and the name under which each array is stored.

    Names in other spellings count where they identify both images and labels.
    """
    stored = list(stored)
    own = [f"{axis}_{split}" for split in SPLITS for axis in "xy"]
    found = {name: name for name in (*own, *_OTHERS) if name in stored}
    if "x_train" not in found and "y_train" not in found:
        aliases: dict[str, list[str]] = {}
        for name in stored:
            if (meant := canonical(name)) is not None:
                aliases.setdefault(meant, []).append(name)
        if {"x_train", "y_train"} <= aliases.keys():
            twice = next((names for names in aliases.values() if len(names) > 1), None)
            if twice is not None:
                raise refusal(
                    config, _ARRAYS, f"has {join_first(twice)} for the same; keep one of them"
                )
            found |= {meant: names[0] for meant, names in aliases.items()}
    for name in _NAMES_OF_CLASSES:
        if "classes" not in found and name in stored:
            found["classes"] = name
    if config.split_by != "class":
        found.pop("groups", None)
    return found


# --- what is wrong --------------------------------------------------------------------------


@contextmanager
def _reading(path: Path, config: DataConfig, kind: str) -> Iterator[None]:
    """Refuse a file that is missing, empty, or cannot be read inside the block."""
    try:
        if not path.is_file():
            message = f"there is no file {str(path)!r}; give {kind}:PATH of an .{kind} file"
            raise refusal(config, _ARRAYS, message)
        if path.stat().st_size == 0:
            raise refusal(config, _ARRAYS, "the file is empty; write it again")
        yield
    except PermissionError as error:
        message = "may not be read; check its permissions and owner"
        raise refusal(config, _ARRAYS, message) from error
    except _UNREADABLE as error:
        message = f"is not a whole .{kind} file: it {_reason(error)}"
        raise refusal(config, _ARRAYS, message) from error


def _reason(error: Exception) -> str:
    if "Object arrays" in str(error):
        return "holds Python objects, which can run code when read; save plain numbers"
    if isinstance(error, MemoryError):
        return "does not fit in memory; use an imagefolder, which is streamed"
    if "allow_pickle" in str(error):
        return "is not in NumPy's format; write it with numpy.savez"
    return f"is damaged or cut short ({error}); copy or write it again"


LOADERS: dict[str, Callable[[Path, DataConfig], tuple[Arrays, list[Problem]]]] = {
    "npz": load_npz,
    "npy": load_npy,
    "safetensors": load_safetensors,
}
