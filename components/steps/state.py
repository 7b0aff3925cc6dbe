"""State of a step that outlives its process: a folder, and its outputs once it is done.

`NAS_STATE_DIR` names a folder that outlives the process (on a cluster the supervisor sets it);
without it nothing is kept, and another try starts from scratch.
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
from nascore.files import replacing

DONE = "done.json"
CONFIG = "config.json"
"""The resolved configuration, in the folder of the data."""
RUN = "run.json"
"""Key of the run, its pipeline and the division of its workers, in the folder of the data."""


def state_folder() -> Path:
    """Return `NAS_STATE_DIR`, or a temporary folder that later processes do not find."""
    given = os.environ.get("NAS_STATE_DIR")
    return Path(given) if given else Path(tempfile.gettempdir()) / f"nas-state-{os.getpid()}"


def outlives() -> bool:
    """Return whether the state folder outlives this process."""
    return "NAS_STATE_DIR" in os.environ


def read_json(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file."""
    data: dict[str, Any] = json.loads(path.read_text())
    return data


def write_json(path: Path, data: Mapping[str, Any]) -> None:
    """Write JSON to a temporary name and rename it, so that a reader never sees half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(data, indent=2))


def fingerprint(config: Config, inputs: Mapping[str, Path]) -> str:
    """Return the SHA-256 of the configuration and of the JSON files of each input.

    An input that does not exist is an empty folder, since object stores keep files only. A missing
    file is found by the step that reads it.
    """
    digest = hashlib.sha256(config.model_dump_json(exclude={"cluster"}).encode())
    for name in sorted(inputs):
        path = inputs[name]
        files = [path] if path.is_file() else sorted(path.glob("*.json"))
        # The configuration is hashed above, without `cluster`; the other is no part of the data.
        files = [file for file in files if file.name not in (CONFIG, RUN)]
        digest.update(name.encode())
        for file in files:
            digest.update(file.read_bytes())
    return digest.hexdigest()


# --- outputs of work that is done -------------------------------------------------------------


def restore(name: str, work: str, outputs: Mapping[str, Path]) -> dict[str, float] | None:
    """Restore the outputs of a step if the same work was done before.

    Args:
        name: name of the step.
        work: fingerprint of its work.
        outputs: paths to restore, by name.

    Returns:
        The metrics of the step; None if the work was not done.
    """
    saved = state_folder() / name / "outputs"
    if not (saved / DONE).exists():
        return None
    done = read_json(saved / DONE)
    if done["fingerprint"] != work:
        return None
    for output, path in outputs.items():
        _copy(saved / output, path)
    metrics: dict[str, float] = done["metrics"]
    return metrics


def save(name: str, work: str, outputs: Mapping[str, Path], metrics: dict[str, float]) -> None:
    """Save the outputs and metrics of a step for `restore`; see there for the arguments."""
    if not outlives():
        return
    saved = state_folder() / name / "outputs"
    remove(saved)
    saved.mkdir(parents=True)
    for output, path in outputs.items():
        _copy(path, saved / output)
    write_json(saved / DONE, {"fingerprint": work, "metrics": metrics})


def _copy(source: Path, target: Path) -> None:
    """Copy by hard links if the file system allows it, so that data is not stored twice."""
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
    """Remove a file, or a folder with its content, if it exists."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
