"""Repeats an input error at once in every later try of the same work.

Kubeflow retries a failed step whatever the reason was: without this module a search would train for
hours again, and fail with the same error. The error is stored in the state folder of the step and,
for pods without a common one, in the tag `nas.refused` of the step's MLflow run. It holds for one
run of Kubeflow: `nas retry` creates another, in which the input may have been corrected.
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
"""Returns the text of the tag that an earlier try in another pod has written, if there is one."""


@contextlib.contextmanager
def refused_once(name: str, work: str, *, recall: Recall = lambda: None) -> Iterator[None]:
    """Raise the input error of an earlier try of the same work, or store that of the block.

    The error of an unreachable resource is not stored: the resource may be back.

    Args:
        name: name of the step.
        work: fingerprint of its work.
        recall: called if the state folder has no error.

    Raises:
        InputError: by the block, or by an earlier try.
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
    """Return the tag for the step's MLflow run; empty for outages and for long errors."""
    text = json.dumps(_refusal(work, error))
    return (
        {TAG: text}
        if len(text) <= _TAG_CHARS and not isinstance(error, ResourceUnavailable)
        else {}
    )


def forget_refusals(state: Path) -> None:
    """Remove the stored errors of a local run, which its user has started again."""
    for path in state.glob(f"*/{_FILE}"):
        path.unlink()


def _refusal(work: str, error: InputError) -> Mapping[str, Any]:
    problems = [problem.to_json() for problem in error.problems]
    return {"fingerprint": work, "run": _run(), "problems": problems}


def _run() -> str:
    """Return the id of the run of Kubeflow; a retry has another, and checks the input again."""
    return os.environ.get(RUN_ID, "")
