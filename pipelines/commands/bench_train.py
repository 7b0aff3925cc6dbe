"""`nas bench train`: images per second of the training loop and of plain loops."""

import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from nascore.errors import InputError, Problem, collect_problems
from pipelines.commands.options import one_message

if TYPE_CHECKING:
    from nascore.throughput.measurement import Loop, Row

_NETWORKS = "residual,resnet18"


@click.command("train")
@click.option(
    "--seconds",
    default=5.0,
    show_default=True,
    type=click.FloatRange(min=0.1),
    help="Time of each row, all rounds together.",
)
@click.option(
    "--device",
    default="auto",
    show_default=True,
    type=click.Choice(["auto", "cpu", "cuda"]),
    help="Device; auto takes a GPU when there is one.",
)
@click.option(
    "--networks",
    default=_NETWORKS,
    show_default=True,
    metavar="A,B",
    help="residual: the standard network of the space residual; resnet18: torchvision's.",
)
@click.option(
    "--batch-size",
    default=128,
    show_default=True,
    type=click.IntRange(min=2),
    help="Images of one weight update, in all loops.",
)
@click.option(
    "--recipe",
    "recipes",
    default="quick,strong",
    show_default=True,
    metavar="A,B",
    help="Recipes of training.recipe, in addition to paper; none leaves them out.",
)
@click.option(
    "--switches",
    metavar="A,B,...",
    help="Settings that are switched on one at a time, first network only; or none [all].",
)
@click.option("--json", "as_json", is_flag=True, help="Print the rows as JSON and nothing else.")
@one_message
def train(
    seconds: float,
    device: str,
    networks: str,
    batch_size: int,
    recipes: str,
    switches: str | None,
    as_json: bool,
) -> None:
    """Measure the training loop against a bare loop and torchvision's reference recipe.

    The loops train the same networks on random 32x32 images, in turn. See docs/throughput.md.
    """
    from nascore.config.recipes import SWITCHES
    from nascore.throughput import measurement as throughput
    from nascore.throughput.plain_loops import NETWORKS

    problems: list[Problem] = []
    with collect_problems(problems):
        names = _chosen("--networks", networks, NETWORKS)
    with collect_problems(problems):
        of_recipes = _chosen("--recipe", recipes, SWITCHES["ema"], may_be_none=True)
    with collect_problems(problems):
        known = throughput.SWITCHES
        alone = _chosen("--switches", switches or ",".join(known), known, may_be_none=True)
    with collect_problems(problems):
        place = throughput.device_named(device)
    if problems:
        raise InputError(problems)
    load = os.getloadavg()[0]
    rows: list[Row] = []
    messages: list[str] = []
    with _progress() as show:
        for number, network in enumerate(names):
            settings = _settings(of_recipes, alone if number == 0 else [])
            loops = throughput.make_loops(
                network, settings, batch_size=batch_size, device=place, on_message=messages.append
            )
            rows += throughput.measure(
                loops, seconds=seconds, batch_size=batch_size, device=place, on_turn=show
            )
    for message in messages:
        click.echo(message, err=True)
    if as_json:
        click.echo(json.dumps([row.to_dict() for row in rows]))
    else:
        hardware = throughput.hardware(place)
        click.echo(_markdown(rows, batch_size=batch_size, hardware=hardware, load=load))


def _chosen(
    option: str, text: str, known: Iterable[str], *, may_be_none: bool = False
) -> list[str]:
    """Return the names in a list, each once.

    Raises:
        InputError: one of them is unknown, or there is none.
    """
    if may_be_none and text.strip() == "none":
        return []
    names = list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if not names or not set(names) <= set(known):
        none = ", or none" * may_be_none
        raise InputError.of(option, text, f"choose of {', '.join(known)}{none}")
    return names


def _settings(recipes: Sequence[str], switches: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return the settings of each training loop, by its name."""
    from nascore.throughput.measurement import OURS, SWITCHES

    usual = {"crop_padding": 4, "flip": True}
    settings: dict[str, dict[str, Any]] = {OURS: usual}
    for recipe in recipes:
        settings[f"{OURS}, recipe {recipe}"] = {**usual, "recipe": recipe}
    for switch in switches:
        settings[f"{OURS}, {switch}"] = {**usual, **SWITCHES[switch]}
    return settings


@contextmanager
def _progress() -> Iterator[Callable[["Loop"], None]]:
    """Show the loop that is running on standard error if it is a terminal."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda loop: None
        return
    with console.status("") as status:
        yield lambda loop: status.update(f"{loop.network}: {loop.name}")


def _markdown(rows: Sequence["Row"], *, batch_size: int, hardware: str, load: float) -> str:
    """Return the rows as a page, with date, hardware and the load before the measurement."""
    date = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    lines = [
        "# Throughput of training",
        "",
        f"{date}, {hardware};",
        f"batches of {batch_size} random 32x32 images with three channels. One-minute load average",
        f"of the machine before the measurement: {load:.1f}. Renewed by",
        "",
        f"    {_command()} > docs/results/throughput.md",
        "",
        "The ratio is that to the bare loop with the same network in the same round, median over",
        "rounds. Processor time is of the process and its loaders.",
        "[throughput.md](../throughput.md) describes the rows.",
        "",
        "| network | loop | images per second | ratio to bare | processor time, ms an image |",
        "| --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        cells = (f"{row.images_per_s:,.0f}", f"{row.ratio_to_bare:.2f}")
        lines.append(
            f"| {row.network} | {row.loop} | {' | '.join(cells)} | {row.cpu_ms_per_image:.2f} |"
        )
    return "\n".join(lines)


def _command() -> str:
    """Return the command with the options that were given."""
    context = click.get_current_context()
    given = [
        f"{parameter.opts[0]} {context.params[parameter.name]}"
        for parameter in context.command.params
        if parameter.name is not None
        and context.get_parameter_source(parameter.name) is ParameterSource.COMMANDLINE
    ]
    return " ".join(["nas bench train", *given])
