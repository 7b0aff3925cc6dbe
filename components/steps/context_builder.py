"""Builds the context of a method from the artifacts of a step."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from components.config.schema import Config
from components.steps.runtime import Step
from components.steps.s3_source import open_remote
from components.tracking.datasets import CONTEXTS, inputs_of
from nascore.context import NO_CALLBACKS, Callbacks, SearchContext, device_of
from nascore.data.batches import Splits, load
from nascore.seeding import Seeds
from nascore.spaces.base import ImageShape, make_space
from nascore.training.network_kinds import Examples

_SPLITS_OF_STEPS = {
    "pretrain_controller": ("train", "valid"),
    "search": ("train", "valid"),
    "profile_latency": ("test",),
    "promote": ("test",),
}
"""Splits that steps use; the others use all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepInputs:
    """Input of a step that runs a part of a method.

    Attributes:
        dataset: folder of the prepared data.
        controller: folder in which `pretrain` stores what `search` loads.
        state: folder that outlives the process, for the study and checkpoints.
        run_key: names the study of the run in a database that many runs share.
        weights: folder in which `search` stores the weights from which `train_final` starts.
    """

    config: Config
    dataset: Path
    controller: Path
    state: Path
    run_key: str
    weights: Path | None = None

    @classmethod
    def of(
        cls, step: Step, *, dataset: Path, controller: Path, weights: Path | None = None
    ) -> "StepInputs":
        """Return the input of a step that works in its own state folder."""
        return cls(
            config=step.config,
            dataset=dataset,
            controller=controller,
            state=step.state,
            run_key=step.run_key,
            weights=weights,
        )


class StepCallbacks(Callbacks):
    """Sends the events of a method to the progress and to the MLflow run of its step."""

    def __init__(self, step: Step) -> None:
        self.step = step

    def on_progress(self, arm: str, fraction: float) -> None:
        """Report the completed fraction of the training of shared weights."""
        self.step.progress("share", arm=arm, share=round(fraction, 3))

    def on_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Log metrics to the run of the step."""
        self.step.tracked.metrics(metrics, step)

    def on_message(self, text: str) -> None:
        """Report a sentence for the user."""
        self.step.progress("note", text=text)

    def should_stop(self) -> bool:
        """Return whether SIGTERM has asked the step to stop."""
        return self.step.should_stop()


def load_context(
    step: Step, inputs: StepInputs, callbacks: Callbacks | None = None
) -> SearchContext:
    """Return the context of a step, and count the time of reading the data as `data`.

    Args:
        step: the running step.
        inputs: its input.
        callbacks: receives the events of the method; `StepCallbacks` by default.
    """
    with step.busy("data"):
        context = build_context(inputs, callbacks or StepCallbacks(step))
    _track_inputs(step, context.splits)
    return context


def build_context(
    inputs: StepInputs,
    callbacks: Callbacks = NO_CALLBACKS,
    *,
    is_secondary_worker: bool = False,
) -> SearchContext:
    """Read the data and return the context of a method.

    Args:
        inputs: configuration, folders and key of the run.
        callbacks: receives the events of the method.
        is_secondary_worker: another process runs the same search and waits for its last child.
    """
    config = inputs.config
    training = config.training.for_objective(config.search.objective)
    remote = open_remote(config, trusted=True)
    splits = load(inputs.dataset, device_of(training), remote)
    splits = replace(splits, train=splits.train.balanced(training))
    info = splits.info
    options = config.search.options
    return SearchContext(
        method=config.method,
        seeds=Seeds(config.seed),
        space=make_space(config.search.space),
        splits=splits,
        shape=ImageShape(info.channels, info.size, options.num_classes(info.classes)),
        search=config.search,
        final=training.resolve(config.train),
        options=options,
        controller=inputs.controller,
        state=inputs.state,
        callbacks=callbacks,
        run_key=inputs.run_key,
        is_secondary_worker=is_secondary_worker,
        weights=inputs.weights,
        latency=config.latency,
        training=training,
    )


def load_splits(step: Step, dataset: Path) -> Splits:
    """Return the prepared data on the CPU, and count the time of reading it as `data`."""
    with step.busy("data"):
        remote = open_remote(step.config, trusted=True)
        splits = load(dataset, torch.device("cpu"), remote)
    _track_inputs(step, splits)
    return splits


def _track_inputs(step: Step, splits: Splits) -> None:
    """Log the splits that a step uses as dataset inputs of its MLflow run."""
    step.tracked.inputs(inputs_of(splits.info, _SPLITS_OF_STEPS.get(step.name, tuple(CONTEXTS))))


def examples_of(splits: Splits, config: Config) -> Examples:
    """Return the data on which the trained network of a run is measured and exported."""
    options = config.search.options
    return Examples(splits, options, Seeds(config.seed))
