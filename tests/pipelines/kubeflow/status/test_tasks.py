"""Tasks of a run in the order of its compiled pipeline, with those that Kubeflow does not list."""

from typing import Any

import pytest
from kfp_commands import IMAGE, SEARCH, TRACKED, done
from kfp_nodes import Group, Loop, Part, Step
from kfp_server import KfpServer, Look

from pipelines.kubeflow.status.pipeline_tasks import PipelineTask, planned

FINISH = ("train-final", "profile-latency", "promote")
COMPARED = ("train-final", "profile-latency", "train-references", "promote")
ANEW = ("pretrain-controller", "search", *FINISH)
KEPT = ("reuse", *(f"{name}-2" for name in FINISH))
CLOSED = Step("close-run")
WORKERS = ("search-worker", "search-worker-2", "search-worker-3")


def states(told: Any) -> dict[str, str]:
    return {task["name"]: task["state"] for task in told["tasks"]}


def steps(*names: str, state: str = "SUCCEEDED") -> tuple[Step, ...]:
    return tuple(Step(name, state) for name in names)


def look(state: str, *parts: Part, exit_step: Step | None = CLOSED) -> Look:
    return Look(state, (Group("exit-handler-1", parts, exit_step=exit_step),))


def retraining(kfp: KfpServer, *looks: Look) -> str:
    run_id = str(done(*SEARCH, "--kind=retrain")["run_id"])
    kfp.plan(run_id, *looks)
    return run_id


@pytest.mark.parametrize("wraps", [True, False])
def test_a_branch_that_is_not_taken_is_skipped(kfp: KfpServer, wraps: bool) -> None:
    kfp.wraps = wraps
    branches = Group(
        "condition-branches-2",
        (Step("condition-3", "SKIPPED"), Group("condition-4", steps(*KEPT))),
    )
    run_id = retraining(kfp, look("SUCCEEDED", *steps("prepare-data", "review"), branches))
    assert states(done("status", run_id)) == {
        **dict.fromkeys(("prepare-data", "review"), "succeeded"),
        **dict.fromkeys(ANEW, "skipped"),
        **dict.fromkeys((*KEPT, "close-run"), "succeeded"),
    }
    begun = Group("condition-4", (Step("reuse", "RUNNING"),))
    going_on = Group("condition-branches-2", (Step("condition-3", "SKIPPED"), begun))
    kfp.plan(run_id, look("RUNNING", *steps("prepare-data", "review"), going_on, exit_step=None))
    told = states(done("status", run_id))
    assert {told[name] for name in ANEW} == {"skipped"}
    assert [told[name] for name in KEPT] == ["running", *["pending"] * 3]


def test_branches_are_pending_until_one_is_taken(kfp: KfpServer) -> None:
    run_id = retraining(
        kfp, look("RUNNING", Step("prepare-data"), Step("review", "RUNNING"), exit_step=None)
    )
    told = done("status", run_id)
    assert list(states(told)) == ["prepare-data", "review", *ANEW, *KEPT, "close-run"]
    assert list(states(told).values()) == ["succeeded", "running", *["pending"] * 10]
    assert told["tasks"][2] == {
        **{"name": "pretrain-controller", "state": "pending"},
        **{"started_at": None, "seconds": None, "tries": 0, "reason": None},
    }


def test_no_branch_is_reached_after_a_failure_but_the_exit_task_is(kfp: KfpServer) -> None:
    failed = (Step("prepare-data"), Step("review", "FAILED"))
    omitted = Step("condition-branches-2", "OMITTED")
    run_id = retraining(kfp, look("FAILED", *failed, omitted))
    told = states(done("status", run_id))
    assert (told.pop("prepare-data"), told.pop("review")) == ("succeeded", "failed")
    assert told.pop("close-run") == "succeeded"
    assert set(told.values()) == {"not-reached"}


def test_workers_are_tasks_of_their_own(kfp: KfpServer) -> None:
    settings = ("--set=search.workers=4", "--set=search.storage=env:STUDY")
    arguments = ("submit", IMAGE, TRACKED, *settings, "--set=cluster.secrets.STUDY=s/url")
    run_id = str(done(*arguments)["run_id"])
    begun = steps("prepare-data", "pretrain-controller")
    working = steps("search", *WORKERS, state="RUNNING")
    kfp.plan(run_id, look("RUNNING", *begun, *working, exit_step=None))
    told = states(done("status", run_id))
    order = ["prepare-data", "pretrain-controller", "search", *WORKERS, *COMPARED, "close-run"]
    assert list(told) == order
    assert list(told.values()) == [*["succeeded"] * 2, *["running"] * 4, *["pending"] * 5]


def test_a_loop_of_the_pipeline_shows_its_iterations(kfp: KfpServer) -> None:
    """Of pipelines that were compiled by earlier versions."""
    run_id = str(done(*SEARCH)["run_id"])
    spec = kfp.spec_of(run_id)["pipeline_spec"]
    inner = spec["components"]["comp-exit-handler-1"]["dag"]["tasks"]
    inner["for-loop-2"] = {
        "componentRef": {"name": "comp-for-loop-2"},
        "dependentTasks": ["pretrain-controller"],
        "parameterIterator": {"items": {"raw": '["1", "2", "3"]'}, "itemInput": "x"},
    }
    worker = {"search-worker": {"componentRef": {"name": "comp-search"}}}
    spec["components"]["comp-for-loop-2"] = {"dag": {"tasks": worker}}
    begun = steps("prepare-data", "pretrain-controller")
    kfp.plan(run_id, look("RUNNING", *begun, Step("search", "RUNNING"), exit_step=None))
    names = [f"search-worker[{number}]" for number in range(3)]
    told = states(done("status", run_id))
    assert list(told)[2:6] == ["search", *names]
    assert told[names[2]] == "pending"
    loop = Loop("for-loop-2", tuple(steps("search-worker", state=s) for s in ("RUNNING", "FAILED")))
    kfp.plan(run_id, look("RUNNING", *begun, loop, Step("search", "RUNNING"), exit_step=None))
    told = states(done("status", run_id))
    assert [told[name] for name in names] == ["running", "failed", "pending"]


def test_a_run_of_a_version_has_the_tasks_of_that_version(kfp: KfpServer) -> None:
    run_id = str(done(*SEARCH)["run_id"])
    assert "pipeline_spec" not in kfp.runs[run_id]
    kfp.plan(run_id, look("RUNNING", Step("prepare-data", "RUNNING"), exit_step=None))
    told = done("status", run_id)
    searched = ["prepare-data", "pretrain-controller", "search", *COMPARED, "close-run"]
    assert list(states(told)) == searched
    kfp.versions.clear()  # deleted since: what is listed is shown
    assert list(states(done("status", run_id))) == ["prepare-data"]


def test_many_workers_are_in_the_order_of_their_numbers() -> None:
    names = [f"w-{number}" for number in range(1, 12)]
    tasks = {name: {"componentRef": {"name": "c"}} for name in sorted(names)}
    spec = {"root": {"dag": {"tasks": tasks}}, "components": {"c": {"executorLabel": "e"}}}
    assert [task.name for task in planned(spec)] == names
    assert planned({}) == []


def test_a_circle_of_tasks_comes_to_an_end() -> None:
    tasks = {"a": {"dependentTasks": ["b"]}, "b": {"dependentTasks": ["a"]}}
    assert set(planned({"root": {"dag": {"tasks": tasks}}})) == {
        PipelineTask("a"),
        PipelineTask("b"),
    }
