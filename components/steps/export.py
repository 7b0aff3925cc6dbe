"""Copies the files of a run to `promote.export_to`, if it is set."""

from collections.abc import Mapping
from pathlib import Path

from components.config.schema import Config
from components.export.manifest import CHAMPION as CHAMPION_FILE
from components.export.manifest import champion_entry, export_files, manifest_sha256, move_champion
from components.object_store.outputs import open_outputs
from components.registry.aliases import champion_of, run_key_of
from components.registry.lookup import CHAMPION
from components.registry.task_schema import model_name
from components.steps.runtime import Step

_LEFT = "another model has become champion meanwhile; its run writes champion.json"


def export_folder(settings: Config, run_key: str) -> str | None:
    """Return the folder to which the files of a run are copied; None when they are not."""
    root = settings.promote.export_to
    return None if root is None else f"{root.rstrip('/')}/{run_key}"


def export_run(step: Step, files: Mapping[str, Path], *, version: str, alias: str) -> None:
    """Copy the files of a run, and let `champion.json` follow the alias.

    Args:
        step: the running step.
        files: paths by file name.
        version: version of the model in the registry.
        alias: alias that the promotion gave it.

    Raises:
        InputError: see `components.export.manifest`.
    """
    settings = step.config
    root, name = settings.promote.export_to, model_name(settings)
    assert root is not None
    outputs = open_outputs(root, trusted=True)
    manifest = export_files(outputs, step.run_key, files)
    step.parent.tags({"nas.exported_to": str(export_folder(settings, step.run_key))})
    if alias != CHAMPION:
        return

    entry = champion_entry(
        step.run_key, model_name=name, model_version=version, manifest_sha256=manifest
    )
    if not move_champion(outputs, entry, is_champion=lambda: _is_champion(settings, version)):
        step.progress("note", text=_LEFT)


def follow_alias(settings: Config, version: str) -> str:
    """Let `champion.json` name the run of a version that was made champion by hand.

    Returns:
        What was done, for the user.

    Raises:
        InputError: see `components.export.manifest`.
    """
    root, name = settings.promote.export_to, model_name(settings)
    assert root is not None
    outputs = open_outputs(root)
    run_key = run_key_of(name, version, uri=settings.tracking.uri)
    manifest = None if run_key is None else manifest_sha256(outputs, run_key)
    if run_key is None or manifest is None:
        return f"{outputs.root} has no files of version {version}: champion.json stays as it was"
    entry = champion_entry(
        run_key, model_name=name, model_version=version, manifest_sha256=manifest
    )
    moved = move_champion(outputs, entry, is_champion=lambda: _is_champion(settings, version))
    return f"{outputs.root}/{CHAMPION_FILE} names {run_key} now" if moved else _LEFT


def _is_champion(settings: Config, version: str) -> bool:
    now = champion_of(model_name(settings), uri=settings.tracking.uri)
    return now is not None and str(now.version) == version
