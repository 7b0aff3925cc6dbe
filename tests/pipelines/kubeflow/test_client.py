"""Runs on Kubeflow, against a server that checks every request by KFP's own contract."""

import json
from pathlib import Path
from typing import Any

import pytest
import urllib3
import yaml
from kfp_commands import BASE, IMAGE, QUICK, SEARCH, done, nas, only, refused
from kfp_http import Fault
from kfp_nodes import Step
from kfp_server import KfpServer, Look

from components.ending import End
from pipelines.kubeflow import client as cluster_module
from pipelines.kubeflow.connection import connect
from pipelines.kubeflow.errors import ClusterError
from pipelines.kubeflow.runs import wait

# What a pod's log holds around our lines: KFP's launcher writes to it, too.
LAUNCHER = """time=2026-11-29T16:13:35.330Z level=INFO msg="capturing logs" argo=true
I1129 16:13:35.425114      15 main.go:67] Setting log level to: '1'
{}
F1129 16:13:53.425114      15 main.go:67] failed to execute component: exit status 1
time=2026-11-29T16:13:53.414Z level=INFO msg="sub-process exited" argo=true error=<nil>
"""


@pytest.mark.parametrize(
    ("method", "path", "body", "told"),
    [
        ("POST", "/runs", {"display_nam": "x"}, "'display_nam' was unexpected"),
        ("POST", "/recurringruns", {"max_concurrency": 1}, "1 is not of type 'string'"),
        ("POST", "/recurringruns", {"mode": "ON"}, "'ON' is not one of"),
        ("POST", "/recurringruns/x:stop", None, "no such operation"),
        ("DELETE", "/recurringruns", None, "no such operation"),
        ("GET", "/runs?page=1", None, "unknown query page"),
        ("GET", "/runs?page_size=many", None, "page_size is no whole number"),
        ("POST", "/pipelines/upload", {}, "form has []"),
    ],
)
def test_the_server_sees_what_does_not_fit_the_contract(
    swagger: Path, method: str, path: str, body: Any, told: str
) -> None:
    server = KfpServer(swagger)
    urllib3.request(method, f"{server.url}/apis/v2beta1{path}", json=body)
    server.close()
    assert told in "; ".join(server.violations)


# --- submit ---------------------------------------------------------------------------------


def test_a_run_is_created_with_the_compiled_pipeline(kfp: KfpServer, tmp_path: Path) -> None:
    told = done(*SEARCH, "--run-name=first", "--experiment=team", "--service-account=nas")
    body = only(kfp.sent("POST", "/runs")).body
    assert told["run_id"] in kfp.runs
    assert told["url"] == f"{kfp.url}/#/runs/details/{told['run_id']}"
    assert told["state"] == "pending"
    assert (body["display_name"], body["service_account"]) == ("first", "nas")
    assert only(kfp.sent("POST", "/experiments")).body == {"display_name": "team"}
    assert body["experiment_id"] == kfp.experiments[0]["experiment_id"]
    assert body["runtime_config"]["parameters"] == {
        "method": "random",
        "seed": "7",
        "experiment": "team",
    }
    assert "pipeline_spec" not in body


def test_what_is_sent_is_what_kfps_own_client_would_send(kfp: KfpServer, tmp_path: Path) -> None:
    done(*BASE, "--inline")
    sent = only(kfp.sent("POST", "/runs")).body["pipeline_spec"]
    assert kfp.pipelines == []
    file = str(tmp_path / "p.yaml")
    assert nas("compile", *BASE[1:], "-o", file).exit_code == 0
    from kfp.client import client

    document = client._extract_pipeline_yaml(file)
    client._override_caching_options(document.pipeline_spec, False, None)
    theirs = document.to_dict()
    assert set(sent) == set(theirs) == {"pipeline_spec", "platform_spec"}
    assert sent == json.loads(json.dumps(theirs))


