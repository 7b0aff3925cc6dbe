"""Times of the parts of a run: `timings` in its result, and a table of them."""

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

_STAMP = "installed"  # file into which `make install` writes its duration
_PROFILE, _TRAIN, _DATA = "profiling", "training", "data"
_TRAINING_OF = {"pretrain_controller": "pretrain_s", "search": "search_s", "train_final": "train_s"}


def timings_of(
    events: Iterable[Mapping[str, Any]], *, start_s: float, total_s: float
) -> dict[str, Any]:
    """Return the seconds of each part of a run.

    `overhead_s` is the time that was neither data loading nor search, training or profiling. It is
    the sum of `begin_s` before the first step, `start_up_s` and `rest_s` of each step, and `end_s`.
    It does not include `imports_s` in the process that forks the steps, nearly all while steps were
    running, and `install_s`, the duration of `make install`.

    Args:
        events: events of the progress file.
        start_s: start of the command in seconds since the epoch.
        total_s: duration of the command in seconds.
    """
    found = dict.fromkeys(("data_s", *_TRAINING_OF.values(), "profile_s", "report_s"), 0.0)
    steps: dict[str, dict[str, Any]] = {}
    ready_s, begin_s, imports_s = start_s, 0.0, 0.0
    for event in events:
        name = event["step"]
        if event["event"] == "imported":
            imports_s += event["seconds"]
        elif event["event"] == "started":
            gap_s = event["time"] - ready_s
            begin_s = begin_s if steps else gap_s
            steps[name] = {"start_up_s": gap_s if steps else 0.0}
        elif event["event"] == "finished" and name in steps:
            ready_s = event["time"]
            steps[name] |= _step(event)
            found["data_s"] += event["busy"].get(_DATA, 0.0)
            found["profile_s"] += event["busy"].get(_PROFILE, 0.0)
            found[_TRAINING_OF.get(name, "train_s")] += event["busy"].get(_TRAIN, 0.0)
            found["report_s"] += event.get("parts", {}).get("report", 0.0)
    busy_s = sum(sum(step.get("busy", {}).values()) for step in steps.values())
    whole = {
        "total_s": total_s,
        "overhead_s": total_s - busy_s,
        "begin_s": begin_s,
        **found,
        "end_s": max(0.0, start_s + total_s - ready_s),
        "imports_s": imports_s,
        "install_s": _install_s(),
        "steps": steps,
    }
    rounded: dict[str, Any] = _rounded(whole)
    return rounded


def _step(event: Mapping[str, Any]) -> dict[str, Any]:
    rest_s = event["seconds"] - sum(event["busy"].values())
    parts = event.get("parts", {})
    return {"seconds": event["seconds"], "busy": event["busy"], "rest_s": rest_s, "parts": parts}


def _install_s() -> float | None:
    """Return the duration of `make install`; None in an environment without it."""
    try:
        return float((Path(sys.prefix) / _STAMP).read_text())
    except (OSError, ValueError):
        return None


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(below) for key, below in value.items()}
    return round(value, 3) if isinstance(value, float) else value


def table(timings: Mapping[str, Any]) -> list[str]:
    """Return the timings as the lines of a table."""
    lines = [f"{'seconds':<28}{'start-up':>10}{'work':>10}{'rest':>10}"]
    lines.append(f"{'until the first step':<28}{timings['begin_s']:>10.1f}")
    for name, step in timings["steps"].items():
        busy_s = sum(step.get("busy", {}).values())
        numbers = (step["start_up_s"], busy_s, step.get("rest_s", 0.0))
        lines.append(f"{name:<28}" + "".join(f"{number:>10.1f}" for number in numbers))
        for part, seconds in step.get("parts", {}).items():
            lines.append(f"{'  of the rest, ' + part:<48}{seconds:>10.1f}")
    lines.append(f"{'after the last step':<28}{timings['end_s']:>10.1f}")
    work = ("data", "pretrain", "search", "train", "profile")
    work_s = ", ".join(f"{name} {timings[name + '_s']:.1f}" for name in work)
    lines += [
        f"work: {work_s}",
        f"overhead {timings['overhead_s']:.1f} of {timings['total_s']:.1f}",
    ]
    lines.append(f"imports, while steps were under way: {timings['imports_s']:.1f}")
    if timings["install_s"] is not None:
        lines.append(f"make install, once: {timings['install_s']:.0f}")
    return lines
