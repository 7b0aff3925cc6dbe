"""`nas clean-state`: removal of old states of runs."""

import json
import math
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from nascore.data.file_access import S3
from nascore.errors import InputError
from pipelines.commands.options import configuration, one_message
from pipelines.exit_status import FAILED

if TYPE_CHECKING:
    from components.run_state.cleaning import Cleaned

_MB = 1e6


@configuration
@click.option(
    "--older-than",
    "days",
    required=True,
    type=float,
    metavar="DAYS",
    help="Remove the state of a run that has not been written for this number of days.",
)
@click.option(
    "--state",
    metavar="PLACE",
    help="s3://BUCKET/PREFIX or a folder [cluster.state of the configuration].",
)
@click.option("--dry-run", is_flag=True, help="Only print what would be removed.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@one_message
def clean_state(
    config: Path | None,
    preset: str | None,
    settings: tuple[str, ...],
    days: float,
    state: str | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Remove old states of runs from the place where steps on a cluster store them.

    States that are written meanwhile and everything that is not a state of a run are skipped. Exit
    status 1: a state could not be removed.
    """
    from components.run_state.cleaning import clean

    if not days >= 0 or math.isinf(days):
        raise InputError.of("--older-than", days, "give a number of days, 0 or more")
    if state is None:
        root = _configured(config, preset, settings)
    elif config is not None or preset is not None or settings:
        message = "is given next to a configuration, which names a place as well; give one of them"
        raise InputError.of("--state", state, message)
    else:
        root = _root(state, "--state")
    cleaned = clean(root, older_than_days=days, dry_run=dry_run)
    if as_json:
        result = {"state": root, "dry_run": dry_run, "bytes": cleaned.num_bytes, **asdict(cleaned)}
        click.echo(json.dumps(result))
    else:
        _say(root, cleaned, dry_run=dry_run)
    if cleaned.failed:
        sys.exit(FAILED)


def _configured(config: Path | None, preset: str | None, settings: tuple[str, ...]) -> str:
    from components.run_state.reference import KEY
    from pipelines.config import resolve

    state = resolve(config, preset, settings).cluster.state
    if state is None:
        message = "is not set; give the place with --state, or a configuration"
        raise InputError.of(KEY, None, message)
    return _root(state, KEY)


def _root(text: str, key: str) -> str:
    """Return the place of states if it can be reached from here.

    Args:
        text: place as the user has given it.
        key: option or setting that names it.

    Raises:
        InputError: it cannot be reached, or is not a place for states.
    """
    from components.run_state.reference import MOUNT, PVC, StateReference

    if not text.strip():
        raise InputError.of(key, None, "is empty; give s3://BUCKET/PREFIX or a folder")
    if text.startswith(PVC):
        raise InputError.of(
            key,
            text,
            "a claim can be read in the cluster only: run `nas clean-state --older-than DAYS "
            f"--state {MOUNT}` in a pod of the image that mounts the claim at {MOUNT}",
        )
    if text.startswith(S3):
        try:
            return StateReference.parse(text).root
        except ValueError as error:
            raise InputError.of(key, text, str(error)) from error
    if not Path(text).is_dir():
        raise InputError.of(
            key, text, "there is no such folder; give s3://BUCKET/PREFIX or a folder"
        )
    return text


def _say(root: str, cleaned: "Cleaned", *, dry_run: bool) -> None:
    verb = "would remove" if dry_run else "removed"
    for state in cleaned.removed:
        click.echo(
            f"{verb} {state.run_id}: {state.num_files} files, {state.num_bytes / _MB:.1f} MB, "
            f"{state.age_days:.1f} days old"
        )
    for left in cleaned.skipped:
        click.echo(f"skipped {left.name}: {left.reason}")
    for left in cleaned.failed:
        click.echo(f"failed {left.name}: {left.reason}", err=True)
    click.echo(
        f"{root}: {verb} {len(cleaned.removed)} states, {cleaned.num_bytes:,} bytes; kept "
        f"{cleaned.num_kept} newer ones"
    )
