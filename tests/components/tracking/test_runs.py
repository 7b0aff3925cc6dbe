"""The MLflow runs behind keys: adopted from Kubeflow, opened again, and what late events may do."""

import json
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from components.tracking import Tracker, wait_for_run
from components.tracking.closing import close_run
from components.tracking.replay import Follower
from components.tracking.replayer import UNSENT, follow
from nascore.errors import ResourceUnavailable

Runs = Callable[..., dict]


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    return tmp_path / "spool"


def log(spool: Path, store: str, *, send: bool = True, end: str | None = None, **run: Any) -> None:
    """One try of a step: it declares the runs of the pipeline and its own, and writes a metric."""
    time.sleep(0.002)  # events are ordered by milliseconds
    tracker = Tracker.open(spool, uri=store, experiment="nas")
    pipeline = tracker.run("p", name="pipeline", adopt_parent_of=run.get("adopt"))
    step = tracker.run("p.search", name="search", parent="p", **run)
    step.metrics({"accuracy": 0.5}, time.time_ns() // 1_000_000)
    if end is not None:
        step.end(end)  # type: ignore[arg-type]
        pipeline.end(end)  # type: ignore[arg-type]
    tracker.close()
    if send:
        follow(spool)


def close(store: str) -> None:
    time.sleep(0.002)
    close_run(
        uri=store, run_key="p", experiment="nas", status="FAILED", reason="pod lost", kind="lost"
    )


# --- runs of Kubeflow's MLflow plugin ---------------------------------------------------------


class Kubeflow:
    """Makes runs as the plugin does: one for the pipeline, below it groups of tasks, and tasks."""

    def __init__(self, store: str) -> None:
        self.client = MlflowClient(store)
        self.experiment_id = self.client.create_experiment("KFP-Default")

    def make(self, parent: str | None = None) -> str:
        tags = {} if parent is None else {"mlflow.parentRunId": parent}
        run_id: str = self.client.create_run(self.experiment_id, tags=tags).info.run_id
        return run_id


def test_within_branches_and_loops_the_topmost_run_is_that_of_the_pipeline(
    spool: Path, store: str, runs_by_key: Runs
) -> None:
    kubeflow = Kubeflow(store)
    pipeline = kubeflow.make()
    branch = kubeflow.make(kubeflow.make(kubeflow.make(pipeline)))  # exit handler, condition, loop
    task = kubeflow.make(branch)
    log(spool, store, adopt=task)
    found = runs_by_key(store, "KFP-Default")
    assert [run.info.run_id for run in found["p"]] == [pipeline]
    assert [run.info.run_id for run in found["p.search"]] == [task]
    assert found["p"][0].data.tags["nas.adopted"] == "true"
    assert "nas.run_key" not in kubeflow.client.get_run(branch).data.tags
    assert runs_by_key(store) == {}


@pytest.mark.parametrize("kind", ["circle", "itself", "unknown", "deleted", "too deep"])
def test_where_no_pipeline_is_above_the_task_it_has_a_run_of_its_own(
    spool: Path, store: str, runs_by_key: Runs, kind: str
) -> None:
    kubeflow = Kubeflow(store)
    top = kubeflow.make()
    task = kubeflow.make(kubeflow.make(top))
    if kind == "circle":
        kubeflow.client.set_tag(top, "mlflow.parentRunId", task)
    elif kind == "itself":
        kubeflow.client.set_tag(task, "mlflow.parentRunId", task)
    elif kind == "unknown":
        kubeflow.client.set_tag(top, "mlflow.parentRunId", "0" * 32)
    elif kind == "deleted":
        kubeflow.client.delete_run(top)
    else:
        for _ in range(25):
            task = kubeflow.make(task)
    log(spool, store, adopt=task)
    (own,) = runs_by_key(store)["p"]
    assert "nas.adopted" not in own.data.tags
    (step,) = runs_by_key(store, "KFP-Default")["p.search"]
    assert step.info.run_id == task


def test_a_run_that_was_adopted_is_known_as_such_on_a_fresh_disk(
    spool: Path, store: str, tmp_path: Path
) -> None:
    """Kubeflow's experiment may be that of this project."""
    client = MlflowClient(store)
    experiment_id = client.create_experiment("nas")
    pipeline = client.create_run(experiment_id).info.run_id
    task = client.create_run(experiment_id, tags={"mlflow.parentRunId": pipeline}).info.run_id
    log(spool, store, adopt=task)
    other = Tracker.open(tmp_path / "other", uri=store, experiment="nas")
    other.append("p.search", "end", status="FAILED")
    other.close()
    follow(tmp_path / "other")
    assert client.get_run(task).info.status == "RUNNING"


def test_another_try_of_kubeflows_writes_to_its_own_run(
    spool: Path, store: str, runs_by_key: Runs
) -> None:
    """A task that Kubeflow starts again with a new driver is given another run."""
    kubeflow = Kubeflow(store)
    pipeline = kubeflow.make()
    tries = [kubeflow.make(pipeline), kubeflow.make(pipeline)]
    for task in tries:
        log(spool, store, adopt=task)
        kubeflow.client.set_terminated(task, "FAILED")
    history = [kubeflow.client.get_metric_history(task, "accuracy") for task in tries]
    assert [len(points) for points in history] == [1, 1]
    assert [run.info.run_id for run in runs_by_key(store, "KFP-Default")["p"]] == [pipeline]


# --- runs that are opened again, and events that are late -------------------------------------


def test_a_step_that_comes_up_again_opens_its_run_and_takes_the_reason_away(
    spool: Path, store: str, runs_by_key: Runs
) -> None:
    log(spool, store)
    close(store)
    log(spool, store)
    for key in ("p", "p.search"):
        (run,) = runs_by_key(store)[key]
        assert run.info.status == "RUNNING"
        assert not {"nas.end_reason", "nas.end_kind"} & run.data.tags.keys()


def test_a_declaration_that_is_sent_late_opens_nothing(
    spool: Path, store: str, runs_by_key: Runs
) -> None:
    log(spool, store, send=False)
    pending = Tracker.open(spool.parent / "first", uri=store, experiment="nas")
    pending.run("p", name="pipeline")
    pending.run("p.search", name="search", parent="p")
    pending.close()
    follow(spool.parent / "first")
    close(store)
    follow(spool)
    (run,) = runs_by_key(store)["p.search"]
    assert run.info.status == "FAILED"
    assert run.data.tags["nas.end_reason"] == "pod lost"
    assert run.data.metrics == {"accuracy": 0.5}, "what it logged arrives"


def test_a_step_that_ended_well_before_it_was_thought_lost_is_finished(
    spool: Path, store: str, runs_by_key: Runs
) -> None:
    log(spool, store)
    log(spool, store, send=False, end="FINISHED")
    close(store)
    follow(spool)
    for key in ("p", "p.search"):
        (run,) = runs_by_key(store)[key]
        assert run.info.status == "FINISHED"
        assert "nas.end_reason" not in run.data.tags


def test_a_failure_that_is_sent_late_does_not_undo_the_success_of_a_later_try(
    spool: Path, store: str, runs_by_key: Runs, tmp_path: Path
) -> None:
    log(spool, store, send=False, end="FAILED")
    log(tmp_path / "later", store, end="FINISHED")
    follow(spool)
    for key in ("p", "p.search"):
        (run,) = runs_by_key(store)[key]
        assert run.info.status == "FINISHED"


def test_a_failure_that_is_sent_late_leaves_a_cancelled_run_as_it_is(
    spool: Path, store: str, runs_by_key: Runs
) -> None:
    log(spool, store)
    log(spool, store, send=False, end="FAILED")
    time.sleep(0.002)
    close_run(
        uri=store, run_key="p", experiment="nas", status="KILLED", reason="by ada", kind="stopped"
    )
    follow(spool)
    (run,) = runs_by_key(store)["p.search"]
    assert (run.info.status, run.data.tags["nas.end_reason"]) == ("KILLED", "by ada")


# --- signs of life ----------------------------------------------------------------------------


def test_open_runs_carry_the_time_of_the_last_sign_of_life(
    spool: Path, store: str, runs_by_key: Runs
) -> None:
    log(spool, store, send=False)
    tracker = Tracker.open(spool, uri=store, experiment="nas")
    tracker.run("p.prepare", name="prepare", parent="p").end()
    replay = Follower(spool)
    replay.drain(last=False)
    replay.give_sign()
    found = runs_by_key(store)
    for key in ("p", "p.search"):
        alive = datetime.fromisoformat(found[key][0].data.tags["nas.alive"])
        assert abs(alive.timestamp() - time.time()) < 30
    assert "nas.alive" not in found["p.prepare"][0].data.tags, "it has ended"
    MlflowClient(store).delete_run(found["p.search"][0].info.run_id)
    replay.give_sign()  # a deleted run is no reason to end
    tracker.close()


def test_a_follower_gives_signs_of_life_while_the_step_is_at_work(
    spool: Path, store: str, runs_by_key: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    from components.tracking import replay
    from components.tracking.spool import CLOSED

    log(spool, store, send=False)
    signs: list[float] = []

    def give_sign(self: Follower) -> None:
        signs.append(time.monotonic())
        if len(signs) == 3:
            (spool / CLOSED).touch()

    monkeypatch.setattr(replay.Follower, "give_sign", give_sign)
    monkeypatch.setattr("components.tracking.replayer._SIGN_EVERY_S", 0.3)
    follow(spool, until_closed=True)
    assert len(signs) == 3
    assert 0.25 < signs[2] - signs[1] < 2
    follow(spool)
    assert len(signs) == 3, "sending what was left is no sign of life"
    assert json.loads((spool / "state.json").read_text())["runs"].keys() == {"p", "p.search"}


# --- what MLflow's users have deleted -----------------------------------------------------------


def test_a_deleted_run_of_kubeflows_is_not_adopted(
    spool: Path, store: str, runs_by_key: Runs
) -> None:
    kubeflow = Kubeflow(store)
    task = kubeflow.make()
    kubeflow.client.delete_run(task)
    log(spool, store, adopt=task)
    found = runs_by_key(store)
    assert found["p.search"][0].info.run_id != task
    assert found["p.search"][0].data.metrics == {"accuracy": 0.5}
    assert not (spool / "rejected.jsonl").exists()


def test_events_of_a_deleted_run_are_put_aside_and_reported_once(
    spool: Path, store: str, runs_by_key: Runs, capfd: pytest.CaptureFixture[str]
) -> None:
    log(spool, store)
    MlflowClient(store).delete_run(runs_by_key(store)["p.search"][0].info.run_id)
    tracker = Tracker.open(spool, uri=store, experiment="nas")
    for number in range(3):
        tracker.append("p.search", "tags", values={"number": str(number)})
    tracker.close()
    follow(spool)
    assert len((spool / "rejected.jsonl").read_text().splitlines()) == 3
    output = capfd.readouterr().err
    assert output.count("cannot be sent") == 1
    assert "'active' state" in output


@pytest.mark.parametrize(
    ("experiment", "message"),
    [("deleted", "is deleted; restore it in MLflow"), ("n" * 600, "cannot be made")],
)
def test_an_experiment_that_cannot_be_written_ends_the_follower_at_once(
    spool: Path, store: str, experiment: str, message: str
) -> None:
    client = MlflowClient(store)
    client.delete_experiment(client.create_experiment("deleted"))
    tracker = Tracker.open(spool, uri=store, experiment=experiment)
    tracker.run("p", name="pipeline")
    tracker.close()
    start = time.monotonic()
    assert follow(spool) == UNSENT
    assert time.monotonic() - start < 15
    with pytest.raises(ResourceUnavailable, match=message):
        wait_for_run(spool, "p", timeout_s=60)
