"""`nas check-data`: checks of a data set before a search."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nascore.errors import InputError
from pipelines.commands.completion import complete_setting
from pipelines.commands.options import one_message
from pipelines.commands.shortcuts import shortcuts
from pipelines.commands.stderr_log import log_to_stderr
from pipelines.exit_status import FAILED, WRONG_INPUT

if TYPE_CHECKING:
    from components.config.schema import Config
    from nascore.data.findings import Finding
    from nascore.data.inspection import Inspected

_PAGE = "check-data.html"
_MOST_CLASSES = 40  # lines of the table


@dataclass(frozen=True, slots=True)
class Report:
    """Findings of a data set.

    Attributes:
        inspected: the data; None if it could not be read.
    """

    config: "Config"
    inspected: "Inspected | None"
    problems: list["Finding"]
    warnings: list["Finding"]

    def to_dict(self) -> dict[str, Any]:
        """Return what `--json` prints."""
        classes, splits, num_images, shape = [], {}, 0, []
        if self.inspected is not None:
            raw, indices = self.inspected.raw, self.inspected.indices
            classes = list(raw.classes)
            splits = {name: len(getattr(indices, name)) for name in ("train", "valid", "test")}
            num_images = int(self.inspected.content.is_known.sum())
            shape = [raw.channels, raw.size, raw.size]
        return {
            "ok": not self.problems,
            "classes": classes,
            "splits": splits,
            "num_images": num_images,
            "input": shape,
            "problems": [one.to_dict() for one in self.problems],
            "warnings": [one.to_dict() for one in self.warnings],
        }


@click.command("check-data")
@click.argument("source")
@click.option("--labels", metavar="FILE", help="Table of the labels, inside or outside the source.")
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY.PATH=VALUE",
    help="Change one setting, such as data.image_size=32; may be given many times.",
    shell_complete=complete_setting,
)
@shortcuts("--method", "--seed", "--image-size")
@click.option(
    "--page",
    type=click.Path(dir_okay=False, path_type=Path),
    help=f"Page of sample images to write [{_PAGE}; none with --json].",
)
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
@one_message
def check_data(
    source: str,
    labels: str | None,
    settings: tuple[str, ...],
    page: Path | None,
    as_json: bool,
) -> None:
    """Check a data set for duplicates, contradicting labels, damaged files and skipped files.

    SOURCE is a folder, an archive, a file, or a value of data.source. Exit status: 0 without
    problems, 1 with problems, 2 if the source cannot be read or the command is wrong.
    """
    from nascore.data.findings import SOURCE

    log_to_stderr("nascore.data")
    report = examine(_configure(source, labels, settings))
    page = page or (None if as_json else Path(_PAGE))
    if page is not None and report.inspected is not None:
        _write_page(report, page)
    if as_json:
        click.echo(json.dumps(report.to_dict()))
    else:
        _print(report, page)
    is_unread = any(problem.kind == SOURCE for problem in report.problems)
    if is_unread and report.inspected is None:
        sys.exit(WRONG_INPUT)
    sys.exit(FAILED if report.problems else 0)


def examine(config: "Config") -> Report:
    """Read, split and check the data of a configuration; nothing is written."""
    from components.steps.prepare_data import needs_of
    from components.steps.s3_source import open_remote
    from nascore.data.findings import Findings, merged
    from nascore.data.inspection import inspect

    findings, inspected = Findings(lenient=True), None
    try:
        inspected = inspect(
            config.data,
            config.seed,
            findings,
            remote=open_remote(config),
            needs=needs_of(config),
        )
    except InputError as error:
        # What is raised may hold what was found before.
        findings.problems += [one for one in error.problems if one not in findings.problems]
    return Report(config, inspected, merged(findings.problems), list(findings.warnings))


def _configure(source: str, labels: str | None, settings: tuple[str, ...]) -> "Config":
    """Return the configuration of the quick preset with this source.

    Raises:
        InputError: a setting is wrong, or there is no such source.
    """
    from nascore.data.sources import named, uri_error
    from pipelines.config import resolve

    config = resolve(None, None, settings)
    given, source = source, named(source)
    message = uri_error(source)
    kind, _, path = source.partition(":")
    is_local = bool(path) and not path.startswith("s3://")
    if not given.strip():
        message = "is empty; name a folder, an archive or a file"
    elif message and not path and not Path(source).expanduser().exists():
        message = f"there is no such folder or file; correct the path ({message})"
    if not message and is_local and not Path(path).expanduser().exists():
        message = f"there is no {path}; correct the path"
    if message:
        raise InputError.of("SOURCE", given, message)
    if labels is not None and is_local and kind == "imagefolder":
        inside = Path(path).expanduser()
        if inside.is_dir() and not any(p.exists() for p in (inside / labels, Path(labels))):
            raise InputError.of("--labels", labels, "there is no such file; correct the path")
    update = {"source": source} | ({"labels": labels} if labels is not None else {})
    return config.model_copy(update={"data": config.data.model_copy(update=update)})


def _write_page(report: Report, path: Path) -> None:
    from nascore.data.sample_page import page

    assert report.inspected is not None
    text = page(report.inspected, report.problems, report.warnings, report.config.data)
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError.of("--page", path, f"cannot be written ({error})") from error


def _print(report: Report, page: Path | None) -> None:
    inspected = report.inspected
    if inspected is not None:
        raw = inspected.raw
        click.echo(f"{report.config.data.source}")
        click.echo(
            f"{len(raw.labels):,} images of {len(raw.classes)} classes, "
            f"{raw.channels} x {raw.size} x {raw.size}"
        )
        click.echo(f"\n{'class':<24}{'train':>10}{'valid':>10}{'test':>10}")
        for name, *counts in _rows(inspected):
            click.echo(f"{name[:23]:<24}" + "".join(f"{count:>10,}" for count in counts))
        rest = len(raw.classes) - _MOST_CLASSES
        if rest > 0:
            click.echo(f"and {rest} more classes")
        click.echo("")
    for state, those in (("problem", report.problems), ("warning", report.warnings)):
        for one in those:
            click.echo(f"{state:<9}{one.kind:<26}{one.message}")
    if not report.problems:
        click.echo("No problems found.")
    if page is not None and inspected is not None:
        click.echo(f"Sample images of each class: {page}")


def _rows(inspected: "Inspected") -> list[tuple[Any, ...]]:
    """Name and number of images in each split, of the first classes and of all."""
    counts = inspected.class_counts()
    rows = list(zip(inspected.raw.classes, *counts.values(), strict=True))
    return [*rows[:_MOST_CLASSES], ("all", *(sum(column) for column in counts.values()))]
