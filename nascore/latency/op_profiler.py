"""How a table of operations is measured, and held against the clock.

Operations are timed where they run: whole networks are run, and a mark is set whenever one of their
operations has ended. The time between two marks is the operation's, with the little that leads to
it (the sum of two maps, the loop that calls it), so that the times of a run add up to the run.
Alone in a loop, an operation would find its weights in the cache, and would be too fast by far.

Protocol. Networks are run in random order, round after round, so that a machine that becomes slower
is slower for all of them; networks that a table is checked by take turns with those that it is made
of. Warm-up rounds do not count. Garbage is collected before and not during the rounds. A run that
the system interrupted in favour of another process is not counted, unless there are too few others:
it counts involuntary context switches of this process. What counts is the median, told with the
distance between the quartiles. On a GPU marks are events of its own clock, and the device is
synchronised before and after a run.

Two things make the sum of an architecture's entries differ from its time, and both are much the
same for all: a mark takes time, and medians do not add up (where now this operation is slow and now
that one, no run is as fast as the sum of their medians). So the networks that the table is made of
are timed without marks, too, and all entries have one factor in common: the median, over these
networks, of what was measured without marks by the sum of the entries.
"""

import resource
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nascore.config import LatencyConfig
from nascore.latency.benchmark import (
    device_name,
    no_garbage_collection,
    resolve_device,
    thread_limit,
)
from nascore.latency.table import MeasurementConditions, OperationTable, TableEntry
from nascore.spaces.base import ImageShape

_FEWEST_RUNS = 5  # a median of fewer undisturbed runs is worse than one of all
_PATIENCE = 3  # rounds for each that is wanted, where runs are disturbed

Call = Callable[[Tensor], object]
"""A network, or anything that answers images."""


@dataclass(frozen=True)
class Runner:
    """Something to time, and the operations that it runs.

    Attributes:
        keys: of its operations, in the order in which they end.
    """

    call: Call
    keys: tuple[str, ...]


@dataclass
class _Series:
    """Runs of the same thing: milliseconds, and how often each was interrupted."""

    ms: list[float] = field(default_factory=list)
    interruptions: list[int] = field(default_factory=list)

    def add(self, ms: float, interruptions: int) -> None:
        self.ms.append(ms)
        self.interruptions.append(interruptions)

    def clear(self) -> None:
        self.ms.clear()
        self.interruptions.clear()

    @property
    def num_undisturbed(self) -> int:
        return self.interruptions.count(0)

    def entry(self) -> TableEntry:
        values = np.array(self.ms)
        if self.num_undisturbed >= _FEWEST_RUNS:
            values = values[np.array(self.interruptions) == 0]
        low, middle, high = np.percentile(values, [25, 50, 75])
        return TableEntry(float(middle), float(high - low), len(values))


@dataclass(frozen=True)
class Timings:
    """What some rounds have measured.

    Attributes:
        entries: of operations, by key.
        rest: from the last operation to the answer.
        correction: the factor that all of these times have in common, see the module text.
        whole: of each runner that was only timed as a whole, in their order.
        disturbed: share of all runs that were interrupted.
    """

    entries: dict[str, TableEntry]
    rest: TableEntry
    correction: float
    whole: tuple[TableEntry, ...]
    disturbed: float


