"""Runs on Kubeflow that are started again: by `nas retry`, and by `nas submit --wait --retries`."""

import json
from typing import Any

import pytest
from kfp_commands import QUICK, SEARCH, done, nas, refused
from kfp_http import Fault, Request
from kfp_nodes import Step
from kfp_server import KfpServer, Look

from components.ending import End, Kind

WITH_STATE = (*SEARCH, "--set=cluster.state=pvc:nas-state")
RUNNING = Look("RUNNING", (Step("prepare-data"), Step("search", "RUNNING")))
SUCCEEDED = Look("SUCCEEDED", (Step("prepare-data"), Step("search")))
FAILED = Look(
    "FAILED", (Step("prepare-data"), Step("search", "FAILED"), Step("train-final", "OMITTED"))
)


def ended_by(kfp: KfpServer, kind: Kind, reason: str = "the reason") -> None:
    kfp.logs["search"] = f"started\n{End('search', kind, reason).line()}\nlauncher: exit status 1\n"


def failed_run(kfp: KfpServer, *arguments: str, look: Look = FAILED) -> str:
    run_id = str(done(*WITH_STATE, *arguments)["run_id"])
    kfp.plan(run_id, look)
    return run_id


def created(kfp: KfpServer) -> list[dict[str, Any]]:
    return [request.body for request in kfp.sent("POST", "/runs")]


def variables(body: dict[str, Any]) -> list[dict[str, str]]:
    executors = body["pipeline_spec"]["pipeline_spec"]["deploymentSpec"]["executors"]
    assert len(executors) > 5
    return [
        {each["name"]: each["value"] for each in executor["container"]["env"]}
        for executor in executors.values()
    ]


# --- nas retry ------------------------------------------------------------------------------


def test_a_retry_is_a_new_run_that_continues_the_old_one(kfp: KfpServer) -> None:
    run_id = failed_run(kfp, "--run-name=mine", "--service-account=nas", "--experiment=team")
    ended_by(kfp, "crash")
    told = done("retry", run_id)
    old, new = created(kfp)
    assert told["run_ids"] == [run_id, told["run_id"]]
    assert told["retry_of"] == run_id
    assert told["run_id"] in kfp.runs
    assert new["display_name"] == "mine (retry 1)"
    for name in ("runtime_config", "experiment_id", "service_account"):
        assert new[name] == old[name]
    compiled = kfp.spec_of(run_id)
    assert new["pipeline_spec"]["platform_spec"] == compiled["platform_spec"]
    assert all(each["NAS_RETRY_OF"] == run_id for each in variables(new))
    for executor in new["pipeline_spec"]["pipeline_spec"]["deploymentSpec"]["executors"].values():
        executor["container"]["env"].remove({"name": "NAS_RETRY_OF", "value": run_id})
    assert new["pipeline_spec"] == compiled
    assert "pipeline_spec" not in old
    assert len(kfp.versions) == 1  # a retry is no new version


def test_a_retry_of_a_retry_continues_the_first_run(kfp: KfpServer) -> None:
    first = failed_run(kfp, "--run-name=mine")
    second = done("retry", first)["run_id"]
    kfp.plan(second, FAILED)
    third = done("retry", second)
    assert third["retry_of"] == first
    kfp.plan(third["run_id"], FAILED)
    done("retry", first)  # whichever of the chain is named
    bodies = created(kfp)[1:]
    assert [body["display_name"] for body in bodies] == [f"mine (retry {n})" for n in (1, 2, 3)]
    for body in bodies:
        for each in variables(body):
            assert each["NAS_RETRY_OF"] == first
        containers = body["pipeline_spec"]["pipeline_spec"]["deploymentSpec"]["executors"]
        names = [v["name"] for v in containers["exec-search"]["container"]["env"]]
        assert names.count("NAS_RETRY_OF") == 1


