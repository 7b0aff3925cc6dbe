"""The tasks of a run, out of the nodes of its Argo workflow."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from kfp_nodes import Group, Loop, Nodes, Part, Step

from pipelines.kubeflow.status.task_nodes import Task, failed, pods_of, read

STATES = ("SUCCEEDED", "FAILED", "RUNNING")
AFTER_SEARCH = (Step("train-final"), Step("profile-latency"), Step("promote"))
LOST_WORKER = Loop("for-loop-2", ((Step("search-worker", "FAILED"),),))


def omitted(*names: str) -> tuple[Step, ...]:
    return tuple(Step(name, "OMITTED") for name in names)


RUNS: dict[str, tuple[Part, ...]] = {
    "search-succeeds-4": (
        *(Step("prepare-data"), Step("pretrain-controller"), Step("search")),
        *AFTER_SEARCH,
    ),
    "first-step-fails-1": (
        Step("prepare-data", "FAILED"),
        *omitted("pretrain-controller", "search", "train-final", "profile-latency", "promote"),
    ),
    "worker-lost-3": (
        *(Step("prepare-data"), Step("pretrain-controller"), LOST_WORKER, Step("search")),
        *AFTER_SEARCH,
    ),
    "cancelled-2": (
        *(Step("prepare-data"), Step("pretrain-controller"), LOST_WORKER, Step("search", "FAILED")),
        *omitted("train-final", "profile-latency", "promote"),
    ),
    "pod-deleted-and-retried-2": (
        *(Step("prepare-data"), Step("pretrain-controller")),
        Step("search", tries=("FAILED", "SUCCEEDED")),
        *AFTER_SEARCH,
    ),
}
"""Recorded runs of KFP 2.17 and what they were."""


@pytest.fixture(scope="session")
def recorded(offline_data: Path) -> Path:
    folder = offline_data.parent / "kfp" / "runs"
    if not folder.is_dir():
        pytest.skip("there are no recorded runs of KFP beside NAS_TEST_DATA")
    return folder


def listed(*parts: Part, wraps: bool = True) -> dict[str, Any]:
    nodes = Nodes("nas-search-x7k2p", "r1", parts, wraps)
    return {"run_details": {"task_details": nodes.tasks}}


def tasks_of(run: dict[str, Any]) -> list[Task]:
    return list(read(run).tasks)


def ids(tasks: list[dict[str, Any]]) -> set[str]:
    return {child["pod_name"] for task in tasks for child in task.get("child_tasks", [])}


@pytest.mark.parametrize("name", RUNS)
def test_the_stand_in_lists_the_nodes_that_kfp_lists(recorded: Path, name: str) -> None:
    real = json.loads((recorded / f"{name}.json").read_text())["run_details"]["task_details"]
    workflow = min(ids(real)).rpartition("-")[0]
    ours = Nodes(workflow, "r1", RUNS[name]).tasks
    names = [Counter((task["display_name"], task.get("state")) for task in t) for t in (real, ours)]
    assert names[0] == names[1]
    assert ids(real) == ids(ours)
    assert {key for task in real for key in task} == {key for task in ours for key in task}


@pytest.mark.parametrize("name", RUNS)
def test_the_tasks_of_recorded_runs(recorded: Path, name: str) -> None:
    run = json.loads((recorded / f"{name}.json").read_text())
    found = tasks_of(run)
    flat = [
        step
        for part in RUNS[name]
        for step in (part.items[0] if isinstance(part, Loop) else (part,))
        if isinstance(step, Step)
    ]
    assert Counter((task.base, task.state) for task in found) == Counter(
        (step.name, step.state) for step in flat
    )
    ran = [task for task in found if task.state != "OMITTED"]
    assert [task.start for task in ran] == sorted(task.start for task in ran)
    nodes = Nodes(ran[0].nodes[0].rpartition("-")[0], "r1", RUNS[name])
    assert {task.base: list(task.nodes) for task in ran} == nodes.pods


def test_retries_of_every_level_are_one_task_whose_last_pod_is_known(recorded: Path) -> None:
    run = json.loads((recorded / "retries-at-every-level-2.json").read_text())
    (prepared,) = [task for task in tasks_of(run) if task.name == "prepare-data"]
    assert prepared.state == "PENDING"  # Argo was about to begin everything once more
    assert len(prepared.nodes) == len(set(prepared.nodes)) == 27
    assert prepared.start.endswith("16:26:15Z")


def test_eight_helpers_are_eight_tasks(recorded: Path) -> None:
    run = json.loads((recorded / "eight-helpers.json").read_text())
    workers = [task for task in tasks_of(run) if task.base == "search-worker"]
    assert [task.name for task in workers] == [f"search-worker[{number}]" for number in range(8)]
    assert len({task.nodes for task in workers}) == 8


def test_nothing_is_left_of_what_only_kfp_knows(recorded: Path) -> None:
    names = {
        task.base
        for path in recorded.glob("*.json")
        for task in tasks_of(json.loads(path.read_text()))
    }
    assert names == {
        *("prepare-data", "pretrain-controller", "search", "search-worker", "train-final"),
        *("profile-latency", "promote", "review", "reuse"),
        *("train-final-2", "profile-latency-2", "promote-2"),
    }


@pytest.mark.parametrize("wraps", [True, False])
def test_loops_conditions_and_the_exit_task(wraps: bool) -> None:
    """With and without the wrappers of KFP 2.17."""
    workers = Loop("for-loop-2", tuple((Step("search-worker", state),) for state in STATES))
    branch = Group("condition-branches-1", (Group("condition-2", (workers, Step("search"))),))
    whole = Group("exit-handler-1", (Step("prepare-data"), branch), exit_step=Step("close-run"))
    run = listed(whole, wraps=wraps)
    found = tasks_of(run)
    assert Counter((task.name, task.state) for task in found) == Counter(
        [
            *[(f"search-worker[{number}]", state) for number, state in enumerate(STATES)],
            *[(name, "SUCCEEDED") for name in ("search", "prepare-data", "close-run")],
        ]
    )
    pods = Nodes("nas-search-x7k2p", "r1", (whole,), wraps).pods
    assert {task.nodes for task in found if task.base == "search-worker"} == {
        (pod,) for pod in pods["search-worker"]
    }
    assert [task.nodes for task in found if task.name == "close-run"] == [tuple(pods["close-run"])]
    assert [task.name for task in failed(found)] == ["search-worker[1]"]
    assert found[-1].name == "close-run"


def test_a_failed_driver_is_the_failure_of_its_task() -> None:
    found = tasks_of(listed(Step("prepare-data"), Step("search", "FAILED", driver="FAILED")))
    assert [(task.name, task.state, task.nodes) for task in failed(found)] == [
        ("search", "FAILED", ())
    ]


def test_names_of_a_pod() -> None:
    assert pods_of("nas-search-x7k2p-42") == [
        "nas-search-x7k2p-retry-system-container-impl-42",
        "nas-search-x7k2p-system-container-impl-42",
        "nas-search-x7k2p-42",
    ]


def test_a_run_without_a_list() -> None:
    assert tasks_of({"run_details": None}) == tasks_of({}) == tasks_of(listed()) == []
