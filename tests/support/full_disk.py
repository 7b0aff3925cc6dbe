"""A run whose disk gets full in one step: full_disk.py STEP FOLDER, below `unshare -m`.

Mounts a small tmpfs on FOLDER, which no other process sees, starts `nas run` in it, fills it as
soon as STEP has started, waits for the end, removes the filling and resumes the run. Prints JSON:
status and texts of both commands, and the seconds from the filling to the end of the first.
"""

import contextlib
import errno
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from field_commands import TINY

_SIZE_MB = 400
_TRIGGER_S = 150.0


def fill(path: Path) -> None:
    """Write until nothing fits any more, then down to the last bytes."""
    with open(path, "wb", buffering=0) as file:
        for size in (2**20, 2**12, 1):
            with contextlib.suppress(OSError):
                while file.write(b"0" * size):
                    pass
    assert path.stat().st_size > 2**20, errno.ENOSPC


def has_started(progress: Path, step: str) -> bool:
    if not progress.exists():
        return False
    lines = progress.read_text(errors="replace").splitlines()
    events = [json.loads(line) for line in lines if line.endswith("}")]
    kinds = ("child",) if step == "search" else ("started",)
    return any(event["step"] == step and event["event"] in kinds for event in events)


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "pipelines.cli", "run", *arguments, "--out", "r1"]


def main(step: str, folder: Path) -> dict[str, Any]:
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={_SIZE_MB}m", "tmpfs", str(folder)], check=True
    )
    settings = [*TINY, "promote.export_to=exported", "train.epochs=3"]
    first = subprocess.Popen(
        command(*[word for one in settings for word in ("--set", one)]),
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    end = time.monotonic() + _TRIGGER_S
    while not has_started(folder / "r1" / "progress.jsonl", step) and first.poll() is None:
        assert time.monotonic() < end, f"{step} does not start"
        time.sleep(0.01)
    fill(folder / "filling")
    start = time.monotonic()
    out, err = first.communicate(timeout=250)
    seconds = time.monotonic() - start
    (folder / "filling").unlink()
    again = subprocess.run(
        command("--resume"),
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    return {
        "status": first.returncode,
        "out": out,
        "err": err,
        "seconds": seconds,
        "resumed": again.returncode,
        "resumed_text": again.stdout + again.stderr,
        "has_result": (folder / "r1" / "result.json").exists(),
    }


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], Path(sys.argv[2]))))
