"""Retraining in rounds, in each of which the world breaks in another way, on real services.

    python benchmarks/ten_rounds.py [--rounds 1 2 3] [--seed 0]

MLflow on PostgreSQL and S3 (SeaweedFS), studies in PostgreSQL, exported files in S3. After each
round the registry is examined. A round in which nothing is broken follows each that has promoted
nothing, and must promote.
Writes docs/results/ten_rounds.md.
"""

import argparse
import os
import platform
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

TREE = Path(__file__).parent.parent
sys.path[:0] = [str(TREE), str(TREE / "tests" / "support")]

import s3  # noqa: E402
from broken_rounds import BREAKS, GOOD, Outcome, World, rounds, variables  # noqa: E402
from postgres import Postgres  # noqa: E402
from services import Services  # noqa: E402

_SHOWN = 260  # characters of a message


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    every = range(1, len(BREAKS) + 1)
    parser.add_argument("--rounds", nargs="*", type=int, default=list(every), choices=every)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    breaks = tuple(BREAKS[number - 1] for number in arguments.rounds)
    postgres, store = Postgres(), s3.S3Server()
    home = Path(tempfile.mkdtemp(prefix="nas-rounds-"))
    home.chmod(0o755)
    outcomes: list[tuple[str, Outcome]] = []
    start = time.monotonic()
    try:
        postgres.create()
        store.start()
        services = Services(home, postgres, store)
        try:
            services.start()
            os.environ.update(variables(services))
            for name, outcome in rounds(World(services, seed=arguments.seed), breaks):
                outcomes.append((name, outcome))
                print(_row(len(outcomes) - 1, name, outcome), flush=True)
                _write(outcomes, arguments.seed, time.monotonic() - start)
        finally:
            services.mlflow.stop()
    finally:
        store.remove()
        postgres.remove()
    print(f"logs: {home}")


def _write(outcomes: list[tuple[str, Outcome]], seed: int, seconds: float) -> None:
    good = [one for name, one in outcomes if name == GOOD]
    sound = sum(not one.faults for _, one in outcomes)
    promoted = sum(one.is_promoted for one in good)
    lines = [
        "# Retraining while the world breaks",
        "",
        f"{datetime.now(UTC):%Y-%m-%d}, {platform.processor() or platform.machine()}, "
        f"{os.cpu_count()} cores, seed {seed}, {seconds / 60:.0f} min. Renewed by",
        "",
        "    python benchmarks/ten_rounds.py",
        "",
        "Each round is `nas retrain` on new data, with MLflow on PostgreSQL and S3 behind a "
        "password, studies in PostgreSQL and exported files in S3. The classes change their "
        "patterns from round to round, so the last champion is wrong about the new data. After "
        "each round the registry is examined: the alias points to a version that loads, the "
        "history is in order, each version has its tags and description, each run has ended.",
        "",
        f"The registry was sound after {sound} of {len(outcomes)} rounds; {promoted} of "
        f"{len(good)} good rounds, one after each broken round without a new champion and one at "
        "the end, promoted their model.",
        "",
        "| round | what breaks | exit | seconds | promoted | registry | message |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        *(_row(number, name, one) for number, (name, one) in enumerate(outcomes)),
        "",
    ]
    path = TREE / "docs" / "results" / "ten_rounds.md"
    path.write_text("\n".join(lines), encoding="utf-8")


def _row(number: int, name: str, outcome: Outcome) -> str:
    registry = "sound" if not outcome.faults else "; ".join(outcome.faults)
    cells = (
        str(number),
        name,
        str(outcome.status),
        f"{outcome.seconds:.0f}",
        "yes" if outcome.is_promoted else "no",
        registry,
        outcome.message,
    )
    return "| " + " | ".join(cell.replace("|", "/")[:_SHOWN] for cell in cells) + " |"


if __name__ == "__main__":
    main()
