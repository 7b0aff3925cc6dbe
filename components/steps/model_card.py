"""The model card of a run: what the model is, what was measured of it, and its limits.

Markdown, made from `result.json` and `latency.json` alone, so that it can be made again from the
exported files of a run: `python -m components.steps.model_card FOLDER`. The whole card is exported
next to the model and logged to the run; the description of the model version in the registry is the
card, cut to the limit of the server.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from components.export.manifest import LATENCY, RESULT
from components.steps import card_sections as sections
from components.steps.card_sections import Result
from components.steps.ensemble_section import section as ensemble_section
from components.steps.int8_section import section as int8_section
from components.steps.reference_section import references, with_registered
from nascore.redaction import redact

MAX_DESCRIPTION = 5000
"""Bytes of a description that every database of MLflow takes: its column is VARCHAR(5000), which
PostgreSQL and MySQL count in characters and others in bytes; SQLite does not check it."""
_TITLE = "\n## "


def model_card(result: Result, latency: Mapping[str, Any]) -> str:
    """Return the model card.

    Args:
        result: content of `result.json`.
        latency: content of `latency.json`.
    """
    _, name, version = result["model_uri"].split("/")
    contents = {
        "Task": sections.task(result),
        "How to load": sections.load(result),
        "Results": sections.accuracy(result),
        "Latency": sections.latency(latency),
        "Network in int8": int8_section(result),
        "Search and verdict": sections.search(result),
        "Standard networks": references(result),
        "Ensemble of the finalists": ensemble_section(result),
        "Promotion": sections.promotion(result),
        "Limits": sections.limits(result),
        "Links": sections.links(result),
        "Input": sections.model_input(result),
        "Architecture": sections.architecture(result),
        "Data": sections.data(result),
        "Training": sections.training(result),
        "Results of each class": sections.classes(result),
    }
    lines = [f"# {name}, version {version}"]
    for title, content in contents.items():
        if content:
            lines += ["", f"## {title}", "", *content]
    return redact("\n".join(lines)) + "\n"


def description(card: str, result: Result) -> str:
    """Return the card as the description of a model version, without sections that do not fit.

    Args:
        card: from `model_card`.
        result: content of `result.json`.
    """
    if _size(card) <= MAX_DESCRIPTION:
        return card
    title, *every = card.rstrip("\n").split(_TITLE)
    reserved = _size(_pointer(result, [section.partition("\n")[0] for section in every]))
    text, left_out = title, []
    for section in every:
        if _size(text + _TITLE + section) + reserved <= MAX_DESCRIPTION:
            text += _TITLE + section
        else:
            left_out.append(section.partition("\n")[0])
    return text + _pointer(result, left_out)


def card_of_folder(folder: Path) -> str:
    """Return the model card of a folder with `result.json` and `latency.json`."""
    result, latency = (json.loads((folder / name).read_text()) for name in (RESULT, LATENCY))
    return model_card(with_registered(result), latency)


def _pointer(result: Result, left_out: Sequence[str]) -> str:
    name, run = "MODEL_CARD.md", sections.address(result, "run")
    place = f"artifact `{name}` of run {result['tracking_run_id']}"
    where = f"[{name}]({run}/artifacts/{name})" if run else place
    return f"\n\nNot shown here: {', '.join(left_out)}. The whole card: {where}.\n"


def _size(text: str) -> int:
    return len(text.encode())


if __name__ == "__main__":
    sys.stdout.write(card_of_folder(Path(sys.argv[1])))
