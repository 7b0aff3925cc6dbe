"""`nas bench`: comparison of methods on a table of trained architectures."""

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nascore.errors import InputError, Problem, collect_problems
from pipelines.commands.output_folder import folder_problems

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
    help="CSV file with a row for each architecture; may be gzipped.",
)
@click.option(
    "--space",
    required=True,
    metavar="nasbench201|categorical",
    help="Form of the architecture column; categorical: one character for each decision.",
)
@click.option(
    "--search-metric",
    required=True,
    metavar="COLUMN",
    help="Column with the score that the search gets; higher is better.",
)
@click.option(
    "--report-metric",
    required=True,
    metavar="COLUMN",
    help="Column that is reported for the architecture with the best search metric.",
)
@click.option(
    "--arch-column",
    default="arch_str",
    show_default=True,
    metavar="COLUMN",
    help="Column of the architectures.",
)
@click.option(
    "--methods",
    default=_METHODS,
    show_default=True,
    metavar="A,B,...",
    help="Methods to replay with their default options.",
)
@click.option(
    "--variant",
    "variants",
    multiple=True,
    metavar="LABEL=METHOD:KEY=VALUE,...",
    help="Another entry: a method with other options; may be given many times.",
)
@click.option(
    "--queries",
    default=100,
    show_default=True,
    type=int,
    help="Number of different architectures that a search may evaluate.",
)
@click.option(
    "--seeds", default=200, show_default=True, type=int, help="Number of searches per method."
)
@click.option(
    "--first-seed", default=0, show_default=True, type=int, help="Seed of the first search."
)
@click.option("--jobs", type=int, help="Number of processes with one thread each [all cores].")
@click.option(
    "--verdicts",
    is_flag=True,
    help="Also compare every search with a random search, as nas run does.",
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

    A search reads scores from the table instead of training networks, so hundreds of searches take
    minutes. See docs/bench.md.

    \b
    Two more commands measure speed; each has its own --help:
      nas bench suggest   time of a suggestion of each method
      nas bench train     images per second of the training loop
    """
    jobs = len(os.sched_getaffinity(0)) if jobs is None else jobs
    problems = _count_problems(
        {"--queries": queries, "--seeds": seeds, "--jobs": jobs}, first_seed=first_seed
    )
    problems += [] if out is None else _out_problems(out)
    entries: list[MethodSettings] = []
    table: Table | None = None
    with collect_problems(problems):
        entries = read_entries(methods, variants)
    from nascore.tabular_benchmark import bench as benchmark
    from nascore.tabular_benchmark import writing
    from nascore.tabular_benchmark.replay import ReplayPlan
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
        plan = ReplayPlan(
            table, tuple(entries), queries, range(first_seed, first_seed + seeds), verdicts
        )
        reported = {problem.key for problem in problems}
        problems += [problem for problem in benchmark.check(plan) if problem.key not in reported]
    if problems:
        raise InputError(problems)
    signal.signal(signal.SIGTERM, _interrupt)
    with _progress(len(entries) * seeds) as progress:
        outcomes = benchmark.run(plan, jobs=jobs, progress=progress)
    result = writing.document(plan, outcomes)
    if out is not None:
        writing.write(out, result, outcomes)
    click.echo(json.dumps(result) if as_json else writing.markdown(result), nl=as_json)


def read_entries(methods: str, variants: tuple[str, ...]) -> list["MethodSettings"]:
    """Return the methods to replay, with their checked options.

    Raises:
        InputError: unknown methods or options, malformed variants, duplicate names.
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
    """Return an entry whose options are checked like those of a configuration."""
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
    """Return a problem under the name of the option on the command line."""
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


def _out_problems(folder: Path) -> list[Problem]:
    """Return why the result cannot be written to a folder; nothing is overwritten."""
    from nascore.tabular_benchmark import writing

    there = [name for name in writing.FILES if (folder / name).exists()]
    if there:
        message = f"holds {', '.join(there)}; nothing is overwritten: choose another folder"
        return [Problem("--out", str(folder), message)]
    return folder_problems(folder)


@contextmanager
def _progress(total: int) -> Iterator[Callable[[str, int], None]]:
    """Show a progress bar on standard error if it is a terminal."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task("", total=total)
        yield lambda label, done: bar.update(task, advance=done, description=label)


def _interrupt(signum: int, frame: Any) -> None:
    sys.exit(128 + signum)
