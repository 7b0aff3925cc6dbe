"""From a step's artifacts to the task that a method works on."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from components.config.schema import Config
from components.steps.runtime import Step
from components.steps.s3_source import open_remote
from nascore.context import (
    Task,
    device_of,
    ignore_child,
    ignore_metrics,
    ignore_note,
    ignore_share,
    never_stop,
)
from nascore.data.batches import load
from nascore.meta_learning.options import FewShotOptions
from nascore.methods.registry import METHODS
from nascore.results import Child, Report
from nascore.seeding import Seeds
from nascore.spaces.base import ImageShape, make_space

OnChild = Callable[[str, Child], None]


def load_task(
    config: Config,
    step: Step,
    *,
    dataset: Path,
    controller: Path,
    report: Report | None = None,
    on_child: OnChild = ignore_child,
    weights: Path | None = None,
) -> Task:
    """The task of a step; reading the data counts as loading data.

    Args:
        report: takes the method's metrics; the step's run when not given.
    """
    with step.busy("data"):
        return build_task(
            config,
            dataset=dataset,
            controller=controller,
            state=step.state,
            run_key=step.run_key,
            report=step.tracked.metrics if report is None else report,
            on_child=on_child,
            on_share=lambda arm, share: step.progress("share", arm=arm, share=round(share, 3)),
            on_note=lambda text: step.progress("note", text=text),
            should_stop=step.should_stop,
            weights=weights,
        )


def build_task(
    config: Config,
    *,
    dataset: Path,
    controller: Path,
    state: Path,
    run_key: str,
    report: Report = ignore_metrics,
    on_child: OnChild = ignore_child,
    on_share: Callable[[str, float], None] = ignore_share,
    on_note: Callable[[str], None] = ignore_note,
    should_stop: Callable[[], bool] = never_stop,
    is_helper: bool = False,
    weights: Path | None = None,
) -> Task:
    """Loads the data and puts together what the method needs; see `nascore.context.Task`."""
    remote = open_remote(config.data, trusted=True)
    splits = load(dataset, device_of(config.search.child), remote)
    splits = replace(splits, train=splits.train.balanced(config.training))
    info = splits.info
    options = METHODS[config.method].options.model_validate(config.search.options)
    num_classes = options.num_classes if isinstance(options, FewShotOptions) else len(info.classes)
    return Task(
        method=config.method,
        seeds=Seeds(config.seed),
        space=make_space(config.search.space),
        splits=splits,
        shape=ImageShape(info.channels, info.size, num_classes),
        search=config.search,
        final=config.train,
        options=options,
        controller=controller,
        state=state,
        report=report,
        on_child=on_child,
        on_share=on_share,
        on_note=on_note,
        should_stop=should_stop,
        run_key=run_key,
        is_helper=is_helper,
        weights=weights,
        latency=config.latency,
        balance=config.training,
    )
