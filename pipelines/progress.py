"""What a person sees while a run goes on, and at its end. Everything comes from the progress file.

In a terminal one line lives at the bottom; elsewhere each thing worth saying is a plain line.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from pipelines.local import REPORT

STEPS = (
    "prepare_data",
    "pretrain_controller",
    "search",
    "train_final",
    "profile_latency",
    "promote",
)


class ProgressFile:
    """Reads whole lines that were added since the last look."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._position = 0

    def new(self) -> Iterator[dict[str, Any]]:
        if not self._path.exists():
            return
        with open(self._path, "rb") as file:
            file.seek(self._position)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                self._position += len(line)
                yield json.loads(line)


class Display:
    """Turns events into a live line or plain lines.

    Attributes:
        step: the last step that has started.
        failure: the last `failed` or `input_error` event.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, refresh_per_second=8, transient=True)
        self.step: str | None = None
        self.failure: dict[str, Any] | None = None

    def __enter__(self) -> "Display":
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._console.is_terminal:
            self._live.stop()

    def show(self, event: Mapping[str, Any]) -> None:
        """Takes one event of the progress file."""
        kind = event["event"]
        if kind in ("failed", "input_error"):
            self.failure = dict(event)
            return
        if kind == "started":
            self.step = event["step"]
        text = describe(event)
        if text is None:
            return
        if not self._console.is_terminal:
            if is_worth_a_line(event):
                self._console.print(Text(text), soft_wrap=True)
        elif kind == "finished" or kind == "note":
            self._live.console.print(Text(text))
        else:
            self._live.update(Text(text, no_wrap=True, overflow="ellipsis"))


def is_worth_a_line(event: Mapping[str, Any]) -> bool:
    """Of the epochs every tenth part; a long training would fill the page."""
    if event["event"] != "epoch":
        return True
    number, of = event["epoch"] + 1, event["of"]
    return bool(number == of or number % max(1, of // 10) == 0)


def describe(event: Mapping[str, Any]) -> str | None:
    """One event as a line; None when it says nothing to a person."""
    kind, step = event["event"], event["step"]
    label = f"[{STEPS.index(step) + 1}/{len(STEPS)}] {step}" if step in STEPS else step
    if kind == "started":
        return f"{label} ..."
    if kind == "finished":
        if event.get("restored"):
            return f"{label} was done before"
        return f"{label} done in {duration(event['seconds'])}"
    if kind == "child":
        return f"{label}  {_child(event)}"
    if kind == "epoch":
        accuracy = event.get("valid_accuracy")
        shown = "" if accuracy is None else f", valid accuracy {accuracy:.3f}"
        return f"{label}  epoch {event['epoch'] + 1} of {event['of']}{shown}"
    if kind == "note":
        return str(event["text"])
    return None


def _child(event: Mapping[str, Any]) -> str:
    of = "" if event["of"] is None else f" of {event['of']}"
    name = "child" if event["arm"] == "method" else "random control"
    accuracy = event["valid_accuracy"]
    shown = "failed" if accuracy is None else f"{accuracy:.3f}"
    best = "" if event["best"] is None else f", best {event['best']:.3f}"
    left = event.get("seconds_left")
    remaining = "" if left is None else f", about {duration(left)} left"
    return f"{name} {event['number'] + 1}{of}: {shown}{best}{remaining}"


def duration(seconds: float) -> str:
    """Seconds as a person says them."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def follow(path: Path, display: Display, is_running: Callable[[], bool]) -> None:
    """Shows events until `is_running()` is false and the file is read to its end."""
    events = ProgressFile(path)
    while True:
        running = is_running()
        for event in events.new():
            display.show(event)
        if not running:
            return
        time.sleep(0.1)


def summary(result: Mapping[str, Any], out: Path) -> Table:
    """The short table at the end of a run."""
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    latency = result["latency_ms"]
    rows = [
        ("test accuracy", f"{result['test_accuracy']:.4f}"),
        ("valid accuracy", f"{result['valid_accuracy']:.4f}"),
        ("verdict", (result["verdict"] or {}).get("statement", "no control was run")),
        ("size", f"{result['num_params']:,} parameters, {result['macs'] / 1e6:.2f} M MACs"),
        (
            "latency",
            f"p50 {latency['p50']:.2f} ms, p95 {latency['p95']:.2f} ms "
            f"(batch {latency['batch_size']}, {latency['device']})",
        ),
        ("model", f"{result['model_uri']} ({result['promotion']['alias']})"),
        (
            "time",
            f"{duration(result['seconds']['total'])}, of it overhead "
            f"{result['seconds']['overhead']:.1f} s",
        ),
        ("report", str(out / REPORT)),
    ]
    for name, value in rows:
        table.add_row(name, Text(value))
    return table
