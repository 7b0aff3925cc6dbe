"""Step 4: train the found architecture."""

from collections.abc import Mapping
from pathlib import Path

from components.steps.class_figures import mean_metrics
from components.steps.context_builder import StepCallbacks, StepInputs, load_context
from components.steps.device_processes import device_processes
from components.steps.finalists import move_members, train_winner
from components.steps.run_results import ensemble_metrics
from components.steps.runtime import Step, execute, read_config
from components.steps.state import fingerprint, read_json, write_json
from components.steps.trainings import train_together
from components.steps.transfer import with_transfer
from nascore.config import OBJECTIVES
from nascore.context import SearchContext
from nascore.errors import InputError, LossNotFiniteError
from nascore.results import SearchResult
from nascore.training.final_checkpoint import remove_final_checkpoints
from nascore.training.final_model import FinalModel


def run(
    *, run_key: str, dataset: Path, search_result: Path, weights: Path, model: Path
) -> dict[str, float]:
    """Write the model folder; the network is evaluated on the test split here, once."""
    config = read_config(dataset)
    given = {"dataset": dataset, "search_result": search_result, "weights": weights}

    def work(step: Step) -> dict[str, float]:
        inputs = StepInputs.of(step, dataset=dataset, controller=step.state, weights=weights)
        result = SearchResult.from_dict(read_json(search_result))
        epochs = config.train.epochs if result.reference is None else None
        context = load_context(step, inputs, _FinalCallbacks(step, epochs))
        kept = step.state / fingerprint(config, given)[:16]
        context = with_transfer(
            context,
            config,
            dataset,
            state=step.state,
            say=lambda text: step.progress("note", text=text),
        )
        with step.busy("training"), device_processes(inputs, "final"):
            if result.reference is not None:  # the champion is a standard network
                final = train_together(
                    context,
                    "reference",
                    name=result.reference["name"],
                    seconds=result.reference["seconds"],
                )
            else:
                final = _winner(step, context, result, kept)
        final.save(model)
        move_members(kept, model)
        remove_final_checkpoints(step.state)
        step.tracked.artifact(model / "model.json")
        step.tracked.params(_sources(final))
        write_json(model / "step.json", step.timing())
        return _metrics(final)

    return execute(
        "train_final",
        work,
        run_key=run_key,
        config=config,
        inputs=given,
        outputs={"model": model},
    )


def _winner(step: Step, context: SearchContext, result: SearchResult, kept: Path) -> FinalModel:
    try:
        return train_winner(step, context, result, kept)
    except LossNotFiniteError as error:
        message = (
            f"the final training diverged: {error}; set a lower rate, or training.max_grad_norm "
            "(5 is a start)"
        )
        raise InputError.of("train.lr", context.final.lr, message) from error


def _sources(final: FinalModel) -> dict[str, str]:
    """Return what the network has learned from besides its data, as parameters of the run."""
    found = {}
    if "weights" in final.transfer:
        weights = final.transfer["weights"]
        found["weights_source"], found["weights_sha256"] = weights["source"], weights["sha256"]
        found["weights_share"] = f"{weights['share']:.4f}"
    if "teacher" in final.transfer:
        teacher = final.transfer["teacher"]
        found["teacher_name"], found["teacher_identity"] = teacher["name"], teacher["identity"]
    return found


def _metrics(final: FinalModel) -> dict[str, float]:
    metrics = {
        "test_accuracy": final.test_accuracy,
        "valid_accuracy": final.valid_accuracy,
        "train_accuracy": final.train_accuracy,
        "num_params": float(final.num_params),
        "macs": float(final.macs),
        **mean_metrics(final),
    }
    if final.ensemble is not None:
        metrics |= ensemble_metrics(final.ensemble)
    if final.data_wait_share is not None:
        metrics["data_wait_share"] = final.data_wait_share
    return metrics


class _FinalCallbacks(StepCallbacks):
    """Reports the validation score after an epoch as progress, in addition to logging it.

    Args:
        step: the running step.
        epochs: of the training; None where it ends after a time.
    """

    def __init__(self, step: Step, epochs: int | None) -> None:
        super().__init__(step)
        self._epochs = epochs

    def on_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        super().on_metrics(metrics, step)
        config = self.step.config
        objective = config.search.objective
        score = metrics.get(f"final/valid_{objective}")
        if score is not None:
            self.step.progress(
                "epoch",
                epoch=step,
                of=self._epochs,
                valid_accuracy=score if objective == "accuracy" else None,
                score=score,
                figure=OBJECTIVES[objective],
            )
