"""`nas bench train`: images per second of the training loop and of plain loops."""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from nascore.errors import InputError
from pipelines.commands.options import one_message

if TYPE_CHECKING:
    import torch

    from nascore.training.throughput import Loop, Row

_NETWORKS = "residual,resnet18"


@click.command("train")
@click.option(
    "--seconds",
    default=10.0,
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
@click.option("--json", "as_json", is_flag=True, help="Print the rows as JSON and nothing else.")
@one_message
def train(seconds: float, device: str, networks: str, batch_size: int, as_json: bool) -> None:
    """Measure the training loop against a bare loop and torchvision's reference recipe.

    The loops train the same networks on random 32x32 images, in turn. See docs/bench.md.
    """
    from nascore.config import TrainingConfig
    from nascore.training import throughput

    names = [name.strip() for name in networks.split(",") if name.strip()]
    wrong = [name for name in names if name not in throughput.NETWORKS]
    if wrong or not names:
        raise InputError.of("--networks", networks, f"choose of {', '.join(throughput.NETWORKS)}")
    place = _device(device)
    load = os.getloadavg()[0]
    config = TrainingConfig(batch_size=batch_size, crop_padding=4, flip=True)
    rows: list[Row] = []
    with _progress() as show:
        for number, name in enumerate(dict.fromkeys(names)):
            switches = throughput.SWITCHES if number == 0 else {}
            rows += throughput.measure(
                throughput.make_loops(name, config, switches, place),
                seconds=seconds,
                batch_size=batch_size,
                device=place,
                on_turn=show,
            )
    if as_json:
        click.echo(json.dumps([row.to_dict() for row in rows]))
    else:
        click.echo(_markdown(rows, batch_size=batch_size, device=place, load=load))


def _device(name: str) -> "torch.device":
    """Return the device of the measurement."""
    import torch

    from nascore.config import CommonTrainingConfig
    from nascore.context import device_of

    if name == "cuda" and not torch.cuda.is_available():
        raise InputError.of("--device", name, "there is no CUDA device here; use cpu or auto")
    return device_of(CommonTrainingConfig.model_validate({"device": name}))


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


def _markdown(
    rows: Sequence["Row"], *, batch_size: int, device: "torch.device", load: float
) -> str:
    """Return the rows as a page, with date, hardware and the load before the measurement."""
    import torch

    from nascore.latency.benchmark import device_name
    from nascore.processors import num_cpus

    date = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    threads = f"{torch.get_num_threads()} threads on {num_cpus()} CPUs"
    lines = [
        "# Throughput of training",
        "",
        f"{date}, {device_name(device)} ({device.type}), {threads}, PyTorch {torch.__version__};",
        f"batches of {batch_size} random 32x32 images with three channels. One-minute load average",
        f"of the machine before the measurement: {load:.1f}. Renewed by",
        "",
        "    nas bench train > docs/results/throughput.md",
        "",
        "The ratio is that to the bare loop with the same network in the same round, median over",
        "rounds. Processor time is of the process and its loaders. [bench.md](../bench.md)",
        "describes the rows.",
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
