"""`nas logs`: the log of a step, through the way of KFP's API that its pages use."""

import json
from pathlib import Path
from typing import Any

import pytest
from kfp_commands import QUICK, SEARCH, done, nas, refused
from kfp_http import Fault, Request
from kfp_nodes import Group, Loop, Step
from kfp_server import KfpServer, Look

from components.ending import End
from pipelines.kubeflow.status.step_log import PodLog

BEGIN = """time=2026-11-29T16:13:35.330Z level=INFO msg="capturing logs" argo=true
I1129 16:13:35.425114      15 main.go:67] Setting log level to: '1'
[KFP Executor 2026-11-29 16:13:35,593 INFO]: Got executor_input:
{
    "inputs": {}
}
"""
OWN = """16:13:36  search ...
16:13:46  search  child 1 of 8: 0.712, best 0.712
"""
END = """I1129 16:13:52.506771      15 launcher_v2.go:1230] ExecutorOutput: {
  "artifacts": {}
}
I1129 16:13:52.591883      15 launcher_v2.go:206] publish success.
time=2026-11-29T16:13:53.414Z level=INFO msg="sub-process exited" argo=true error=<nil>
"""
RUNNING = Look("RUNNING", (Step("prepare-data"), Step("search", "RUNNING")))
FAILED = Look(
    "FAILED", (Step("prepare-data"), Step("search", "FAILED"), Step("train-final", "OMITTED"))
)


def started(kfp: KfpServer, *looks: Look) -> str:
    run_id = str(done(*SEARCH)["run_id"])
    kfp.plan(run_id, *looks)
    return run_id


# --- which lines ----------------------------------------------------------------------------


def test_a_recorded_log_without_the_lines_of_kfp_and_argo(swagger: Path) -> None:
    answer = json.loads((swagger.parent / "answers" / "node-log.json").read_text())
    log = PodLog.of(answer["text"])
    own = log.own_lines()
    assert len(own) < 20 < 200 < len(log.text.splitlines())
    assert not [line for line in own if "argo=true" in line or ".go:" in line or '"uri"' in line]
    assert own[-1].startswith("🧪 View experiment at:")
    assert log.has_succeeded
    assert log.launcher_error == ""


def test_lines_of_a_step_that_look_alike_are_kept() -> None:
    own = ["{", '  "accuracy": 1', "}", "I am no klog line", "time=5 s", "", "[KFP] hello"]
    assert PodLog("\n".join(own)).own_lines() == own


def test_an_error_behind_a_log_is_no_line_of_it() -> None:
    log = PodLog.of('started\n{"error_message":"Failed to read logs: gone","error_details":"x"}')
    assert (log.text, log.error) == ("started\n", "Failed to read logs: gone")
    assert PodLog.of('say {"error_message": 5').text == 'say {"error_message": 5'


def test_the_log_of_a_step_is_printed(kfp: KfpServer) -> None:
    run_id = started(kfp, RUNNING)
    kfp.logs |= {"search": BEGIN + OWN + END, "prepare-data": "prepared\n"}
    assert nas("logs", run_id, "search").stdout == OWN
    assert nas("logs", run_id, "search", "--raw").stdout == BEGIN + OWN + END
    assert nas("logs", run_id, "search", "--tail=1").stdout == OWN.splitlines(True)[-1]
    assert nas("logs", run_id, "prepare_data").stdout == "prepared\n"


