"""Warnings about tracking, for the log and for programs that display the progress."""

import json
import os
import sys
import time


def warn(text: str) -> None:
    """Write a warning to the log and to `NAS_PROGRESS_FILE`."""
    print(f"warning: tracking: {text}", file=sys.stderr, flush=True)
    path = os.environ.get("NAS_PROGRESS_FILE")
    if path:
        line = {"time": time.time(), "step": "tracking", "event": "note", "text": text}
        with open(path, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
