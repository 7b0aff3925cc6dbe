"""Retraining without a search: the architecture of the champion goes to the final training."""

from pathlib import Path

from components.steps.runtime import Step, execute, read_config
from components.steps.state import read_json, write_json


def run(
    *,
    run_key: str,
    dataset: Path,
    review: Path,
    search_result: Path,
    weights: Path,
) -> dict[str, float]:
    """Write the search that found the champion as `search_result`; leave `weights` empty."""

    def work(step: Step) -> dict[str, float]:
        search = read_json(review)["search"]
        timing = {**step.timing(), "name": "search"}
        pretraining = {**timing, "name": "pretrain_controller"}
        write_json(search_result, {**search, "step": timing, "pretraining": pretraining})
        weights.mkdir(parents=True, exist_ok=True)
        return {"valid_accuracy": search["valid_accuracy"]}

    return execute(
        "reuse",
        work,
        run_key=run_key,
        config=read_config(dataset),
        inputs={"review": review},
        outputs={"search_result": search_result, "weights": weights},
    )
