"""Overhead of commands: `nas run`, help, suggestions, the client install.

    git worktree add --detach /tmp/before COMMIT
    python benchmarks/overhead.py --before /tmp/before --out docs/results/overhead.md

The same small search is run from two folders of code in turn, so that other work on the machine
affects both. The overhead is that which the command reports: all time that is not data, search,
training or profiling. CPU time is that of all processes of a command.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
_RUN = (
    *("run", "--set", "method=random", "--set", "search.budget.children=2"),
    *("--set", "search.child.epochs=1", "--set", "train.epochs=2", "--json"),
)
_QUICK = (("--help",), ("run", "--help"), ("submit", "--help"), ("config",))
_HEAVY = ("torch", "torchvision", "mlflow", "optuna", "sqlalchemy", "sklearn", "scipy")


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one command: wall and processor seconds, and its standard output."""

    wall_s: float
    cpu_s: float
    said: str


def call(command: Sequence[str], code: Path, folder: Path) -> Cost:
    """Call a command of `nas` with the code of a folder."""
    before, start = os.times(), time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "pipelines.cli", *command],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(code)},
        capture_output=True,
        text=True,
    )
    after = os.times()
    if done.returncode:
        sys.exit(f"nas {' '.join(command)} in {code} ended with {done.returncode}:\n{done.stderr}")
    used = after.children_user + after.children_system
    cpu_s = used - before.children_user - before.children_system
    return Cost(time.monotonic() - start, cpu_s, done.stdout)


def spread(values: Sequence[float], digits: int = 1) -> str:
    """Return minimum, median and maximum as cells of a table."""
    numbers = (min(values), statistics.median(values), max(values))
    return " | ".join(f"{number:.{digits}f}" for number in numbers)


def compare_runs(before: Path, after: Path, runs: int) -> list[str]:
    """Compare the overhead of the same run from two folders, in turn."""
    found: dict[str, dict[str, list[float]]] = {}
    parts: dict[str, list[float]] = {}
    for number in range(runs):
        for name, code in (("before", before), ("after", after)):
            with tempfile.TemporaryDirectory() as folder:
                cost = call([*_RUN, "--out", "out"], code, Path(folder))
                result = json.loads(cost.said)
            values = {
                "overhead, s": result["seconds"]["overhead"],
                "whole command, s": cost.wall_s,
                "processor time of all processes, s": cost.cpu_s,
                "load average of the machine": os.getloadavg()[0],
            }
            for what, value in values.items():
                found.setdefault(what, {}).setdefault(name, []).append(value)
            for what, seconds in part_seconds(result).items():
                parts.setdefault(what, []).append(seconds)
            print(f"run {number + 1} {name}: {values}", file=sys.stderr, flush=True)
    lines = ["| | | minimum | median | maximum |", "| --- | --- | ---: | ---: | ---: |"]
    for what, rows in found.items():
        lines += [f"| {what} | {name} | {spread(values)} |" for name, values in rows.items()]
    lines += ["", "What the overhead now is made of (`nas run --timings`), seconds:", ""]
    lines += ["| part | minimum | median | maximum |", "| --- | ---: | ---: | ---: |"]
    lines += [f"| {what} | {spread(values, 2)} |" for what, values in parts.items()]
    return lines


def part_seconds(result: dict[str, object]) -> dict[str, float]:
    """Return the parts of the overhead of a run; empty if its version does not report them."""
    timings = result.get("timings")
    if not isinstance(timings, dict):
        return {}
    steps = timings["steps"]
    rests = {f"{name}: neither work nor start-up": step["rest_s"] for name, step in steps.items()}
    starts = {f"{name}: start-up": step["start_up_s"] for name, step in steps.items()}
    within = {f"of promote: {name}": s for name, s in steps["promote"]["parts"].items()}
    return {
        "until the first step": timings["begin_s"],
        **starts,
        **rests,
        **within,
        "after the last step": timings["end_s"],
        "imports, while steps were under way (not overhead)": timings["imports_s"],
    }


