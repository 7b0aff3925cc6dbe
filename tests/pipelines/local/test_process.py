"""How the end of the child process is judged; stopping it is tested with the commands."""

from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from nascore.errors import Problem
from pipelines.local.process import Failure, _failure
from pipelines.local.progress import Display

KFP = """\
12:00:00.1 - ERROR - Task 'search' finished with status FAILURE
Traceback (most recent call last):
  File "local.py", line 7, in run
    pipeline()
RuntimeError: Pipeline 'nas-search' finished with status FAILURE. Inner task failed: 'search'.
"""
STEP = """\
    Traceback (most recent call last):
      File "program.py", line 3, in <module>
    ModuleNotFoundError: No module named 'torch'
"""


def failure(tmp_path: Path, log: str, *events: dict[str, Any]) -> Failure:
    display = Display(Console(file=StringIO()))
    for event in events:
        display.show({"time": 0.0, **event})
    path = tmp_path / "pipeline.log"
    path.write_text(log)
    return _failure(display, path)


STARTED = {"step": "search", "event": "started"}


def test_what_the_step_says_of_itself_counts(tmp_path: Path) -> None:
    event = {"step": "search", "event": "failed", "error": "SearchFailed: none finished"}
    found = failure(tmp_path, STEP + KFP, STARTED, event)
    assert found == Failure("search", "SearchFailed: none finished")


def test_wrong_input_comes_with_all_its_problems(tmp_path: Path) -> None:
    problems = [{"key": "data.source", "value": "npz:x", "message": "is not there"}]
    event = {"step": "prepare_data", "event": "input_error", "problems": problems}
    found = failure(tmp_path, KFP, event)
    assert found.problems == (Problem("data.source", "npz:x", "is not there"),)


@pytest.mark.parametrize(
    ("log", "error"),
    [
        (STEP + KFP, "ModuleNotFoundError: No module named 'torch'"),
        (KFP, "it ended without a word (killed? out of memory?)"),
        ("MemoryError: no more", "MemoryError: no more"),
        ("", "it ended without a word (killed? out of memory?)"),
        ("\xff" * 200_000 + "\nOSError: [Errno 28] No space left\n" + KFP, "OSError: [Errno 28]"),
    ],
)
def test_without_a_word_of_the_step_the_log_is_asked(tmp_path: Path, log: str, error: str) -> None:
    """kfp's own error, which only says that a step failed, is the last resort."""
    found = failure(tmp_path, log, STARTED)
    assert found.step == "search"
    assert found.error.startswith(error)


@pytest.mark.parametrize("name", ["'promote-2'", "\x1b[96m'promote'\x1b[0m inside 'condition-1'"])
def test_a_step_that_fails_before_it_reports_its_start_is_named(tmp_path: Path, name: str) -> None:
    log = STEP + KFP.replace("'search'.", f"{name}.")
    assert failure(tmp_path, log, STARTED).step == "promote"


def test_an_end_before_the_first_step_is_one_of_the_pipeline(tmp_path: Path) -> None:
    assert failure(tmp_path, "ImportError: no kfp").step == "pipeline"
