"""The folder that `pretrain` fills for `search`: `controller.json` and the method's own files."""

import json
from collections.abc import Mapping
from pathlib import Path

from nascore.context import SearchContext

CARD = "controller.json"
_VERSION = 1


def write_card(context: SearchContext, metrics: Mapping[str, float]) -> None:
    """Write the metrics of a pre-training; `seconds` is what it has cost."""
    card = {"version": _VERSION, "method": context.method, "metrics": dict(metrics)}
    (context.controller / CARD).write_text(json.dumps(card))


def seconds_of(controller: Path) -> float:
    """Return the wall seconds that the pre-training has cost."""
    return float(json.loads((controller / CARD).read_text())["metrics"]["seconds"])
