"""What a step keeps beyond its process: a folder, and its outputs when it is done.

`NAS_STATE_DIR` names a folder that outlives the process (on a cluster the supervisor sets it);
without it nothing is kept, and another try starts from nothing.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from components.config.schema import Config

DONE = "done.json"
CONFIG = "config.json"
"""The configuration that counts, in the folder of the data."""


def state_folder() -> Path:
    """Return `NAS_STATE_DIR`, or a folder that nobody finds after the process."""
    given = os.environ.get("NAS_STATE_DIR")
    return Path(given) if given else Path(tempfile.gettempdir()) / f"nas-state-{os.getpid()}"


def outlives() -> bool:
    """Return whether the state folder outlives this process."""
    return "NAS_STATE_DIR" in os.environ


def read_json(path: Path) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(path.read_text())
    return data


def write_json(path: Path, data: Mapping[str, Any]) -> None:
    """Writes under a temporary name first, so that a reader never sees half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(data, indent=2))
    os.replace(temporary, path)


def fingerprint(config: Config, inputs: Mapping[str, Path]) -> str:
    """SHA-256 over the configuration and what identifies each input.

    An input that is not there is an empty folder: object stores keep files only. A file that is
    missing is found by the step that reads it.
    """
    digest = hashlib.sha256(config.model_dump_json(exclude={"cluster"}).encode())
    for name in sorted(inputs):
        path = inputs[name]
        files = [path] if path.is_file() else sorted(path.glob("*.json"))
        files = [file for file in files if file.name != CONFIG]  # hashed above, without `cluster`
        digest.update(name.encode())
        for file in files:
            digest.update(file.read_bytes())
    return digest.hexdigest()


# --- outputs of work that is done -------------------------------------------------------------


def restore(name: str, work: str, outputs: Mapping[str, Path]) -> dict[str, float] | None:
    """Hands back the outputs of a step, and its metrics, when the same work was done before.

    Args:
        work: its fingerprint.
    """
    kept = state_folder() / name / "outputs"
    if not (kept / DONE).exists():
        return None
    done = read_json(kept / DONE)
    if done["fingerprint"] != work:
        return None
    for output, path in outputs.items():
        _copy(kept / output, path)
    metrics: dict[str, float] = done["metrics"]
    return metrics


def keep(name: str, work: str, outputs: Mapping[str, Path], metrics: dict[str, float]) -> None:
    """Copies the outputs to where `restore` finds them."""
    if not outlives():
        return
    kept = state_folder() / name / "outputs"
    remove(kept)
    kept.mkdir(parents=True)
    for output, path in outputs.items():
        _copy(path, kept / output)
    write_json(kept / DONE, {"fingerprint": work, "metrics": metrics})


def _copy(source: Path, target: Path) -> None:
    """Hard links where the file system allows: a data set is not stored twice."""
    remove(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, copy_function=_link_or_copy)
    else:
        _link_or_copy(str(source), str(target))


def _link_or_copy(source: str, target: str) -> str:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
    return target


def remove(path: Path) -> None:
    """A file or a folder with all that is in it, if it is there."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
