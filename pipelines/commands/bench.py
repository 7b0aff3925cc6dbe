"""`nas bench`: methods against each other on a table of trained architectures."""

import json
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nascore.errors import InputError, Problem, collect_problems

if TYPE_CHECKING:
    from nascore.tabular_benchmark.replay import MethodSettings
    from nascore.tabular_benchmark.table import Table

_METHODS = "random,regularized-evolution,local-search,tpe"


@click.option(
    "--table",
    "path",
    required=True,
    type=click.Path(path_type=Path),
    metavar="CSV",
    help="A row for each architecture; may be gzipped.",
)
@click.option(
    "--space",
    required=True,
    metavar="nasbench201|categorical",
    help="How the architecture column is read; categorical: a character a decision.",
)
@click.option(
    "--search-metric",
    required=True,
    metavar="COLUMN",
    help="What a search is told; more is better.",
)
@click.option(
    "--report-metric",
    required=True,
    metavar="COLUMN",
    help="What is reported of the best by the search metric.",
)
@click.option("--arch-column", default="arch_str", show_default=True, metavar="COLUMN")
@click.option("--methods", default=_METHODS, show_default=True, metavar="A,B,...")
@click.option(
    "--variant",
    "variants",
    multiple=True,
    metavar="LABEL=METHOD:KEY=VALUE,...",
    help="One more entry: a method with other options; may be given many times.",
)
@click.option(
    "--queries",
    default=100,
    show_default=True,
    type=int,
    help="Different architectures that a search may ask for.",
)
@click.option("--seeds", default=200, show_default=True, type=int, help="Searches of each method.")
@click.option("--first-seed", default=0, show_default=True, type=int)
@click.option("--jobs", type=int, help="Processes, of one thread each [all cores].")
@click.option(
    "--verdicts",
    is_flag=True,
    help="Also judge every search against a random one of its own, as nas run does.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Also write bench.json, bench.md and bench.svg there.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON and nothing else.")
def bench(
    path: Path,
    space: str,
    search_metric: str,
    report_metric: str,
    arch_column: str,
    methods: str,
    variants: tuple[str, ...],
    queries: int,
    seeds: int,
    first_seed: int,
    jobs: int | None,
    verdicts: bool,
    out: Path | None,
    as_json: bool,
) -> None:
    """Replay a table: many seeds of each method, with paired tests.

    A search asks the table for architectures instead of training them, so hundreds of searches take
    minutes. See docs/bench.md.
    """
    jobs = len(os.sched_getaffinity(0)) if jobs is None else jobs
    problems = _count_problems(
        {"--queries": queries, "--seeds": seeds, "--jobs": jobs}, first_seed=first_seed
    )
    problems += [] if out is None else _folder_problems(out)
    entries: list[MethodSettings] = []
    table: Table | None = None
    with collect_problems(problems):
        entries = read_entries(methods, variants)
    from nascore.tabular_benchmark import replay, writing
    from nascore.tabular_benchmark.table import read_table

    with collect_problems(problems):
        table = read_table(
            path,
            space,
            search_metric=search_metric,
            report_metric=report_metric,
            arch_column=arch_column,
        )
    if table is not None:
        plan = replay.ReplayPlan(
            table, tuple(entries), queries, range(first_seed, first_seed + seeds), verdicts
        )
        told = {problem.key for problem in problems}
        problems += [problem for problem in replay.check(plan) if problem.key not in told]
    if problems:
        raise InputError(problems)
    signal.signal(signal.SIGTERM, _interrupt)
    with _progress(len(entries) * seeds) as progress:
        outcomes = replay.run(plan, jobs=jobs, progress=progress)
    result = writing.document(plan, outcomes)
    if out is not None:
        writing.write(out, result, outcomes)
    click.echo(json.dumps(result) if as_json else writing.markdown(result), nl=as_json)


def read_entries(methods: str, variants: tuple[str, ...]) -> list["MethodSettings"]:
    """The methods to replay, each with its checked options.

    Raises:
        InputError: unknown methods or options, malformed variants, names that come twice.
    """
    problems: list[Problem] = []
    entries: list[MethodSettings] = []
    names = [name.strip() for name in methods.split(",") if name.strip()]
    if not names and not variants:
        problems.append(Problem("--methods", methods, "name one method or more"))
    for name in names:
        with collect_problems(problems):
            entries.append(_entry("--methods", name, name, []))
    for variant in variants:
        label, equals, rest = variant.partition("=")
        method, _, settings = rest.partition(":")
        if not (label.strip() and equals and method.strip()):
            problems.append(Problem("--variant", variant, "write LABEL=METHOD:KEY=VALUE,KEY=VALUE"))
            continue
        with collect_problems(problems):
            given = [setting for setting in settings.split(",") if setting.strip()]
            entries.append(_entry("--variant", label.strip(), method.strip(), given))
    labels = [entry.label for entry in entries]
    for label in sorted({label for label in labels if labels.count(label) > 1}):
        problems.append(Problem("--methods", label, "is named twice; give each entry its own name"))
    if problems:
        raise InputError(problems)
    return entries


def _entry(option: str, label: str, method: str, settings: list[str]) -> "MethodSettings":
    """Options go through the check that those of a configuration go through."""
    from components.config.merge import layer_of
    from components.config.schema import parse
    from nascore.tabular_benchmark.replay import MethodSettings

    options, problems = layer_of(settings, option)
    try:
        config = parse({"method": method, "search": {"options": options}}, also=problems)
    except InputError as error:
        raise InputError(
            [_of_entry(problem, option, label) for problem in error.problems]
        ) from error
    return MethodSettings(label, method, config.search.options)


def _of_entry(problem: Problem, option: str, label: str) -> Problem:
    """The problem under the name that it has on the command line."""
    key = problem.key.removeprefix("search.options.")
    where = option if key in ("method", option) else f"{option} {label}: {key}"
    return Problem(where, problem.value, problem.message)


def _count_problems(counts: dict[str, int], *, first_seed: int) -> list[Problem]:
    problems = [
        Problem(option, str(count), "must be 1 or more")
        for option, count in counts.items()
        if count < 1
    ]
    if first_seed < 0:
        problems.append(Problem("--first-seed", str(first_seed), "must be 0 or more"))
    return problems


def _folder_problems(folder: Path) -> list[Problem]:
    """Nothing is overwritten, and nobody waits minutes for a folder that cannot be written."""
    from nascore.tabular_benchmark import writing

    there = [name for name in writing.FILES if (folder / name).exists()]
    if there:
        message = f"holds {', '.join(there)}; nothing is overwritten: choose another folder"
        return [Problem("--out", str(folder), message)]
    existing = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not existing.is_dir():
        return [Problem("--out", str(folder), f"{existing} is a file; name a folder")]
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        return [Problem("--out", str(folder), f"cannot be written ({error.strerror})")]
    return []


@contextmanager
def _progress(total: int) -> Iterator[Callable[[str, int], None]]:
    """A bar on standard error, in a terminal; nothing elsewhere."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task("", total=total)
        yield lambda label, done: bar.update(task, advance=done, description=label)


def _interrupt(signum: int, frame: Any) -> None:
    sys.exit(128 + signum)
