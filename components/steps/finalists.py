"""Training of the finalists of a search, as an ensemble and as the teacher of the winner."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from components.steps.context_builder import StepCallbacks
from components.steps.runtime import Step
from components.steps.trainings import train_together
from nascore.config.transfer import FINALISTS
from nascore.context import SearchContext
from nascore.errors import ChildFailedError
from nascore.results import SearchResult
from nascore.training.ensemble import (
    FOLDER,
    MEMBERS,
    finalists,
    measured,
    save_members,
)
from nascore.training.final_model import FinalModel

_FIRST = "1"
"""Folder of the winner among the members."""


class _NoMetrics(StepCallbacks):
    """Reports no scores of epochs: those of the step are the winner's."""

    def on_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        pass


def train_winner(
    step: Step, context: SearchContext, result: SearchResult, kept: Path
) -> FinalModel:
    """Train the winner of a search, and the other finalists where the settings ask for them.

    Args:
        step: the running step.
        context: of the final training.
        result: of the search.
        kept: folder for trained members, which another try does not train again.

    Raises:
        ChildFailedError: the training of the winner failed.
        TrainingStopped: the step was asked to stop.
    """
    number = context.training.ensemble
    chosen = [] if number is None else finalists(result, context.space, number)
    if len(chosen) < 2:
        if number is not None:
            step.progress("note", text="no ensemble: the search has one finished architecture")
        return _winner(context, result)
    if context.training.teacher == FINALISTS:
        names = _members(step, context, [replace(result, genotype=one) for one in chosen], kept)
        final = _winner(context, result, finalists=str(kept))
    else:
        final = _winner(context, result)
        final.save(kept / _FIRST)
        names = _members(step, context, [replace(result, genotype=one) for one in chosen], kept)
    members = [FinalModel.load(kept / name, context.space) for name in names]
    found = measured(context, members, final)
    step.progress("note", text=str(found))
    return replace(final, ensemble=found.to_dict())


def move_members(kept: Path, model: Path) -> None:
    """Move the members of an ensemble, if there is one, to the folder of a model."""
    if (kept / MEMBERS).exists():
        shutil.copytree(kept, model / FOLDER, dirs_exist_ok=True)
        shutil.rmtree(kept)


def _winner(context: SearchContext, result: SearchResult, **values: str) -> FinalModel:
    final: FinalModel = train_together(context, "winner", result=result.to_dict(), **values)
    return final


def _members(
    step: Step, context: SearchContext, results: Sequence[SearchResult], kept: Path
) -> list[str]:
    """Train the members that are not there yet; return the names of their folders."""
    names = []
    quiet = replace(context, callbacks=_NoMetrics(step))
    for place, result in enumerate(results, start=int(_FIRST)):
        folder = kept / str(place)
        if not (folder / "model.json").exists():
            step.progress("note", text=f"training finalist {place} of {len(results)}")
            try:
                member: FinalModel = train_together(quiet, "control", result=result.to_dict())
            except ChildFailedError as error:
                step.progress("note", text=f"finalist {place} is left out: {error}")
                continue
            member.save(folder)
        names.append(folder.name)
    save_members(kept, names)
    return names
