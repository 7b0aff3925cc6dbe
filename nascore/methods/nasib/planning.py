"""The plan of a search: what its budget allows, computed before any of it is spent."""

import dataclasses
import math
import tempfile
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from nascore.config import BudgetConfig
from nascore.context import Callbacks
from nascore.errors import InputError
from nascore.methods.common.one_shot_loop import available_seconds
from nascore.methods.nasib.budget_tracker import MEASURED_STEPS
from nascore.methods.nasib.random_control import control_steps
from nascore.methods.nasib.search import BudgetSearch, Context, space_of
from nascore.spaces.base import ImageShape
from nascore.spaces.superkernel.space import AXES, SuperkernelSpace


@dataclass(frozen=True, slots=True)
class BudgetPlan:
    """The plan of the method's arm.

    Attributes:
        steps: weight updates.
        seconds: of a budget of time, on one device; None for one of steps.
        step_s: seconds of a step in the warm-up, and after it; None for a budget of steps.
        warmup_steps: weight updates on uniform paths, at the start.
        decisions: updates of the distribution.
        epochs: passes of the weights over their half of the images.
        exploring_share: fraction of the budget after which no choice is uniform.
        exploring_steps: weight updates until then.
        exploration: probability of a uniform choice at the end of the warm-up.
        milestones: the steps after which each axis loses a value.
        candidates: operations of an edge that fit the images.
        dropped: a sentence about those that do not fit; empty when all do.
        control_steps: weight updates of the control at equal cost.
    """

    budget: str
    steps: int
    seconds: float | None
    step_s: tuple[float, float] | None
    warmup_steps: int
    decisions: int
    epochs: float
    num_images: int
    exploring_share: float
    exploring_steps: int
    exploration: float
    milestones: dict[str, tuple[int, ...]]
    candidates: float
    dropped: str
    control_steps: int

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def lines(self) -> list[str]:
        """Return the plan as lines of text."""
        pace = ""
        if self.step_s is not None:
            pace = f", {self.step_s[0]:.3g} s each in the warm-up and {self.step_s[1]:.3g} s after"
        lines = [
            f"budget       {self.budget}",
            f"steps        {self.steps:,} weight updates{pace}",
            f"warm-up      the first {self.warmup_steps:,} of them, on uniform paths",
            f"decisions    {self.decisions:,} updates of the distribution",
            f"epochs       {self.epochs:.3g} over half of {self.num_images:,} images; the other "
            "half trains the distribution",
            f"exploration  until {self.exploring_share:.0%} of the budget, step "
            f"{self.exploring_steps:,}; {self.exploration:.0%} of the choices at "
            "the end of the warm-up",
            f"candidates   {self.candidates:g} operations on an edge",
        ]
        lines += [
            f"milestones   {axis}: a value is dropped after step "
            + ", ".join(f"{step:,}" for step in steps)
            for axis, steps in self.milestones.items()
            if steps
        ]
        lines += [f"excluded     {self.dropped}"] if self.dropped else []
        return [*lines, f"control      {self.control_steps:,} updates along random architectures"]


def plan(context: Context) -> BudgetPlan:
    """Return what the budget of a search allows; a budget of time is measured on this machine.

    Raises:
        InputError: the budget is smaller than one step, or no convolution fits the images.
    """
    search = BudgetSearch(_rehearsal(context, context.search.budget, Path()))
    options, budget = context.options, context.search.budget
    share = options.schedule.warmup
    paces_s, seconds = None, None
    if budget.steps is not None:
        steps, warmup = budget.steps, math.ceil(share * budget.steps)
    else:
        paces_s, seconds = _measured(context), available_seconds(budget)
        warmup = int(share * seconds / paces_s[0])
        steps = warmup + int((1 - share) * seconds / paces_s[1])
        if steps < 1:
            raise InputError.of(
                f"search.budget.{budget.unit}",
                f"{budget.amount:g}",
                f"is smaller than one step, which takes {paces_s[0]:.2g} s here",
            )
    schedule = options.schedule.over(steps)
    place = partial(_place, warmup_share=share, warmup=warmup, steps=steps)
    return BudgetPlan(
        budget=f"{budget.amount:g} {budget.unit}",
        steps=steps,
        seconds=seconds,
        step_s=paces_s,
        warmup_steps=warmup,
        decisions=steps - warmup,
        epochs=steps / search.halves()[0].steps_per_epoch(options.weights),
        num_images=context.splits.train.num_images,
        exploring_share=schedule.exploring_share,
        exploring_steps=place(schedule.exploring_share),
        exploration=schedule.exploration(share),
        milestones={
            axis: tuple(map(place, schedule.milestones(size)))
            for axis, size in zip(AXES, space_of(context).axis_sizes, strict=True)
        },
        candidates=search.distribution.num_candidates(),
        dropped=excluded_text(space_of(context), context.shape),
        control_steps=control_steps(space_of(context), steps, share),
    )


def _place(share: float, *, warmup_share: float, warmup: int, steps: int) -> int:
    """Return the step at a fraction of the budget; steps of the warm-up may take less time."""
    if share < warmup_share:
        return math.ceil(share / warmup_share * warmup)
    return warmup + math.ceil((share - warmup_share) / (1 - warmup_share) * (steps - warmup) - 1e-9)


def _measured(context: Context) -> tuple[float, float]:
    """Return the seconds of a step in the warm-up, and after it, from a short search.

    Raises:
        InputError: the first step takes longer than the budget.
    """
    half = BudgetConfig(steps=2 * MEASURED_STEPS)
    with tempfile.TemporaryDirectory() as folder:
        search = BudgetSearch(_rehearsal(context, half, Path(folder), warmup=0.5))
        search.run()
    first, second = search.clock.paces_s
    return first, second


class _StopOnly(Callbacks):
    """Forwards requests to stop; reports nothing."""

    def __init__(self, callbacks: Callbacks) -> None:
        self._callbacks = callbacks

    def should_stop(self) -> bool:
        return self._callbacks.should_stop()


def _rehearsal(context: Context, budget: BudgetConfig, folder: Path, **schedule: float) -> Context:
    """Return the context of a search that reports nothing and leaves nothing behind."""
    options = context.options
    changed = options.schedule.model_copy(update=schedule)
    return dataclasses.replace(
        context,
        search=context.search.model_copy(update={"budget": budget}),
        options=options.model_copy(update={"schedule": changed}),
        state=folder,
        callbacks=_StopOnly(context.callbacks),
    )


def excluded_text(space: SuperkernelSpace, shape: ImageShape) -> str:
    """Return a sentence about the convolutions that are larger than the image; empty if none."""
    config = space.config
    too_far = [
        f"{size} with dilation {dilation}"
        for size in config.kernel_sizes
        for dilation in config.dilations
        if dilation * (size - 1) + 1 > shape.size
    ]
    if not too_far:
        return ""
    number = len(space.dropped(shape))
    return (
        f"{number} of {config.num_convolutions} convolutions are larger than the {shape.size} "
        f"pixels of an image and are excluded: those of size {', '.join(too_far)}"
    )
