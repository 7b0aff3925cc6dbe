"""A search of InstaNAS in processes that die: killed_instanas.py FOLDER DATA DEATH...

A DEATH is pN, dN or wN: in the N-th update (from 0) of the pre-training, of the controller or of
the meta-graph; or sN: the N-th checkpoint that is about to take its place. One more process goes
on to the end and writes FOLDER/outcome.json. Prints the exit status of each.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch._dynamo  # noqa: F401  # otherwise loaded by every process for its optimiser
from instanas_tasks import make_task
from killed_search import die, die_again_and_again, die_in_save

from nascore.methods.common import one_shot_loop
from nascore.methods.common.controller_folder import CARD
from nascore.methods.instanas import alternating_trainer, method, pretraining


def die_in_call(module: Any, name: str, number: int, count: Callable[[], int]) -> None:
    """In the middle of an update: after its random numbers were drawn, before it is done."""
    real = getattr(module, name)

    def dying(*arguments: Any, **more: Any) -> Any:
        if count() == number:
            die()
        return real(*arguments, **more)

    setattr(module, name, dying)


def arrange(death: str) -> None:
    kind, number = death[0], int(death[1:])
    arms: list[alternating_trainer.AlternatingTrainer] = []
    init = alternating_trainer.AlternatingTrainer.__init__

    def remember(
        self: alternating_trainer.AlternatingTrainer, task: Any, arm: str, *more: Any, **kw: Any
    ) -> None:
        if arm == "method":
            arms.append(self)
        init(self, task, arm, *more, **kw)

    alternating_trainer.AlternatingTrainer.__init__ = remember  # type: ignore[method-assign]
    if kind == "s":
        die_in_save(number)
    elif kind == "p":
        steps = iter(range(10**6))
        die_in_call(pretraining, "learning_rate", number, lambda: next(steps))
    elif kind == "d":
        die_in_call(alternating_trainer, "policy_loss", number, lambda: arms[0]._decisions)
    else:
        die_in_call(alternating_trainer, "half_cosine", number, lambda: arms[0]._step)


def search(folder: Path, data: Path, death: str | None) -> None:
    if death is not None:
        arrange(death)
    task = make_task(folder, data)
    if not (task.controller / CARD).exists():
        method.pretrain(task)
    result = method.search(task)
    outcome = {
        "genotype": result.genotype.tokens,
        "points": [
            [child.genotype.tokens, child.valid_accuracy, child.scores and child.scores.cost]
            for child in result.arm.children
        ],
        "verdict": result.verdict,
    }
    (folder / "outcome.json").write_text(json.dumps(outcome))


if __name__ == "__main__":
    one_shot_loop.CHECKPOINT_EVERY_S = 0.0
    folder, data, *deaths = sys.argv[1:]
    die_again_and_again(lambda death: search(Path(folder), Path(data), death), deaths)
