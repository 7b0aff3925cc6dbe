"""A list of tasks that stands still, a pod that does not start, a run of which nothing is left."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from kfp_commands import QUICK, SEARCH, done, nas, refused, with_store
from kfp_http import Fault, Request
from kfp_nodes import Step, node_id
from kfp_server import KfpServer, Look
from kfp_tracked import Tracked
from mlflow_server import MlflowServer

from components.ending import End

MINUTE = 60.0
GOLDEN = Path(__file__).parents[3] / "golden" / "status" / "runs"


def ended(minutes_ago: float = 5) -> str:
    """The log of a step that has ended so long ago."""
    at = datetime.now(UTC) - timedelta(minutes=minutes_ago)
    return f"""16:13:40  search done in 5 min
I{at:%m%d %H:%M:%S}.591883      15 launcher_v2.go:206] publish success.
time={at:%Y-%m-%dT%H:%M:%S}.414Z level=INFO msg="sub-process exited" argo=true error=<nil>
"""


WORKING = (Step("prepare-data"), Step("pretrain-controller"), Step("search", "RUNNING"))
BETWEEN = (Step("prepare-data"), Step("pretrain-controller"), Step("search"))


@pytest.fixture(scope="module")
def mlflow(mlflow_server: MlflowServer) -> Tracked:
    return Tracked(mlflow_server)


def run_as(kfp: KfpServer, *looks: Look, uri: str = "http://mlflow.invalid:5000") -> str:
    run_id = str(done(*with_store(uri, SEARCH), "--no-check")["run_id"])
    kfp.plan(run_id, *looks)
    return run_id


def quiet(*parts: Step, state: str = "RUNNING", minutes: float = 10) -> Look:
    """The list changed last so long ago."""
    return Look(state, parts, minutes * MINUTE)


def pod_of(run_id: str, task: str) -> str:
    """Id of the node of a task that Kubeflow does not list."""
    workflow = f"nas-{run_id[:5]}"
    return node_id(workflow, f"{workflow}(0).root(0).{task}(0).executor(0)")


def states(told: Any) -> dict[str, str]:
    return {task["name"]: task["state"] for task in told["tasks"]}


# --- the list stands still ------------------------------------------------------------------


def test_a_long_search_is_no_list_that_stands_still(kfp: KfpServer) -> None:
    run_id = run_as(kfp, quiet(*WORKING, minutes=600))
    kfp.logs["search"] = "16:13:46  search  child 1 of 8: 0.712\n"
    told = done("status", run_id)
    assert (told["stale_since"], told["reason"]) == (None, None)
    assert states(told)["search"] == "running"


def test_a_list_that_stands_between_two_steps(kfp: KfpServer) -> None:
    run_id = run_as(kfp, quiet(*BETWEEN, minutes=3))
    assert done("status", run_id)["stale_since"] is None
    kfp.plan(run_id, quiet(*BETWEEN))
    told = done("status", run_id)
    changes = [
        change["update_time"]
        for task in kfp.runs[run_id]["run_details"]["task_details"]
        for change in task["state_history"]
    ]
    assert told["stale_since"] == max(changes)
    shown = nas("status", run_id).stdout
    assert f"has not changed since {told['stale_since']}, while the run continued" in shown
    assert "the current state is unknown: http://mlflow.invalid:5000 cannot be reached" in shown


def test_a_pod_that_has_ended_proves_that_the_list_stands_still(kfp: KfpServer) -> None:
    """So it is in a large search: the list passes 1 MB while the search works."""
    run_id = run_as(kfp, quiet(*WORKING))
    kfp.logs["search"] = ended()
    kfp.pod_logs[pod_of(run_id, "train-final")] = ended()
    kfp.pod_logs[pod_of(run_id, "profile-latency")] = "16:14:00  profile_latency ...\n"
    told = done("status", run_id)
    assert told["stale_since"] is not None
    assert states(told) == {
        **dict.fromkeys(("prepare-data", "pretrain-controller", "search"), "succeeded"),
        **{"train-final": "succeeded", "profile-latency": "running"},
        **dict.fromkeys(("train-references", "promote", "close-run"), "pending"),
    }
    assert "is taken from the logs of its pods" in nas("status", run_id).stdout
    assert nas("logs", run_id, "profile-latency").stdout == "16:14:00  profile_latency ...\n"


@pytest.mark.parametrize("minutes", [0.1, 30])
def test_a_pod_whose_end_the_list_cannot_lack_proves_nothing(
    kfp: KfpServer, minutes: float
) -> None:
    """The list follows within seconds, and it has changed since: it is the log of another try."""
    run_id = run_as(kfp, quiet(*WORKING))
    kfp.logs["search"] = ended(minutes)
    told = done("status", run_id)
    assert (told["stale_since"], states(told)["search"]) == (None, "running")


def test_logs_that_cannot_be_read_hide_no_task_and_prove_nothing(kfp: KfpServer) -> None:
    run_id = run_as(kfp, quiet(*WORKING, minutes=60))
    kfp.fault = Fault(503, "<html>", "text/html", where="/log")
    told = done("status", run_id)
    assert (told["stale_since"], told["reason"]) == (None, None)
    assert states(told)["search"] == "running"
    kfp.plan(run_id, quiet(*BETWEEN))
    assert "the current state is unknown: http" in nas("status", run_id).stdout


def test_progress_comes_from_mlflow_then(kfp: KfpServer, mlflow: Tracked) -> None:
    run_id = run_as(kfp, quiet(*BETWEEN), uri=mlflow.uri)
    key = run_id.replace("-", "")
    mlflow.begin(key)
    mlflow.end(mlflow.begin(f"{key}.train_final", ago_s=30), "FINISHED")
    mlflow.begin(f"{key}.profile_latency")
    mlflow.begin(f"{key}.search.child-1")
    told = done("status", run_id)
    found = {task["name"]: task for task in told["tasks"]}
    assert found["train-final"]["state"] == "succeeded"
    assert found["train-final"]["seconds"] in (29, 30, 31)
    assert found["profile-latency"]["state"] == "running"
    assert found["profile-latency"]["started_at"] is not None
    assert found["promote"]["state"] == "pending"
    assert "the current state is taken from MLflow" in nas("status", run_id).stdout


def test_a_step_that_mlflow_knows_proves_that_the_list_stands_still(
    kfp: KfpServer, mlflow: Tracked
) -> None:
    run_id = run_as(kfp, quiet(*WORKING), uri=mlflow.uri)
    key = run_id.replace("-", "")
    mlflow.begin(key, ago_s=1000)
    mlflow.begin(f"{key}.search", ago_s=900)
    told = done("status", run_id)
    assert (told["stale_since"], states(told)["search"]) == (None, "running")
    mlflow.begin(f"{key}.train_final")
    told = done("status", run_id)
    assert told["stale_since"] is not None
    assert states(told)["train-final"] == "running"


def test_what_an_earlier_run_of_a_chain_has_done_is_no_progress(
    kfp: KfpServer, mlflow: Tracked
) -> None:
    run_id = run_as(kfp, quiet(*BETWEEN), uri=mlflow.uri)
    key = run_id.replace("-", "")
    mlflow.end(mlflow.begin(f"{key}.train_final", ago_s=9000), "FAILED", ago_s=8000)
    assert states(done("status", run_id))["train-final"] == "pending"


def test_all_tasks_of_a_run_that_succeeded_did(kfp: KfpServer) -> None:
    run_id = run_as(kfp, quiet(*WORKING), Look("SUCCEEDED"))
    assert nas("status", run_id, "--wait", QUICK).exit_code == 0
    told = done("status", run_id)
    assert told["state"] == "succeeded"
    assert told["stale_since"] is not None
    assert set(states(told).values()) == {"succeeded"}


def test_a_failure_that_is_not_listed_is_found_in_its_pod(kfp: KfpServer) -> None:
    run_id = run_as(kfp, quiet(*WORKING), Look("FAILED"))
    nas("status", run_id)
    kfp.logs["search"] = ended()
    line = End("train_final", "memory", "out of memory at 2Gi").line()
    kfp.pod_logs[pod_of(run_id, "train-final")] = f"started\n{line}\n"
    told = done("status", run_id)
    assert told["reason"] == "train-final: memory: out of memory at 2Gi"
    assert states(told)["search"] == "succeeded"
    assert states(told)["train-final"] == "failed"
    assert states(told)["promote"] == "not-reached"


def test_waiting_says_that_the_list_stands_still_and_what_goes_on(kfp: KfpServer) -> None:
    run_id = run_as(kfp, *[quiet(*WORKING)] * 3, Look("SUCCEEDED"))
    kfp.logs["search"] = ended()
    kfp.pod_logs[pod_of(run_id, "train-final")] = "started\n"
    result = nas("status", run_id, "--wait", QUICK)
    assert result.exit_code == 0, result.output
    assert result.stdout.count("Kubeflow's list of tasks has not changed since") == 1
    changes = [line.split()[1:3] for line in result.stdout.splitlines() if line[2:3] == ":"]
    assert ["search", "succeeded"] in changes
    assert ["search", "running"] not in changes
    assert changes.index(["train-final", "running"]) < changes.index(["train-final", "succeeded"])


# --- a pod that does not start --------------------------------------------------------------


def test_a_pod_that_does_not_start_is_told_with_what_shows_why(kfp: KfpServer) -> None:
    kfp.logs["prepare-data"] = "prepared\n"
    waiting = Step("search", "RUNNING", tries=("PENDING",))
    run_id = run_as(kfp, quiet(Step("prepare-data"), waiting, minutes=1))
    assert done("status", run_id)["tasks"][2]["reason"] is None  # it has just begun
    kfp.plan(run_id, quiet(Step("prepare-data"), waiting, minutes=45))
    told = done("status", run_id)
    assert told["tasks"][2]["reason"].startswith("its pod has been waiting to start since 2")
    assert told["stale_since"] is None
    assert told["reason"] is None  # it is not taken for lost
    shown = nas("status", run_id, "--namespace=team-a").stdout
    assert f"kubectl describe pods -n team-a -l pipeline/runid={run_id}" in shown
    assert "kubectl get events -n team-a" in shown
    look = quiet(Step("prepare-data"), waiting)
    kfp.plan(run_id, look, look, Look("FAILED", (Step("search", "FAILED"),)))
    waited = nas("status", run_id, "--wait", QUICK)
    assert "its pod has been waiting to start since" in waited.stdout


def test_a_driver_that_does_not_start_is_that_of_its_task(kfp: KfpServer) -> None:
    waiting = Step("search", "", driver="PENDING")
    run_id = run_as(kfp, quiet(Step("prepare-data"), waiting, minutes=20))
    told = done("status", run_id)
    search = told["tasks"][2]
    assert (search["name"], search["state"]) == ("search", "pending")
    assert search["reason"].startswith("its pod has been waiting to start since")
    assert told["stale_since"] is not None  # recorded lists stood still just there


@pytest.mark.parametrize("name", ["eight-helpers", "retries-at-every-level-2"])
def test_a_recorded_list_that_stood_still_is_known_while_the_run_goes_on(
    kfp: KfpServer, name: str
) -> None:
    """The run went on for minutes; here for hours."""
    run = json.loads((GOLDEN / f"{name}.json").read_text())
    run["state"] = "RUNNING"
    run["state_history"] = [one for one in run["state_history"] if one["state"] == "RUNNING"]
    told = done("status", kfp.keep(run))
    changes = [
        change["update_time"]
        for task in run["run_details"]["task_details"]
        for change in task["state_history"]
    ]
    assert (told["state"], told["stale_since"]) == ("running", max(changes))


# --- nothing is left ------------------------------------------------------------------------


def test_a_run_whose_pods_are_gone_is_lost_and_the_wait_ends(kfp: KfpServer) -> None:
    run_id = run_as(kfp, quiet(*WORKING, minutes=60))
    kfp.logs["prepare-data"] = "prepared\n"  # which shows that logs can be read
    told = done("status", run_id)
    assert told["state"] == "running"
    assert told["reason"].startswith("nothing of it seems to be left, although Kubeflow shows it")
    assert f"close it: nas cancel {run_id}\n  continue: nas retry {run_id}" in (
        nas("status", run_id).stdout
    )
    result = nas("status", run_id, "--wait", QUICK, "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["reason"].startswith("nothing of it seems to be left")
    assert f"The run {run_id} has not ended.\nNothing of it seems to be left" in result.stderr


def test_a_lost_run_that_was_cancelled_is_closed_and_continued(kfp: KfpServer) -> None:
    """Its workflow is gone, so KFP says CANCELING for ever."""
    run_id = run_as(kfp, replace(quiet(*WORKING, minutes=60), state="CANCELING"))
    assert "is still going on (running)" in refused("retry", run_id)
    kfp.logs["prepare-data"] = "prepared\n"
    told = done("cancel", run_id, QUICK)
    assert (told["canceled"], told["state"]) == (True, "cancelled")
    assert done("retry", run_id)["retry_of"] == run_id


@pytest.mark.parametrize("minutes", [10, 60])
def test_without_proof_a_wait_goes_on(kfp: KfpServer, minutes: float) -> None:
    """Where no log can be read, or not for long enough, a run may work all the same."""
    if minutes == 10:
        kfp.logs["prepare-data"] = "prepared\n"
    run_id = run_as(kfp, *[quiet(*WORKING, minutes=minutes)] * 4, Look("SUCCEEDED", BETWEEN))
    result = nas("status", run_id, "--wait", QUICK)
    assert result.exit_code == 0, result.output


def test_mlflow_knows_whether_a_run_is_lost(kfp: KfpServer, mlflow: Tracked) -> None:
    run_id = run_as(kfp, quiet(*WORKING, minutes=60), uri=mlflow.uri)
    kfp.logs["prepare-data"] = "prepared\n"
    key = run_id.replace("-", "")
    step = mlflow.begin(f"{key}.search", ago_s=3600)
    assert done("status", run_id)["reason"] is not None
    kfp.logs.clear()
    assert done("status", run_id)["reason"] is not None  # that is proof enough
    kfp.logs["prepare-data"] = "prepared\n"
    mlflow.alive(step)
    assert done("status", run_id)["reason"] is None


def test_a_run_that_is_deleted_while_it_is_followed(kfp: KfpServer) -> None:
    run_id = run_as(kfp, quiet(*WORKING, minutes=0))
    looks: list[str] = []

    def delete(request: Request) -> None:
        looks.append(request.path)
        if len(looks) == 4:
            del kfp.runs[run_id]

    kfp.before = delete
    result = nas("status", run_id, "--wait", QUICK)
    assert result.exit_code == 2
    assert f"The run {run_id} was deleted in Kubeflow while it was followed." in result.stderr
    assert "The run continues" not in result.stderr
