"""`nas submit`, `status`, `cancel`, `retry` and `schedule delete` against the cluster's API."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import urllib3
from cluster import Cluster, Fault, Pod, Run
from cluster.api import Api
from cluster.checks import check_registry, key_of, nothing_is_running, tracked_statuses
from cluster.surroundings import DATA, Surroundings

from components.config.settings import TrackingConfig

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

S3 = "s3://nas-state/commands"


class Place:
    """A cluster with its API, and `nas` as a person calls it."""

    def __init__(
        self, cluster: Cluster, surroundings: Surroundings, image: str, name: str, home: Path
    ) -> None:
        self.cluster, self.surroundings, self.name = cluster, surroundings, name
        self.api = Api(cluster)
        self._image, self._home = image, home
        self.url = surroundings.furnish(cluster)

    def nas(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Call the command and wait for its end."""
        started = self.start_nas(*arguments)
        stdout, stderr = started.communicate(timeout=500)
        return subprocess.CompletedProcess(arguments, started.returncode, stdout, stderr)

    def start_nas(self, *arguments: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-m", "pipelines.cli", *arguments, "--host", self.api.url],
            cwd=self._home,
            env={**os.environ, "COLUMNS": "120", "OMP_NUM_THREADS": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def submitted(self, **changed: Any) -> list[str]:
        """The arguments of a submission."""
        settings = {key.replace("__", "."): value for key, value in changed.items()}
        asked = self.surroundings.settings(self.name, {"cluster.state": S3, **settings})
        given = [part for one in asked for part in ("--set", one)]
        # Pods have the network of this machine here, so that MLflow may be at 127.0.0.1.
        return [*given, "--image", self._image, "--no-check"]

    def runs(self) -> list[Run]:
        return list(self.cluster.runs.values())


@pytest.fixture
def place(
    make_cluster: Callable[..., Cluster],
    surroundings: Surroundings,
    image: str,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> Iterator[Place]:
    # A cancelled pod lives for 0.6 to 0.9 s after SIGTERM.
    made = Place(make_cluster(grace_s=0.6), surroundings, image, request.node.name[5:60], tmp_path)
    yield made
    made.api.close()


def is_searching(pod: Pod) -> bool:
    return " child 1 of" in pod.text()


def test_cancelled_and_retried_a_run_is_whole(place: Place) -> None:
    """N2, N8, H4: the exit task does not run."""
    cancelling: list[subprocess.Popen[str]] = []

    def cancel(pod: Pod) -> None:
        cancelling.append(place.start_nas("cancel", place.runs()[0].id, "--poll", "1"))

    place.cluster.faults.append(Fault("search", cancel, when=is_searching))
    submitted = place.nas(
        "submit", *place.submitted(search__budget__children=4, search__child__max_steps=200)
    )
    assert submitted.returncode == 0, submitted.stderr
    (run,) = place.runs()
    assert run.wait(300) == "FAILED"
    said, _ = cancelling[0].communicate(timeout=120)
    assert "has been cancelled" in said
    assert "close-run" not in [pod.task for pod in run.pods]
    nothing_is_running(place.surroundings, place.name)
    assert tracked_statuses(place.surroundings, place.name)[run.id.replace("-", "")] == "KILLED"
    trials = place.surroundings.trials(place.url)
    finished = sum(state == "COMPLETE" for _, _, state in trials)
    assert finished >= 1
    assert not [one for one in trials if one[2] == "RUNNING"], trials

    retried = place.nas("retry", run.id, "--wait", "--poll", "1")
    assert retried.returncode == 0, retried.stdout + retried.stderr
    _, again = place.runs()
    check_registry(place.surroundings, place.name, run)
    nothing_is_running(place.surroundings, place.name)
    statuses = tracked_statuses(place.surroundings, place.name)
    assert {key.partition(".")[0] for key in statuses} == {run.id.replace("-", "")}
    assert set(statuses.values()) == {"FINISHED"}
    trials = place.surroundings.trials(place.url)
    assert sum(state == "COMPLETE" for _, _, state in trials) == 8
    (data,) = (pod for pod in again.pods if pod.task == "prepare-data")
    assert data.poll() == 0


def test_a_lost_run_is_retried_by_the_waiting_submit(place: Place) -> None:
    """N9, N4: what nothing within the run can catch or tell is tried again from outside."""
    place.cluster.faults.append(
        Fault("train-final", Pod.kill, when=lambda pod: pod.work() is not None)
    )
    done = place.nas("submit", *place.submitted(), "--wait", "--retries", "1", "--poll", "1")
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    first, second = place.runs()
    assert (first.state, second.state) == ("FAILED", "SUCCEEDED")
    assert "train-final" in said
    nothing_is_running(place.surroundings, place.name)
    check_registry(place.surroundings, place.name, first)
    trials = place.surroundings.trials(place.url)
    assert sum(state == "COMPLETE" for _, _, state in trials) == 4


def test_status_tells_the_tasks_and_why_one_failed(place: Place) -> None:
    """H4, N4."""
    client = place.surroundings.store.client()
    client.put_object(Bucket=DATA, Key="wrong.npz", Body=b"no archive")
    wrong = place.submitted(data__source=f"npz:s3://{DATA}/wrong.npz")
    done = place.nas("submit", *wrong, "--wait", "--poll", "1")
    assert done.returncode == 1, done.stdout + done.stderr
    (run,) = place.runs()
    told = json.loads(place.nas("status", run.id, "--json").stdout)
    assert told["state"] == "failed"
    assert "wrong.npz" in told["reason"]
    tasks = {task["name"]: task for task in told["tasks"]}
    assert (tasks["prepare-data"]["state"], tasks["prepare-data"]["tries"]) == ("failed", 1)
    assert "wrong.npz" in tasks["prepare-data"]["reason"]
    assert not {name for name in tasks if "driver" in name or "executor" in name}
    refused = place.nas("retry", run.id)
    assert refused.returncode == 2
    assert "refused for its input" in refused.stderr


def test_a_schedule_is_not_deleted_with_a_run_of_it(place: Place) -> None:
    """N7."""
    schedule = ("--name", "weekly", "--cron", "0 0 3 * * 1", "--kind", "search")
    made = place.nas(
        "schedule", "create", *place.submitted(search__budget__children=400), *schedule
    )
    assert made.returncode == 0, made.stdout + made.stderr
    (schedule_id,) = place.api.schedules
    run = place.api.tick(schedule_id)
    refused = place.nas("schedule", "delete", "weekly")
    assert refused.returncode != 0
    assert run.id in refused.stdout + refused.stderr
    assert schedule_id in place.api.schedules
    assert not run.abandoned
    cancelled = place.nas("cancel", run.id, "--poll", "1")
    assert cancelled.returncode == 0, cancelled.stdout + cancelled.stderr
    assert place.nas("schedule", "delete", "weekly").returncode == 0
    assert not place.api.schedules
    nothing_is_running(place.surroundings, place.name)


def test_a_run_from_the_pages_needs_two_parameters(place: Place) -> None:
    """What the form of the pages sends: a version and the fields that were filled in."""
    paused = ("--name", "weekly", "--cron", "0 0 3 * * 1", "--paused")
    made = place.nas("schedule", "create", *place.submitted(), *paused)
    assert made.returncode == 0, made.stdout + made.stderr
    assert not place.runs()
    (version,) = place.api.pipelines.versions
    body = {
        "display_name": "Run of nas-search",
        "experiment_id": place.api.experiments[0]["experiment_id"],
        "pipeline_version_reference": {
            key: version[key] for key in ("pipeline_id", "pipeline_version_id")
        },
        "runtime_config": {"parameters": {"method": "random", "budget": "8 children"}},
    }
    answer = urllib3.request("POST", f"{place.api.url}/apis/v2beta1/runs", json=body)
    assert answer.status == 200, answer.data
    (run,) = place.runs()
    assert run.wait(500) == "SUCCEEDED"
    followed = place.nas("status", run.id, "--json")
    assert followed.returncode == 0, followed.stderr
    status = json.loads(followed.stdout)
    assert (status["name"], status["state"]) == ("Run of nas-search", "succeeded")
    assert {task["state"] for task in status["tasks"]} == {"succeeded"}
    (searching,) = (pod for pod in run.pods if pod.task == "search")
    assert " child 8 of 8" in searching.text()  # 2 are compiled in
    (tracked,) = (
        one
        for one in place.surroundings.tracked(TrackingConfig().experiment)
        if one.data.tags.get("nas.run_key") == key_of(run)
    )
    assert tracked.data.params["method"] == "random"
