"""The object that names all files of a step's state, and what can be wrong with one.

A state is what its manifest says: the objects are written before it, so it is whole at any moment,
and replacing the manifest replaces the state. `<root>/<run id>/<step>/manifest.json` is a JSON
object, `<root>/<run id>/<step>/files/<sha256>.<generation>.<serial>` are the contents.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import PurePosixPath
from typing import Any, Self

from components.run_state.reference import KEY
from nascore.errors import InputError

FORMAT = 1
PROJECT = "nas-pipelines"
MANIFEST = "manifest.json"
FILES = "files"
NEW_RUN = "start a new run with `nas submit`"
CLEAN = "`nas clean-state --older-than DAYS` removes old states"
_SHA256 = re.compile(r"[0-9a-f]{64}")
_OBJECT = re.compile(r"([0-9a-f]{64})\.(\d+)\.(\d+)")


def project_version() -> str:
    return version(PROJECT)


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file of the state.

    Attributes:
        path: below the state folder, with slashes.
        object: name below `files/`.
        sha256: of the content.
        mode: permission bits.
    """

    path: str
    object: str
    sha256: str
    size: int
    mode: int

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> Self:
        """Read what `asdict` gives. Raises KeyError, TypeError or ValueError."""
        made = cls(**{name: data[name] for name in cls.__slots__})
        if not _is_below(made.path) or generation_of(made.object) is None:
            raise ValueError(f"a file that leaves its folder, or no object: {data}")
        if not _SHA256.fullmatch(made.sha256) or made.size < 0 or not 0 <= made.mode <= 0o777:
            raise ValueError(f"no description of a file: {data}")
        return made


@dataclass(frozen=True, slots=True)
class Manifest:
    """A step's state.

    Attributes:
        config: what identifies the configuration, where the writer knew it.
        generation: grows by one with each pod that takes the state over.
        owner: names the pod that may replace it.
        writer: host name of that pod, for messages.
        done: the step has succeeded; only its results are kept.
        removing: `nas clean-state` is removing the objects.
        folders: those without a file in them.
    """

    run_id: str
    step: str
    config: str | None
    generation: int
    owner: str
    writer: str
    done: bool = False
    removing: bool = False
    folders: tuple[str, ...] = ()
    files: tuple[StoredFile, ...] = ()
    format: int = FORMAT
    project: str = PROJECT
    version: str = field(default_factory=project_version)

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files)

    def to_json(self) -> bytes:
        return json.dumps(asdict(self), indent=1).encode()

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> Self:
        """Read what `to_json` writes. Raises KeyError, TypeError or ValueError."""
        values = {name: data[name] for name in cls.__slots__}
        for name in ("generation", "format"):
            if not isinstance(values[name], int):
                raise TypeError(f"{name} is no number")
        values["files"] = tuple(StoredFile.parse(file) for file in values["files"])
        values["folders"] = tuple(values["folders"])
        if not all(_is_below(folder) for folder in values["folders"]):
            raise ValueError(f"a folder that leaves the state: {values['folders']}")
        return cls(**values)


def generation_of(name: str) -> int | None:
    """Return the generation in the name of an object below `files/`; None when it is not ours."""
    found = _OBJECT.fullmatch(name)
    return None if found is None else int(found[2])


def read_manifest(data: bytes, uri: str, *, run_id: str, step: str, config: str | None) -> Manifest:
    """Return the manifest, if it is whole and belongs to this step of this run.

    Args:
        uri: of the manifest, for messages.
        config: what identifies the configuration; None when that is not known.

    Raises:
        InputError: what is wrong with it and what to do.
    """
    try:
        values = json.loads(data)
        check_origin(values, uri, run_id=run_id)
        manifest = Manifest.parse(values)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError.of(KEY, uri, _unreadable(uri, error)) from error
    if manifest.step != step:
        raise InputError.of(
            KEY, uri, f"is the state of step {manifest.step}, not of {step}; {NEW_RUN}"
        )
    if manifest.removing:
        raise InputError.of(
            KEY, uri, f"is being removed by `nas clean-state`; {NEW_RUN}, or let it end first"
        )
    if config is not None and manifest.config is not None and manifest.config != config:
        raise InputError.of(
            KEY,
            uri,
            f"belongs to another configuration ({manifest.config[:12]}, this one is "
            f"{config[:12]}); {NEW_RUN}, or use the configuration that the state was made with",
        )
    return manifest


def check_origin(values: Mapping[str, Any], where: str, *, run_id: str) -> None:
    """Check that a manifest or marker is of this project, version and run.

    Args:
        values: what it says.
        where: its address, for messages.

    Raises:
        InputError: what is wrong and what to do.
        KeyError, TypeError: something is missing.
    """
    if values["project"] != PROJECT:
        message = f"was written by another program ({values['project']}); use another place"
    elif values["format"] != FORMAT:
        message = (
            f"has format {values['format']}, this version reads {FORMAT}; {NEW_RUN}, or use the "
            "image that the state was made with"
        )
    elif values["version"] != project_version():
        message = (
            f"was written by version {values['version']} of {PROJECT}, this is "
            f"{project_version()}; {NEW_RUN}, or use the image that the state was made with"
        )
    elif values["run_id"] != run_id:
        message = f"is the state of run {values['run_id']}, not of {run_id}; {NEW_RUN}"
    else:
        return
    raise InputError.of(KEY, where, f"{message}. Nothing was changed; {CLEAN}")


def _unreadable(uri: str, error: Exception) -> str:
    place = uri.rpartition("/")[0]
    return (
        f"cannot be read as the manifest of a state ({type(error).__name__}: {error}); {NEW_RUN}, "
        f"or remove what lies below {place}/ with the store's own tools, and the step starts from "
        "its beginning. Nothing was changed"
    )


def _is_below(path: str) -> bool:
    parts = PurePosixPath(path).parts
    return bool(parts) and not path.startswith("/") and ".." not in parts and "\0" not in path
