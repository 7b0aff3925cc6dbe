"""System metrics of the machine on which steps run, sampled by MLflow's monitors.

The follower samples in a thread and writes to the spool as a writer of its own, so that an
unreachable store loses nothing and steps do nothing for it. The open steps of the spool get each
sample, and outside Kubeflow the pipeline's run too; there the pods of one run would mix in it.
A child gets those that were taken while it was trained (`samples_between`).

MLflow's own variables count: MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING (false: off) and
MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL (seconds).
"""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from components.run_identity import RUN_ID
from components.tracking.notes import warn
from components.tracking.reading import parsed
from components.tracking.spool import EVENTS, TARGET, Tracker

PREFIX = "system/"
_LABEL = "system"
_INTERVAL = "MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL"
_ENABLED = "MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING"
_INTERVAL_S = 10.0  # MLflow's default
_OPENING, _ENDING = b'"op": "run"', b'"op": "end"'

Sample = dict[str, float]


class OpenRuns:
    """Keys of the runs that are open by the events of a spool, whether they are sent or not."""

    def __init__(self, spool: Path) -> None:
        self._files = _NewLines(spool, "*.jsonl")
        self._changed_ms: dict[str, tuple[int, bool]] = {}

    def current(self) -> list[str]:
        """Return the keys, after reading what was written since the last call."""
        for line in self._files.read():
            if _OPENING not in line and _ENDING not in line:
                continue
            event = parsed(line) or {}
            if event.get("op") in ("run", "end"):
                time_ms, is_open = event["time_ms"], event["op"] == "run"
                before_ms, _ = self._changed_ms.get(event["run"], (0, False))
                if time_ms >= before_ms:  # the files of several writers are read one by one
                    self._changed_ms[event["run"]] = (time_ms, is_open)
        return sorted(key for key, (_, is_open) in self._changed_ms.items() if is_open)


class Samples:
    """The samples of a spool, by run; also those of earlier followers."""

    def __init__(self, spool: Path) -> None:
        self._files = _NewLines(spool, f"*-{_LABEL}.jsonl")
        self._found: dict[str, list[tuple[int, Sample]]] = {}

    def of(self, key: str) -> list[tuple[int, Sample]]:
        """Return time in milliseconds and values of the samples of a run."""
        for line in self._files.read():
            event = parsed(line) or {}
            if event.get("op") == "metrics":
                self._found.setdefault(event["run"], []).append((event["time_ms"], event["values"]))
        return self._found.get(key, [])

    def between(self, key: str, start_ms: int, end_ms: int) -> list[tuple[int, Sample]]:
        """Return the samples of a run that were taken between two times."""
        return [(at, values) for at, values in self.of(key) if start_ms <= at <= end_ms]


@contextmanager
def sampling(spool: Path) -> Iterator[Callable[[], None]]:
    """Sample in a thread while the block runs; yield a function that ends it before.

    Args:
        spool: its folder.
    """
    interval_s = _interval_s()
    if interval_s is None:
        yield lambda: None
        return
    is_over = threading.Event()
    work = _Sampler(spool)
    thread = threading.Thread(
        target=work.run, args=(interval_s, is_over), name="system metrics", daemon=True
    )
    thread.start()

    def end() -> None:
        is_over.set()
        thread.join()

    try:
        yield end
    finally:
        end()


class _Sampler:
    """Writes a sample to all open runs of a spool, again and again."""

    def __init__(self, spool: Path) -> None:
        self._spool = spool
        self._open = OpenRuns(spool)
        self._num_samples: dict[str, int] = {}
        self._tracker: Tracker | None = None
        self._monitors: list[Any] | None = None

    def run(self, interval_s: float, is_over: threading.Event) -> None:
        try:
            while not is_over.wait(interval_s if self._monitors is not None else 0.2):
                self._sample()
        except OSError as error:  # the disk is full, or the spool was removed
            warn(f"system metrics are no longer sampled: {error}")
        finally:
            if self._tracker is not None:
                self._tracker.close()

    def _sample(self) -> None:
        keys = [key for key in self._open.current() if _is_sampled(key)]
        if self._monitors is None:
            # Until there is a run, mlflow is not imported: it takes two seconds.
            self._monitors = _make_monitors() if keys else None
            return
        if not keys:
            return
        values = _collect(self._monitors)
        if values:
            self._write(keys, values)

    def _write(self, keys: list[str], values: Sample) -> None:
        if self._tracker is None:
            if not (self._spool / TARGET).exists():
                return
            self._tracker = Tracker(self._spool, label=_LABEL)
        for key in keys:
            if key not in self._num_samples:
                self._num_samples[key] = len(Samples(self._spool).of(key))
            self._tracker.append(key, "metrics", values=values, step=self._num_samples[key])
            self._num_samples[key] += 1


class _NewLines:
    """The whole lines of event files that were not read before."""

    def __init__(self, spool: Path, pattern: str) -> None:
        self._folder, self._pattern = spool / EVENTS, pattern
        self._read: dict[str, int] = {}

    def read(self) -> Iterator[bytes]:
        for path in sorted(self._folder.glob(self._pattern)):
            with open(path, "rb") as file:
                file.seek(self._read.get(path.name, 0))
                for line in file:
                    if not line.endswith(b"\n"):
                        break
                    self._read[path.name] = self._read.get(path.name, 0) + len(line)
                    yield line


def _is_sampled(key: str) -> bool:
    depth = key.count(".")
    return depth == 1 or (depth == 0 and RUN_ID not in os.environ)


def _interval_s() -> float | None:
    """Return the seconds between two samples; None where MLflow's variable turns them off."""
    if os.environ.get(_ENABLED, "").lower() in ("false", "0"):
        return None
    given = os.environ.get(_INTERVAL, "")
    try:
        interval_s = float(given or _INTERVAL_S)
    except ValueError:
        interval_s = 0.0
    if not 0 < interval_s < threading.TIMEOUT_MAX:
        warn(f"{_INTERVAL}={given!r} is no number of seconds above 0; {_INTERVAL_S:g} s are used")
        return _INTERVAL_S
    return interval_s


def _make_monitors() -> list[Any]:
    """Return MLflow's monitors that work on this machine."""
    from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
    from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
    from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor
    from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor
    from mlflow.system_metrics.metrics.rocm_monitor import ROCMMonitor

    monitors = []
    for kind in (CPUMonitor, DiskMonitor, NetworkMonitor, GPUMonitor, ROCMMonitor):
        try:
            monitor = kind()
            monitor.collect_metrics()  # the first CPU load is that since the last call
            monitor.clear_metrics()
            monitors.append(monitor)
        except Exception:  # MLflow and its libraries raise any class without such a device
            continue
    return monitors


def _collect(monitors: list[Any]) -> Sample:
    values: Sample = {}
    for monitor in list(monitors):
        try:
            monitor.collect_metrics()
            found = monitor.aggregate_metrics()
        except Exception as error:  # a driver that was reset, a file of /proc that is hidden
            warn(f"no more samples of {type(monitor).__name__}: {type(error).__name__}: {error}")
            monitors.remove(monitor)
            continue
        monitor.clear_metrics()
        values |= {f"{PREFIX}{name}": float(value) for name, value in found.items()}
    return values