def test_the_cache_is_off_whatever_was_compiled(tmp_path: Path) -> None:
    from pipelines.kubeflow.runs import without_caching

    dag = {"dag": {"tasks": {"search": {"cachingOptions": {"enableCache": True}}}}}
    path = tmp_path / "p.yaml"
    path.write_text(yaml.safe_dump({"root": dag, "components": {"comp-loop": dag, "comp-x": {}}}))
    without_caching(path)
    assert "enableCache" not in path.read_text()


def test_an_experiment_that_is_there_is_used(kfp: KfpServer) -> None:
    kfp.experiments.append({"experiment_id": "e1", "display_name": "nas"})
    done(*SEARCH)
    assert kfp.sent("POST", "/experiments") == []
    assert only(kfp.sent("POST", "/runs")).body["experiment_id"] == "e1"


def test_an_experiment_is_found_without_case_and_that_is_told(kfp: KfpServer) -> None:
    """MySQL, which KFP ships, compares names so."""
    kfp.ignores_case = True
    kfp.experiments.append({"experiment_id": "e1", "display_name": "NAS"})
    result = nas(*SEARCH, "--json")
    assert result.exit_code == 0
    assert "the experiment 'NAS' is used; Kubeflow takes 'nas' for the same name" in result.stderr
    assert only(kfp.sent("POST", "/runs")).body["experiment_id"] == "e1"
    kfp.ignores_case = False
    assert "is used" not in nas(*SEARCH).stderr
    assert kfp.experiments[1]["display_name"] == "nas"


def test_the_retraining_pipeline_can_be_chosen(kfp: KfpServer) -> None:
    run_id = done(*SEARCH, "--kind=retrain")["run_id"]
    assert "comp-review" in kfp.spec_of(run_id)["pipeline_spec"]["components"]
    assert [one["name"] for one in kfp.pipelines] == ["nas-retrain"]


def test_a_namespace_goes_with_what_belongs_to_it(kfp: KfpServer) -> None:
    done(*SEARCH, "--namespace=team-a", "--pipeline=p")
    assert only(kfp.sent("POST", "/experiments")).body["namespace"] == "team-a"
    assert only(kfp.sent("POST", "/pipelines")).body["namespace"] == "team-a"
    assert only(kfp.sent("GET", "/pipelines")).query["namespace"] == "team-a"


@pytest.mark.parametrize("multi_user", [True, False])
def test_a_pod_uses_its_namespace_where_there_are_several_users(
    kfp: KfpServer, tmp_path: Path, multi_user: bool
) -> None:
    (tmp_path / "namespace").write_text("team-a\n")
    kfp.multi_user = multi_user
    server = cluster_module.Cluster(connect(kfp.url, pod_namespace=tmp_path / "namespace"))
    server.experiment("x")
    assert kfp.experiments[0].get("namespace") == ("team-a" if multi_user else None)
    assert len(kfp.sent("GET", "/healthz")) == 1


REST = tuple(
    Step(name)
    for name in ("train-final", "profile-latency", "train-references", "promote", "close-run")
)
RUNNING = Look("RUNNING", (Step("prepare-data"), Step("search", "RUNNING")))
SUCCEEDED = Look(
    "SUCCEEDED", (Step("prepare-data"), Step("pretrain-controller"), Step("search"), *REST)
)


def test_waiting_says_each_change_and_ends_well(kfp: KfpServer) -> None:
    kfp.plans = [[Look("RUNNING", (Step("prepare-data", "RUNNING"),)), RUNNING, SUCCEEDED]]
    result = nas(*SEARCH, "--wait", QUICK)
    assert result.exit_code == 0, result.output
    changes = [line.split()[1:3] for line in result.stdout.splitlines() if line[2:3] == ":"]
    assert changes == [
        ["prepare-data", "running"],
        ["prepare-data", "succeeded"],
        ["search", "running"],
        ["pretrain-controller", "succeeded"],
        ["search", "succeeded"],
        *([step.name, "succeeded"] for step in REST),
    ]
    assert "succeeded (12 s)" in result.stdout
    assert "driver" not in result.stdout


