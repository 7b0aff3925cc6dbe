"""A search within a budget in processes that die: killed_nasib.py FOLDER DATA DEATH...

A DEATH is wN or dN: SIGKILL in the N-th update (from 0) of the weights or of the distribution,
after its gradient and before it is done; sN: SIGKILL when the N-th checkpoint is about to take its
place; tN: SIGTERM in the N-th update of the weights, upon which the search is to end by itself. One
more process goes on to the end and writes FOLDER/outcome.json. Prints for each process its exit
status, and the architecture that is found on the disk at once: its space and its tokens.
"""

import dataclasses
import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch._dynamo  # otherwise loaded by every process for its optimiser
from callbacks import CallbacksOf
from killed_search import die, die_again_and_again, die_in_save
from nasib_tasks import make_task

from nascore.config import BudgetConfig
from nascore.methods.common import one_shot_loop
from nascore.methods.common.controller_folder import CARD
from nascore.methods.common.one_shot_loop import checkpoint_path
from nascore.methods.common.weight_updates import WeightUpdates
from nascore.methods.nasib import method
from nascore.methods.nasib import search as budget_search
from nascore.methods.nasib.updates import LogitUpdates

STEPS = 30
STOP = threading.Event()


def in_update(updates: type[Any], number: int, act: Callable[[], None]) -> None:
    """Acts in the N-th update of the method's arm that this search makes, over all processes."""
    real = updates.step
    searches: list[budget_search.BudgetSearch] = []
    init = budget_search.BudgetSearch.__init__

    def remember(self: budget_search.BudgetSearch, task: Any, arm: str = "method") -> None:
        init(self, task, arm)
        if arm == "method":
            searches.append(self)

    def step(self: Any, *arguments: Any, **more: Any) -> Any:
        mine = [one for one in searches if self in (one._weights, one._logits)]
        if mine:
            at = mine[0].step if updates is WeightUpdates else mine[0].decisions
            if at == number:
                sgd = self._sgd if updates is WeightUpdates else self._adam
                update = sgd.step
                sgd.step = lambda: (act(), update())
        return real(self, *arguments, **more)

    budget_search.BudgetSearch.__init__ = remember  # type: ignore[method-assign]
    updates.step = step


def arrange(death: str) -> None:
    kind, number = death[0], int(death[1:])
    if kind == "s":
        die_in_save(number)
    elif kind == "d":
        in_update(LogitUpdates, number, die)
    elif kind == "w":
        in_update(WeightUpdates, number, die)
    else:
        signal.signal(signal.SIGTERM, lambda signum, frame: STOP.set())
        in_update(WeightUpdates, number, lambda: os.kill(os.getpid(), signal.SIGTERM))


def search(folder: Path, data: Path, death: str | None) -> None:
    if death is not None:
        arrange(death)
    task = make_task(folder, data, budget=BudgetConfig(steps=STEPS), control=True)
    task = dataclasses.replace(task, callbacks=CallbacksOf(should_stop=STOP.is_set))
    if not (task.controller / CARD).exists():
        before = dataclasses.replace(task, state=folder / "pretraining")
        before.state.mkdir(exist_ok=True)
        method.pretrain(before)
        if STOP.is_set():
            (task.controller / CARD).unlink()  # as a step that was stopped is not done
            return
    result = method.search(task)
    if STOP.is_set():
        (folder / "stopped.json").write_text(json.dumps(result.genotype.to_dict()))
        return
    assert result.control is not None
    outcome = {
        "genotype": result.genotype.tokens,
        "children": [
            [child.genotype.tokens, child.valid_accuracy]
            for arm in (result.arm, result.control)
            for child in arm.children
        ],
    }
    (folder / "outcome.json").write_text(json.dumps(outcome))


def found(folder: Path) -> str:
    """What the files say after the end of a process, by a reader that knows nothing else."""
    for state in ("state", "pretraining"):
        if checkpoint_path(folder / state).exists():
            genotype = budget_search.best_so_far(folder / state)
            return json.dumps(genotype.to_dict())
    return "nothing"


if __name__ == "__main__":
    torch.set_num_threads(1)
    one_shot_loop.CHECKPOINT_EVERY_S = 0.0
    at, data, *deaths = sys.argv[1:]

    def work(death: str | None) -> None:
        search(Path(at), Path(data), death)

    for death in [*deaths, None]:
        die_again_and_again(work, [] if death is None else [death], last=death is None)
        print(found(Path(at)), flush=True)
