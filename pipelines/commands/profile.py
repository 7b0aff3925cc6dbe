"""`nas profile`: latency table of the operations of a space, and its check."""

import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nascore.errors import InputError, Problem, collect_problems
from pipelines.commands.options import configuration

if TYPE_CHECKING:
    from components.config.schema import Config
    from nascore.latency.space_profile import Check
    from nascore.latency.table import OperationTable
    from nascore.spaces.base import ImageShape

TABLE = "latency_table.json"
_FEWEST = 10  # a rank correlation of fewer is not significant
_SHOWN = 10
_IMAGE = re.compile(r"([1-9]\d{0,3})x([1-9]\d{0,3})x([1-9]\d{0,5})")


@configuration
@click.option(
    "--image",
    metavar="CHANNELSxSIZExCLASSES",
    help="Shape of the images and number of classes, such as 3x32x10 [read from the data].",
)
@click.option(
    "--architectures",
    default=50,
    show_default=True,
    type=int,
    help="Number of random networks whose latency is compared with the table.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path(TABLE),
    show_default=True,
    metavar="FILE",
    help="File of the table; an older one is replaced.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the check as JSON and nothing else.")
def profile(
    config: Path | None,
    preset: str | None,
    settings: tuple[str, ...],
    image: str | None,
    architectures: int,
    out: Path,
    as_json: bool,
) -> None:
    """Measure a latency table of the search space on this machine, and check it.

    Operations are timed in random networks of the space, by the protocol in the section latency of
    the configuration; then their sums are compared with the measured latency of other networks. Run
    nothing else on the machine meanwhile. See docs/latency.md.
    """
    from pipelines.config import resolve

    problems: list[Problem] = []
    resolved = shape = None
    with collect_problems(problems):
        resolved = resolve(config, preset, settings)
    with collect_problems(problems):
        shape = None if image is None else read_shape(image)
    problems += _argument_problems(architectures, out)
    if problems or resolved is None:
        raise InputError(problems)
    shape = shape or _shape_of_data(resolved)
    table, check, details = _measure(resolved, shape, architectures)
    table.save(out)
    found = {"table": str(out), **_conditions(table), **check.to_dict()}
    if as_json:
        click.echo(json.dumps(found))
        return
    for line in [*report(table, check), *details]:
        click.echo(line)
    click.echo(f"Wrote {out}.")


def read_shape(text: str) -> "ImageShape":
    """Parse CHANNELSxSIZExCLASSES. Raises InputError."""
    from nascore.spaces.base import ImageShape

    found = _IMAGE.fullmatch(text)
    if found is None:
        message = "write CHANNELSxSIZExCLASSES, each 1 or more, such as 3x32x10"
        raise InputError.of("--image", text, message)
    return ImageShape(*map(int, found.groups()))


def report(table: "OperationTable", check: "Check") -> list[str]:
    """Return the conditions, the check, and some networks from the fastest to the slowest."""
    made_for, found = table.made_for, check.to_dict()
    spearman = "none" if check.spearman is None else f"{check.spearman:.3f}"
    lines = [
        f"space      {made_for.space}, {made_for.phase} networks, {len(table.entries)} operations",
        f"images     {made_for.channels}x{made_for.size}x{made_for.size}, batch "
        f"{made_for.batch_size}, {made_for.num_classes} classes",
        f"device     {made_for.device}, {made_for.threads} thread"
        + ("s" if made_for.threads > 1 else ""),
        f"load       {check.load:.1f}; {check.disturbed:.1%} of the runs were interrupted",
        f"check      {len(check.names)} other networks: Spearman {spearman}, mean absolute error "
        f"{check.mean_absolute_error:.1%}, mean error {found['mean_error']:+.1%}, largest "
        f"{found['largest_error']:.1%}",
        "",
        "predicted ms  measured ms   spread ms   error  network",
    ]
    order = sorted(range(len(check.names)), key=lambda i: check.measured[i].ms)
    step = max(1, len(order) // _SHOWN)
    for i in order[::step]:
        entry = check.measured[i]
        lines.append(
            f"{check.predicted_ms[i]:12.3f} {entry.ms:12.3f} {entry.spread_ms:11.3f} "
            f"{check.errors[i]:+7.1%}  {check.names[i]}"
        )
    return lines


def _argument_problems(architectures: int, out: Path) -> list[Problem]:
    """Return problems of the options, such as a file that cannot be written."""
    problems = []
    if architectures < _FEWEST:
        message = f"must be {_FEWEST} or more: a rank correlation of fewer is not significant"
        problems.append(Problem("--architectures", str(architectures), message))
    folder = out.absolute().parent
    if out.is_dir():
        problems.append(Problem("--out", str(out), "is a folder; name a file"))
    elif not folder.is_dir():
        problems.append(Problem("--out", str(out), "its folder does not exist; create it"))
    elif not os.access(out if out.exists() else folder, os.W_OK):
        problems.append(Problem("--out", str(out), "cannot be written; name another file"))
    return problems


def _shape_of_data(config: "Config") -> "ImageShape":
    """Return the shape of the images. Raises InputError if there is no data."""
    from components.steps.s3_source import open_remote
    from nascore.data.sources import read
    from nascore.spaces.base import ImageShape

    raw = read(config.data, open_remote(config))
    return ImageShape(raw.channels, raw.size, len(raw.classes))


def _measure(
    config: "Config", shape: "ImageShape", num_checked: int
) -> tuple["OperationTable", "Check", list[str]]:
    """Return the table, its check, and further lines for the user."""
    from nascore.training.network_kinds import kind_named

    section = config.search.space
    return kind_named(section.network_kind).profile_space(
        section,
        shape,
        config.latency,
        options=config.search.options,
        num_checked=num_checked,
        seed=config.seed,
    )


def _conditions(table: "OperationTable") -> dict[str, Any]:
    return {"version": 1, **table.to_dict()["made_for"], "date": table.date}
