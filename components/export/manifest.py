"""What a run hands over besides the registry: files under `promote.export_to`.

Below the root every run has a folder, named by its key in tracking: weights (safetensors),
genotype, result, report, latency, programs where its network has some
(`components.export.programs`), and `manifest.json` with the SHA-256 of each, which is written last:
what has one is complete. `champion.json` beside the folders names the run whose model is champion
in the registry.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from components.object_store.outputs import KEY, Outputs, sha256_of
from nascore.errors import InputError, ResourceUnavailable

VERSION = 1
WEIGHTS = "model.safetensors"
GENOTYPE = "genotype.json"
LATENCY = "latency.json"
RESULT = "result.json"
REPORT = "report.html"
PROGRAMS = "programs.json"
MANIFEST = "manifest.json"
CHAMPION = "champion.json"
# Equal in every try of a step; others tell times, or are programs, whose archives differ. Of those
# the ones of the first try count.
_FIXED = (WEIGHTS, GENOTYPE, LATENCY, PROGRAMS)
_MOST_TRIES = 20  # of moving `champion.json`; each lost one means that another run has moved it


def deliver(outputs: Outputs, run_key: str, files: Mapping[str, Path]) -> str:
    """Copies the files of a run, and writes its manifest.

    A try after one that was cut off adds what is missing.

    Args:
        files: by their names.

    Returns:
        SHA-256 of the manifest.

    Raises:
        InputError: other weights are there already under this key, or nothing can be written.
    """
    digests = {}
    for name, path in files.items():
        digests[name] = outputs.add(f"{run_key}/{name}", path)
        if name in _FIXED and digests[name] != sha256_of(path):
            raise InputError.of(
                KEY,
                f"{outputs.root}/{run_key}/{name}",
                "is there with other content, and nothing is overwritten; take another place",
            )
    name = f"{run_key}/{MANIFEST}"
    manifest = _to_bytes({"version": VERSION, "run_key": run_key, "sha256": digests})
    outputs.replace(name, manifest, None)
    there = outputs.read(name)
    if there is None or there[0] != manifest:
        message = "does not fit the files beside it; take another place"
        raise InputError.of(KEY, f"{outputs.root}/{name}", message)
    return hashlib.sha256(manifest).hexdigest()


def champion_entry(
    run_key: str, *, model_name: str, model_version: str, manifest_sha256: str
) -> dict[str, Any]:
    """The content of `champion.json`."""
    return {
        "version": VERSION,
        "model_name": model_name,
        "model_version": model_version,
        "run_key": run_key,
        "manifest_sha256": manifest_sha256,
    }


def move_champion(
    outputs: Outputs, entry: Mapping[str, Any], *, is_champion: Callable[[], bool]
) -> bool:
    """Lets `champion.json` name this run.

    The registry decides who is champion. When two runs meet here, the one whose write comes second
    finds the file changed, asks the registry anew, and either writes over it or leaves it. So the
    file names the champion of the registry once both are done.

    Args:
        entry: as `champion_entry` makes it.
        is_champion: asks the registry whether the model is champion now.

    Returns:
        False when another model has become champion meanwhile.

    Raises:
        InputError: the file is of another model, or none of ours.
        ResourceUnavailable: it cannot be written.
    """
    content = _to_bytes(entry)
    for _ in range(_MOST_TRIES):
        there = outputs.read(CHAMPION)
        if there is not None and there[0] == content:
            return True
        _check_model(outputs.root, there, str(entry["model_name"]))
        if not is_champion():
            return False
        if outputs.replace(CHAMPION, content, None if there is None else there[1]):
            return True
    raise ResourceUnavailable.of(
        KEY, f"{outputs.root}/{CHAMPION}", "others write it all the time; run the step again"
    )


def check_outputs(outputs: Outputs, model_name: str) -> None:
    """Raises InputError unless the files of a run of that model can be written."""
    outputs.check()
    _check_model(outputs.root, outputs.read(CHAMPION), model_name)


def manifest_sha256(outputs: Outputs, run_key: str) -> str | None:
    """Of what a run has handed over; None when it is not complete, or not there."""
    there = outputs.read(f"{run_key}/{MANIFEST}")
    return None if there is None else hashlib.sha256(there[0]).hexdigest()


def _check_model(root: str, there: tuple[bytes, str] | None, model_name: str) -> None:
    if there is None:
        return
    try:
        name = json.loads(there[0])["model_name"]
    except (ValueError, KeyError, TypeError) as error:
        message = "is no file of this version; move it away, or take another place"
        raise InputError.of(KEY, f"{root}/{CHAMPION}", message) from error
    if name != model_name:
        message = f"is of the model {name}, not of {model_name}; give each model a place of its own"
        raise InputError.of(KEY, f"{root}/{CHAMPION}", message)


def _to_bytes(data: Mapping[str, Any]) -> bytes:
    return json.dumps(data, indent=2, sort_keys=True).encode() + b"\n"
