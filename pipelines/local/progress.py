"""Display of a run while it is running, and its summary. Everything comes from the progress file.

A terminal shows one progress line at the bottom; other outputs get a plain line for each news.
"""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Column
from rich.text import Text

from components.progress import Throttle, describe, duration, steps_s
from nascore.config import OBJECTIVES
from nascore.errors import visible
from pipelines.definitions.kinds import Kind
from pipelines.local.events import STEPS, ProgressFile
from pipelines.local.run import REPORT

_POLL_S = 0.1


class Display:
    """Shows events as a progress line in a terminal, and as plain lines elsewhere.

    Attributes:
        step: the step that has started last.
        has_trained: whether a network or a part of one has been trained.
        failure: the last `failed` or `input_error` event.
    """

    def __init__(self, console: Console, kind: Kind = "search") -> None:
        self._console = console
        self._kind = kind
        self._throttle = Throttle()
        self.step: str | None = None
        self.has_trained = False
        self.failure: dict[str, Any] | None = None
        whole_line = Column(no_wrap=True, overflow="crop")
        self._progress = Progress(
            SpinnerColumn("line" if console.options.ascii_only else "dots"),
            TextColumn("{task.description}", markup=False, table_column=whole_line),
            TimeElapsedColumn(),
            console=console,
            transient=True,
        )
        self._task = self._progress.add_task("starting ...", total=None)

    def __enter__(self) -> "Display":
        if self._console.is_terminal:
            self._progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._console.is_terminal:
            self._progress.stop()

    def show(self, event: Mapping[str, Any]) -> None:
        """Show one event of the progress file."""
        kind = event["event"]
        if kind in ("failed", "input_error"):
            self.failure = dict(event)
            return
        if kind == "started":
            self.step = event["step"]
        self.has_trained |= kind in ("share", "child", "epoch")
        text = describe(event, label=_label(event, self._kind))
        if text is None:
            return
        passing = kind in ("started", "share", "child", "epoch")
        if self._console.is_terminal and passing:
            self._progress.update(self._task, description=text)
        elif not passing or self._throttle.is_worth_a_line(event):
            self.say(text)

    def say(self, text: str) -> None:
        """Print a line above the progress line."""
        self._console.print(Text(text), soft_wrap=True)


def _label(event: Mapping[str, Any], pipeline: Kind) -> str:
    step = str(event["step"])
    if pipeline == "search" and step in STEPS:  # a retraining leaves steps out: no numbers
        return f"[{STEPS.index(step) + 1}/{len(STEPS)}] {step}"
    return step


def follow(path: Path, display: Display, *, is_running: Callable[[], bool]) -> None:
    """Show events until `is_running()` is false and the file is read to its end."""
    events = ProgressFile(path)
    while True:
        running = is_running()
        for event in events.new():
            display.show(event)
        if not running:
            return
        time.sleep(_POLL_S)


def _other_figures(result: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the objective if it is not the accuracy, and the class with the lowest recall."""
    rows = []
    objective = result.get("objective", "accuracy")
    if objective != "accuracy":
        scores = f"{result['test_score']:.4f} on test, {result['valid_score']:.4f} on valid images"
        rows.append((OBJECTIVES[objective], scores))
    known = {name: row for name, row in (result.get("per_class") or {}).items() if row["support"]}
    if known:
        worst = min(known, key=lambda name: known[name]["recall"])
        row = known[worst]
        rows.append(
            (
                "worst class",
                f"{visible(worst)}, recall {row['recall']:.4f} of {row['support']} test images",
            )
        )
    return rows


def _references(result: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the networks that were compared with the found one, and which one to ship."""
    control = (result["control"] or {}).get("final")
    compared = [*([control] if control else []), *result["references"]]
    if (ensemble := result.get("ensemble")) is not None:
        numbers = {"latency_ms": ensemble["latency"]["p50_ms"], "params": ensemble["num_params"]}
        compared.append({"name": "ensemble", **ensemble, **numbers})
    rows = [
        (
            row["name"],
            f"{row['test_accuracy']:.4f} (found {100 * row['difference']:+.2f} points, p "
            f"{row['p_value']:.2g}), {row['latency_ms']:.2f} ms, {row['params']:,} parameters",
        )
        for row in compared
    ]
    rows += [(one["name"], f"left out: {one['reason']}") for one in result["references_left_out"]]
    return [*rows, ("recommendation", result["recommendation"]["why"])]


def _model(result: Mapping[str, Any]) -> str:
    text = f"{result['model_uri']} ({result['promotion']['alias']})"
    shipped, ship = result["shipped"], result["recommendation"]["ship"]
    if shipped is not None:
        return f"{text}, the network {shipped['name']} and not the found one"
    is_other = ship != "found" and result["references"]
    return f"{text}, the found network, although {ship} is recommended" if is_other else text


def _time(result: Mapping[str, Any]) -> str:
    seconds, share = result["seconds"], result.get("data_wait_share")
    text = (
        f"{duration(steps_s(seconds))} in the steps; the command {duration(seconds['total'])}, "
        f"of it overhead {seconds['overhead']:.1f} s"
    )
    return text if share is None else f"{text}; final training waited for data {share:.0%}"


def summary(result: Mapping[str, Any], out: Path) -> list[str]:
    """Return the lines of the table at the end of a run."""
    latency, seconds = result["latency_ms"], result["seconds"]
    verdict = result["verdict"]
    steps = ", ".join(f"{step} {duration(seconds[step])}" for step in STEPS if step in seconds)
    rows = (
        ("test accuracy", f"{result['test_accuracy']:.4f}"),
        ("valid accuracy", f"{result['valid_accuracy']:.4f}"),
        *_other_figures(result),
        ("verdict", "no control was run" if verdict is None else verdict["statement"]),
        *_references(result),
        ("size", f"{result['num_params']:,} parameters, {result['macs'] / 1e6:.2f} M MACs"),
        (
            "latency",
            f"p50 {latency['p50']:.2f} ms, p95 {latency['p95']:.2f} ms "
            f"(batch {latency['batch_size']}, {latency['device']})",
        ),
        *([("int8", result["int8"]["why"])] if result.get("int8") else []),
        ("model", _model(result)),
        ("time", _time(result)),
        ("by step", steps),
        ("report", str(out / REPORT)),
    )
    return [f"{name:<16}{value}" if len(name) < 16 else f"{name} {value}" for name, value in rows]
