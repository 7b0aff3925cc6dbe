"""Parts of the Markdown descriptions of MLflow runs (tag `mlflow.note.content`)."""

from collections.abc import Mapping
from dataclasses import dataclass
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
    "train_references": "Trains standard networks at the cost of the search, and compares them.",
    "promote": "Registers the model, and decides whether it becomes champion.",
}

_OF_SEARCH = ("pretrain_controller", "search")
"""Steps of a search; others may be of a retraining, which searches only if it must."""


@dataclass(frozen=True, slots=True)
class ReusedArchitecture:
    """The architecture of a champion that is trained on new data without a search.

    Attributes:
        version: of the champion.
        method: of the search that found the architecture.
    """

    version: str
    method: str


def step_note(step: str, config: Config) -> str:
    """Return the description of a step's run."""
    what = _STEPS.get(step, f"Step `{step}`.")
    if step in _OF_SEARCH:
        return f"{what} Step `{step}` of {heading(config).rstrip('.')}."
    return (
        f"{what} Step `{step}` of a run on **{escaped(data_name(config.data.source))}**, "
        f"seed {config.seed}."
    )


def start_note(
    config: Config, info: "DatasetInfo", reused: ReusedArchitecture | None = None
) -> str:
    """Return the description of a pipeline's run whose data is prepared."""
    return "\n\n".join([heading(config, reused), "No result yet.", table(rows_of_data(info))])


def heading(config: Config, reused: ReusedArchitecture | None = None) -> str:
    """Return a sentence with method, search space, data and budget.

    Args:
        config: of the run.
        reused: the architecture that a retraining trains without a search.
    """
    budget, data = config.search.budget, f"**{escaped(data_name(config.data.source))}**"
    if reused is not None:
        return (
            f"Retraining on {data}: the architecture of version {reused.version} was reused, which "
            f"a search with **{reused.method}** found in the space {config.search.space.name}; "
            f"seed {config.seed}."
        )
    return (
        f"Architecture search with **{config.method}** in the space {config.search.space.name} on "
        f"{data}, budget {budget.amount:g} {budget.unit}, seed {config.seed}."
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