class Profiler:
    """Times operations inside the networks that run them.

    Args:
        parts: the operations, by any name; a module that runs inside another one of them must not
            be among them. They are moved to the device and put into evaluation mode.
        shape: of the images.
        config: batch size, device, threads, runs and warm-up runs. Each network is run so often,
            and up to three times as often where runs are disturbed.
    """

    def __init__(
        self, parts: Mapping[str, nn.Module], shape: ImageShape, config: LatencyConfig
    ) -> None:
        self.device = resolve_device(config)
        self._config = config
        # A module may have several names; a hook for each would set as many marks.
        self._modules = list({id(module): module for module in parts.values()}.values())
        for module in self._modules:
            module.to(self.device).eval()
        generator = torch.Generator().manual_seed(0)  # the values do not matter, but are fixed
        size = (config.batch_size, shape.channels, shape.size, shape.size)
        self._x_BCHW = torch.randn(size, generator=generator).to(self.device)

    @property
    def batch_size(self) -> int:
        return len(self._x_BCHW)

    @property
    def num_threads(self) -> int:
        with thread_limit(self._config.threads):
            return torch.get_num_threads()

    def runner(
        self, call: Call, inputs: dict[str, tuple[nn.Module, Tensor]] | None = None
    ) -> Runner:
        """Runs it once, to see which operations it has.

        Args:
            inputs: is given, for each key that it does not hold, an operation and what it read.
        """
        keys: list[str] = []

        def note(module: nn.Module, given: tuple[Tensor, ...], output: object) -> None:
            keys.append(unit_key(module, given[0].shape))
            if inputs is not None and keys[-1] not in inputs:
                inputs[keys[-1]] = module, given[0].clone()

        with torch.inference_mode(), _hooks(self._modules, note):
            call(self._x_BCHW)
        return Runner(call, tuple(keys))

    def run(
        self,
        measured: Sequence[Runner],
        timed: Sequence[Runner] = (),
        *,
        rng: np.random.Generator,
    ) -> Timings:
        """Rounds over all of them.

        Args:
            measured: whose operations are timed.
            timed: are timed as a whole, without a mark inside.
        """
        laps: dict[str, _Series] = {key: _Series() for one in measured for key in one.keys}
        rest, both = _Series(), [*timed, *measured]
        runs, wholes = [_Series() for _ in measured], [_Series() for _ in both]
        config = self._config
        with thread_limit(config.threads), torch.inference_mode(), no_garbage_collection():
            for number in range(config.warmup_runs + _PATIENCE * config.runs):
                if number == config.warmup_runs:  # what came before does not count
                    for series in (rest, *laps.values(), *runs, *wholes):
                        series.clear()
                self._measure(measured, runs, laps, rest, rng)
                for i in rng.permutation(len(both)):
                    wholes[i].add(*self._whole(both[i]))
                fewest = min(one.num_undisturbed for one in (*runs, *wholes))
                if number >= config.warmup_runs and fewest >= config.runs:
                    break
        entries = {key: series.entry() for key, series in laps.items()}
        last, whole = rest.entry(), [series.entry() for series in wholes]
        correction = _correction(measured, whole[len(timed) :], entries, last)
        disturbed = [count > 0 for one in (*runs, *wholes) for count in one.interruptions]
        return Timings(
            entries={key: entry.times(correction) for key, entry in entries.items()},
            rest=last.times(correction),
            correction=correction,
            whole=tuple(whole[: len(timed)]),
            disturbed=float(np.mean(disturbed)),
        )

    def table(self, timings: Timings, made_for: MeasurementConditions) -> OperationTable:
        return OperationTable(
            made_for=made_for,
            entries=timings.entries,
            rest=timings.rest,
            date=datetime.now(UTC).isoformat(timespec="seconds"),
            warmup_runs=self._config.warmup_runs,
            correction=timings.correction,
            disturbed=timings.disturbed,
        )

    def _measure(
        self,
        measured: Sequence[Runner],
        runs: Sequence[_Series],
        laps: Mapping[str, _Series],
        rest: _Series,
        rng: np.random.Generator,
    ) -> None:
        """One round of those whose operations are timed."""
        is_cuda = self.device.type == "cuda"
        mark: Callable[[], Any] = _event if is_cuda else time.perf_counter_ns
        marks: list[Any] = []

        def note(module: nn.Module, inputs: tuple[Tensor, ...], output: object) -> None:
            marks.append(mark())

        with _hooks(self._modules, note):
            for i in rng.permutation(len(measured)):
                marks.clear()
                self._synchronise()
                before = _interruptions()
                marks.append(mark())
                measured[i].call(self._x_BCHW)
                marks.append(mark())
                self._synchronise()
                interruptions = _interruptions() - before
                pairs = pairwise(marks)
                times_ms = [a.elapsed_time(b) if is_cuda else (b - a) / 1e6 for a, b in pairs]
                for key, ms in zip(measured[i].keys, times_ms[:-1], strict=True):
                    laps[key].add(ms, interruptions)
                rest.add(times_ms[-1], interruptions)
                runs[i].add(sum(times_ms), interruptions)

    def _whole(self, runner: Runner) -> tuple[float, int]:
        self._synchronise()
        before = _interruptions()
        start = time.perf_counter_ns()
        runner.call(self._x_BCHW)
        self._synchronise()
        ms = (time.perf_counter_ns() - start) / 1e6
        return ms, _interruptions() - before

    def _synchronise(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def circumstances(
    space: str, space_sha256: str, phase: str, shape: ImageShape, profiler: Profiler
) -> MeasurementConditions:
    """What a table that this profiler makes holds for."""
    return MeasurementConditions(
        space=space,
        space_sha256=space_sha256,
        phase=phase,
        channels=shape.channels,
        size=shape.size,
        num_classes=shape.num_classes,
        batch_size=profiler.batch_size,
        device=device_name(profiler.device),
        threads=profiler.num_threads,
        torch_version=torch.__version__,
    )


def unit_key(module: nn.Module, input_shape: Iterable[int]) -> str:
    """What an operation is and what it reads; equal for equal work, whatever the weights."""
    return f"{_structure(module)} @ {'x'.join(map(str, input_shape))}"


def _structure(module: nn.Module) -> str:
    name = type(module).__name__
    inner = [_structure(child) for child in module.children()]
    if isinstance(module, nn.Sequential):
        return " > ".join(inner)
    settings = ", ".join([text for text in [module.extra_repr()] if text] + inner)
    return f"{name}({settings})" if settings else name


def _correction(
    measured: Sequence[Runner],
    whole: Sequence[TableEntry],
    entries: Mapping[str, TableEntry],
    rest: TableEntry,
) -> float:
    """See the module text."""
    sums_ms = [sum(entries[key].ms for key in one.keys) + rest.ms for one in measured]
    return float(np.median([one.ms / sum_ms for one, sum_ms in zip(whole, sums_ms, strict=True)]))


@contextmanager
def _hooks(
    modules: Iterable[nn.Module], note: Callable[[nn.Module, tuple[Tensor, ...], object], None]
) -> Iterator[None]:
    """`note` is called whenever one of the modules has ended, inside the block."""
    handles = [module.register_forward_hook(note) for module in modules]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _interruptions() -> int:
    """How often the system has taken a core away from this process, in favour of another."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw


def _event() -> torch.cuda.Event:
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event
