"""Step 2: train what the method learns before any child is trained."""

from pathlib import Path

from components.steps.context_builder import StepInputs, load_context
from components.steps.runtime import Step, execute, read_config
from components.steps.state import write_json
from components.steps.study_checks import check_studies
from nascore.methods.registry import METHODS


def run(*, run_key: str, dataset: Path, controller: Path) -> dict[str, float]:
    """Write the controller folder.

    Returns:
        Metrics of the method, such as held-out accuracies.
    """
    config = read_config(dataset)

    def work(step: Step) -> dict[str, float]:
        context = load_context(step, StepInputs.of(step, dataset=dataset, controller=controller))
        check_studies(config, context.splits.info.data_sha256)
        controller.mkdir(parents=True, exist_ok=True)
        with step.busy("training"):
            metrics = METHODS[config.method].load().pretrain(context)
        options = config.search.options.model_dump(mode="json")
        step.tracked.params({"method": config.method, **options})
        write_json(controller / "step.json", step.timing())
        return metrics

    return execute(
        "pretrain_controller",
        work,
        run_key=run_key,
        config=config,
        inputs={"dataset": dataset},
        outputs={"controller": controller},
    )
