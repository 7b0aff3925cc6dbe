"""Notes about tracking, for the log and for programs that display the progress."""

import contextlib
import json
import os
import sys

from nascore.steady_clock import since_epoch_s


def warn(text: str) -> None:
    """Write a warning to the log and to `NAS_PROGRESS_FILE`."""
    _write(f"warning: tracking: {text}", text)


def say(text: str) -> None:
    """Write a message that is no warning to the log and to `NAS_PROGRESS_FILE`."""
    _write(f"tracking: {text}", text)


def _write(logged: str, text: str) -> None:
    # On a full disk, which the step reports, neither file takes a line; the process goes on.
    with contextlib.suppress(OSError):
        print(logged, file=sys.stderr, flush=True)
    path = os.environ.get("NAS_PROGRESS_FILE")
    if path:
        line = {"time": since_epoch_s(), "step": "tracking", "event": "note", "text": text}
        with contextlib.suppress(OSError), open(path, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
