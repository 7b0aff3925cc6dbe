"""Recorded runs of KFP 2.17.0 with Argo 4.0.5, through `nas status` and `nas status --wait`.

`tests/golden/status/runs` holds what the API server answered, without ids and times that nothing
reads; the answers lack the compiled pipeline, and the logs were not recorded. `make golden` renews
the texts; read the difference before committing it.
"""

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from kfp_commands import nas
from kfp_http import Request
from kfp_server import KfpServer

from components.ending import End
from pipelines.kubeflow import clock
from pipelines.kubeflow.connection import connect
from pipelines.kubeflow.errors import ClusterError, refused
from pipelines.kubeflow.status.task_nodes import read

GOLDEN = Path(__file__).parents[3] / "golden" / "status"
RECORDED = sorted(path.stem for path in (GOLDEN / "runs").glob("*.json"))
RUNS = sorted({re.sub(r"-\d+$", "", name) for name in RECORDED})
STATES = ("pending", "running", "succeeded", "failed", "skipped", "cancelled", "not-reached")
TRACEBACK = """Traceback (most recent call last):
  File "components/steps/runtime.py", line 123, in step
PermissionError: [Errno 13] Permission denied: '/var/lib/nas/a09bd96c'
F1129 16:06:05.113902      15 main.go:67] failed to execute component: exit status 1
"""
LOGS = {
    "first-step-fails": {"prepare-data": TRACEBACK},
    "empty-folder-lost": {"train-final": End("train_final", "crash", "weights: is missing").line()},
    "retries-at-every-level": {
        "prepare-data": End("prepare_data", "input", "data.source = nases on /nowhere").line()
    },
    "max-duration": {"search": End("search", "stopped", "SIGTERM").line()},
}
"""Logs as such steps write them."""


@pytest.fixture
def recorded(kfp: KfpServer, monkeypatch: pytest.MonkeyPatch) -> "Recorded":
    monkeypatch.setenv("KF_PIPELINES_UI_ENDPOINT", "https://kubeflow.example.org/pipeline")
    return Recorded(kfp, monkeypatch)


class Recorded:
    """The API server as it was at the time of a recording."""

    def __init__(self, kfp: KfpServer, monkeypatch: pytest.MonkeyPatch) -> None:
        self.kfp = kfp
        self.now = datetime.now(UTC)
        monkeypatch.setattr(clock, "now", lambda: self.now)

    def show(self, name: str, *, later: timedelta = timedelta(seconds=30)) -> str:
        """The run is as in this recording; the time is a bit later. Returns its id."""
        run = json.loads((GOLDEN / "runs" / f"{name}.json").read_text())
        listed = read(run)
        times = [run["state_history"][-1]["update_time"], listed.changed]
        self.now = datetime.fromisoformat(max(times)) + later
        for task in listed.tasks:
            text = LOGS.get(re.sub(r"-\d+$", "", name), {}).get(task.base)
            if text is not None:
                self.kfp.pod_logs |= {node: text for node in task.nodes}
        return self.kfp.keep(run)


def check(golden: Path, text: str, request: pytest.FixtureRequest) -> None:
    if request.config.getoption("--renew-golden"):
        golden.write_text(text)
    assert text == golden.read_text()


@pytest.mark.parametrize("name", RECORDED)
def test_status_of_a_recorded_run(
    recorded: Recorded, name: str, request: pytest.FixtureRequest
) -> None:
    run_id = recorded.show(name)
    human, machine = nas("status", run_id), nas("status", run_id, "--json")
    assert human.exit_code == machine.exit_code == 0
    told = json.loads(machine.stdout)
    assert list(told) == ["run_id", "name", "state", "reason", "tasks", "stale_since", "url"]
    assert told["state"] in STATES
    for task in told["tasks"]:
        assert list(task) == ["name", "state", "started_at", "seconds", "tries", "reason"]
        assert task["state"] in STATES
        assert (task["reason"] is not None) or task["state"] != "failed"
    names = [task["name"] for task in told["tasks"]]
    assert len(names) == len(set(names))
    shown = json.dumps(told, indent=1, ensure_ascii=False)
    check(GOLDEN / f"{name}.txt", f"{human.stdout}{human.stderr}\n{shown}\n", request)


@pytest.mark.parametrize("run", RUNS)
def test_waiting_for_a_recorded_run(
    recorded: Recorded, run: str, request: pytest.FixtureRequest
) -> None:
    """The recordings of one run are what the API server answers one after the other."""
    names = [name for name in RECORDED if re.sub(r"-\d+$", "", name) == run]
    if run == "eight-helpers":
        names = [run]
    looks = iter(names[1:])
    run_id = recorded.show(names[0])
    seen: list[str] = []

    def answer(asked: Request) -> None:
        if asked.path.endswith(f"/runs/{run_id}") and asked.method == "GET":
            seen.append(asked.path)
            if len(seen) > 2:  # the first look is that of the command, the second of the wait
                following = next(looks, None)
                if following is not None:
                    recorded.show(following)

    recorded.kfp.before = answer
    result = nas("status", run_id, "--wait", "--poll=0.1")
    state = json.loads((GOLDEN / "runs" / f"{names[-1]}.json").read_text())["state"]
    assert result.exit_code == (0 if state == "SUCCEEDED" else 1)
    text = f"{result.stdout}--- exit status {result.exit_code}\n{result.stderr}"
    check(GOLDEN / f"{run}.wait.txt", text, request)


# --- recorded answers -----------------------------------------------------------------------

ANSWERS: dict[str, tuple[str, int]] = {
    "artifacts": ("has no such call (404): it is no Kubeflow Pipelines 2.17", 2),
    "create-recurring-bad-cron": ("refuses this (400): Failed to create a recurring run", 2),
    "create-run-bad-experiment": ("Experiment nope not found; check the name or id", 2),
    "create-run-bad-spec": ("this is not an outage; correct the request", 2),
    "create-run-empty": ("Run name cannot be empty; this is not an outage", 2),
    "create-run-no-json": ("refuses this (400): unexpected EOF", 2),
    "experiment-not-found": ("Experiment x not found; check the name or id", 2),
    "list-runs-bad-filter": ("failed to parse valid filter", 2),
    "list-runs-bad-token": ("Invalid page token", 2),
    "recurring-not-found": ("Job x not found; check the name or id", 2),
    "run-bad-id": ("Run x not found; check the name or id", 2),
    "run-not-found": ("Run 00000000-0000-0000-0000-000000000000 not found; check", 2),
    "terminate-finished": ("refuses this (400): Failed to terminate a run", 2),
    "terminate-unknown": ("Run x not found; check the name or id", 2),
}
GOOD = {"experiments", "healthz", "node-log", "node-log-unknown", "pipelines"}


@pytest.fixture
def answers(swagger: Path) -> dict[str, dict[str, Any]]:
    folder = swagger.parent / "answers"
    texts = {path.stem: path.read_text() for path in folder.glob("*.json")}
    return {name: json.loads(text) for name, text in texts.items() if text}


def test_every_recorded_refusal_has_its_message(answers: dict[str, dict[str, Any]]) -> None:
    assert set(answers) <= ANSWERS.keys() | GOOD
    for name, (told, exit_status) in ANSWERS.items():
        answer = answers[name]
        error: ClusterError = refused(
            connect("http://kfp"), answer["status"], json.dumps(answer["body"])
        )
        assert told in str(error), name
        assert error.exit_status == exit_status
        assert not error.is_transient
        assert error.is_missing == (answer["status"] == 404 and name != "artifacts")
