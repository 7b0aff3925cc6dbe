"""A search with shared weights in processes that die: killed_search.py METHOD FOLDER DATA DEATH...

For each DEATH a forked process goes on with the search and sends itself SIGKILL: a number is the
weight step in the middle of which it dies, sN the N-th checkpoint that is about to take its place.
One more goes on to the end and writes FOLDER/outcome.json. Prints the exit status of each.
"""

import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch._dynamo  # otherwise loaded by every process when it makes its optimiser
from shared_tasks import make_task
from torch import Tensor

from nascore import checkpoint
from nascore.config import BudgetConfig
from nascore.methods.common import one_shot_loop
from nascore.methods.enas import method as enas
from nascore.methods.enas.shared_search import SharedSearch

STEPS = 96


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_in_step(step: int) -> None:
    """After the gradient and before the update."""
    real = SharedSearch._train_weights

    def dying(self: SharedSearch, *given: Any) -> Tensor:
        if self._step == step:
            self._weights._sgd.step = die  # type: ignore[method-assign, assignment]
        return real(self, *given)

    SharedSearch._train_weights = dying  # type: ignore[method-assign]


def die_in_save(number: int) -> None:
    """The new checkpoint is written whole beside the old one, which is still in its place."""
    real, left = os.replace, [number]

    def replace(source: object, target: object) -> None:
        left[0] -= str(target).endswith(".ckpt")
        if left[0] == 0:
            die()
        real(source, target)  # type: ignore[arg-type]

    checkpoint.os.replace = replace  # type: ignore[attr-defined]


def search(method: str, folder: Path, data: Path, death: str | None) -> None:
    if death is not None:
        die_in_save(int(death[1:])) if death.startswith("s") else die_in_step(int(death))
    task = make_task(folder, data, method, budget=BudgetConfig(steps=STEPS))
    if not (folder / "controller.json").exists():
        enas.pretrain(task)
    result = enas.search(task)
    arms = [arm for arm in (result.arm, result.control) if arm is not None]
    children = [[(c.genotype.tokens, c.valid_accuracy) for c in arm.children] for arm in arms]
    outcome = {"genotype": result.genotype.tokens, "children": children}
    (folder / "outcome.json").write_text(json.dumps(outcome))


def main(method: str, folder: Path, data: Path, deaths: list[str]) -> None:
    one_shot_loop.CHECKPOINT_EVERY_S = 0.0
    die_again_and_again(lambda death: search(method, folder, data, death), deaths)


def die_again_and_again(
    work: Callable[[str | None], None], deaths: list[str], *, last: bool = True
) -> None:
    """Works in a process of its own for each death, and in a last one that lives, unless not."""
    torch.set_num_threads(1)
    for death in [*deaths, *([None] if last else [])]:
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                work(death)
                status = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(status)
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4:])