def test_a_secret_in_a_log_is_not_shown(kfp: KfpServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAS_KFP_TOKEN", "tok-5f2c9e-secret")
    run_id = started(kfp, RUNNING)
    kfp.logs["search"] = "postgresql://nas:hunter2@db tok-5f2c9e-secret"
    assert nas("logs", run_id).stdout == "postgresql://nas:***@db ***\n"


# --- which step -----------------------------------------------------------------------------


def test_the_failed_step_is_shown_by_default_else_the_running_one(kfp: KfpServer) -> None:
    run_id = started(kfp, RUNNING)
    kfp.logs |= {"search": "of the search\n", "prepare-data": "of the data\n"}
    assert nas("logs", run_id).stdout == "of the search\n"
    kfp.plan(run_id, Look("FAILED", (Step("prepare-data", "FAILED"), Step("search", "RUNNING"))))
    assert nas("logs", run_id).stdout == "of the data\n"
    kfp.plan(run_id, Look("SUCCEEDED", (Step("prepare-data"), Step("search"))))
    assert nas("logs", run_id).stdout == "of the search\n"  # the last one


def test_a_step_of_a_loop_is_named_by_its_number(kfp: KfpServer) -> None:
    loop = Loop("for-loop-2", tuple((Step("worker"),) for _ in range(3)))
    run_id = started(kfp, Look("RUNNING", (Group("exit-handler-1", (loop, Step("search"))),)))
    nas("status", run_id)
    for number, node in enumerate(kfp.pods_of(run_id)["worker"]):
        kfp.pod_logs[node] = f"of worker {number}\n"
    assert nas("logs", run_id, "worker[2]").stdout == "of worker 2\n"
    message = refused("logs", run_id, "worker")
    assert "is several tasks; give one of worker[0], worker[1], worker[2]" in message


def test_a_step_that_is_not_there(kfp: KfpServer) -> None:
    run_id = started(kfp, RUNNING)
    message = refused("logs", run_id, "serach")
    assert "STEP = serach: is no task of this run; give one of prepare-data" in message
    assert "does not find it (404)" in refused("logs", "x")


# --- a log that is not there ----------------------------------------------------------------


def test_a_log_that_is_gone_is_told_with_the_way_of_kubernetes(kfp: KfpServer) -> None:
    run_id = started(kfp, FAILED)
    message = refused("logs", run_id, "--namespace=team-a", status=1)
    assert message.startswith("Kubeflow has no log of search (")
    assert "It failed: lost: " in message
    pod = f"nas-{run_id[:5]}-retry-system-container-impl-"
    assert f"\n  kubectl logs -n team-a {pod}" in message
    assert message.endswith(" -c main\n")
    assert "-n kubeflow " in refused("logs", run_id, status=1)


def test_an_empty_answer_is_no_log_either(kfp: KfpServer) -> None:
    """So KFP has answered for a pod that it did not know (recorded)."""
    run_id = started(kfp, FAILED)
    kfp.fault = Fault(200, "", "text/plain", where="/log")
    assert "kubectl logs" in refused("logs", run_id, "search", status=1)


def test_a_step_that_did_not_run_has_no_log(kfp: KfpServer) -> None:
    run_id = started(kfp, FAILED)
    told = refused("logs", run_id, "train-final", status=1)
    assert told == "train-final has no log: it did not run (not-reached).\n"
    kfp.plan(run_id, RUNNING)
    assert "it has not started; see nas status" in refused("logs", run_id, "promote", status=1)


# --- to follow ------------------------------------------------------------------------------


def growing(kfp: KfpServer, run_id: str, *texts: str, then: Look) -> None:
    """The log of the search is longer each time somebody reads it; then the step has ended."""
    left = list(texts)

    def grow(request: Request) -> Any:
        if request.path.endswith("/log"):
            if left:
                kfp.logs["search"] = kfp.logs.get("search", "") + left.pop(0)
            if not left:
                kfp.plan(run_id, then)

    kfp.before = grow


def test_a_log_is_followed_until_the_step_ends(kfp: KfpServer) -> None:
    run_id = started(kfp, RUNNING)
    parts = (BEGIN, "one\ntw", "o\n", "three", END.replace("I1129", "\nI1129", 1))
    growing(kfp, run_id, *parts, then=Look("RUNNING", (Step("prepare-data"), Step("search"))))
    result = nas("logs", run_id, "search", "--follow", QUICK)
    assert result.exit_code == 0, result.output
    assert result.stdout == "one\ntwo\nthree\n"
    assert result.stderr == "search succeeded\n"


def test_following_shows_the_end_of_what_is_there_first(kfp: KfpServer) -> None:
    run_id = started(kfp, RUNNING)
    growing(kfp, run_id, "1\n2\n3\n", "4\n5\n", then=FAILED)
    result = nas("logs", run_id, "-f", "--tail=1", QUICK)
    assert result.stdout == "3\n4\n5\n"
    assert result.stderr == "search failed\n"


def test_following_goes_on_with_the_next_try(kfp: KfpServer) -> None:
    again = Step("search", "RUNNING", tries=("FAILED", "RUNNING"))
    run_id = started(kfp, RUNNING)
    nas("status", run_id)
    first = kfp.pods_of(run_id)["search"][0]
    kfp.pod_logs[first] = "first try\n"
    looks = 0

    def go_on(request: Request) -> Any:
        nonlocal looks
        looks += request.path.endswith(run_id)
        if looks == 2:
            kfp.plan(run_id, Look("RUNNING", (Step("prepare-data"), again)))
            kfp.logs["search"] = "second try\n"
        elif looks == 4:
            kfp.plan(run_id, Look("FAILED", (Step("search", "FAILED", ("FAILED", "FAILED")),)))

    kfp.before = go_on
    result = nas("logs", run_id, "search", "-f", QUICK)
    assert result.stdout == "first try\nsecond try\n"
    assert result.stderr == "--- try 2 of search\nsearch failed\n"


def test_following_waits_for_a_step_that_has_not_started(kfp: KfpServer) -> None:
    kfp.logs["search"] = "here\n"
    ended = Look("FAILED", (Step("prepare-data"), Step("search", "FAILED")))
    run_id = started(kfp, Look("RUNNING", (Step("prepare-data", "RUNNING"),)), RUNNING, ended)
    result = nas("logs", run_id, "search", "--follow", QUICK)
    assert result.stdout == "here\n"
    assert "search has no log yet (" in result.stderr


def test_following_outlives_a_server_that_is_away(kfp: KfpServer) -> None:
    run_id = started(kfp, RUNNING)
    growing(kfp, run_id, "one\n", "two\n", "three\n", then=FAILED)
    kfp.fault = Fault(503, "<html>", "text/html", where="/log", count=2)
    result = nas("logs", run_id, "--follow", QUICK)
    assert result.stdout == "one\ntwo\nthree\n"
    assert result.stderr.count("still waiting") == 1


def test_of_a_very_long_log_the_end_is_kept(kfp: KfpServer) -> None:
    run_id = started(kfp, RUNNING)
    kfp.logs["search"] = "".join(f"line {number:07d}\n" for number in range(200_000))
    result = nas("logs", run_id)
    assert result.stdout.endswith("line 0199999\n")
    assert len(result.stdout) <= 2**20
    assert "The log has 2.6 MB; its end follows." in result.stderr


def test_the_end_line_of_a_step_is_its_own(kfp: KfpServer) -> None:
    run_id = started(kfp, FAILED)
    line = End("search", "memory", "out of memory at 2Gi").line()
    kfp.logs["search"] = f"{BEGIN}{line}\n{END}"
    assert nas("logs", run_id).stdout == f"{line}\n"
