"""Timing of operations inside the networks that run them.

Operations are timed where they run: whole networks are run, and a mark is set whenever one of their
operations has ended. The time between two marks is the operation's, with the little that leads to
it (the sum of two maps, the loop that calls it), so that the times of a run add up to the run. In a
loop of its own an operation would find its weights in the cache and would be far too fast.

Protocol. Networks are run in random order, round after round, so that a machine that becomes slower
is slower for all of them; networks that a table is checked with alternate with those that it is
made of. Warm-up rounds do not count. Garbage is collected before and not during the rounds. Runs
that the system interrupted in favour of another process (involuntary context switches of this
process) do not count, unless there are too few others. The value is the median, reported with the
distance between the quartiles. On a GPU marks are CUDA events, and the device is synchronised
before and after a run.

Two effects make the sum of an architecture's entries differ from its time, both about equally for
all architectures: a mark takes time, and medians do not add up (where sometimes this operation is
slow and sometimes that one, no run is as fast as the sum of their medians). So the networks that
the table is made of are also timed without marks, and all entries have one factor in common: the
median, over these networks, of the time without marks divided by the sum of the entries.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nascore.config import LatencyConfig
from nascore.latency.benchmark import (
    device_name,
    elapsed_ms,
    no_garbage_collection,
    resolve_device,
)
from nascore.latency.operations import unit_key
from nascore.latency.run_series import RunSeries, interruptions
from nascore.latency.table import MeasurementConditions, OperationTable, TableEntry
from nascore.spaces.base import ImageShape
from nascore.threads import thread_limit

_PATIENCE = 3  # rounds for each required run, where runs are interrupted

Call = Callable[[Tensor], object]
"""A network, or any function of a batch of images."""


@dataclass(frozen=True)
class Runner:
    """A network to time, and the operations that it runs.

    Attributes:
        keys: keys of its operations, in the order in which they end.
    """

    call: Call
    keys: tuple[str, ...]


@dataclass(frozen=True)
class Timings:
    """Measurements of several rounds.

    Attributes:
        entries: times of operations by key.
        rest: time from the end of the last operation to the output.
        correction: common factor of these times, see the module's docstring.
        whole: time of each runner that was only timed as a whole, in their order.
        disturbed: fraction of all runs that were interrupted.
    """

    entries: dict[str, TableEntry]
    rest: TableEntry
    correction: float
    whole: tuple[TableEntry, ...]
    disturbed: float


class Profiler:
    """Time operations inside the networks that run them.

    Args:
        parts: the operations, by any name, none of them inside another. They are moved to the
            device and put into evaluation mode.
        shape: shape of the images.
        config: batch size, device, threads, runs and warm-up runs. Each network is run this often,
            and up to three times as often where runs are interrupted.
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

    def conditions(
        self, space: str, space_sha256: str, *, phase: str, shape: ImageShape
    ) -> MeasurementConditions:
        """Return the conditions of a table that this profiler makes.

        Args:
            space: identifier of the search space.
            space_sha256: `nascore.latency.table.settings_sha256` of its settings.
            phase: `search` or `final` networks.
            shape: shape of the images.
        """
        with thread_limit(self._config.threads):
            threads = torch.get_num_threads()
        return MeasurementConditions(
            space=space,
            space_sha256=space_sha256,
            phase=phase,
            channels=shape.channels,
            size=shape.size,
            num_classes=shape.num_classes,
            batch_size=len(self._x_BCHW),
            device=device_name(self.device),
            threads=threads,
            torch_version=torch.__version__,
        )

    def runner(
        self, call: Call, inputs: dict[str, tuple[nn.Module, Tensor]] | None = None
    ) -> Runner:
        """Run a network once, to find its operations.

        Args:
            call: the network.
            inputs: receives, for each key that it lacks, an operation and its input.
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
        """Time all runners, round after round.

        Args:
            measured: runners whose operations are timed.
            timed: runners that are timed as a whole, without marks.
            rng: order of the runners in each round.
        """
        laps: dict[str, RunSeries] = {key: RunSeries() for one in measured for key in one.keys}
        rest, both = RunSeries(), [*timed, *measured]
        runs, wholes = [RunSeries() for _ in measured], [RunSeries() for _ in both]
        config = self._config
        with thread_limit(config.threads), torch.inference_mode(), no_garbage_collection():
            for number in range(config.warmup_runs + _PATIENCE * config.runs):
                if number == config.warmup_runs:
                    for series in (rest, *laps.values(), *runs, *wholes):
                        series.clear()
                self._measure(measured, runs, laps, rest, rng)
                for i in rng.permutation(len(both)):
                    wholes[i].add(*self._whole(both[i]))
                fewest = min(one.num_uninterrupted for one in (*runs, *wholes))
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
        """Return the table of the timed operations."""
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
        runs: Sequence[RunSeries],
        laps: Mapping[str, RunSeries],
        rest: RunSeries,
        rng: np.random.Generator,
    ) -> None:
        """Run one round of the runners whose operations are timed."""
        is_cuda = self.device.type == "cuda"
        mark: Callable[[], Any] = _event if is_cuda else time.perf_counter_ns
        marks: list[Any] = []

        def note(module: nn.Module, inputs: tuple[Tensor, ...], output: object) -> None:
            marks.append(mark())

        with _hooks(self._modules, note):
            for i in rng.permutation(len(measured)):
                marks.clear()
                self._synchronise()
                before = interruptions()
                marks.append(mark())
                measured[i].call(self._x_BCHW)
                marks.append(mark())
                self._synchronise()
                interrupted = interruptions() - before
                pairs = pairwise(marks)
                times_ms = [a.elapsed_time(b) if is_cuda else (b - a) / 1e6 for a, b in pairs]
                for key, ms in zip(measured[i].keys, times_ms[:-1], strict=True):
                    laps[key].add(ms, interrupted)
                rest.add(times_ms[-1], interrupted)
                runs[i].add(sum(times_ms), interrupted)

    def _whole(self, runner: Runner) -> tuple[float, int]:
        self._synchronise()
        before = interruptions()
        ms, _ = elapsed_ms(lambda: runner.call(self._x_BCHW), is_cuda=self.device.type == "cuda")
        return ms, interruptions() - before

    def _synchronise(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def _correction(
    measured: Sequence[Runner],
    whole: Sequence[TableEntry],
    entries: Mapping[str, TableEntry],
    rest: TableEntry,
) -> float:
    """Return the common factor of all entries, see the module's docstring."""
    sums_ms = [sum(entries[key].ms for key in one.keys) + rest.ms for one in measured]
    return float(np.median([one.ms / sum_ms for one, sum_ms in zip(whole, sums_ms, strict=True)]))


@contextmanager
def _hooks(
    modules: Iterable[nn.Module], note: Callable[[nn.Module, tuple[Tensor, ...], object], None]
) -> Iterator[None]:
    """Call `note` whenever one of the modules has ended, inside the block."""
    handles = [module.register_forward_hook(note) for module in modules]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _event() -> torch.cuda.Event:
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event