def compare_quick(before: Path, after: Path, runs: int) -> list[str]:
    """Compare CPU and wall seconds of commands that should answer at once."""
    lines = ["| command | | processor s: minimum | median | maximum | wall s: median |"]
    lines.append("| --- | --- | ---: | ---: | ---: | ---: |")
    for command in _QUICK:
        for name, code in (("before", before), ("after", after)):
            if name == "before" and command == ("config",):
                continue  # it is new
            costs = [call(command, code, Path(tempfile.gettempdir())) for _ in range(runs)]
            wall_s = statistics.median(cost.wall_s for cost in costs)
            cells = spread([cost.cpu_s for cost in costs], 2)
            lines.append(f"| `nas {' '.join(command)}` | {name} | {cells} | {wall_s:.2f} |")
    return lines


def suggestions(after: Path) -> list[str]:
    """Return the table of `nas bench suggest`."""
    cost = call(["bench", "suggest", "--json"], after, Path(tempfile.gettempdir()))
    rows = json.loads(cost.said)
    lines = ["| method | space | trials | p50, ms |", "| --- | --- | ---: | ---: |"]
    cells = ("method", "space", "trials", "p50_ms")
    return [*lines, *("| " + " | ".join(str(row[c]) for c in cells) + " |" for row in rows)]


def client_install(code: Path) -> list[str]:
    """Return size and seconds of the client install in a clean environment."""
    with tempfile.TemporaryDirectory() as folder:
        venv = Path(folder) / "venv"
        subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
        empty_mb = megabytes(venv)
        start = time.monotonic()
        python = str(venv / "bin" / "python")
        command = [
            python,
            "-m",
            "pip",
            "install",
            "--quiet",
            f"nas-pipelines[client] @ {code.as_uri()}",
        ]
        subprocess.run(command, check=True)
        seconds = time.monotonic() - start
        probe = (
            f"from importlib.util import find_spec\nprint([n for n in {_HEAVY!r} if find_spec(n)])"
        )
        found = subprocess.run([python, "-c", probe], capture_output=True, text=True, check=True)
        size_mb = megabytes(venv) - empty_mb
    return [
        f"`pip install 'nas-pipelines[client]'` in a clean environment: {size_mb:.0f} MB, "
        f"{seconds:.0f} s. Of {', '.join(_HEAVY)} there are: {found.stdout.strip()}."
    ]


def megabytes(folder: Path) -> float:
    """Return the size of the files below a folder in MB."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


def main() -> None:
    """Measure, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--before", type=Path, required=True, help="folder with the code before")
    parser.add_argument("--after", type=Path, default=HERE, help="folder with the code [this one]")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--out", type=Path, required=True, help="the page to write")
    parser.add_argument("--parts", default="runs,quick,suggestions,client", help="what to measure")
    arguments = parser.parse_args()
    before, after, runs = arguments.before.resolve(), arguments.after.resolve(), arguments.runs
    measures = {
        "runs": ("Overhead of `nas run`", lambda: compare_runs(before, after, runs)),
        "quick": ("Help and settings", lambda: compare_quick(before, after, runs)),
        "suggestions": ("A suggestion after many trials", lambda: suggestions(after)),
        "client": ("The client install", lambda: client_install(after)),
    }
    lines = ["# Overhead of commands", ""]
    lines.append(
        f"Made by `python benchmarks/overhead.py --runs {runs} ...` (its docstring says how)."
    )
    cores = len(os.sched_getaffinity(0))
    lines += [f"{cores} cores ({platform.machine()}), Python {platform.python_version()}.", ""]
    for name in arguments.parts.split(","):
        title, measure = measures[name]
        lines += [f"## {title}", "", *measure(), ""]
        arguments.out.write_text("\n".join(lines))


if __name__ == "__main__":
    main()
