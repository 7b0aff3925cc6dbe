"""Step 2: what the method learns before any child is trained."""

from pathlib import Path

from components.steps.context_builder import load_task
from components.steps.runtime import Step, execute, read_config
from components.steps.state import write_json
from components.steps.study_checks import check_studies
from nascore.methods.registry import METHODS


def run(*, run_key: str, config: Path, dataset: Path, controller: Path) -> dict[str, float]:
    """Writes the controller folder; metrics are the method's own, such as held-out accuracies."""
    settings = read_config(config)

    def work(step: Step) -> dict[str, float]:
        task = load_task(settings, step, dataset=dataset, controller=controller)
        check_studies(settings, task.splits.info.data_sha256)
        controller.mkdir(parents=True, exist_ok=True)
        with step.busy("training"):
            metrics = METHODS[settings.method].load().pretrain(task)
        step.tracked.params({"method": settings.method, **settings.search.options})
        write_json(controller / "step.json", step.timing())
        return metrics

    return execute(
        "pretrain_controller",
        work,
        run_key=run_key,
        config=settings,
        inputs={"dataset": dataset},
        outputs={"controller": controller},
    )
