"""Results of the earlier steps of a run, as the promotion reads them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.config.schema import Config
from components.steps.compiled import retrains
from components.steps.context_builder import load_splits
from components.steps.runtime import Step
from components.steps.state import read_json
from components.tracking.run_description import ReusedArchitecture
from nascore.data.batches import Splits
from nascore.latency.benchmark import LatencyResult
from nascore.results import SearchResult
from nascore.spaces.base import SearchSpace, make_space
from nascore.training.final_model import FinalModel

REFERENCES = "references.json"
"""Comparison with standard networks, in the output folder of `train_references`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """Artifacts of the earlier steps; a retraining trains no standard networks."""

    dataset: Path
    search_result: Path
    model: Path
    latency: Path
    references: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResults:
    """Everything that the earlier steps of a run have found.

    Attributes:
        latency: content of `latency.json`: a `LatencyResult`, and keys of some kinds of networks.
        timings: time of each earlier step by its name, in the order of the pipeline.
        retrains: whether this is the retraining pipeline.
        references: comparison with standard networks, content of `references.json`; None in a
            retraining.
        reused_version: version of the champion whose architecture was trained without a search;
            None after a search.
    """

    config: Config
    space: SearchSpace
    search: SearchResult
    final: FinalModel
    splits: Splits
    latency: Mapping[str, Any]
    timings: Mapping[str, Mapping[str, Any]]
    retrains: bool = False
    reused_version: str | None = None
    references: Mapping[str, Any] | None = None

    @property
    def measured(self) -> LatencyResult:
        """Return the latency of the network."""
        return LatencyResult.from_dict(dict(self.latency))

    @property
    def reused(self) -> ReusedArchitecture | None:
        """Return the architecture that was trained without a search; None after a search."""
        if self.reused_version is None:
            return None
        return ReusedArchitecture(self.reused_version, self.search.method)


def load_results(step: Step, inputs: Inputs) -> RunResults:
    """Read the artifacts of the earlier steps, and count the time of reading images as `data`."""
    config = step.config
    space = make_space(config.search.space)
    search, latency = read_json(inputs.search_result), read_json(inputs.latency)
    timings = [
        read_json(inputs.dataset / "step.json"),
        search["pretraining"],
        search["step"],
        read_json(inputs.model / "step.json"),
        latency["step"],
    ]
    references = None
    if inputs.references is not None:
        references = read_json(inputs.references / REFERENCES)
        timings.append(references["step"])
    return RunResults(
        config=config,
        space=space,
        search=SearchResult.from_dict(search),
        final=FinalModel.load(inputs.model, space),
        splits=load_splits(step, inputs.dataset),
        latency=latency,
        timings={timing["name"]: timing for timing in timings},
        retrains=retrains(inputs.dataset),
        reused_version=search.get("reused_version"),
        references=references,
    )


def reference_metrics(found: Mapping[str, Any]) -> dict[str, float]:
    """Return the metrics of the networks that were compared with the found one.

    Args:
        found: content of `references.json`.
    """
    rows = [*found["references"], *([found["control"]] if found["control"] else [])]
    return {
        f"reference.{row['name']}.{key}": float(row[key])
        for row in rows
        for key in ("test_accuracy", "valid_accuracy", "latency_ms", "params", "p_value")
    }
