"""Step 4: train the winner."""

from pathlib import Path

from components.steps.class_figures import mean_metrics
from components.steps.context_builder import load_task
from components.steps.runtime import Step, execute, read_config
from components.steps.state import read_json, write_json
from nascore.config import OBJECTIVES
from nascore.methods.registry import METHODS
from nascore.results import Report, SearchResult
from nascore.training.final_model import FinalModel


def run(
    *, run_key: str, config: Path, dataset: Path, search_result: Path, weights: Path, model: Path
) -> dict[str, float]:
    """Writes the model folder; the test split is judged here, once."""
    settings = read_config(config)

    def work(step: Step) -> dict[str, float]:
        task = load_task(
            settings,
            step,
            dataset=dataset,
            controller=step.state,
            report=_reporter(step),
            weights=weights,
        )
        result = SearchResult.from_dict(read_json(search_result))
        with step.busy("training"):
            final = METHODS[settings.method].load().train_final(task, result)
        final.save(model)
        step.tracked.artifact(model / "model.json")
        write_json(model / "step.json", step.timing())
        return {
            "test_accuracy": final.test_accuracy,
            "valid_accuracy": final.valid_accuracy,
            "train_accuracy": final.train_accuracy,
            "num_params": float(final.num_params),
            "macs": float(final.macs),
            **mean_metrics(final),
            **_waiting(final),
        }

    return execute(
        "train_final",
        work,
        run_key=run_key,
        config=settings,
        inputs={"dataset": dataset, "search_result": search_result, "weights": weights},
        outputs={"model": model},
    )


def _waiting(final: FinalModel) -> dict[str, float]:
    """The share of time that the training waited for its images, where it was measured."""
    share = final.data_wait_share
    return {} if share is None else {"data_wait_share": share}


def _reporter(step: Step) -> Report:
    """Metrics go to the step's run; the score after an epoch is progress as well."""

    def report(metrics: dict[str, float], number: int) -> None:
        step.tracked.metrics(metrics, number)
        objective = step.config.search.objective
        score = metrics.get(f"final/valid_{objective}")
        if score is not None:
            accuracy = score if objective == "accuracy" else None
            step.progress(
                "epoch",
                epoch=number,
                of=step.config.train.epochs,
                valid_accuracy=accuracy,
                score=score,
                figure=OBJECTIVES[objective],
            )

    return report
