"""Results of the earlier steps of a run, as the promotion reads them."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
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
from nascore.reference.plan import CONTROL, FOUND
from nascore.results import SearchResult
from nascore.spaces.base import SearchSpace, make_space
from nascore.training.final_model import FinalModel

REFERENCES = "references.json"
"""Comparison with standard networks, in the output folder of `train_references`."""
SHIPPED = "model"
"""In the same folder: the network that is registered in place of the found one, if there is any."""
LATENCY = "latency.json"
"""Latency of that network, in its folder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """Artifacts of the earlier steps; a retraining trains no standard networks."""

    dataset: Path
    search_result: Path
    model: Path
    latency: Path
    references: Path | None = None

    @property
    def registered_latency(self) -> Path:
        """Return the file with the latency of the registered network."""
        if self.references is None or not (self.references / SHIPPED).exists():
            return self.latency
        return self.references / SHIPPED / LATENCY


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResults:
    """Everything that the earlier steps of a run have found.

    Attributes:
        latency: content of `latency.json`: a `LatencyResult`, and keys of some kinds of networks.
        timings: time of each earlier step by its name, in the order of the pipeline.
        retrains: whether this is the retraining pipeline.
        references: comparison with standard networks, content of `references.json`; None in a
            retraining.
        shipped: name of the network that `final` and `latency` are of.
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
    shipped: str = FOUND

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
    reference = search.get("reference")  # of the champion that is retrained
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
        shipped=FOUND if reference is None else reference["name"],
    )


def with_shipped(results: RunResults, inputs: Inputs) -> RunResults:
    """Return the results with the network that is registered in place of the found one.

    Its search result makes a later retraining train that network.
    """
    folder = None if inputs.references is None else inputs.references / SHIPPED
    if folder is None or not folder.exists():
        return results
    assert results.references is not None, "it was chosen by the comparison"
    name = results.references["recommendation"]["ship"]
    return replace(
        results,
        shipped=name,
        final=FinalModel.load(folder, results.space),
        latency=read_json(folder / LATENCY),
        search=_search_of(name, results.search, results.references["seconds"]),
    )


def _search_of(name: str, search: SearchResult, seconds: float) -> SearchResult:
    if name != CONTROL:
        return replace(search, reference={"name": name, "seconds": seconds})
    assert search.control is not None, "its network was compared"
    best = search.control.best
    assert best is not None, "its network was compared"
    assert best.scores is not None, "its network was compared"
    return replace(
        search,
        genotype=best.genotype,
        valid_accuracy=best.scores.valid_accuracy,
        valid_score=best.scores.valid_score,
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


def ensemble_metrics(ensemble: Mapping[str, Any]) -> dict[str, float]:
    """Return the metrics of the ensemble of finalists.

    Args:
        ensemble: `nascore.training.ensemble.EnsembleResult` as JSON.
    """
    keys = ("test_accuracy", "valid_accuracy", "num_params", "difference", "p_value")
    values = {f"ensemble_{key}": float(ensemble[key]) for key in keys}
    return {**values, "ensemble_latency_p50_ms": ensemble["latency"]["p50_ms"]}