def test_a_run_that_was_sent_with_its_pipeline_is_retried(kfp: KfpServer) -> None:
    run_id = failed_run(kfp, "--inline")
    done("retry", run_id)
    assert kfp.pipelines == []
    assert all(each["NAS_RETRY_OF"] == run_id for each in variables(created(kfp)[-1]))


def test_kubeflows_mlflow_plugin_stays_turned_off(kfp: KfpServer) -> None:
    run_id = failed_run(kfp, "--set=tracking.kfp_plugin=false")
    done("retry", run_id)
    assert [body["plugins_input"] for body in created(kfp)] == [{"mlflow": {"disabled": True}}] * 2
    assert "plugins_input" not in kfp.runs[done(*WITH_STATE)["run_id"]]


def test_a_run_of_a_schedule_is_retried_without_the_schedule(kfp: KfpServer) -> None:
    """Kubernetes would delete it with the schedule."""
    run_id = failed_run(kfp)
    kfp.runs[run_id]["recurring_run_id"] = "weekly"
    done("retry", run_id)
    assert "recurring_run_id" not in created(kfp)[-1]


def test_what_is_done_again_without_a_place_for_the_state_is_told(kfp: KfpServer) -> None:
    run_id = done(*SEARCH)["run_id"]
    kfp.plan(run_id, FAILED)
    result = nas("retry", run_id)
    assert result.exit_code == 0
    assert "cluster.state is not set" in result.stdout
    assert "study" not in result.stdout.splitlines()[0]
    study = ("--set=search.storage=env:NAS_STUDY_URL", "--set=cluster.secrets.NAS_STUDY_URL=s/url")
    run_id = done(*SEARCH, *study)["run_id"]
    kfp.plan(run_id, FAILED)
    result = nas("retry", run_id, "--json")
    assert "done again; the study in the database is resumed" in result.stderr
    assert "cluster.state" not in nas("retry", failed_run(kfp)).output


def test_a_cancelled_run_can_be_continued(kfp: KfpServer) -> None:
    run_id = str(done(*WITH_STATE)["run_id"])
    kfp.plan(run_id, RUNNING)
    done("cancel", run_id, QUICK)
    assert done("retry", run_id)["retry_of"] == run_id


# --- what is refused ------------------------------------------------------------------------


def test_a_run_that_goes_on_or_has_succeeded_is_not_retried(kfp: KfpServer) -> None:
    run_id = failed_run(kfp, look=RUNNING)
    assert "is still going on (running)" in refused("retry", run_id)
    kfp.plan(run_id, SUCCEEDED)
    assert "has succeeded" in refused("retry", run_id)
    assert len(created(kfp)) == 1


def test_an_unknown_run_is_not_retried(kfp: KfpServer) -> None:
    assert "does not find it (404)" in refused("retry", "x")


def test_a_strange_pipeline_is_not_retried(kfp: KfpServer) -> None:
    run_id = failed_run(kfp)
    spec = kfp.spec_of(run_id)["pipeline_spec"]
    for executor in spec["deploymentSpec"]["executors"].values():
        executor["container"]["env"] = []
    assert "was not compiled by this project" in refused("retry", run_id)


def test_two_runs_never_work_on_one_state(kfp: KfpServer) -> None:
    kfp.page = 2
    run_id = failed_run(kfp)
    again = done("retry", run_id)["run_id"]
    for _ in range(3):  # it is found behind newer ones
        done(*WITH_STATE)
    message = refused("retry", run_id)
    assert f"its retry {again} is still going on" in message
    kfp.plan(again, SUCCEEDED)
    assert f"its retry {again} has succeeded" in refused("retry", run_id)
    kfp.plan(again, FAILED)
    assert done("retry", run_id)["retry_of"] == run_id


def test_a_refused_input_is_not_tried_again_unless_forced(kfp: KfpServer) -> None:
    run_id = failed_run(kfp)
    ended_by(kfp, "input", "data.source = npz:x: no such file")
    message = refused("retry", run_id)
    assert "search: data.source = npz:x: no such file" in message
    assert "nas submit" in message
    assert "--force" in message
    assert len(created(kfp)) == 1
    assert done("retry", run_id, "--force")["retry_of"] == run_id


