"""How many processors a process may use, in a container that asked for some of a node's."""

import os
from pathlib import Path

import pytest

from nascore.processors import num_cpus


def test_what_a_container_asked_for_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Finding M5: five pods of one node started as many threads each as the node has cores."""
    monkeypatch.setenv("NAS_CPUS", "3")
    assert num_cpus() == 3


@pytest.mark.parametrize("given", ["", "0", "many"])
def test_else_what_the_system_allows(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAS_CPUS", given)
    assert num_cpus() == len(os.sched_getaffinity(0))


def test_all_places_that_start_processes_or_threads_ask_here(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from components.config.schema import Config
    from components.steps import workers
    from components.steps.context_builder import StepInputs
    from nascore.context import NO_CALLBACKS
    from nascore.data import images

    monkeypatch.setenv("NAS_CPUS", "6")
    inputs = StepInputs(
        config=Config(), dataset=Path(), controller=Path(), state=Path(), run_key="key"
    )
    pair = workers._Workers(inputs, 2, False, 1, NO_CALLBACKS)
    assert pair._environment(1)["OMP_NUM_THREADS"] == "3"
    assert images.stream_workers() == min(6, images._MAX_STREAM_WORKERS)
