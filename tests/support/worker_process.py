"""Workers as real processes that start in milliseconds: forked from one that has torch loaded.

    python worker_process.py DATA [FEW_SHOT_DATA]

reads a command a line and answers with a line each. `start JSON` forks a worker with these settings
and answers its process number; `kill PID` kills it; `poll PID` and `wait PID` answer its exit
status: -9 when killed, `None` while it runs.
"""

import dataclasses
import importlib
import json
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any


class ForkServer:
    """The parent's side.

    Args:
        folder: for what the workers write to stderr.
        data: as `prepare_data` writes it; all workers train on it.
        few_shot: the same with splits of different classes, for methods that need them.
    """

    def __init__(self, folder: Path, data: Path, few_shot: Path | None = None) -> None:
        folders = [data] if few_shot is None else [data, few_shot]
        self._errors = folder / "errors.txt"
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        with self._errors.open("a") as errors:
            self._process = subprocess.Popen(
                [sys.executable, __file__, *map(str, folders)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=environment,
            )

    def start(self, **settings: Any) -> int:
        """A worker; its settings are `log` and what `make_task` reads."""
        return int(self._ask(f"start {json.dumps(settings)}"))

    def kill(self, pid: int) -> int:
        """Its exit status: -9 unless it had ended before."""
        return int(self._ask(f"kill {pid}"))

    def poll(self, pid: int) -> int | None:
        answer = self._ask(f"poll {pid}")
        return None if answer == "None" else int(answer)

    def wait(self, pid: int) -> int:
        return int(self._ask(f"wait {pid}"))

    def errors(self) -> str:
        """What the workers have written to stderr."""
        return self._errors.read_text()

    def close(self) -> None:
        """Kills what still runs."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(timeout=120)
        self._process.stdout.close()

    def _ask(self, command: str) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline().strip()
        assert answer, f"the fork server died: {self.errors()}"
        return answer


# --- the server ---------------------------------------------------------------------------------


def serve(data: Path, few_shot: Path | None = None) -> None:
    import torch

    from nascore.data.batches import load
    from nascore.search.study_storage import Storage

    torch.set_num_threads(1)
    folders = {"image": data} if few_shot is None else {"image": data, "class": few_shot}
    splits = {kind: load(folder, torch.device("cpu")) for kind, folder in folders.items()}
    # All that a worker would otherwise load when it comes to it; no thread may run before a fork.
    for module in (
        *("nascore.methods.baselines.method", "nascore.methods.auto_meta.method"),
        *("psycopg", "torch._dynamo"),
    ):
        importlib.import_module(module)
    Storage("sqlite://").close()
    running: set[int] = set()
    ended: dict[int, int] = {}

    def status_of(pid: int, options: int = 0) -> int | None:
        if pid not in ended:
            found, status = os.waitpid(pid, options)
            if found == 0:
                return None
            running.discard(pid)
            ended[pid] = os.waitstatus_to_exitcode(status)
        return ended[pid]

    for line in sys.stdin:
        command, argument = line.strip().split(" ", 1)
        if command == "start":
            pid = os.fork()
            if pid == 0:
                _be_worker({**json.loads(argument), "splits": splits})
            running.add(pid)
            answer: int | None = pid
        elif command == "kill":
            answer = status_of(int(argument), os.WNOHANG)
            if answer is None:
                os.kill(int(argument), signal.SIGKILL)
                answer = status_of(int(argument))
        else:
            answer = status_of(int(argument), os.WNOHANG if command == "poll" else 0)
        print(answer, flush=True)
    for pid in running:
        os.kill(pid, signal.SIGKILL)


# --- a worker -----------------------------------------------------------------------------------


def _be_worker(settings: dict[str, Any]) -> None:
    """Never returns: the loop of the server is not for the child."""
    status = 1
    try:
        os.close(0)
        os.dup2(2, 1)  # stdout is for the answers of the server
        work(settings)
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def work(settings: dict[str, Any]) -> None:
    """One worker of a search.

    It kills itself at the storage operation whose number is `die_at`, before or `after` it, or in
    the middle of a training, before the weight update `die_in_training`.
    """
    from nascore.methods.registry import METHODS
    from nascore.search.runner import SearchFailed
    from nascore.search.study import Attempt, Study
    from nascore.search.study_storage import Storage

    finish = Study.finish

    def logging_finish(study: Study, attempt: Attempt, child: Any) -> None:
        finish(study, attempt, child)
        note = {"study": study.name, "pid": os.getpid(), "child": child.to_dict()}
        _append(Path(settings["log"]), note)

    Study.finish = logging_finish  # type: ignore[method-assign]
    if "die_at" in settings:
        _die_at(Storage, settings["die_at"], after=settings["after"])
    if "die_in_training" in settings:
        _die_in_training(settings["die_in_training"])
    task = make_task(settings)
    try:
        METHODS[task.method].load().search(task)
    except SearchFailed:
        if not task.is_secondary_worker:
            raise


def _append(log: Path, note: dict[str, Any]) -> None:
    """One line in one write, on the disk when this returns."""
    file = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, (json.dumps(note) + "\n").encode())
    os.fsync(file)
    os.close(file)


def _die_at(storage: Any, count: int, *, after: bool) -> None:
    """Kills the process before or after its `count`-th operation on the study."""
    real, left = storage.call_with_retries, [count]

    def call_with_retries(
        self: Any, operation: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> Any:
        left[0] -= 1
        if left[0] == 0 and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        result = real(self, operation, *args, **kwargs)
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    storage.call_with_retries = call_with_retries


def _die_in_training(count: int) -> None:
    from nascore.methods.auto_meta.child import FewShotTraining
    from nascore.training.child import ImageTraining

    left = [count]

    def deadly(real: Callable[..., Any]) -> Any:
        def train(training: Any, context: Any, job: Any) -> Any:
            def stop_or_die() -> bool:
                left[0] -= 1
                if left[0] == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                return job.should_stop()

            mortal = dataclasses.replace(job, should_stop=stop_or_die)
            return real(training, context, mortal)

        return train

    for training in (ImageTraining, FewShotTraining):
        training.train = deadly(training.train)  # type: ignore[attr-defined]


def make_task(settings: dict[str, Any]) -> Any:
    """A search of small networks, whose children take a fraction of a second."""
    from nascore.config import BudgetConfig, SearchConfig, TrainingConfig
    from nascore.context import SearchContext
    from nascore.methods.registry import METHODS
    from nascore.search import worker
    from nascore.seeding import Seeds
    from nascore.spaces.base import ImageShape, make_space
    from nascore.spaces.chain.config import ChainSpaceConfig

    worker.MAX_TRIES = settings["max_tries"]
    folder = Path(settings["state"])
    method = settings["method"]
    if METHODS[method].split_by == "class":
        return make_few_shot_task(settings)
    space = ChainSpaceConfig(num_layers=2)
    return SearchContext(
        method=method,
        seeds=Seeds(settings["seed"]),
        space=make_space(space),
        splits=settings["splits"]["image"],
        shape=ImageShape(1, 8, 10),
        search=SearchConfig(
            space=space,
            budget=BudgetConfig(children=settings["budget"]),
            child=TrainingConfig(epochs=settings["epochs"], batch_size=64),
            control=settings["control"],
            storage=settings["storage"],
            workers=settings["workers"],
            worker_timeout_s=settings["worker_timeout_s"],
        ),
        final=TrainingConfig(epochs=1),
        options=METHODS[method].options(),
        controller=folder,
        state=folder,
        is_secondary_worker=settings["is_helper"],
        run_key=settings["run_key"],
    )


def make_few_shot_task(settings: dict[str, Any]) -> Any:
    """As the step before leaves it: with the way in which tasks are run."""
    from few_shot_tasks import make_task as make

    from nascore.methods.registry import METHODS

    task = make(
        Path(settings["state"]),
        settings["splits"]["class"],
        children=settings["budget"],
        seed=settings["seed"],
        control=settings["control"],
        search={name: settings[name] for name in ("storage", "workers", "worker_timeout_s")},
        is_secondary_worker=settings["is_helper"],
    )
    if not (task.controller / "controller.json").exists():
        METHODS[task.method].load().pretrain(task)
    return task


if __name__ == "__main__":
    serve(*map(Path, sys.argv[1:]))
