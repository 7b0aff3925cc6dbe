"""Throughput of training: the training loop, a bare loop and torchvision's reference recipe.

The loops of a network train in turn, in rounds of short turns: the load of a machine changes from
second to second, so the ratio of two loops is the median over rounds of the ratio within a round.
The images are random, 32x32 with three channels and ten classes, and in memory.
"""

import contextlib
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import psutil
import torch
from torch import nn

from nascore.config import CommonTrainingConfig, TrainingConfig
from nascore.context import device_of
from nascore.data.batches import Split
from nascore.data.images import ImagesInMemory
from nascore.data.prepared import DatasetInfo
from nascore.errors import InputError
from nascore.latency.benchmark import device_name
from nascore.processors import num_cpus
from nascore.seeding import seeded_weights
from nascore.throughput.plain_loops import NETWORKS, SHAPE, Steps, bare_loop, torchvision_loop
from nascore.training.loop import fitting_threads
from nascore.training.losses import loss_of
from nascore.training.run import Run, TrainingStopped

BARE = "bare loop"
OURS = "training loop"
TORCHVISION = "torchvision recipe"
MIN_ROUNDS = 5
_MAX_ROUNDS = 40
_TURN_S = 0.25
SWITCHES: Mapping[str, Mapping[str, Any]] = {
    "cutout": {"cutout": 8},
    "max_grad_norm": {"max_grad_norm": 1.0},
    "label_smoothing": {"label_smoothing": 0.1},
    "ema": {"ema": 0.02},
    "mixup": {"mixup": 0.2},
    "cutmix": {"cutmix": 1.0},
    "trivial": {"auto_augment": "trivial"},
    "rand": {"auto_augment": "rand"},
    "adamw": {"optimizer": "adamw", "lr": 0.002},
    "muon": {"optimizer": "muon", "lr": 0.002},
    "channels_last": {"channels_last": True},
    "bf16": {"precision": "bf16"},
    "compile": {"compile": True},
}
"""Settings that are switched on one at a time, by name."""
_BATCHES = 48  # of different images
_ENDLESS = 10**6  # steps


@dataclass(frozen=True, slots=True)
class Loop:
    """A loop that is measured.

    Attributes:
        network: name of the network that it trains.
        name: of the loop.
        steps: trains for a number of weight updates.
    """

    network: str
    name: str
    steps: Steps


@dataclass(frozen=True, slots=True)
class Row:
    """Throughput of a loop.

    Attributes:
        images_per_s: images that were trained on in a second of wall time; median over rounds.
        ratio_to_bare: to the bare loop with the same network and batch size; median over rounds.
        cpu_ms_per_image: processor time of this process and of its loaders; median over rounds.
    """

    network: str
    loop: str
    images_per_s: float
    ratio_to_bare: float
    cpu_ms_per_image: float

    def to_dict(self) -> dict[str, Any]:
        """Return JSON; `what` names network and loop."""
        return {"what": f"{self.network}: {self.loop}", **asdict(self)}


def make_loops(
    network: str,
    settings: Mapping[str, Mapping[str, Any]],
    *,
    batch_size: int,
    device: torch.device,
    on_message: Callable[[str], None],
) -> list[Loop]:
    """Return the loops that train a network: plain ones, then the training loop.

    Args:
        network: one of `NETWORKS`.
        settings: of each training loop, by its name.
        batch_size: of all loops.
        device: of the training.
        on_message: receives sentences for the user; a loop that cannot be made is left out.
    """
    loops = plain_loops(network, batch_size, device)
    for name, given in settings.items():
        messages: list[str] = []
        config = TrainingConfig.model_validate({**given, "batch_size": batch_size})
        loop = training_loop(network, name, config, device, messages.append)
        if messages:
            on_message(f"{network}: {name}: left out: {'; '.join(messages)}")
        else:
            loops.append(loop)
    return loops


def plain_loops(network: str, batch_size: int, device: torch.device) -> list[Loop]:
    """Return the bare loop and torchvision's recipe with a network, each with weights of its own.

    Args:
        network: one of `NETWORKS`.
        batch_size: of both loops.
        device: of the training.
    """
    split, images = _split(batch_size, device)
    x_BCHW = split.normalise(images[:batch_size].to(device))
    bare = bare_loop(_build(network, device), x_BCHW, split.labels[:batch_size])
    plain = torchvision_loop(_build(network, device), images, split.labels.cpu(), batch_size)
    return [Loop(network, BARE, bare), Loop(network, TORCHVISION, plain)]


def training_loop(
    network: str,
    name: str,
    config: TrainingConfig,
    device: torch.device,
    on_message: Callable[[str], None],
) -> Loop:
    """Return a training of a network that never ends; a turn continues it.

    Args:
        network: one of `NETWORKS`.
        name: of the loop.
        config: settings of the training.
        device: of the training.
        on_message: receives sentences for the user, such as that it is not compiled.
    """
    split, _ = _split(config.batch_size, device)
    with fitting_threads(split, config):
        run = Run(
            _build(network, device),
            split,
            config,
            loss=loss_of(config, None),
            generator=torch.Generator().manual_seed(0),
            valid=None,
            objective="accuracy",
            on_message=on_message,
            checkpoint=None,
        )
        run.begin(_ENDLESS, None)

    def steps(count: int) -> None:
        end = run.step + count
        with fitting_threads(split, config), contextlib.suppress(TrainingStopped):
            run.all_epochs(None, lambda: run.step >= end)

    return Loop(network, name, steps)


