"""From a step's artifacts to the task that a method works on."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from components.config.schema import Config
from components.steps.runtime import Step
from components.steps.s3_source import open_remote
from nascore.context import (
    SearchContext,
    device_of,
    ignore_child,
    ignore_message,
    ignore_metrics,
    ignore_progress,
    never_stop,
)
from nascore.data.batches import Splits, load
from nascore.methods.registry import METHODS
from nascore.results import Child, Report
from nascore.seeding import Seeds
from nascore.spaces.base import ImageShape, make_space
from nascore.training.network_kinds import Examples

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
) -> SearchContext:
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
            on_progress=lambda arm, share: step.progress("share", arm=arm, share=round(share, 3)),
            on_message=lambda text: step.progress("note", text=text),
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
    on_progress: Callable[[str, float], None] = ignore_progress,
    on_message: Callable[[str], None] = ignore_message,
    should_stop: Callable[[], bool] = never_stop,
    is_secondary_worker: bool = False,
    weights: Path | None = None,
) -> SearchContext:
    """Loads the data and puts together what the method needs; see
    `nascore.context.SearchContext`."""
    remote = open_remote(config.data, trusted=True)
    splits = load(dataset, device_of(config.search.child), remote)
    splits = replace(splits, train=splits.train.balanced(config.training))
    info = splits.info
    options = METHODS[config.method].options.model_validate(config.search.options)
    return SearchContext(
        method=config.method,
        seeds=Seeds(config.seed),
        space=make_space(config.search.space),
        splits=splits,
        shape=ImageShape(info.channels, info.size, options.num_classes(info.classes)),
        search=config.search,
        final=config.train,
        options=options,
        controller=controller,
        state=state,
        report=report,
        on_child=on_child,
        on_progress=on_progress,
        on_message=on_message,
        should_stop=should_stop,
        run_key=run_key,
        is_secondary_worker=is_secondary_worker,
        weights=weights,
        latency=config.latency,
        balance=config.training,
    )


def examples_of(splits: Splits, config: Config) -> Examples:
    """Return what the trained network of a run is asked with."""
    options = METHODS[config.method].options.model_validate(config.search.options)
    return Examples(splits, options, Seeds(config.seed))
