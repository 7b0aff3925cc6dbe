"""`nas diagnose`: what the controller of a run remembers, and what its shared weights are worth."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

from nascore.errors import InputError, Problem, collect_problems
from pipelines.local.run import CONFIG

if TYPE_CHECKING:
    from components.config.schema import Config
    from nascore.methods.enas.diagnosis.correlation import RankCorrelation
    from nascore.methods.enas.diagnosis.page import Findings
    from nascore.methods.enas.options import EnasOptions
    from nascore.tabular_benchmark.table import Table

PAGE = "diagnosis.html"
DOCUMENT = "diagnosis.json"
_NUM_JUDGED = 100  # with shared weights, as many as a search ranks at its end
_FEWEST = 10  # of these in the table; a correlation of fewer says nothing
_TABLE_SPACE = "nasbench201"


@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--table",
    type=click.Path(path_type=Path),
    metavar="CSV",
    help="Trained networks of NAS-Bench-201; also judges the shared weights by it.",
)
@click.option("--search-metric", metavar="COLUMN", help="Of the table, such as an accuracy.")
@click.option("--out", type=click.Path(path_type=Path), metavar="DIR", help="Where to write [RUN].")
@click.option("--json", "as_json", is_flag=True, help="Print the diagnosis as JSON.")
def diagnose(
    run: Path, table: Path | None, search_metric: str | None, out: Path | None, as_json: bool
) -> None:
    """Look into the controller of a run: does its state remember what it has written?

    RUN is the folder of a run, which may still be under way. Writes diagnosis.html and
    diagnosis.json. See docs/memory-enas.md.
    """
    config, options = _examined(run)
    folder = run if out is None else out
    problems = _folder_problems(folder)
    read: Table | None = None
    with collect_problems(problems):
        read = _read_table(table, search_metric, config.search.space.name)
    if problems:
        raise InputError(problems)
    from nascore.methods.enas.diagnosis.page import headline, render

    findings = _findings(run, config, options, read)
    _write(folder / PAGE, render(findings))
    document = json.dumps(findings.to_dict())
    _write(folder / DOCUMENT, document)
    if as_json:
        click.echo(document)
        return
    for tile in headline(findings):
        click.echo(f"{tile['label']:<16}{tile['value']:<10}{tile['note']}")
    click.echo(f"Wrote {folder / PAGE} and {DOCUMENT}.")


# --- what was asked for ---------------------------------------------------------------------


def _examined(run: Path) -> tuple["Config", "EnasOptions"]:
    """The configuration of the run, whose method has a controller of this kind.

    Raises:
        InputError: it has none, or this is no folder of a run.
    """
    from components.config.schema import loads
    from nascore.methods.enas.options import EnasOptions
    from nascore.methods.registry import METHODS

    path = run / CONFIG
    try:
        config = loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InputError.of(
            "RUN", run, f"holds no run (no {CONFIG}); name a folder that nas run has written"
        ) from error
    except (OSError, ValueError) as error:
        raise InputError.of("RUN", path, f"cannot be read ({error})") from error
    options = METHODS[config.method].options.model_validate(config.search.options)
    if not isinstance(options, EnasOptions):
        able = [name for name, one in METHODS.items() if issubclass(one.options, EnasOptions)]
        raise InputError.of(
            "RUN",
            run,
            f"is a run of {config.method}, which has no controller that writes architectures token "
            f"by token; {' and '.join(able)} have one",
        )
    return config, options


def _read_table(path: Path | None, metric: str | None, space: str) -> "Table | None":
    if path is None and metric is None:
        return None
    if path is None:
        raise InputError.of("--search-metric", metric, "is a column of a table; give --table, too")
    problems: list[Problem] = []
    if metric is None:
        problems.append(Problem("--table", str(path), "needs --search-metric with a column of it"))
    if space != _TABLE_SPACE:
        problems.append(
            Problem("--table", str(path), f"is of {_TABLE_SPACE}, and this run of {space}")
        )
    if problems or metric is None:
        raise InputError(problems)
    from nascore.tabular_benchmark.table import read_table

    try:
        return read_table(path, _TABLE_SPACE, search_metric=metric, report_metric=metric)
    except InputError as error:  # both metrics are one here: tell of it once
        told = [problem for problem in error.problems if problem.key != "--report-metric"]
        raise InputError(told) from error


def _folder_problems(folder: Path) -> list[Problem]:
    """Why the results cannot be written; those of an earlier look are replaced."""
    existing = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not existing.is_dir():
        return [Problem("--out", str(folder), f"{existing} is a file; name a folder")]
    if not os.access(existing, os.W_OK | os.X_OK):
        return [Problem("--out", str(folder), "cannot be written; name another folder")]
    return []


# --- what is found --------------------------------------------------------------------------


def _findings(
    run: Path, config: "Config", options: "EnasOptions", table: "Table | None"
) -> "Findings":
    from nascore.methods.enas import method
    from nascore.methods.enas.diagnosis.diagnosis import diagnose, fixed_set
    from nascore.methods.enas.diagnosis.page import Findings
    from nascore.seeding import Seeds
    from nascore.spaces.base import SharedSpace, make_space

    space = make_space(config.search.space)
    now, initial = method.load_controllers(
        _state(run), config.method, space, options, Seeds(config.seed)
    )
    # First what may still be refused.
    shared = {} if table is None else _shared_weights(run, config, table)
    fixed = fixed_set(cast(SharedSpace, space))
    return Findings(
        method=config.method,
        source=config.data.source,
        seed=config.seed,
        now=diagnose(now, fixed),
        initial=diagnose(initial, fixed),
        shared_weights=shared,
        table=None if table is None else {"name": table.name, "column": table.search_metric},
        history=history(run),
    )


def _state(run: Path) -> Path:
    return run / "state" / "search"


def _shared_weights(run: Path, config: "Config", table: "Table") -> dict[str, "RankCorrelation"]:
    """Of both arms, on architectures of the fixed set that are in the table.

    Raises:
        InputError: the table has too few of them, or the run's data is not there any more.
    """
    from components.steps.context_builder import StepInputs, build_context
    from nascore.methods.enas import method
    from nascore.methods.enas.diagnosis.correlation import rank_correlation
    from nascore.methods.enas.diagnosis.diagnosis import SEEDS, fixed_set
    from nascore.spaces.base import SharedSpace, make_genotype
    from nascore.spaces.nasbench201.space import Cell201Space

    dataset = run / "state" / "prepare_data" / "outputs" / "dataset"
    controller = run / "state" / "pretrain_controller" / "outputs" / "controller"
    gone = [str(path) for path in (dataset, controller) if not path.is_dir()]
    if gone:
        raise InputError.of("--table", None, f"needs the run's {' and '.join(gone)}, not there")
    inputs = StepInputs(
        config=config, dataset=dataset, controller=controller, state=_state(run), run_key="search"
    )
    task = build_context(inputs)
    fixed = fixed_set(cast(SharedSpace, task.space))
    cells = cast(Cell201Space, table.space)  # of all operations; the run's may have fewer
    known = []
    for tokens in fixed.tokens_NT.tolist():
        genotype = make_genotype(task.space, tokens)
        row = table.rows.get(cells.from_arch_str(task.space.describe(genotype)).tokens)
        if row is not None:
            known.append((genotype, row[0]))
    if len(known) < _FEWEST:
        raise InputError.of(
            "--table",
            table.name,
            f"has {len(known)} of the {len(fixed.tokens_NT)} architectures that are looked at; "
            f"{_FEWEST} are needed",
        )
    genotypes, alone = zip(*known[:_NUM_JUDGED], strict=True)
    found = {}
    for arm in ("method", "control") if config.search.control else ("method",):
        click.echo(f"{arm}: judging {len(genotypes)} architectures with shared weights", err=True)
        shared = method.judge_with_shared_weights(task, arm, genotypes)
        found[arm] = rank_correlation(shared, alone, SEEDS.numpy("diagnosis", "shared weights"))
    return found


def history(run: Path) -> Mapping[str, list[tuple[int, float]]]:
    """The metrics of policy and diagnosis that the search has told its tracking, by update.

    An update that was made again after a crash counts once, as it was made last.
    """
    from components.tracking.reading import State, unsent_lines

    found: dict[str, dict[int, float]] = {}
    if not (run / "spool").is_dir():
        return {}
    for line in unsent_lines(run / "spool", State()):
        event = line.event
        if event is None or event["op"] != "metrics" or not event["run"].endswith(".search"):
            continue
        for name, value in event["values"].items():
            if name.startswith(("policy/method/", "diagnosis/")):
                found.setdefault(name, {})[event["step"]] = value
    return {name: sorted(points.items()) for name, points in found.items()}


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}")
    temporary.write_text(text)
    os.replace(temporary, path)
