"""What befalls pods and services of a search; afterwards study, registry and MLflow are whole.

Several independent faults befall one run, since a run takes nearly a minute for the starts of
Python alone. The search is the smallest: random, two children of ten steps and two of the control.
"""

import itertools
import os
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from cluster import Cluster, Fault, Pod, Run
from cluster.checks import (
    SEARCH,
    check_registry,
    check_study,
    check_success,
    key_of,
    nothing_is_running,
    tracked_statuses,
)
from cluster.store import Gate
from cluster.surroundings import DATA, Surroundings

from components.ending import End

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

Make = Callable[..., Cluster]
AWAY_S = float(os.environ.get("NAS_TEST_STORE_AWAY_S", "14"))
"""For how long KFP's store refuses at the end of each step; the launcher gives up after 11 s."""
PVC, S3 = "pvc:nas-state", "s3://nas-state"


_numbers = itertools.count(1)


class Bench:
    """One cluster, a search to submit to it, and what became of it."""

    def __init__(self, cluster: Cluster, surroundings: Surroundings, image: str, name: str) -> None:
        self.cluster, self.surroundings, self.name = cluster, surroundings, name
        self._image = image
        self.url = surroundings.furnish(cluster)
        self._looked_s, self._trials = 0.0, list[tuple[str, int, str]]()

    def submit(self, *, state: str | None, **changed: Any) -> Run:
        settings = {key.replace("__", "."): value for key, value in changed.items()}
        if state is not None:
            settings["cluster.state"] = f"{state}/{self.name}" if state == S3 else state
        if state == PVC:
            self.cluster.claim("nas-state").chmod(0o777)  # the Job of the manifests has run
        pipeline = self.surroundings.compile("search", self._image, self.name, settings)
        return self.cluster.submit(pipeline)

    def fault(self, task: str, do: Callable[[Pod], object], **options: Any) -> Fault:
        made = Fault(task, lambda pod: do(pod) and None, **options)
        self.cluster.faults.append(made)
        return made

    def trials(self) -> list[tuple[str, int, str]]:
        """Those of the study, at most a third of a second old."""
        if time.monotonic() - self._looked_s > 0.3:
            self._trials = self.surroundings.trials(self.url)
            self._looked_s = time.monotonic()
        return self._trials

    def num_trials(self) -> int:
        return len(self.trials())

    def num_complete(self) -> int:
        return sum(state == "COMPLETE" for _, _, state in self.trials())

    def check_success(self, run: Run, *, children: int = 2) -> None:
        assert run.state == "SUCCEEDED", run.tell()
        waiting = [one.task for one in self.cluster.faults if one.done_at is None]
        assert not waiting, f"nothing has befallen {waiting}"
        check_success(self.surroundings, self.name, self.url, run, children=children)

    def found(self, run: Run) -> dict[str, str]:
        """What a run has found, as far as it does not depend on the clock."""
        tags = check_registry(self.surroundings, self.name, run).tags
        return {key: tags[f"nas.{key}"] for key in ("genotype", "test_accuracy", "data_sha256")}


@pytest.fixture
def bench(
    make_cluster: Make, surroundings: Surroundings, image: str, request: pytest.FixtureRequest
) -> Iterator[Callable[..., Bench]]:
    def make(**options: Any) -> Bench:
        name = f"{request.node.originalname[5:55]}-{next(_numbers)}"
        return Bench(make_cluster(**options), surroundings, image, name)

    yield make
    surroundings.relay.mode = "pass"
    surroundings.mlflow_gate.open()


@pytest.fixture(scope="module")
def undisturbed() -> dict[str, dict[str, str]]:
    """What runs of this module have found; all have one seed, so all find the same."""
    return {}


def is_working(pod: Pod) -> bool:
    """The step's work has begun: it has said so."""
    return pod.work() is not None and " ..." in pod.text()


def same(found: dict[str, str], undisturbed: dict[str, dict[str, str]]) -> None:
    assert undisturbed.setdefault("found", found) == found


# --- the work of a step dies ------------------------------------------------------------------


@pytest.mark.parametrize("state", [PVC, S3])
def test_kill_9_of_the_work_of_every_step(bench: Any, undisturbed: Any, state: str) -> None:
    """C3, N4: nobody but the step itself starts it again."""
    one = bench()
    for step in SEARCH:
        when = is_working
        if step == "search":  # when something is in the study that must not be lost
            when = lambda pod: is_working(pod) and one.num_complete() >= 1  # noqa: E731
        one.fault(step.replace("_", "-"), Pod.kill_work, when=when)
    run = one.submit(state=state)
    run.wait(600)
    one.check_success(run)
    same(one.found(run), undisturbed)
    assert len(run.pods) == len(SEARCH) + 1
    for pod in run.pods[: len(SEARCH)]:
        assert "killed by SIGKILL; restart 1 of 20" in pod.text(), pod.task


