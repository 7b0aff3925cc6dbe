"""Files that a run exports under `promote.export_to`, and the manifest that lists them.

Below the root every run has a folder, named by its run key: weights (safetensors), genotype,
result, report, model card, latency, the programs of its network if there are any
(`components.export.programs`), the network in int8 if it is offered, and `manifest.json` with the
SHA-256 of each file. The manifest is written last: a folder with a manifest is complete.
`champion.json` next to the folders names the run whose model is champion in the registry.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from components.object_store.outputs import KEY, Outputs
from nascore.errors import InputError, ResourceUnavailable
from nascore.files import sha256_of

VERSION = 1
WEIGHTS = "model.safetensors"
GENOTYPE = "genotype.json"
LATENCY = "latency.json"
RESULT = "result.json"
REPORT = "report.html"
MODEL_CARD = "MODEL_CARD.md"
PROGRAMS = "programs.json"
INT8 = "model-int8.onnx"
MANIFEST = "manifest.json"
CHAMPION = "champion.json"
# Equal in every try of a step. Other files contain times, or are programs, whose archives differ;
# of those the files of the first try are kept.
_FIXED = (WEIGHTS, GENOTYPE, LATENCY, PROGRAMS)
# Measured latencies decide whether this file is offered, so that tries may differ; the first
# complete one counts.
_OFFERED = (INT8,)
_MAX_TRIES = 20  # of moving `champion.json`; each failed one means that another run has moved it


def export_files(outputs: Outputs, run_key: str, files: Mapping[str, Path]) -> str:
    """Copy the files of a run, and write its manifest.

    A try after one that was cut off adds what is missing.

    Args:
        outputs: the place of `promote.export_to`.
        run_key: key of the run; names the folder.
        files: paths by file name.

    Returns:
        SHA-256 of the manifest.

    Raises:
        InputError: the folder has other weights under this key, or nothing can be written.
    """
    digests = {}
    complete = _digests(outputs.read(f"{run_key}/{MANIFEST}"))
    if complete is not None:
        digests = {name: complete[name] for name in _OFFERED if name in complete}
        files = {name: path for name, path in files.items() if name not in _OFFERED}
    for name, path in files.items():
        digests[name] = outputs.add(f"{run_key}/{name}", path)
        if name in _FIXED and digests[name] != sha256_of(path):
            raise InputError.of(
                KEY,
                f"{outputs.root}/{run_key}/{name}",
                "exists with other content, and nothing is overwritten; use another folder",
            )
    name = f"{run_key}/{MANIFEST}"
    manifest = _to_bytes({"version": VERSION, "run_key": run_key, "sha256": digests})
    outputs.replace(name, manifest, None)
    existing = outputs.read(name)
    if existing is None or existing[0] != manifest:
        message = "does not fit the files next to it; use another folder"
        raise InputError.of(KEY, f"{outputs.root}/{name}", message)
    return hashlib.sha256(manifest).hexdigest()


def _digests(manifest: tuple[bytes, str] | None) -> Mapping[str, str] | None:
    """Return the digests by file name in a manifest; None without one of this version."""
    if manifest is None:
        return None
    try:
        found: Mapping[str, str] = json.loads(manifest[0])["sha256"]
    except (ValueError, KeyError, TypeError):
        return None  # the comparison of its content refuses it
    return found


def champion_entry(
    run_key: str, *, model_name: str, model_version: str, manifest_sha256: str
) -> dict[str, Any]:
    """Return the content of `champion.json`.

    Args:
        run_key: key of the run that trained the model.
        model_name: name of the registered model.
        model_version: version of the champion.
        manifest_sha256: SHA-256 of the manifest of that run.
    """
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
    """Let `champion.json` name a run.

    The registry decides who is champion. When two runs write at once, the second finds the file
    changed, asks the registry again, and either overwrites the file or leaves it. So the file names
    the champion of the registry once both are done.

    Args:
        outputs: the place of `promote.export_to`.
        entry: content, from `champion_entry`.
        is_champion: asks the registry whether the model is champion now.

    Returns:
        False when another model has become champion meanwhile.

    Raises:
        InputError: the file is of another model, or of another program.
        ResourceUnavailable: it cannot be written.
    """
    content = _to_bytes(entry)
    for _ in range(_MAX_TRIES):
        existing = outputs.read(CHAMPION)
        if existing is not None and existing[0] == content:
            return True
        _check_model(outputs.root, existing, str(entry["model_name"]))
        if not is_champion():
            return False
        if outputs.replace(CHAMPION, content, None if existing is None else existing[1]):
            return True
    raise ResourceUnavailable.of(
        KEY,
        f"{outputs.root}/{CHAMPION}",
        f"other runs have changed it {_MAX_TRIES} times; run the step again",
    )


def check_outputs(outputs: Outputs, model_name: str | None) -> str:
    """Check that a run of a model can write its files.

    Args:
        outputs: the place of `promote.export_to`.
        model_name: name of the registered model; None while it depends on data not yet read.

    Returns:
        A warning about the place; empty where there is none.

    Raises:
        InputError: it cannot, or the place belongs to another model.
    """
    warning = outputs.check()
    if model_name is not None:
        check_model(outputs, model_name)
    return warning


def check_model(outputs: Outputs, model_name: str) -> None:
    """Check that the place has the files of no other model.

    Raises:
        InputError: it has.
    """
    _check_model(outputs.root, outputs.read(CHAMPION), model_name)


def manifest_sha256(outputs: Outputs, run_key: str) -> str | None:
    """Return the SHA-256 of the manifest of a run; None when its export is not complete."""
    existing = outputs.read(f"{run_key}/{MANIFEST}")
    return None if existing is None else hashlib.sha256(existing[0]).hexdigest()


def _check_model(root: str, existing: tuple[bytes, str] | None, model_name: str) -> None:
    if existing is None:
        return
    try:
        name = json.loads(existing[0])["model_name"]
    except (ValueError, KeyError, TypeError) as error:
        message = "is no file of this version; move it, or use another folder"
        raise InputError.of(KEY, f"{root}/{CHAMPION}", message) from error
    if name != model_name:
        message = (
            f"belongs to the model {name}, not to {model_name}; give each model its own folder"
        )
        raise InputError.of(KEY, f"{root}/{CHAMPION}", message)


def _to_bytes(data: Mapping[str, Any]) -> bytes:
    return json.dumps(data, indent=2, sort_keys=True).encode() + b"\n"
