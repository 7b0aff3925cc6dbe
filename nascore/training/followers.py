"""Processes that train the children of a search together with the process that proposes them.

The first process of a group runs the search. `ImageTraining` announces each child to the others,
and all train it (`nascore.training.data_parallel`).
"""

from nascore.context import SearchContext
from nascore.errors import ChildFailedError
from nascore.training import distributed
from nascore.training.child import ChildJob, ImageTraining
from nascore.training.data_parallel import GroupStopped
from nascore.training.loop import TrainingStopped


def follow(context: SearchContext) -> None:
    """Train the children that the first process announces, until `dismiss` ends it."""
    training = ImageTraining()
    while (announced := distributed.receive()) is not None:
        job = ChildJob.announced(announced)
        try:
            training.train(context, job)
        except (ChildFailedError, GroupStopped, TrainingStopped):
            continue  # the first process records the reason


def dismiss() -> None:
    """End `follow` in the other processes."""
    distributed.send(None)
