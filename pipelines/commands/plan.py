"""`nas plan`: what a budget buys, before any of it is spent."""

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
    from nascore.methods.base import BudgetPlan


@configuration
@shortcuts()
@click.option("--json", "as_json", is_flag=True, help="Print the plan as JSON.")
def plan(config: Path | None, preset: str | None, settings: tuple[str, ...], as_json: bool) -> None:
    """Say what the search's budget buys: steps, epochs, exploration, milestones.

    Of a budget of time, a few steps are made on this machine and timed. Reads the data, and writes
    nothing. See docs/nasib.md.
    """
    from pipelines.config import resolve

    resolved = resolve(config, preset, settings)
    _check_method(resolved)
    found = _plan(resolved)
    if as_json:
        click.echo(json.dumps({"version": 1, "method": resolved.method, **found.to_dict()}))
        return
    for line in found.lines():
        click.echo(line)


def _check_method(config: "Config") -> None:
    """Raises InputError for a method that does nothing else with another budget."""
    from nascore.methods.registry import METHODS

    if METHODS[config.method].load_planning() is None:
        planning = [name for name, method in METHODS.items() if method.load_planning() is not None]
        raise InputError.of(
            "method",
            config.method,
            f"does the same with every budget, only longer; {' or '.join(planning)} plans with it",
        )


def _plan(config: "Config") -> "BudgetPlan":
    from components.steps.context_builder import StepInputs, build_context
    from components.steps.s3_source import open_remote
    from nascore.data.prepared import prepare
    from nascore.methods.registry import METHODS

    with tempfile.TemporaryDirectory() as given:
        folder = Path(given)
        prepare(config.data, config.seed, folder / "data", remote=open_remote(config.data))
        (folder / "state").mkdir()
        inputs = StepInputs(
            config=config,
            dataset=folder / "data",
            controller=folder / "state",
            state=folder / "state",
            run_key="plan",
        )
        planning = METHODS[config.method].load_planning()
        assert planning is not None, "checked before the data was read"
        return planning.plan(build_context(inputs))