def failing(step: str, *later: str) -> Look:
    return Look("FAILED", (Step(step, "FAILED"), *(Step(name, "OMITTED") for name in later)))


def test_waiting_for_a_run_that_fails_names_the_task_and_why(kfp: KfpServer) -> None:
    kfp.plans = [[failing("prepare-data", "search")]]
    kfp.logs["prepare-data"] = LAUNCHER.format(
        End("prepare_data", "input", "data.source: no such file").line()
    )
    result = nas(*SEARCH, "--wait", QUICK, "--json")
    assert result.exit_code == 1
    assert "prepare-data failed: input: data.source: no such file" in result.stderr
    assert result.stderr.count(" failed: ") == 1
    told = json.loads(result.stdout)
    assert told["state"] == "failed"
    assert told["reason"] == "prepare-data: input: data.source: no such file"
    assert told["tasks"][0]["reason"] == "input: data.source: no such file"
    assert "nas retry" not in result.stderr


def test_a_step_that_left_no_word_is_lost(kfp: KfpServer) -> None:
    kfp.plans = [[failing("prepare-data")]]
    result = nas(*SEARCH, "--wait", QUICK)
    (run_id,) = kfp.runs
    assert "prepare-data failed: lost: no reason was written (pod deleted" in result.stderr
    assert f"nas-{run_id[:5]}-retry-system-container-impl-" in result.stderr
    assert f"continue: nas retry {run_id}" in result.stderr


def test_a_driver_that_fails_is_the_failure_of_its_step(kfp: KfpServer) -> None:
    kfp.plans = [[Look("FAILED", (Step("prepare-data", "FAILED", driver="FAILED"),))]]
    told = json.loads(nas(*SEARCH, "--wait", QUICK, "--json").stdout)
    assert told["reason"].startswith("prepare-data: lost: ")


def test_a_failed_run_whose_list_stands_still_is_not_without_a_cause(kfp: KfpServer) -> None:
    kfp.plans = [[RUNNING, Look("FAILED")]]
    told = json.loads(nas(*SEARCH, "--wait", QUICK, "--json").stdout)
    assert told["reason"].startswith("pipeline: lost: Kubeflow's list of its tasks names none")


def test_a_log_that_cannot_be_read_is_told_and_hides_no_task(kfp: KfpServer) -> None:
    run_id = done(*SEARCH)["run_id"]
    kfp.plan(run_id, failing("prepare-data"))
    kfp.fault = Fault(503, "<html>", "text/html", where="/log")
    told = done("status", run_id)
    assert [each["state"] for each in told["tasks"]] == ["failed", *["not-reached"] * 7]
    assert told["tasks"][0]["reason"].startswith("unknown: its log could not be read")
    assert "fails (503)" in told["reason"]


def test_waiting_outlives_a_server_that_is_away_for_a_while(kfp: KfpServer) -> None:
    run_id = done(*SEARCH)["run_id"]
    kfp.plan(run_id, RUNNING, SUCCEEDED)
    kfp.fault = Fault(503, "<html>", "text/html", count=3)
    assert nas("status", run_id).exit_code == 1
    assert nas("status", run_id, "--wait", QUICK).exit_code == 1  # the first look is no wait yet
    kfp.fault = Fault(503, "<html>", "text/html", where=run_id, count=2)
    said: list[str] = []
    run = wait(cluster_module.Cluster(connect(kfp.url)), run_id, said.append, poll_s=0.01)
    assert run.run["state"] == "SUCCEEDED"
    assert len([line for line in said if "still waiting" in line]) == 1


def test_a_wait_that_is_refused_says_that_the_run_goes_on(kfp: KfpServer) -> None:
    kfp.fault = Fault(403, '{"code": 7, "message": "no"}', where="/runs/")
    result = nas(*SEARCH, "--wait", "--poll=0.1")
    (run_id,) = kfp.runs
    assert result.exit_code == 2
    assert f"The run continues; follow: nas status --wait {run_id}" in result.stderr
    assert "nothing was started" not in result.stderr


