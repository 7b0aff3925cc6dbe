"""Trainings that the processes of a group do together, by what the first of them asks for.

`train_together` trains alone where there is no group (`components.steps.device_processes`).
"""

import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from nascore.context import SearchContext
from nascore.errors import ChildFailedError
from nascore.methods.registry import METHODS
from nascore.results import SearchResult
from nascore.training import distributed
from nascore.training.child import CHILD, ChildJob, ImageTraining
from nascore.training.data_parallel import GroupStopped
from nascore.training.ensemble import with_finalists
from nascore.training.final_model import train_from_scratch
from nascore.training.loop import TrainingStopped

Values = Mapping[str, Any]


def train_together(context: SearchContext, what: str, **values: Any) -> Any:
    """Train with all processes of the group, and return what the training returns.

    Args:
        context: of the step.
        what: a key of `TRAININGS`.
        values: what it needs, as JSON.
    """
    distributed.send({"what": what, **values})
    return TRAININGS[what](context, values)


def follow(context: SearchContext) -> None:
    """Train what the first process asks for, until `dismiss`; the results are those of the first.

    Args:
        context: equal to that of the first process, without its callbacks.
    """
    while (asked := distributed.receive()) is not None:
        # The first process reports why a training has ended early.
        with contextlib.suppress(ChildFailedError, GroupStopped, TrainingStopped):
            TRAININGS[asked["what"]](context, asked)


def dismiss() -> None:
    """End `follow` in the other processes."""
    distributed.send(None)


def _child(context: SearchContext, values: Values) -> Any:
    return ImageTraining().train(context, ChildJob.announced(values))


def _winner(context: SearchContext, values: Values) -> Any:
    result = SearchResult.from_dict(values["result"])
    if "finalists" in values:
        context = with_finalists(context, Path(values["finalists"]))
    return METHODS[context.method].load().train_final(context, result)


def _control(context: SearchContext, values: Values) -> Any:
    return train_from_scratch(context, SearchResult.from_dict(values["result"]))


def _reference(context: SearchContext, values: Values) -> Any:
    from nascore.reference.training import train_reference  # torchvision, which others need not

    return train_reference(context, values["name"], seconds=values["seconds"])


def _reference_epochs(context: SearchContext, values: Values) -> Any:
    from nascore.reference.training import epochs_within

    return epochs_within(context, values["name"], values["seconds"])


TRAININGS: Mapping[str, Callable[[SearchContext, Values], Any]] = {
    CHILD: _child,
    "winner": _winner,
    "control": _control,
    "reference": _reference,
    "reference epochs": _reference_epochs,
}
"""Functions of the context and of values as JSON, which do the same in all processes."""
