"""Time until `nas run` and `nas retrain` report an error that waiting does not mend.

    python benchmarks/final_refusals.py [--priority -15]

On MLflow on PostgreSQL and S3 (SeaweedFS), with a champion. Commands and services run at a raised
priority, which needs root, so that other programs of the machine count little; processor time is
measured too. Writes docs/results/final_refusals.md.
"""

import argparse
import contextlib
import os
import platform
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

TREE = Path(__file__).parent.parent
sys.path[:0] = [str(TREE), str(TREE / "tests" / "support")]

import psutil  # noqa: E402
from broken_rounds import World  # noqa: E402
from real_world import real_world  # noqa: E402
from refused_worlds import Refusal, refusals  # noqa: E402

_LIMIT_S = 15
_POLL_S = 0.3
_SHOWN = 200  # characters of a message


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--priority", type=int, default=-15, help="as of nice(1)")
    arguments = parser.parse_args()
    with contextlib.suppress(PermissionError):  # it leads a session already
        os.setsid()
    found: list[Refusal] = []
    with real_world(TREE, seed=0) as world:
        keeping = (world, arguments.priority)
        threading.Thread(target=_keep_priority, args=keeping, daemon=True).start()
        assert world.retrain().is_promoted
        for one in refusals(world):
            found.append(one)
            print(_row(one), flush=True)
            _write(found, arguments.priority)


def _keep_priority(world: World, priority: int) -> None:
    """Set the priority of this session, of those of the services, and of those of each command.

    Linux shares the processors among sessions (autogroups), so that `nice` counts within one only.
    """
    database = {"-p", str(world.services.postgres.port)}  # has left its parent
    every = psutil.process_iter(["cmdline"])
    raised = [one for one in every if database <= set(one.info["cmdline"] or ())]
    known: set[int] = set()
    while True:
        for one in (psutil.Process(), *raised, *psutil.Process().children(recursive=True)):
            if one.pid not in known:
                known.add(one.pid)
                with contextlib.suppress(OSError):  # it has ended
                    Path(f"/proc/{one.pid}/autogroup").write_text(str(priority))
        time.sleep(_POLL_S)


def _write(found: list[Refusal], priority: int) -> None:
    late = sum(one.seconds >= _LIMIT_S for one in found)
    costly = sum(one.cpu_s >= _LIMIT_S for one in found)
    wrong = sum(one.status != 2 or one.has_trained for one in found)
    load = ", ".join(f"{one:.1f}" for one in os.getloadavg())
    command = ["git", "-C", str(TREE), "rev-parse", "--short", "HEAD"]
    revision = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    lines = [
        "# Time until a final error is reported",
        "",
        f"{datetime.now(UTC):%Y-%m-%d}, revision {revision}, "
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores. Renewed by",
        "",
        "    python benchmarks/final_refusals.py",
        "",
        "From the start of the command to its end, and the processor time (user and system) of all "
        f"its processes. Their sessions and those of the services had priority {priority}, since "
        "other programs used the machine at the same time: load averages of 1, 5 and 15 minutes "
        f"{load}.",
        "",
        f"Of {len(found)} commands, {late} took {_LIMIT_S} s or more, {costly} used that much "
        f"processor time, and {wrong} trained anything or had another exit status than 2.",
        "",
        "| world | command | exit | seconds | processor seconds | trained | message |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        *map(_row, found),
        "",
    ]
    path = TREE / "docs" / "results" / "final_refusals.md"
    path.write_text("\n".join(lines), encoding="utf-8")


def _row(one: Refusal) -> str:
    cells = (
        one.world,
        f"nas {one.command}",
        str(one.status),
        f"{one.seconds:.1f}",
        f"{one.cpu_s:.1f}",
        "yes" if one.has_trained else "no",
        one.message,
    )
    return "| " + " | ".join(cell.replace("|", "/")[:_SHOWN] for cell in cells) + " |"


if __name__ == "__main__":
    main()
