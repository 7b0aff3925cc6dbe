"""A run or a schedule whose start is not answered in time is looked for, and started once."""

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import pytest
from kfp_commands import QUICK, SCHEDULE, SEARCH, done, nas, refused
from kfp_http import Fault, Request
from kfp_nodes import Step
from kfp_server import NOW, PREFIX, KfpServer, Look

from pipelines.kubeflow import starting
from pipelines.kubeflow.client import Cluster
from pipelines.kubeflow.connection import connect

NAMED = (*SEARCH, "--no-check", "--run-name=nightly")
SUCCEEDED = Look("SUCCEEDED", (Step("prepare-data"), Step("search")))
GATEWAY = Fault(504, "<html>upstream request timeout", "text/html", count=1)


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(starting, "_PAUSE_S", 0.05)
    monkeypatch.setattr(starting, "_LOOK_S", 1.0)


def lose_the_answer(
    kfp: KfpServer, path: str, fault: Fault, change: Callable[[dict[str, Any]], object] = id
) -> None:
    """What is posted is made, but the answer is another one."""

    def make(request: Request) -> None:
        if request.method == "POST" and request.path == PREFIX + path and kfp.fault is None:
            change(kfp.answer(request))
            kfp.fault = fault

    kfp.before = make


@pytest.mark.parametrize(
    "fault", [GATEWAY, Fault(hang_s=1.5, count=1), Fault(500, '{"message": "late"}', count=1)]
)
def test_a_run_whose_answer_is_lost_is_followed(kfp: KfpServer, fault: Fault) -> None:
    kfp.plans = [[SUCCEEDED]]
    lose_the_answer(kfp, "/runs", dataclasses.replace(fault))
    result = nas(*NAMED, "--timeout=0.7", "--wait", QUICK, "--json")
    assert result.exit_code == 0, result.output
    (run_id,) = kfp.runs
    assert json.loads(result.stdout)["run_id"] == run_id
    assert "checking whether the run 'nightly' was made\nIt was.\n" in result.stderr
    assert "try again" not in result.stderr
    assert len(kfp.sent("POST", "/runs")) == 1


def test_a_run_that_comes_up_late_is_found(kfp: KfpServer) -> None:
    looks: list[Request] = []

    def make_late(request: Request) -> None:
        if request.path == PREFIX + "/runs" and request.method == "GET":
            looks.append(request)
            if len(looks) == 3:
                kfp.answer(kfp.sent("POST", "/runs")[0])

    kfp.before = make_late
    kfp.fault = Fault(504, "<html>", "text/html", where="/runs", method="POST")
    told = done(*NAMED)
    assert told["run_id"] in kfp.runs
    assert len(kfp.sent("POST", "/runs")) == 1


def test_a_run_that_is_not_found_may_come_up_yet(kfp: KfpServer) -> None:
    kfp.fault = Fault(504, "<html>", "text/html", where="/runs", method="POST")
    result = nas(*NAMED)
    assert result.exit_code == 1
    assert result.stdout == ""
    message = result.stderr.splitlines()[-1]
    assert "The run 'nightly' was not found, but may come up yet: look for it" in message
    page = f"{kfp.url}/#/experiments/details/{kfp.experiments[0]['experiment_id']}"
    assert page in message
    assert "try again" not in message
    assert len(kfp.sent("POST", "/runs")) == 1
    assert kfp.runs == {}


def test_what_was_refused_is_not_looked_for(kfp: KfpServer) -> None:
    kfp.fault = Fault(400, '{"code": 3, "message": "no"}', where="/runs", method="POST")
    assert "looking" not in refused(*NAMED)
    assert kfp.sent("GET", "/runs") == []


def test_a_run_of_somebody_else_with_that_name_is_not_taken(kfp: KfpServer) -> None:
    first = done(*NAMED)["run_id"]
    kfp.fault = Fault(504, "<html>", "text/html", where="/runs", method="POST")
    result = nas(*NAMED)
    assert result.exit_code == 1
    assert "was not found" in result.stderr
    del kfp.runs[first]["description"]  # made in Kubeflow's pages, and long ago
    kfp.runs[first]["created_at"] = "2026-11-25T03:00:00Z"
    assert "was not found" in nas(*NAMED).stderr


def test_a_run_is_known_by_name_and_time_where_descriptions_are_lost(kfp: KfpServer) -> None:
    lose_the_answer(kfp, "/runs", dataclasses.replace(GATEWAY), lambda run: run.pop("description"))
    (now,) = {NOW}
    told = done(*NAMED)
    assert told["run_id"] in kfp.runs
    assert kfp.runs[told["run_id"]]["created_at"] >= now


def test_a_retry_whose_answer_is_lost_is_followed(kfp: KfpServer) -> None:
    first = done(*NAMED)["run_id"]
    kfp.plan(first, Look("FAILED", (Step("prepare-data", "FAILED"),)))
    lose_the_answer(kfp, "/runs", dataclasses.replace(GATEWAY))
    told = done("retry", first)
    assert told["run_ids"] == list(kfp.runs)
    assert len(kfp.sent("POST", "/runs")) == 2


def test_a_schedule_whose_answer_is_lost_is_found(kfp: KfpServer) -> None:
    lose_the_answer(kfp, "/recurringruns", dataclasses.replace(GATEWAY))
    told = done(*SCHEDULE, "--no-check")
    assert list(kfp.schedules) == [told["schedule_id"]]
    assert len(kfp.sent("POST", "/recurringruns")) == 1


def test_a_schedule_that_is_not_found_may_come_up_yet(kfp: KfpServer) -> None:
    kfp.fault = Fault(504, "<html>", "text/html", where="/recurringruns", method="POST")
    result = nas(*SCHEDULE, "--no-check")
    assert result.exit_code == 1
    assert "The schedule 'weekly' was not found, but may come up yet" in result.stderr


# --- the time limit -------------------------------------------------------------------------


def test_the_call_that_starts_a_run_has_more_time(kfp: KfpServer) -> None:
    found = connect(kfp.url, environment={})
    assert (found.timeout_s, found.create_timeout_s) == (15, 60)
    server = Cluster(dataclasses.replace(found, timeout_s=0.3, create_timeout_s=30))
    kfp.fault = Fault(200, '{"run_id": "r1"}', hang_s=1, where="/runs", method="POST")
    assert server.create_run({"display_name": "x"}) == {"run_id": "r1"}


def test_a_limit_that_is_given_is_that_of_all_calls() -> None:
    found = connect("http://x", timeout_s=5, environment={})
    assert (found.timeout_s, found.create_timeout_s) == (5, 5)
