"""Throughput of training: the training loop, a bare loop and torchvision's reference recipe.

The loops of a network train in turn, in rounds of short turns: the load of a machine changes from
second to second, so the ratio of two loops is the median over rounds of the ratio within a round.
The images are random, 32x32 with three channels and ten classes, and in memory.
"""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import psutil
import torch
import torchvision
from torch import nn

from nascore.config import TrainingConfig
from nascore.data.batches import Split
from nascore.data.images import ImagesInMemory
from nascore.data.prepared import DatasetInfo
from nascore.seeding import seeded_weights
from nascore.spaces.base import ImageShape
from nascore.spaces.residual.config import ResidualSpaceConfig
from nascore.spaces.residual.space import ResidualSpace
from nascore.training.loop import train
from nascore.training.reference_loops import Steps, bare_loop, torchvision_loop

BARE = "bare loop"
OURS = "training loop"
TORCHVISION = "torchvision recipe"
MIN_ROUNDS = 5
_MAX_ROUNDS = 40
_TURN_S = 0.25
SWITCHES: dict[str, dict[str, Any]] = {
    "training loop, cutout": {"cutout": 8},
    "training loop, gradient clipping": {"max_grad_norm": 1.0},
}
"""Settings that are switched on one at a time, each in a loop of its own."""
_SHAPE = ImageShape(channels=3, size=32, num_classes=10)
_BATCHES = 8  # of different images


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


def residual_network() -> nn.Module:
    """Return the standard network of the space `residual`."""
    space = ResidualSpace(ResidualSpaceConfig())
    return space.build(space.standard, _SHAPE)


def resnet18() -> nn.Module:
    """Return torchvision's ResNet-18 with a stem for small images: 3x3, stride 1, no pooling."""
    network: nn.Module = torchvision.models.resnet18(num_classes=_SHAPE.num_classes)
    network.conv1 = nn.Conv2d(_SHAPE.channels, 64, 3, padding=1, bias=False)
    network.maxpool = nn.Identity()
    return network


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "residual": residual_network,
    "resnet18": resnet18,
}


def make_loops(
    network: str,
    config: TrainingConfig,
    switches: Mapping[str, Mapping[str, Any]],
    device: torch.device,
) -> list[Loop]:
    """Return the loops that train a network, each with weights of its own.

    Args:
        network: one of `NETWORKS`.
        config: settings of the training loop and the batch size of all loops.
        switches: settings that change in a further training loop, by the name of that loop.
        device: of the training.
    """

    def build() -> nn.Module:
        with seeded_weights(0):
            return NETWORKS[network]().to(device)

    split, images = _split(config.batch_size, device)
    x_BCHW = split.normalise(images[: config.batch_size].to(device))
    bare = bare_loop(build(), x_BCHW, split.labels[: config.batch_size])
    loops = [Loop(network, BARE, bare), Loop(network, OURS, _our_steps(build(), split, config))]
    plain = torchvision_loop(build(), images, split.labels.cpu(), config.batch_size)
    loops.append(Loop(network, TORCHVISION, plain))
    for name, changed in switches.items():
        switched = TrainingConfig(**{**config.model_dump(), **changed})
        loops.append(Loop(network, name, _our_steps(build(), split, switched)))
    return loops


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
    wall_s, _ = _timed(loop, 2, device)
    return wall_s / 2


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


def _our_steps(network: nn.Module, split: Split, config: TrainingConfig) -> Steps:
    generator = torch.Generator().manual_seed(0)

    def steps(count: int) -> None:
        epochs = -(-count // split.steps_per_epoch(config))
        limited = config.model_copy(update={"epochs": epochs, "max_steps": count})
        train(network, split, limited, generator=generator)

    return steps


def _split(batch_size: int, device: torch.device) -> tuple[Split, torch.Tensor]:
    """Return random images as a training split, and as uint8 (N, C, H, W) on the CPU."""
    generator = torch.Generator().manual_seed(0)
    count, size = _BATCHES * batch_size, _SHAPE.size
    images = torch.randint(
        0, 256, (count, _SHAPE.channels, size, size), generator=generator, dtype=torch.uint8
    )
    labels = torch.randint(0, _SHAPE.num_classes, (count,), generator=generator)
    info = DatasetInfo(
        source="random images",
        classes=tuple(map(str, range(_SHAPE.num_classes))),
        channels=_SHAPE.channels,
        size=size,
        num_images=count,
        num_train=count,
        num_valid=0,
        num_test=0,
        mean=(0.5,) * _SHAPE.channels,
        std=(0.25,) * _SHAPE.channels,
        data_sha256="",
        split_sha256="",
        class_counts={},
        seed=0,
        streamed=False,
    )
    split = Split(ImagesInMemory(images.to(device)), labels, info=info, device=device)
    return split, images