def test_all_that_is_wrong_is_told_before_anything_is_sent(kfp: KfpServer) -> None:
    message = refused(
        "submit", "--set=sede=1", "--image=nas:latest", "--host=ftp://x", "--token-file=none"
    )
    for told in ("sede = 1: unknown key", "--image = nas:latest", "--host = ftp", "--token-file"):
        assert told in message
    assert kfp.requests == []


def test_a_password_in_the_configuration_is_not_sent(kfp: KfpServer) -> None:
    message = refused(
        "submit", IMAGE, "--set=search.storage=postgresql://nas:hunter2@db/nas", "--json"
    )
    assert "hunter2" not in message
    assert kfp.requests == []


def test_a_store_that_dies_with_its_pod_is_warned_of(kfp: KfpServer) -> None:
    result = nas("submit", IMAGE, "--json")
    assert result.exit_code == 0
    assert "warning: tracking.uri is a SQLite file" in result.stderr


# --- status ---------------------------------------------------------------------------------


def test_status_shows_the_tasks(kfp: KfpServer) -> None:
    run_id = done(*SEARCH, "--run-name=mine")["run_id"]
    kfp.plan(run_id, RUNNING)
    shown = nas("status", run_id).stdout
    first, header, prepared, *_ = shown.splitlines()
    assert first == "mine: running"
    assert header.split("  ")[1] == "task"
    assert prepared.split()[:2] == ["prepare-data", "succeeded"]
    assert "12 s" in prepared
    told = done("status", run_id)
    states = {each["name"]: each["state"] for each in told["tasks"]}
    assert list(states)[:3] == ["prepare-data", "pretrain-controller", "search"]
    assert list(states)[3:] == [step.name for step in REST]  # as the pipeline has them
    assert (states["search"], states["promote"]) == ("running", "pending")


def test_what_never_ran_is_not_pending(kfp: KfpServer) -> None:
    run_id = done(*SEARCH)["run_id"]
    kfp.plan(run_id, failing("prepare-data", "search"))
    assert "  search               not-reached\n" in nas("status", run_id).stdout
    states = {each["name"]: each["state"] for each in done("status", run_id)["tasks"]}
    assert states.pop("prepare-data") == "failed"
    assert set(states.values()) == {"not-reached"}


def test_a_cancelled_run_is_called_so(kfp: KfpServer) -> None:
    run_id = done(*SEARCH)["run_id"]
    kfp.plan(run_id, RUNNING, Look("CANCELING"), failing("search"))
    result = nas("status", run_id, "--wait", QUICK, "--json")
    assert result.exit_code == 1
    assert kfp.runs[run_id]["state"] == "FAILED"
    told = json.loads(result.stdout)
    assert told["state"] == "cancelled"
    assert told["reason"].startswith("it was cancelled at ")
    assert {each["name"]: each["state"] for each in told["tasks"]}["search"] == "cancelled"
    assert f"The run {run_id} has been cancelled." in result.stderr
    assert nas("status", run_id).stdout.splitlines()[0].endswith(": cancelled")


# --- what is wrong, and what is an outage ---------------------------------------------------


def test_a_request_that_is_wrong_is_no_outage_although_kfp_answers_500(kfp: KfpServer) -> None:
    server = cluster_module.Cluster(connect(kfp.url))
    for body, told in (
        ({"display_name": ""}, "Run name cannot be empty"),
        ({"display_name": "x", "pipeline_spec": {"root": {}}}, "unknown template format"),
    ):
        with pytest.raises(ClusterError, match=told) as caught:
            server.create_run(body)
        assert "(500)" in str(caught.value)
        assert "try again" not in str(caught.value)
        assert (caught.value.exit_status, caught.value.is_transient) == (2, False)
