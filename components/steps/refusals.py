"""Wrong input that was found once is found at once by every later try of the same work.

Kubeflow may try a step again whatever its end was, and cannot be told that it is of no use: without
this a search would train for hours again, to be refused again. A refusal is kept in the step's
state and, for pods that have none in common, in the tag `nas.refused` of the step's MLflow run. It
holds for one run of Kubeflow: `nas retry` makes another, in which the input may have been mended.
"""

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from components.run_identity import RUN_ID
from components.steps.state import outlives, read_json, state_folder, write_json
from nascore.errors import InputError, Problem, ResourceUnavailable

TAG = "nas.refused"
_FILE = "refused.json"
_TAG_CHARS = 5000  # MLflow's limit

Recall = Callable[[], str | None]
"""What an earlier try in another pod has left: the text of the tag, if there is one."""


@contextlib.contextmanager
def refused_once(name: str, work: str, *, recall: Recall = lambda: None) -> Iterator[None]:
    """Raise what an earlier try of the same work has raised; keep what the block raises.

    What is merely unreachable is not kept: it may be back.

    Args:
        name: of the step.
        work: its fingerprint.
        recall: asked where this pod has no refusal.

    Raises:
        InputError: of the block, or of an earlier try.
    """
    path = state_folder() / name / _FILE
    earlier = read_json(path) if path.exists() else json.loads(recall() or "{}")
    if earlier.get("fingerprint") == work and earlier.get("run") == _run():
        raise InputError([Problem.from_json(problem) for problem in earlier["problems"]])
    try:
        yield
    except ResourceUnavailable:
        raise
    except InputError as error:
        if outlives():
            write_json(path, _refusal(work, error))
        raise


def tag_of(work: str, error: InputError) -> dict[str, str]:
    """Return the tag for the step's MLflow run; none where it would not fit."""
    text = json.dumps(_refusal(work, error))
    return (
        {TAG: text}
        if len(text) <= _TAG_CHARS and not isinstance(error, ResourceUnavailable)
        else {}
    )


def forget_refusals(state: Path) -> None:
    """Remove the refusals of a local run whose user has asked for another try."""
    for path in state.glob(f"*/{_FILE}"):
        path.unlink()


def _refusal(work: str, error: InputError) -> Mapping[str, Any]:
    problems = [problem.to_json() for problem in error.problems]
    return {"fingerprint": work, "run": _run(), "problems": problems}


def _run() -> str:
    """The run of Kubeflow, not the first of a chain of retries: a retry looks again."""
    return os.environ.get(RUN_ID, "")
