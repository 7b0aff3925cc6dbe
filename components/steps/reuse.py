"""Retraining without a search: the architecture of the champion goes to the final training."""

from pathlib import Path

from components.steps.runtime import Step, execute, read_config
from components.steps.state import read_json, write_json
from components.tracking import lineage
from components.tracking.run_description import NOTE, ReusedArchitecture, start_note
from nascore.data.prepared import DatasetInfo


def run(
    *,
    run_key: str,
    dataset: Path,
    review: Path,
    search_result: Path,
    weights: Path,
) -> dict[str, float]:
    """Write the search that found the champion as `search_result`; leave `weights` empty.

    The run gets the method of that search, which may be another one than that of the configuration.
    """

    def work(step: Step) -> dict[str, float]:
        reviewed = read_json(review)
        search, version = reviewed["search"], reviewed["champion_version"]
        reused = ReusedArchitecture(version, search["method"])
        note = start_note(step.config, DatasetInfo.load(dataset), reused)
        step.parent.tags({lineage.METHOD: reused.method, NOTE: note})
        timing = {**step.timing(), "name": "search"}
        pretraining = {**timing, "name": "pretrain_controller"}
        found = {**search, "reused_version": version}
        write_json(search_result, {**found, "step": timing, "pretraining": pretraining})
        weights.mkdir(parents=True, exist_ok=True)
        return {"valid_accuracy": search["valid_accuracy"]}

    return execute(
        "reuse",
        work,
        run_key=run_key,
        config=read_config(dataset),
        inputs={"dataset": dataset, "review": review},
        outputs={"search_result": search_result, "weights": weights},
    )