def test_memory_runs_out_and_the_work_starts_again(bench: Any, undisturbed: Any) -> None:
    """N4."""
    one = bench()
    for task in ("search", "train-final"):
        one.fault(task, Pod.run_out_of_memory, when=is_working)
    run = one.submit(state=S3)
    run.wait(600)
    one.check_success(run)
    same(one.found(run), undisturbed)
    for pod in run.pods:
        if pod.task in ("search", "train-final"):
            assert (
                f"out of memory at 4G; raise cluster.steps.{pod.task.replace('-', '_')}.memory"
                in (pod.text())
            )


def test_memory_that_never_suffices_is_told(bench: Any, surroundings: Surroundings) -> None:
    one = bench()
    run = one.submit(state=S3, cluster__steps__train_final__memory="256M", cluster__restarts=1)
    assert run.wait(600) == "FAILED"
    failed = run.pods[-2]
    assert failed.task == "train-final", run.tell()
    end = End.parse_last(failed.text())
    assert end is not None
    assert end.kind == "memory"
    assert "raise cluster.steps.train_final.memory" in end.reason
    check_study(one.url, run, children=2)
    nothing_is_running(surroundings, one.name)
    reasons = [
        tracked.data.tags.get("nas.end_reason", "") for tracked in surroundings.tracked(one.name)
    ]
    assert any("out of memory" in reason for reason in reasons), reasons


# --- the pod is lost --------------------------------------------------------------------------


@pytest.mark.parametrize("state", [PVC, S3, None])
def test_pods_are_lost_before_and_after_their_outputs_were_uploaded(
    bench: Any, undisturbed: Any, state: str | None
) -> None:
    """SIGTERM leaves 0.05 s; then a node that is gone without any signal (H2, M9)."""
    one = bench(grace_s=0.05)
    one.fault("prepare-data", Pod.lose, when=is_working)
    one.fault("pretrain-controller", Pod.delete, at="ended")
    one.fault("search", Pod.delete, when=lambda pod: is_working(pod) and one.num_trials() >= 1)
    one.fault("search", Pod.lose, when=lambda pod: pod.attempt == 1 and one.num_complete() >= 2)
    one.fault("train-final", Pod.delete, at="uploaded")
    one.fault("profile-latency", Pod.lose, at="ended")
    one.fault("promote", Pod.delete, at="uploaded")
    run = one.submit(state=state)
    run.wait(800)
    one.check_success(run)
    same(one.found(run), undisturbed)
    assert [pod.task for pod in run.pods].count("search") == 3
    assert len(run.pods) == len(SEARCH) + 1 + 7


def test_a_promotion_that_dies_at_any_moment_registers_one_version(bench: Any) -> None:
    one = bench()
    for number in range(4):
        # Moments in which nothing, a run, a version or an alias is there.
        one.fault("promote", Pod.lose, when=partial(_has_worked_for, 2.0 + number, number))
    run = one.submit(state=S3)
    run.wait(600)
    one.check_success(run)


def _has_worked_for(seconds: float, attempt: int, pod: Pod) -> bool:
    if pod.attempt != attempt or not is_working(pod):
        return False
    began = pod.__dict__.setdefault("began", time.monotonic())
    return time.monotonic() - began > seconds


# --- services are away ------------------------------------------------------------------------


def test_mlflow_away_postgresql_restarted_and_s3_in_error(
    bench: Any, undisturbed: Any, surroundings: Surroundings
) -> None:
    one = bench()

    def errors(pod: Pod) -> None:
        surroundings.relay.mode = "errors"
        threading.Timer(6, setattr, (surroundings.relay, "mode", "pass")).start()

    def restart(pod: Pod) -> None:
        surroundings.postgres.stop()
        threading.Timer(3, surroundings.postgres.start).start()

    # A step waits a minute for MLflow before it ends: it is away for the end of one step.
    one.fault("search", lambda pod: surroundings.mlflow_gate.shut())
    one.fault("search", restart, when=lambda pod: is_working(pod) and one.num_trials() >= 1)
    one.fault("train-final", errors, when=is_working)
    one.fault("train-final", lambda pod: surroundings.mlflow_gate.open())
    run = one.submit(state=S3, search__child__max_steps=40)
    run.wait(800)
    one.check_success(run)


