"""Progress file of a run (docs/architecture.md), to which its steps write events."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FIRST_STEP = "prepare_data"
STEPS = (
    FIRST_STEP,
    "pretrain_controller",
    "search",
    "train_final",
    "profile_latency",
    "train_references",
    "promote",
)


class ProgressFile:
    """Reads the complete lines that were added since the last read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._position = 0

    def new(self) -> Iterator[dict[str, Any]]:
        """Yield new events in order; an incomplete line of a killed process becomes a note."""
        if not self._path.exists():
            return
        with open(self._path, "rb") as file:
            file.seek(self._position)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                self._position += len(line)
                yield _event(line)


def _event(line: bytes) -> dict[str, Any]:
    try:
        event = json.loads(line)
    except ValueError:
        event = None
    if isinstance(event, dict) and {"step", "event", "time"} <= event.keys():
        return event
    shown = line.decode(errors="replace").strip()[:60]
    text = f"unreadable line in the progress file: {shown}"
    return {"time": 0.0, "step": "progress", "event": "note", "text": text}