def _build(network: str, device: torch.device) -> nn.Module:
    with seeded_weights(0):
        return NETWORKS[network]().to(device)


def measure(
    loops: Sequence[Loop],
    *,
    seconds: float,
    batch_size: int,
    device: torch.device,
    on_turn: Callable[[Loop], None] = lambda loop: None,
) -> list[Row]:
    """Measure the loops of one network in turn, after a few steps of each that are not timed.

    Args:
        loops: the first is the bare loop.
        seconds: wall time of each loop, all rounds together; a turn has at least one step.
        batch_size: of all loops.
        device: of the training.
        on_turn: called before each turn of a loop.
    """
    step_s = [_seconds_of_step(loop, device, on_turn) for loop in loops]
    rounds = round(seconds / max(_TURN_S, *step_s))
    rounds = min(_MAX_ROUNDS, max(MIN_ROUNDS, rounds))
    turns: list[list[_Turn]] = [[] for _ in loops]
    for _ in range(rounds):
        for of_loop, loop, one_s in zip(turns, loops, step_s, strict=True):
            on_turn(loop)
            count = max(1, round(seconds / rounds / one_s))
            wall_s, cpu_s = _timed(loop, count, device)
            of_loop.append(_Turn(wall_s / (count * batch_size), cpu_s / (count * batch_size)))
    return [_row(loop, of_loop, turns[0]) for loop, of_loop in zip(loops, turns, strict=True)]


@dataclass(frozen=True, slots=True)
class _Turn:
    """Wall and processor seconds of an image in one turn of a loop."""

    wall_s: float
    cpu_s: float


def _row(loop: Loop, turns: list[_Turn], bare: list[_Turn]) -> Row:
    ratios = [base.wall_s / own.wall_s for own, base in zip(turns, bare, strict=True)]
    return Row(
        network=loop.network,
        loop=loop.name,
        images_per_s=1 / statistics.median(turn.wall_s for turn in turns),
        ratio_to_bare=statistics.median(ratios),
        cpu_ms_per_image=1000 * statistics.median(turn.cpu_s for turn in turns),
    )


def _seconds_of_step(loop: Loop, device: torch.device, on_turn: Callable[[Loop], None]) -> float:
    """Return the wall seconds of a step, after the first: that compiles and starts loaders."""
    on_turn(loop)
    _timed(loop, 1, device)
    wall_s, _ = _timed(loop, 1, device)
    return wall_s


def _timed(loop: Loop, count: int, device: torch.device) -> tuple[float, float]:
    """Return wall and processor seconds of some steps."""
    start, cpu = time.perf_counter(), _cpu_seconds()
    loop.steps(count)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start, _cpu_seconds() - cpu


def _cpu_seconds() -> float:
    """Return the processor time of this process and of the loaders that it has started."""
    loaders = [one.cpu_times() for one in psutil.Process().children()]
    return sum((times.user + times.system for times in loaders), time.process_time())


def _split(batch_size: int, device: torch.device) -> tuple[Split, torch.Tensor]:
    """Return random images as a training split, and as uint8 (N, C, H, W) on the CPU."""
    generator = torch.Generator().manual_seed(0)
    count, size = _BATCHES * batch_size, SHAPE.size
    images = torch.randint(
        0, 256, (count, SHAPE.channels, size, size), generator=generator, dtype=torch.uint8
    )
    labels = torch.randint(0, SHAPE.num_classes, (count,), generator=generator)
    info = DatasetInfo(
        source="random images",
        classes=tuple(map(str, range(SHAPE.num_classes))),
        channels=SHAPE.channels,
        size=size,
        num_images=count,
        num_train=count,
        num_valid=0,
        num_test=0,
        mean=(0.5,) * SHAPE.channels,
        std=(0.25,) * SHAPE.channels,
        data_sha256="",
        split_sha256="",
        class_counts={},
        seed=0,
        streamed=False,
    )
    split = Split(ImagesInMemory(images.to(device)), labels, info=info, device=device)
    return split, images


def device_named(name: str) -> torch.device:
    """Return the device of a measurement: `auto`, `cpu` or `cuda`.

    Raises:
        InputError: it is cuda, and there is none.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError.of("--device", name, "there is no CUDA device here; use cpu or auto")
    return device_of(CommonTrainingConfig.model_validate({"device": name}))


def hardware(device: torch.device) -> str:
    """Return the model of the device, the threads and the version of PyTorch, in one line."""
    threads = f"{torch.get_num_threads()} threads on {num_cpus()} CPUs"
    return f"{device_name(device)} ({device.type}), {threads}, PyTorch {torch.__version__}"
