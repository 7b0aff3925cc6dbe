"""From a step's artifacts to the task that a method works on."""

from pathlib import Path

from components.config import Config
from components.steps.running import Step
from nascore.data.batches import load
from nascore.methods import METHODS
from nascore.results import Child, Report
from nascore.seeding import Seeds
from nascore.spaces import ImageShape, make_space
from nascore.task import Task, device_of, ignore_child


def load_task(
    config: Config,
    step: Step,
    *,
    dataset: Path,
    controller: Path,
    on_child: object = None,
) -> Task:
    """Loads the data and puts together what the method needs; counts as loading data."""
    with step.busy("data"):
        splits = load(dataset, device_of(config.search.child))
    info = splits.info
    return Task(
        method=config.method,
        seeds=Seeds(config.seed),
        space=make_space(config.search.space),
        splits=splits,
        shape=ImageShape(info.channels, info.size, len(info.classes)),
        search=config.search,
        final=config.train,
        options=METHODS[config.method].options.model_validate(config.search.options),
        controller=controller,
        state=step.state,
        report=batching_report(step),
        on_child=ignore_child if on_child is None else on_child,  # type: ignore[arg-type]
        should_stop=step.should_stop,
    )


def batching_report(step: Step) -> Report:
    def report(metrics: dict[str, float], number: int) -> None:
        step.tracked.metrics(metrics, number)

    return report


__all__ = ["Child", "load_task"]
