"""Parts of the Markdown descriptions of MLflow runs (tag `mlflow.note.content`)."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from components.config.schema import Config
from components.tracking.datasets import CONTEXTS, data_name, digest_of
from nascore.redaction import redact

if TYPE_CHECKING:
    from nascore.data.prepared import DatasetInfo

NOTE = "mlflow.note.content"
"""Tag that the UI shows as the description of a run."""

_STEPS = {
    "prepare_data": "Resolves the configuration, checks the data and splits it.",
    "pretrain_controller": "Trains what the method learns before any child is trained.",
    "search": "Trains children and keeps the best architecture.",
    "review": "Compares new data with the champion's, and decides whether to search again.",
    "reuse": "Passes the architecture of the champion to the final training.",
    "train_final": "Trains the found architecture, and tests it once.",
    "profile_latency": "Measures the latency of the trained network.",
    "promote": "Registers the model, and decides whether it becomes champion.",
}


def step_note(step: str, config: Config) -> str:
    """Return the description of a step's run."""
    what = _STEPS.get(step, f"Step `{step}`.")
    return f"{what} Step `{step}` of {heading(config).rstrip('.')}."


def start_note(config: Config, info: "DatasetInfo") -> str:
    """Return the description of a pipeline's run whose data is prepared."""
    return "\n\n".join([heading(config), "No result yet.", table(rows_of_data(info))])


def heading(config: Config) -> str:
    """Return a sentence with method, search space, data and budget."""
    budget = config.search.budget
    return (
        f"Architecture search with **{config.method}** in the space {config.search.space.name} on "
        f"**{escaped(data_name(config.data.source))}**, budget {budget.amount:g} {budget.unit}, "
        f"seed {config.seed}."
    )


def rows_of_data(info: "DatasetInfo") -> dict[str, str]:
    """Return rows of a table about prepared data."""
    sizes = (
        f"{getattr(info, f'num_{split}'):,} {context} (digest {digest_of(info, split)})"
        for split, context in CONTEXTS.items()
    )
    shape = f"{info.channels} x {info.size} x {info.size} pixels, {len(info.classes)} classes"
    return {"data": f"`{redact(info.source)}`: {shape}", "images": ", ".join(sizes)}


def table(rows: Mapping[str, str]) -> str:
    """Return a Markdown table of two columns."""
    lines = [f"| {name} | {_cell(value)} |" for name, value in rows.items()]
    return "\n".join(["| | |", "| --- | --- |", *lines])


def escaped(text: str) -> str:
    """Return a text in which no character is Markdown."""
    return "".join(f"\\{letter}" if letter in r"\`*_[]<>|#" else letter for letter in text)


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
