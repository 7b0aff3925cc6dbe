"""The commands for Kubeflow against a server that checks every request by KFP's own contract."""

import json
import os
import shutil
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import urllib3
import yaml
from click.testing import CliRunner, Result
from kfp_server import NOW, Fault, KfpServer, Request

from components.config import loads
from nascore.errors import InputError
from pipelines import cluster as cluster_module
from pipelines.cli import main
from pipelines.connection import connect

TOKEN, COOKIE = "tok-5f2c9e-secret", "authservice_session=MTYx-cookie-secret"
IMAGE = "--image=repo/nas:1.2"
TRACKED = "--set=tracking.uri=http://mlflow:5000"
SEARCH = ("submit", IMAGE, TRACKED, "--set=method=random", "--set=seed=7")
SCHEDULE = ("schedule", "create", IMAGE, TRACKED, "--name=weekly", "--cron=0 0 3 * * 1")


@pytest.fixture(scope="session")
def swagger(offline_data: Path) -> Path:
    path = offline_data.parent / "kfp" / "kfp_api_v2beta1.swagger.json"
    if not path.is_file():
        pytest.skip(f"there is no contract of KFP beside NAS_TEST_DATA ({path.name})")
    return path


@pytest.fixture
def kfp(swagger: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[KfpServer]:
    for name in [name for name in os.environ if name.startswith(("KF_PIPELINES", "NAS_KFP"))]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(cluster_module, "_PAUSE_S", 0.01)
    server = KfpServer(swagger)
    monkeypatch.setenv("KF_PIPELINES_ENDPOINT", server.url)
    yield server
    server.close()
    assert server.violations == []


def nas(*arguments: str) -> Result:
    result = CliRunner().invoke(main, arguments)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert "Traceback" not in result.output
    return result


def done(*arguments: str) -> Any:
    """What a command that ends well prints as JSON: nothing else is on standard output."""
    result = nas(*arguments, "--json")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def refused(*arguments: str, status: int = 2) -> str:
    result = nas(*arguments)
    assert result.exit_code == status, result.output
    assert result.stdout == ""
    return result.stderr


def only(requests: list[Request]) -> Request:
    (request,) = requests
    return request


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
    assert told["state"] == "PENDING"
    assert (body["display_name"], body["service_account"]) == ("first", "nas")
    assert only(kfp.sent("POST", "/experiments")).body == {"display_name": "team"}
    assert body["experiment_id"] == kfp.experiments[0]["experiment_id"]
    assert kfp.sent("POST", "/pipelines/upload") == []
    parameters = body["runtime_config"]["parameters"]
    config = loads(parameters["config"])
    assert (config.method, config.seed, parameters["overrides"]) == ("random", 7, "")


def test_what_is_sent_is_what_kfps_own_client_would_send(kfp: KfpServer, tmp_path: Path) -> None:
    done(*SEARCH)
    sent = only(kfp.sent("POST", "/runs")).body["pipeline_spec"]
    file = str(tmp_path / "p.yaml")
    assert nas("compile", *SEARCH[1:], "-o", file).exit_code == 0
    from kfp.client import client

    document = client._extract_pipeline_yaml(file)
    client._override_caching_options(document.pipeline_spec, False, None)
    theirs = document.to_dict()
    assert set(sent) == set(theirs) == {"pipeline_spec", "platform_spec"}
    assert sent == json.loads(json.dumps(theirs))


def test_the_cache_is_off_whatever_was_compiled(tmp_path: Path) -> None:
    from pipelines.cluster_runs import without_caching

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


def test_the_pipeline_is_uploaded_once_and_then_as_new_versions(kfp: KfpServer) -> None:
    first = done(*SEARCH, "--pipeline=nas search")
    second = done(*SEARCH, "--pipeline=nas search")
    assert first["pipeline_id"] == second["pipeline_id"] == kfp.pipelines[0]["pipeline_id"]
    assert [v["pipeline_version_id"] for v in kfp.versions] == [
        first["pipeline_version_id"],
        second["pipeline_version_id"],
    ]
    body = kfp.sent("POST", "/runs")[1].body
    assert "pipeline_spec" not in body
    assert body["pipeline_version_reference"] == {
        key: second[key] for key in ("pipeline_id", "pipeline_version_id")
    }


def test_the_retraining_pipeline_can_be_chosen(kfp: KfpServer) -> None:
    done(*SEARCH, "--kind=retrain")
    spec = only(kfp.sent("POST", "/runs")).body["pipeline_spec"]["pipeline_spec"]
    assert "review" in spec["root"]["dag"]["tasks"]


def test_a_namespace_goes_with_what_belongs_to_it(kfp: KfpServer) -> None:
    done(*SEARCH, "--namespace=team-a", "--pipeline=p")
    assert only(kfp.sent("POST", "/experiments")).body["namespace"] == "team-a"
    assert only(kfp.sent("POST", "/pipelines/upload")).query["namespace"] == "team-a"
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


def task(name: str, state: str, **more: Any) -> dict[str, Any]:
    end = {"end_time": "2026-11-25T03:00:12Z"} if state in ("SUCCEEDED", "FAILED") else {}
    return {"display_name": name, "state": state, "task_id": name, "start_time": NOW, **end, **more}


def look(state: str, *tasks: dict[str, Any]) -> dict[str, Any]:
    inner = [task("root", "RUNNING"), task("search-driver", "SUCCEEDED")]
    return {"state": state, "run_details": {"task_details": [*inner, *tasks]}}


def test_waiting_says_each_change_and_ends_well(kfp: KfpServer) -> None:
    kfp.script = [
        look("RUNNING", task("prepare-data", "RUNNING")),
        look("RUNNING", task("prepare-data", "SUCCEEDED"), task("search", "RUNNING")),
        look("SUCCEEDED", task("prepare-data", "SUCCEEDED"), task("search", "SUCCEEDED")),
    ]
    result = nas(*SEARCH, "--wait", "--poll=0.1")
    assert result.exit_code == 0, result.output
    changes = [line.split()[1:3] for line in result.stdout.splitlines() if line[2:3] == ":"]
    assert changes == [
        ["prepare-data", "running"],
        ["prepare-data", "succeeded"],
        ["search", "running"],
        ["search", "succeeded"],
    ]
    assert "succeeded (12 s)" in result.stdout
    assert "driver" not in result.stdout


def test_waiting_for_a_run_that_fails_names_the_task(kfp: KfpServer) -> None:
    wrong = {"error": {"code": 2, "message": "data.source: no such file"}}
    kfp.script = [
        look("RUNNING", task("prepare-data", "RUNNING")),
        look(
            "FAILED",
            task("loop", "FAILED", child_tasks=[{"task_id": "prepare-data"}]),
            task("prepare-data", "FAILED", parent_task_id="loop", **wrong),
        ),
    ]
    result = nas(*SEARCH, "--wait", "--poll=0.1", "--json")
    assert result.exit_code == 1
    assert "The step prepare-data failed: data.source: no such file" in result.stderr
    assert "The step loop" not in result.stderr
    told = json.loads(result.stdout)
    assert told["state"] == "FAILED"
    assert told["failed"] == [{"name": "prepare-data", "error": "data.source: no such file"}]


def test_waiting_outlives_a_server_that_is_away_for_a_while(kfp: KfpServer) -> None:
    run_id = done(*SEARCH)["run_id"]
    kfp.script = [look("RUNNING"), look("SUCCEEDED")]
    kfp.fault = Fault(503, "<html>", "text/html", count=3)
    assert nas("status", run_id).exit_code == 1
    result = nas("status", run_id, "--wait", "--poll=0.1")
    assert result.exit_code == 1  # the first look is no wait yet
    kfp.fault = Fault(503, "<html>", "text/html", where=run_id, count=0)
    from pipelines.cluster_runs import wait

    kfp.fault.count = 2
    said: list[str] = []
    run = wait(cluster_module.Cluster(connect(kfp.url)), run_id, said.append, poll_s=0.01)
    assert run["state"] == "SUCCEEDED"
    assert len([line for line in said if "still waiting" in line]) == 1


def test_a_wait_that_is_refused_says_that_the_run_goes_on(kfp: KfpServer) -> None:
    kfp.fault = Fault(403, '{"code": 7, "message": "no"}', where="/runs/")
    result = nas(*SEARCH, "--wait", "--poll=0.1")
    (run_id,) = kfp.runs
    assert result.exit_code == 2
    assert f"The run goes on; follow: nas status --wait {run_id}" in result.stderr
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


# --- status, cancel -------------------------------------------------------------------------


def test_status_shows_the_tasks(kfp: KfpServer) -> None:
    run_id = done(*SEARCH, "--run-name=mine")["run_id"]
    kfp.script = [look("RUNNING", task("prepare-data", "SUCCEEDED"), task("search", "RUNNING"))]
    shown = nas("status", run_id).stdout
    assert shown.startswith("mine: running\n  prepare-data             succeeded (12 s)\n")
    told = done("status", run_id)
    assert [each["name"] for each in told["tasks"]] == ["prepare-data", "search"]


def test_cancel(kfp: KfpServer) -> None:
    run_id = done(*SEARCH)["run_id"]
    assert done("cancel", run_id) == {"run_id": run_id, "canceled": True}
    assert len(kfp.sent("POST", f"/runs/{run_id}:terminate")) == 1
    kfp.runs[run_id]["state"] = "CANCELED"
    assert "has ended already (canceled)" in refused("cancel", run_id)


# --- schedule -------------------------------------------------------------------------------


def test_a_schedule_never_catches_up_never_caches_and_runs_once_at_a_time(kfp: KfpServer) -> None:
    result = nas(*SCHEDULE)
    assert result.exit_code == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[0] == "At 03:00, only on Monday (UTC). The next times:"
    assert all(line.endswith("03:00:00 UTC") for line in lines[1:4])
    body = only(kfp.sent("POST", "/recurringruns")).body
    assert body["trigger"] == {"cron_schedule": {"cron": "0 0 3 * * 1"}}
    assert (body["max_concurrency"], body["no_catchup"], body["mode"]) == ("1", True, "ENABLE")
    text = json.dumps(body["pipeline_spec"])
    assert '"cachingOptions": {}' in text
    assert "enableCache" not in text
    assert "config" in body["runtime_config"]["parameters"]


def test_the_times_are_told_before_anything_is_made(kfp: KfpServer) -> None:
    kfp.fault = Fault(500, '{"code": 13, "message": "database is away"}')
    result = nas(*SCHEDULE)
    assert result.exit_code == 1
    assert "only on Monday" in result.stdout
    assert kfp.schedules == {}


def test_five_fields_are_refused(kfp: KfpServer) -> None:
    message = refused(*SCHEDULE[:-1], "--cron=0 3 * * 1")
    assert "'0 0 3 * * 1'" in message
    assert kfp.requests == []


def test_a_schedule_of_a_pinned_version(kfp: KfpServer) -> None:
    done(*SCHEDULE, "--pipeline=p", "--paused")
    body = only(kfp.sent("POST", "/recurringruns")).body
    assert body["mode"] == "DISABLE"
    assert body["pipeline_version_reference"] == {
        key: kfp.versions[0][key] for key in ("pipeline_id", "pipeline_version_id")
    }


def test_a_schedule_of_the_latest_version(kfp: KfpServer) -> None:
    create = ("schedule", "create", "--name=w", "--cron=0 0 3 * * 1", "--latest")
    assert "--pipeline: is needed with --latest" in refused(*create)
    message = nas(*create, "--pipeline=p").stderr
    assert "--pipeline = p: there is no pipeline of that name" in message
    assert "--preset = paper: is in the version" in refused(
        *create, "--pipeline=p", "--preset=paper"
    )
    assert "--set = nonsense" in refused(*create, "--pipeline=p", "--set=nonsense")
    message = refused(*create, "--pipeline=p", "--set=tracking.uri=http://me:hunter2@mlflow")
    assert "tracking.uri = http://me:***@mlflow: holds a user name, a password" in message
    kfp.pipelines.append({"pipeline_id": "p1", "display_name": "p"})
    done(*create, "--pipeline=p", "--set=seed=1", "--set=data.source=npz:a b.npz")
    body = only(kfp.sent("POST", "/recurringruns")).body
    assert body["pipeline_version_reference"] == {"pipeline_id": "p1"}
    assert body["runtime_config"]["parameters"] == {"overrides": "seed=1 'data.source=npz:a b.npz'"}


def test_a_name_is_given_to_one_schedule(kfp: KfpServer) -> None:
    made = done(*SCHEDULE)
    result = nas(*SCHEDULE)
    assert result.exit_code == 2
    assert f"--name = weekly: is taken by {made['schedule_id']}" in result.stderr


def test_schedules_are_listed_with_their_last_run(kfp: KfpServer) -> None:
    kfp.page = 2
    made = done(*SCHEDULE)
    for name in ("b", "c"):
        done("schedule", "create", IMAGE, TRACKED, f"--name={name}", "--cron=0 0 4 * * *")
    experiment = kfp.experiments[0]["experiment_id"]
    for run_id, state in (("r1", "SUCCEEDED"), ("r2", "FAILED")):
        run = {"run_id": run_id, "state": state, "experiment_id": experiment}
        kfp.runs[run_id] = {**run, "recurring_run_id": made["schedule_id"]}
    kfp.schedules["old"] = {
        "recurring_run_id": "old",
        "display_name": "from the pages",
        "trigger": {"cron_schedule": {"cron": "0 3 * * 1"}},
        "status": "ENABLED",
    }
    told = {each["name"]: each for each in done("schedule", "list")}
    assert list(told) == ["weekly", "b", "c", "from the pages"]
    assert told["weekly"]["last_run"] == {"run_id": "r2", "state": "FAILED"}
    assert told["weekly"]["when"] == "At 03:00, only on Monday"
    assert told["weekly"]["next"][0].endswith("03:00:00 UTC")
    assert told["b"]["last_run"] is None
    assert told["from the pages"]["when"] == "0 3 * * 1"
    header, first, *_ = nas("schedule", "list").stdout.splitlines()
    assert header.split() == ["name", "when", "next", "state", "last", "run", "id"]
    assert first.index("At 03:00") == header.index("when")


def test_no_schedules(kfp: KfpServer) -> None:
    assert "nas schedule create" in nas("schedule", "list").stdout
    assert done("schedule", "list") == []


def test_pause_resume_and_delete_by_name_or_id(kfp: KfpServer) -> None:
    made = done(*SCHEDULE)
    schedule_id = made["schedule_id"]
    assert made["state"] == "ENABLED"
    assert nas("schedule", "pause", "weekly").exit_code == 0
    assert done("schedule", "list")[0]["state"] == "DISABLED"
    assert done("schedule", "list")[0]["next"] == []
    assert done("schedule", "resume", schedule_id)["done"] == "resumed"
    assert done("schedule", "list")[0]["state"] == "ENABLED"
    assert "no such schedule" in refused("schedule", "delete", "monthly")
    kfp.schedules["twin"] = {"recurring_run_id": "twin", "display_name": "weekly"}
    message = refused("schedule", "delete", "weekly")
    assert schedule_id in message
    assert "twin" in message
    done("schedule", "delete", "twin")
    assert list(kfp.schedules) == [schedule_id]


# --- who we are -----------------------------------------------------------------------------


def test_the_token_of_a_file_goes_with_every_request(kfp: KfpServer, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    kfp.token = TOKEN
    done(*SEARCH, f"--token-file={tmp_path / 'token'}", "--pipeline=p")
    assert len(kfp.requests) > 4


def test_a_token_that_is_renewed_is_read_again(kfp: KfpServer, tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("old")
    server = cluster_module.Cluster(connect(kfp.url, pod_token=path))
    server.schedules()
    path.write_text("new")
    server.schedules()
    assert [r.headers["Authorization"] for r in kfp.requests] == ["Bearer old", "Bearer new"]
    path.unlink()
    with pytest.raises(cluster_module.ClusterError, match="cannot be read"):
        server.schedules()


def test_a_token_or_cookie_of_the_environment(
    kfp: KfpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NAS_KFP_TOKEN", TOKEN)
    monkeypatch.setenv("NAS_KFP_COOKIE", COOKIE)
    kfp.token = TOKEN
    done("schedule", "list")
    assert only(kfp.requests).headers["Cookie"] == COOKIE


def test_a_proxy_of_google_without_credentials(
    kfp: KfpServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    message = refused("schedule", "list", "--iap-client-id=client.apps")
    assert "--iap-client-id = client.apps" in message
    assert kfp.requests == []


def test_in_a_pod_the_server_of_its_cluster_is_meant() -> None:
    pod = {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}
    found = connect(None, environment=pod)
    assert found.host == "http://ml-pipeline.kubeflow.svc.cluster.local:8888"
    assert found.ui is None
    with pytest.raises(InputError, match="is missing"):
        connect(None, environment={})


@pytest.mark.parametrize(
    ("host", "told"),
    [
        ("kubeflow.example", "must begin with http"),
        ("http://", "name a host"),
        ("http://x:port", "no address"),
        ("http://me:hunter2@x", "no user or password"),
        ("http://x/pipeline/#/runs", "must end before"),
    ],
)
def test_an_address_that_cannot_be_one(host: str, told: str) -> None:
    with pytest.raises(InputError, match=told) as caught:
        connect(host, environment={})
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "told"), [("", "is empty"), ("a\nb", "more than a token"), (b"\xff\xfe", "bytes")]
)
def test_a_file_that_holds_no_token(tmp_path: Path, content: str | bytes, told: str) -> None:
    path = tmp_path / "token"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=told):
        connect("http://x", token_file=path, environment={})


def test_a_cookie_with_a_line_break_is_not_shown() -> None:
    with pytest.raises(InputError, match="NAS_KFP_COOKIE") as caught:
        connect("http://x", environment={"NAS_KFP_COOKIE": "hunter2\nHost: y"})
    assert "hunter2" not in str(caught.value)


# --- what a server may answer ---------------------------------------------------------------

ECHO = json.dumps({"code": 7, "message": f"Bearer {TOKEN} with {COOKIE} may not"})
PAGE = "<!doctype html><title>Sign in</title>"


@pytest.mark.parametrize(
    ("fault", "status", "told"),
    [
        (Fault(401, ECHO), 2, "does not know who we are (401)"),
        (Fault(401, PAGE, "text/html"), 2, "does not know who we are (401)"),
        (Fault(302, "", headers={"Location": "/dex/auth"}), 2, "wants a log-in (302)"),
        (Fault(403, ECHO), 2, "forbids this (403): Bearer *** with *** may not"),
        (Fault(404, ECHO), 2, "does not find it (404)"),
        (Fault(409, ECHO), 2, "has it already (409)"),
        (Fault(400, ECHO), 2, "refuses this (400)"),
        (Fault(429, ECHO), 1, "is too busy, at every try (429)"),
        (Fault(500, ECHO), 1, "fails (500)"),
        (Fault(503, PAGE, "text/html"), 1, "fails (503)"),
        (Fault(200, PAGE, "text/html"), 2, "does not answer as a KFP API server"),
        (Fault(404, PAGE, "text/html"), 2, "does not answer as a KFP API server"),
        (Fault(200, "[]"), 2, "does not answer as a KFP API server"),
    ],
)
@pytest.mark.parametrize("arguments", [SEARCH, ("schedule", "list"), ("status", "r1")])
def test_every_refusal_is_one_clear_message(
    kfp: KfpServer,
    monkeypatch: pytest.MonkeyPatch,
    fault: Fault,
    status: int,
    told: str,
    arguments: tuple[str, ...],
) -> None:
    monkeypatch.setenv("NAS_KFP_TOKEN", TOKEN)
    monkeypatch.setenv("NAS_KFP_COOKIE", COOKIE)
    kfp.fault = fault
    message = refused(*arguments, "--json", status=status)
    assert message.startswith(f"{kfp.url} ")
    assert told in message
    assert len(message.splitlines()) == 1
    assert "secret" not in message


def test_a_busy_server_is_asked_again_a_few_times(kfp: KfpServer) -> None:
    kfp.fault = Fault(429, ECHO, count=3)
    done("schedule", "list")
    assert len(kfp.requests) == 4
    kfp.requests.clear()
    kfp.fault = Fault(429, ECHO, headers={"Retry-After": "0"})
    refused("schedule", "list", status=1)
    assert len(kfp.requests) == 5


def test_what_may_have_been_done_is_not_sent_twice(kfp: KfpServer) -> None:
    kfp.fault = Fault(500, ECHO, where="/runs")
    refused_run = nas(*SEARCH)
    assert refused_run.exit_code == 1
    assert len(kfp.sent("POST", "/runs")) == 1


def test_a_server_that_hangs(kfp: KfpServer) -> None:
    kfp.fault = Fault(hang_s=3)
    start = time.monotonic()
    message = refused("schedule", "list", "--timeout=0.3", status=1)
    assert time.monotonic() - start < 2
    assert "did not answer within 0.3 s" in message


def test_the_time_limit_is_fifteen_seconds_by_default() -> None:
    assert connect("http://x", environment={}).timeout_s == 15


def test_nobody_answers_at_the_address(kfp: KfpServer) -> None:
    start = time.monotonic()
    message = refused("schedule", "list", "--host=http://127.0.0.1:1")
    assert "http://127.0.0.1:1 cannot be reached (Connection refused)" in message
    assert "no host of that name" in refused("status", "x", "--host=http://no.invalid")
    assert time.monotonic() - start < 10


# --- TLS ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    command += ["-keyout", str(path.with_name("key.pem")), "-out", str(path.with_name("cert.pem"))]
    command += ["-subj", "/CN=kfp", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(command, check=True, capture_output=True)
    return path.with_name("cert.pem")


@pytest.fixture
def kfp_tls(swagger: Path, certificate: Path) -> Iterator[KfpServer]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_name("key.pem"))
    server = KfpServer(swagger, tls=context)
    yield server
    server.close()
    assert server.violations == []


def test_an_unknown_certificate_is_refused_and_a_known_one_taken(
    kfp_tls: KfpServer, certificate: Path
) -> None:
    message = refused("schedule", "list", f"--host={kfp_tls.url}")
    assert "cannot be trusted" in message
    assert "--ca-file" in message
    assert kfp_tls.requests == []
    assert done("schedule", "list", f"--host={kfp_tls.url}", f"--ca-file={certificate}") == []


def test_insecure_is_never_silent(kfp_tls: KfpServer, certificate: Path) -> None:
    result = nas("schedule", "list", f"--host={kfp_tls.url}", "--insecure", "--json")
    assert result.exit_code == 0
    assert result.stdout == "[]\n"
    assert "warning: --insecure" in result.stderr
    message = refused(
        "schedule", "list", f"--host={kfp_tls.url}", "--insecure", f"--ca-file={certificate}"
    )
    assert "contradicts --ca-file" in message


def test_a_file_without_certificates(kfp: KfpServer, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")
    for name, told in (("ca.pem", "PEM form"), ("none.pem", "cannot be read")):
        assert told in refused("schedule", "list", f"--ca-file={tmp_path / name}")


def test_tls_with_a_server_that_speaks_none(kfp: KfpServer) -> None:
    message = refused("schedule", "list", f"--host={kfp.url.replace('http', 'https')}")
    assert "write http:// if it speaks no TLS" in message


# --- in a process of its own ----------------------------------------------------------------


def test_nothing_but_json_is_printed_and_no_option_takes_a_secret(
    kfp: KfpServer, tmp_path: Path
) -> None:
    environment = {**os.environ, "NAS_KFP_TOKEN": TOKEN, "PYTHONWARNINGS": "default"}
    ended = subprocess.run(
        [sys.executable, "-m", "pipelines.cli", *SEARCH, "--json"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)["run_id"] in kfp.runs
    assert TOKEN not in ended.stdout + ended.stderr
    assert list(tmp_path.iterdir()) == []
    for command in (["submit"], ["status"], ["cancel"], ["schedule", "create"]):
        shown = nas(*command, "--help").stdout
        assert "--token " not in shown
        assert "--cookie" not in shown
