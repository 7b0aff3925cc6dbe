"""`nas plan`: what a search does with its budget, computed before the search."""

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from nascore.errors import InputError
from pipelines.commands.options import configuration
from pipelines.commands.shortcuts import shortcuts

if TYPE_CHECKING:
    from components.config.schema import Config
    from nascore.methods.base import BudgetPlan, PlanningModule


@configuration
@shortcuts()
@click.option("--json", "as_json", is_flag=True, help="Print the plan as JSON.")
def plan(config: Path | None, preset: str | None, settings: tuple[str, ...], as_json: bool) -> None:
    """Print what the search does with its budget: steps, epochs, exploration, milestones.

    With a budget of time, a few steps are run on this machine and timed. Reads the data, and writes
    nothing. See docs/nasib.md.
    """
    from pipelines.config import resolve

    resolved = resolve(config, preset, settings)
    found = _plan(resolved, _planning_module(resolved.method))
    if as_json:
        click.echo(json.dumps({"version": 1, "method": resolved.method, **found.to_dict()}))
        return
    for line in found.lines():
        click.echo(line)


def _planning_module(name: str) -> "PlanningModule":
    """Return the module of a method. Raises InputError if its search does not plan."""
    from nascore.methods.registry import METHODS

    module = METHODS[name].load_planning()
    if module is None:
        planning = [name for name, method in METHODS.items() if method.load_planning() is not None]
        raise InputError.of(
            "method",
            name,
            f"{name} has no plan, since its search has no schedule over the budget; methods with "
            f"one: {', '.join(planning)}",
        )
    return module


def _plan(config: "Config", module: "PlanningModule") -> "BudgetPlan":
    from components.steps.context_builder import StepInputs, build_context
    from components.steps.s3_source import open_remote
    from nascore.data.prepared import prepare

    with tempfile.TemporaryDirectory() as given:
        folder = Path(given)
        prepare(config.data, config.seed, folder / "data", remote=open_remote(config))
        (folder / "state").mkdir()
        inputs = StepInputs(
            config=config,
            dataset=folder / "data",
            controller=folder / "state",
            state=folder / "state",
            run_key="plan",
        )
        return module.plan(build_context(inputs))
