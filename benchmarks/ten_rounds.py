"""Retraining in rounds, in each of which the world breaks in another way, on real services.

    python benchmarks/ten_rounds.py [--rounds 1 2 3] [--seed 0]

MLflow on PostgreSQL and S3 (SeaweedFS), studies in PostgreSQL, exported files in S3. After each
round the registry is examined. A round in which nothing is broken follows each that has promoted
nothing or has left an MLflow run open, and must promote. Needs root: one round has a small disk,
mounted in a mount namespace that ends with this process. Writes docs/results/ten_rounds.md.
"""

import argparse
import os
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

TREE = Path(__file__).parent.parent
sys.path[:0] = [str(TREE), str(TREE / "tests" / "support")]

from broken_rounds import GOOD, Outcome, rounds  # noqa: E402
from real_world import real_world  # noqa: E402
from round_breaks import BREAKS  # noqa: E402

_SHOWN = 260  # characters of a message
_NAMESPACE = "NAS_ROUNDS_NAMESPACE"


@dataclass(slots=True)
class Results:
    """What was seen so far."""

    seed: int
    start_s: float = field(default_factory=time.monotonic)
    rounds: list[tuple[str, Outcome]] = field(default_factory=list)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    every = range(1, len(BREAKS) + 1)
    parser.add_argument("--rounds", nargs="*", type=int, default=list(every), choices=every)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    if _NAMESPACE not in os.environ:
        os.environ[_NAMESPACE] = "1"
        os.execvp("unshare", ["unshare", "--mount", sys.executable, *sys.argv])
    breaks = tuple(BREAKS[number - 1] for number in arguments.rounds)
    results = Results(arguments.seed)
    with real_world(TREE, seed=arguments.seed) as world:
        for name, outcome in rounds(world, breaks):
            results.rounds.append((name, outcome))
            print(_round(len(results.rounds) - 1, name, outcome), flush=True)
            _write(results)
    print(f"logs: {world.services.home}")


def _write(results: Results) -> None:
    good = [one for name, one in results.rounds if name == GOOD]
    sound = sum(not one.faults for _, one in results.rounds)
    promoted = sum(one.is_promoted for one in good)
    left = [number for number, (_, one) in enumerate(results.rounds) if one.open_runs]
    open_good = sum(bool(one.open_runs) for one in good)
    minutes = (time.monotonic() - results.start_s) / 60
    lines = [
        "# Retraining while the world breaks",
        "",
        f"{datetime.now(UTC):%Y-%m-%d}, revision {_revision()}, "
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, "
        f"seed {results.seed}, {minutes:.0f} min. Renewed by",
        "",
        "    python benchmarks/ten_rounds.py",
        "",
        "Each round is `nas retrain` on new data, with MLflow on PostgreSQL and S3 behind a "
        "password, studies in PostgreSQL and exported files in S3. The classes change their "
        "patterns from round to round, so the last champion is wrong about the new data. After "
        "each round the registry is examined: the alias points to a version that loads, the "
        "history is in order, each version has its tags and description. MLflow runs that are "
        "still RUNNING are counted: a run whose end could not be sent is ended by the next run of "
        "the machine.",
        "",
        f"The registry was sound after {sound} of {len(results.rounds)} rounds; {promoted} of "
        f"{len(good)} good rounds promoted their model: one after each broken round without a new "
        "champion, and one at the end. MLflow runs were open after "
        f"{f'the rounds {_listed(left)}' if left else 'no round'}, and after {open_good} of the "
        "good rounds.",
        "",
        "| round | what breaks | seen | exit | seconds | promoted | registry | open MLflow runs "
        "| message |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        *(_round(number, name, one) for number, (name, one) in enumerate(results.rounds)),
        "",
    ]
    path = TREE / "docs" / "results" / "ten_rounds.md"
    path.write_text("\n".join(lines), encoding="utf-8")


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))


def _revision() -> str:
    command = ["git", "-C", str(TREE), "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def _round(number: int, name: str, outcome: Outcome) -> str:
    return _row(
        str(number),
        name,
        outcome.evidence or "-",
        str(outcome.status),
        f"{outcome.seconds:.0f}",
        "yes" if outcome.is_promoted else "no",
        "; ".join(outcome.faults) or "sound",
        ", ".join(outcome.open_runs) or "none",
        outcome.message,
    )


def _row(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "/")[:_SHOWN] for cell in cells) + " |"


if __name__ == "__main__":
    main()