# --- --retries ------------------------------------------------------------------------------


def test_retries_need_somebody_who_waits(kfp: KfpServer) -> None:
    for arguments in ((*WITH_STATE, "--retries=2"), ("retry", "x", "--retries=2")):
        assert "--retries = 2: needs --wait" in refused(*arguments)
    assert kfp.requests == []


@pytest.mark.parametrize("kind", ["outage", None])
def test_an_outage_or_a_loss_is_retried_so_often(kfp: KfpServer, kind: Kind | None) -> None:
    if kind is not None:
        ended_by(kfp, kind)
    kfp.plans = [[FAILED], [FAILED], [SUCCEEDED]]
    result = nas(*WITH_STATE, "--wait", "--retries=2", QUICK, "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert told["state"] == "succeeded"
    assert told["run_ids"] == list(kfp.runs)
    assert told["run_id"] == told["run_ids"][-1]
    for run_id in told["run_ids"][:2]:
        assert f"The run {run_id} has failed (search: {kind or 'lost'}: " in result.stderr
    first = told["run_ids"][0]
    assert {each["NAS_RETRY_OF"] for body in created(kfp)[1:] for each in variables(body)} == {
        first
    }


def test_retries_come_to_an_end(kfp: KfpServer) -> None:
    kfp.plans = [[FAILED]] * 5
    result = nas(*WITH_STATE, "--wait", "--retries=1", QUICK, "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["run_ids"] == list(kfp.runs)
    assert len(kfp.runs) == 2


@pytest.mark.parametrize("kind", ["input", "memory", "crash", "stopped"])
def test_what_another_try_would_meet_again_is_not_retried(kfp: KfpServer, kind: Kind) -> None:
    ended_by(kfp, kind)
    kfp.plans = [[FAILED]] * 4
    result = nas(*WITH_STATE, "--wait", "--retries=3", QUICK, "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["reason"].startswith(f"search: {kind}: ")
    assert len(kfp.runs) == 1


def test_one_step_that_would_fail_again_is_enough(kfp: KfpServer) -> None:
    ended_by(kfp, "memory")
    both = Look("FAILED", (Step("search-worker", "FAILED"), Step("search", "FAILED")))
    kfp.plans = [[both]] * 4
    assert nas(*WITH_STATE, "--wait", "--retries=3", QUICK).exit_code == 1
    assert len(kfp.runs) == 1


def test_a_cancelled_run_is_not_retried(kfp: KfpServer) -> None:
    kfp.plans = [[RUNNING, Look("CANCELING"), FAILED], [SUCCEEDED]]
    assert nas(*WITH_STATE, "--wait", "--retries=3", QUICK).exit_code == 1
    assert len(kfp.runs) == 1


def test_a_retry_whose_answer_is_lost_is_not_started_twice(kfp: KfpServer) -> None:
    kfp.plans = [[FAILED], [RUNNING, SUCCEEDED], [SUCCEEDED]]

    def lose_the_answer(request: Request) -> None:
        if request.method == "POST" and len(kfp.runs) == 1:
            kfp.answer(request)
            kfp.fault = Fault(503, "<html>", "text/html", count=1)

    kfp.before = lose_the_answer
    result = nas(*WITH_STATE, "--wait", "--retries=3", QUICK, "--json")
    assert result.exit_code == 0, result.output
    assert len(kfp.runs) == 2


def test_a_retry_can_be_followed_and_retried_itself(kfp: KfpServer) -> None:
    run_id = failed_run(kfp)
    kfp.plans = [[FAILED], [SUCCEEDED]]
    result = nas("retry", run_id, "--wait", "--retries=1", QUICK, "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert told["run_ids"] == list(kfp.runs)
    assert told["run_ids"][0] == told["retry_of"] == run_id
