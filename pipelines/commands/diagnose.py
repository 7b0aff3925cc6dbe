"""`nas diagnose`: what the controller of a run remembers, and how well its shared weights rank."""

import importlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

from nascore.errors import InputError, Problem, collect_problems
from nascore.files import replacing
from pipelines.commands.output_folder import folder_problems
from pipelines.commands.stderr_log import log_to_stderr
from pipelines.local.output import saved_config

if TYPE_CHECKING:
    from components.config.schema import Config
    from nascore.context import SearchContext
    from nascore.methods.common.run_diagnosis import DiagnosisModule, SearchedRun, TrainedTable

PAGE = "diagnosis.html"
DOCUMENT = "diagnosis.json"
_TABLE_SPACE = "nasbench201"


@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--table",
    type=click.Path(path_type=Path),
    metavar="CSV",
    help="Trained networks of NAS-Bench-201, with which the shared weights are compared.",
)
@click.option("--search-metric", metavar="COLUMN", help="Column of the table, such as an accuracy.")
@click.option("--out", type=click.Path(path_type=Path), metavar="DIR", help="Output folder [RUN].")
@click.option("--json", "as_json", is_flag=True, help="Print the diagnosis as JSON.")
def diagnose(
    run: Path, table: Path | None, search_metric: str | None, out: Path | None, as_json: bool
) -> None:
    """Examine the controller of a run: does its state remember what it has written?

    RUN is the folder of a run, which may still be running. Writes diagnosis.html and
    diagnosis.json. See docs/memory-enas.md.
    """
    config = saved_config(run, "RUN")
    name = _diagnosis_module(run, config.method)
    folder = run if out is None else out
    problems = folder_problems(folder)
    trained: TrainedTable | None = None
    with collect_problems(problems):
        trained = _read_table(table, search_metric, config.search.space.name)
    if problems:
        raise InputError(problems)
    log_to_stderr(name)
    module = cast("DiagnosisModule", importlib.import_module(name))
    found = module.diagnose_run(_searched_run(run, config), trained)
    _write(folder / PAGE, found.page)
    document = json.dumps(found.document)
    _write(folder / DOCUMENT, document)
    if as_json:
        click.echo(document)
        return
    for line in found.lines:
        click.echo(line)
    click.echo(f"Wrote {folder / PAGE} and {DOCUMENT}.")


def _diagnosis_module(run: Path, method: str) -> str:
    """Return the name of the module that examines the runs of a method.

    Raises:
        InputError: the method has none.
    """
    from nascore.methods.registry import METHODS

    name = METHODS[method].diagnosis
    if name is None:
        able = [name for name, one in METHODS.items() if one.diagnosis is not None]
        raise InputError.of(
            "RUN",
            run,
            f"is a run of {method}, which has no controller that writes architectures token by "
            f"token; {' and '.join(able)} have one",
        )
    return name


def _read_table(path: Path | None, metric: str | None, space: str) -> "TrainedTable | None":
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
    from nascore.methods.common.run_diagnosis import TrainedTable
    from nascore.tabular_benchmark.table import read_table

    try:
        table = read_table(path, _TABLE_SPACE, search_metric=metric, report_metric=metric)
    except InputError as error:  # both metrics are the same option here: report it once
        once = [problem for problem in error.problems if problem.key != "--report-metric"]
        raise InputError(once) from error
    accuracies = {tokens: accuracy for tokens, (accuracy, _) in table.rows.items()}
    return TrainedTable(
        space=table.space, name=table.name, column=table.search_metric, accuracies=accuracies
    )


def _searched_run(run: Path, config: "Config") -> "SearchedRun":
    from nascore.methods.common.run_diagnosis import SearchedRun
    from nascore.spaces.base import make_space

    return SearchedRun(
        method=config.method,
        source=config.data.source,
        seed=config.seed,
        space=make_space(config.search.space),
        options=config.search.options,
        state=run / "state" / "search",
        arms=("method", "control") if config.search.control else ("method",),
        history=history(run),
        open_context=lambda: _context(run, config),
    )


def _context(run: Path, config: "Config") -> "SearchContext":
    """Return the context of the run's search.

    Raises:
        InputError: the run's data is gone.
    """
    from components.steps.context_builder import StepInputs, build_context

    dataset = run / "state" / "prepare_data" / "outputs" / "dataset"
    controller = run / "state" / "pretrain_controller" / "outputs" / "controller"
    gone = [str(path) for path in (dataset, controller) if not path.is_dir()]
    if gone:
        raise InputError.of(
            "--table", None, f"needs {' and '.join(gone)} of the run, which is missing"
        )
    inputs = StepInputs(
        config=config,
        dataset=dataset,
        controller=controller,
        state=run / "state" / "search",
        run_key="search",
    )
    return build_context(inputs)


def history(run: Path) -> Mapping[str, list[tuple[int, float]]]:
    """Return the metrics of policy and diagnosis that the search has reported, by name and step.

    A step that was repeated after a crash counts once, with its last values.
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
    with replacing(path) as temporary:
        temporary.write_text(text)