def test_s3_in_error_in_the_first_step(bench: Any, surroundings: Surroundings) -> None:
    one = bench()

    def errors(pod: Pod) -> None:
        surroundings.relay.mode = "errors"
        threading.Thread(target=end, args=(pod,), daemon=True).start()

    def end(pod: Pod) -> None:
        """After the second start has met them, too."""
        while pod.text().count("503") < 3 and pod.poll() is None:
            time.sleep(0.2)
        surroundings.relay.mode = "pass"

    one.fault("prepare-data", errors)
    run = one.submit(state=S3)
    run.wait(600)
    one.check_success(run)


def test_kfps_store_refuses_at_the_end_of_each_step(bench: Any, gate: Gate) -> None:
    """N9: from the download of the inputs on, until some time after the work has ended."""
    one = bench()

    def shut(pod: Pod) -> None:
        gate.shut()
        threading.Thread(target=open_later, args=(pod,), daemon=True).start()

    def open_later(pod: Pod) -> None:
        while not list(pod.folder.glob("minio/**/output_metadata.json")) and pod.poll() is None:
            time.sleep(0.1)
        time.sleep(AWAY_S)
        gate.open()

    # The first step has no input that names the store. In Kubeflow it falls back to the names of
    # KFP's own store, which the store of this cluster does not have.
    for step in (*SEARCH[1:], "close_run"):
        one.fault(step.replace("_", "-"), shut)
    run = one.submit(state=S3)
    run.wait(800)
    one.check_success(run)
    assert len(run.pods) == len(SEARCH) + 1


# --- helpers, deadlines, wrong input ----------------------------------------------------------


def test_a_worker_that_dies_for_good_does_not_fail_the_run(bench: Any) -> None:
    """H3."""
    one = bench()
    for number in range(2):
        one.fault(
            "search-worker",
            Pod.kill_work,
            when=lambda pod, number=number: is_working(pod) and one.num_trials() > number,
        )
    run = one.submit(
        state=S3,
        search__workers=2,
        search__budget__children=8,
        search__child__max_steps=60,
        cluster__restarts=1,
    )
    run.wait(600)
    one.check_success(run, children=8)
    (worker,) = (pod for pod in run.pods if pod.task == "search-worker")
    assert worker.poll() == 0
    assert End.parse_last(worker.text()) is not None


def test_a_deadline_leaves_nothing_open(bench: Any, surroundings: Surroundings) -> None:
    """N2, H2: the exit task closes what the step had no time for."""
    one = bench()
    run = one.submit(
        state=S3,
        search__budget__children=400,
        cluster__steps__search__timeout_s=15,
    )
    assert run.wait(600) == "FAILED"
    assert [pod.task for pod in run.pods] == [
        *("prepare-data", "pretrain-controller", "search", "close-run")
    ]
    nothing_is_running(surroundings, one.name)
    statuses = tracked_statuses(surroundings, one.name)
    assert statuses[key_of(run)] in ("FAILED", "KILLED")
    (parent,) = (
        tracked
        for tracked in surroundings.tracked(one.name)
        if tracked.data.tags["nas.run_key"] == key_of(run)
    )
    assert parent.data.tags["nas.end_reason"]
    trials = surroundings.trials(one.url)
    assert trials
    assert not [trial for trial in trials if trial[2] == "RUNNING"], trials


def test_wrong_input_is_tried_once_and_makes_one_mlflow_run(
    bench: Any, surroundings: Surroundings
) -> None:
    """N1, N2."""
    one = bench()
    surroundings.store.client().put_object(Bucket=DATA, Key="wrong.npz", Body=b"no archive")
    run = one.submit(state=None, data__source=f"npz:s3://{DATA}/wrong.npz")
    assert run.wait(300) == "FAILED"
    assert [pod.task for pod in run.pods] == ["prepare-data", "close-run"]
    end = End.parse_last(run.pods[0].text())
    assert end is not None
    assert end.kind == "input", run.pods[0].text()
    assert run.pods[0].text().count("prepare_data ...") == 1
    assert "Traceback" not in run.pods[0].text()
    statuses = tracked_statuses(surroundings, one.name)
    assert set(statuses.values()) == {"FAILED"}
    assert sum("." not in key for key in statuses) == 1


def test_a_volume_that_cannot_be_written_is_told(bench: Any) -> None:
    """H1."""
    one = bench()
    one.cluster.claim("nas-state")
    pipeline = one.surroundings.compile(
        "search", one._image, one.name, {"cluster.state": "pvc:nas-state"}
    )
    run = one.cluster.submit(pipeline)
    assert run.wait(300) == "FAILED"
    said = run.pods[0].text()
    assert "Traceback" not in said
    end = End.parse_last(said)
    assert end is not None
    assert end.kind == "input"
    assert "cannot be written by user 10001" in end.reason
