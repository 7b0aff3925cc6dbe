"""MLflow runs that ended pipelines have left open, in files, on a server and in PostgreSQL."""

import os
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow_server import MlflowServer
from postgres import Postgres

from components.tracking.closing import Closed, close_ended_runs, close_run, status_of
from nascore.errors import ResourceUnavailable

KEY = "8fb52f1770784bd48f80cd75000fa15b"
KFP_ID = "8fb52f17-7078-4bd4-8f80-cd75000fa15b"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> Iterator[MlflowServer]:
    folder = tmp_path_factory.mktemp("server")
    (folder / "mlflow.db").write_bytes(empty_store.read_bytes())
    server = MlflowServer(folder)
    yield server
    server.stop()


@dataclass
class Made:
    """Runs of a pipeline, by key."""

    client: MlflowClient
    experiment_id: str

    def add(self, key: str, status: str = "RUNNING", **tags: str) -> str:
        named = {f"nas.{name}": value for name, value in tags.items()}
        run = self.client.create_run(self.experiment_id, tags={"nas.run_key": key, **named})
        run_id: str = run.info.run_id
        if status != "RUNNING":
            self.client.set_terminated(run_id, status)
        return run_id

    def get(self, run_id: str) -> Any:
        return self.client.get_run(run_id)

    def status(self, run_id: str) -> str:
        return str(self.get(run_id).info.status)


@pytest.fixture
def made(store: str) -> Made:
    client = MlflowClient(store)
    return Made(client, client.create_experiment("nas"))


def close(uri: str, **changed: Any) -> Closed:
    given = {"run_key": KEY, "experiment": "nas", "status": "FAILED"}
    given |= {"reason": "search: out of memory at 2 GiB", "kind": "memory"}
    return close_run(uri=uri, **(given | changed))


def close_a_pipeline(uri: str, made: Made) -> None:
    """Runs of two pipelines, one of which has ended."""
    keys = (KEY, f"{KEY}.search", f"{KEY}.search.child-3")
    runs = [made.add(key) for key in keys]
    done = made.add(f"{KEY}.prepare_data", "FINISHED")
    others = [made.add("7" * 32), made.add(f"{KEY}0"), made.add(f"{KEY}0.search")]
    start_ms = int(time.time() * 1000)
    assert sorted(close(uri).run_ids) == sorted(runs)
    for run_id in runs:
        run = made.get(run_id)
        assert run.info.status == "FAILED"
        assert start_ms <= run.info.end_time <= time.time() * 1000
        assert run.data.tags["nas.end_reason"] == "search: out of memory at 2 GiB"
        assert run.data.tags["nas.end_kind"] == "memory"
    assert "nas.end_reason" not in made.get(done).data.tags
    assert [made.status(run_id) for run_id in (done, *others)] == ["FINISHED", *["RUNNING"] * 3]
    assert close(uri, status="KILLED", reason="other") == Closed(), "a second time changes nothing"
    assert made.status(runs[0]) == "FAILED"


def test_all_runs_of_the_pipeline_that_are_open_are_ended_with_the_reason(
    store: str, made: Made
) -> None:
    close_a_pipeline(store, made)


def test_so_they_are_on_a_server_and_nothing_is_printed(
    mlflow_server: MlflowServer, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    uri = mlflow_server.uri
    client = MlflowClient(uri)
    known = client.get_experiment_by_name("nas")  # of other modules
    made = Made(client, known.experiment_id if known else client.create_experiment("nas"))
    made.add("8" * 32)
    monkeypatch.delenv("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT")
    assert len(close(uri, run_key="8" * 32).run_ids) == 1
    assert capfd.readouterr() == ("", "")
    close_a_pipeline(uri, made)


def test_so_they_are_in_a_database(postgres: Postgres) -> None:
    uri = postgres.new_database()
    client = MlflowClient(uri)
    close_a_pipeline(uri, Made(client, client.create_experiment("nas")))


def test_a_key_with_an_underscore_finds_its_own_runs_only(store: str, made: Made) -> None:
    """LIKE takes an underscore for any character."""
    own, other = made.add("a_b.search"), made.add("axb.search")
    assert close(store, run_key="a_b").run_ids == (own,)
    assert made.status(other) == "RUNNING"


def test_more_runs_than_one_answer_holds_are_all_closed(
    store: str, made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    from components.tracking import pipeline_runs

    monkeypatch.setattr(pipeline_runs, "_AT_ONCE", 2)
    for number in range(5):
        made.add(f"{KEY}.search.child-{number}")
    assert len(close(store).run_ids) == 5


def test_a_pipeline_that_failed_by_itself_is_given_the_reason_if_it_has_none(
    store: str, made: Made
) -> None:
    pipeline = made.add(KEY, "FAILED")
    step = made.add(f"{KEY}.search", "FAILED")
    assert close(store) == Closed()
    assert made.get(pipeline).data.tags["nas.end_kind"] == "memory"
    assert "nas.end_kind" not in made.get(step).data.tags
    close(store, reason="another", kind="crash")
    assert made.get(pipeline).data.tags["nas.end_kind"] == "memory"


def test_the_word_of_the_step_itself_stays(store: str, made: Made) -> None:
    step = made.add(f"{KEY}.search", end_reason="its own", end_kind="crash")
    assert close(store).run_ids == (step,)
    assert made.get(step).data.tags["nas.end_reason"] == "its own"
    assert made.status(step) == "FAILED"


def test_a_run_that_succeeded_is_closed_without_a_reason(store: str, made: Made) -> None:
    pipeline, step = made.add(KEY, "FINISHED"), made.add(f"{KEY}.search")
    assert close(store, status="FINISHED", reason="", kind="").run_ids == (step,)
    assert [made.status(run_id) for run_id in (pipeline, step)] == ["FINISHED", "FINISHED"]
    assert "nas.end_reason" not in made.get(step).data.tags


def test_reasons_are_cut_and_hold_no_password(store: str, made: Made) -> None:
    pipeline = made.add(KEY)
    close(store, reason=f"postgresql://me:hunter2@db is down {'x' * 6000}")
    reason = made.get(pipeline).data.tags["nas.end_reason"]
    assert "hunter2" not in reason
    assert reason.startswith("postgresql://me:***@db is down")
    assert len(reason) == 5000


def test_runs_of_kubeflows_plugin_keep_their_status_and_get_the_reason(
    store: str, made: Made
) -> None:
    theirs = Made(made.client, made.client.create_experiment("KFP-Default"))
    pipeline = theirs.add(KEY, adopted="true")
    done = theirs.add(f"{KEY}.prepare_data", "FINISHED", adopted="true")
    step = theirs.add(f"{KEY}.search", adopted="true")
    child = theirs.add(f"{KEY}.search.child-1")
    assert close(store).run_ids == (child,)
    assert [made.status(run_id) for run_id in (pipeline, step, child)] == [
        "RUNNING",
        "RUNNING",
        "FAILED",
    ]
    reasons = [made.get(run_id).data.tags.get("nas.end_kind") for run_id in (pipeline, step, done)]
    assert reasons == ["memory", "memory", None]


def test_one_that_is_cut_off_is_done_by_the_next(
    store: str, made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pipeline's run is the last to be ended: by it the others are found."""
    pipeline, step, child = (made.add(KEY + end) for end in ("", ".search", ".search.child-1"))
    real = MlflowClient.set_terminated

    def cut_off(self: MlflowClient, run_id: str, *args: Any, **kwargs: Any) -> None:
        if run_id == step:
            raise MlflowException("the server was stopped")
        real(self, run_id, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "set_terminated", cut_off)
        with pytest.raises(ResourceUnavailable, match="the server was stopped"):
            close(store)
    assert [made.status(run_id) for run_id in (pipeline, step, child)] == [
        "RUNNING",
        "RUNNING",
        "FAILED",
    ]
    assert set(close(store).run_ids) == {pipeline, step}


def test_where_there_is_no_store_yet_none_is_made(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path / 'none.db'}"
    assert close(uri) == Closed()
    assert status_of(uri=uri, run_key=KEY) is None
    assert close_ended_runs(uri, "nas", is_over=lambda run: True) == ()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["http", "postgresql+psycopg"])
def test_an_unreachable_server_is_reported_at_once_with_the_way_out(kind: str) -> None:
    with socket.socket() as silent:  # bound and not listening: connections are refused
        silent.bind(("127.0.0.1", 0))
        uri = f"{kind}://me:hunter2@127.0.0.1:{silent.getsockname()[1]}/nas"
        start = time.monotonic()
        with pytest.raises(
            ResourceUnavailable, match=r"`nas status RUN` or the next run"
        ) as caught:
            close(uri)
    assert time.monotonic() - start < 50  # and not the minute that is the limit
    assert "hunter2" not in str(caught.value)


def test_a_server_that_never_answers_is_given_up() -> None:
    with socket.socket() as mute:  # it takes connections and says nothing
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        start = time.monotonic()
        with pytest.raises(ResourceUnavailable, match="no answer within 2 s"):
            close(f"http://127.0.0.1:{mute.getsockname()[1]}", limit_s=2)
    assert time.monotonic() - start < 20


def test_the_variables_of_the_process_are_as_before(store: str, made: Made) -> None:
    before = dict(os.environ)
    close(store)
    assert dict(os.environ) == before


# --- the state of a run -----------------------------------------------------------------------


def test_the_state_says_what_is_open_and_why_it_ended(store: str, made: Made) -> None:
    assert status_of(uri=store, run_key=KEY) is None
    pipeline = made.add(KEY, "FAILED", end_reason="out of memory", end_kind="memory")
    made.add(f"{KEY}.search")
    made.add(f"{KEY}.promote", adopted="true")
    found = status_of(uri=store, run_key=KEY, experiment="nas")
    assert found is not None
    assert (found.run_id, found.status) == (pipeline, "FAILED")
    assert (found.reason, found.kind) == ("out of memory", "memory")
    assert found.open_keys == (f"{KEY}.search",), "that of promote is for Kubeflow to end"


def test_a_step_may_know_why(store: str, made: Made) -> None:
    made.add(KEY)
    made.add(f"{KEY}.search", "FAILED", end_reason="killed by signal 9", end_kind="crash")
    found = status_of(uri=store, run_key=KEY)
    assert found is not None
    assert (found.reason, found.kind) == ("search: killed by signal 9", "crash")


# --- runs of the past -------------------------------------------------------------------------


def ago(**past: float) -> str:
    return (datetime.now(UTC) - timedelta(**past)).isoformat(timespec="seconds")


def start_before(client: MlflowClient, uri: str, **past: float) -> None:
    """As if all runs had been started so long ago."""
    import sqlite3

    start_ms = (datetime.now(UTC) - timedelta(**past)).timestamp() * 1000
    with sqlite3.connect(uri.removeprefix("sqlite:///")) as connection:
        connection.execute("UPDATE runs SET start_time = ?", (start_ms,))


def test_runs_that_are_over_are_closed_and_others_are_not(store: str, made: Made) -> None:
    over = [made.add(KEY, kfp_run_id=KFP_ID), made.add(f"{KEY}.search")]
    going_on = [made.add("7" * 32, kfp_run_id="seven"), made.add(f"{'7' * 32}.search")]
    local = made.add("6" * 32)
    asked: list[str] = []

    def is_over(kfp_run_id: str) -> bool:
        asked.append(kfp_run_id)
        return kfp_run_id == KFP_ID

    (ended,) = close_ended_runs(store, "nas", is_over=is_over)
    assert (ended.run_key, ended.kfp_run_id, ended.is_over) == (KEY, KFP_ID, True)
    assert sorted(ended.closed.run_ids) == sorted(over)
    assert sorted(asked) == [KFP_ID, "seven"]
    tags = made.get(over[0]).data.tags
    assert (made.status(over[0]), tags["nas.end_kind"]) == ("FAILED", "lost")
    assert {made.status(run_id) for run_id in (*going_on, local)} == {"RUNNING"}
    assert close_ended_runs(store, "nas", is_over=is_over) == ()


def test_a_step_is_closed_although_its_pipeline_has_ended(store: str, made: Made) -> None:
    made.add(KEY, "FAILED", kfp_run_id=KFP_ID)
    child = made.add(f"{KEY}.search.child-2")
    (ended,) = close_ended_runs(store, "nas", is_over=lambda run: True)
    assert ended.closed.run_ids == (child,)


def test_the_run_that_asks_is_left_alone(store: str, made: Made) -> None:
    made.add(KEY, kfp_run_id=KFP_ID)
    assert close_ended_runs(store, "nas", is_over=lambda run: True, except_key=KEY) == ()


def test_what_is_sent_late_counts_before_anything_is_closed(store: str, made: Made) -> None:
    pipeline, step = made.add(KEY, kfp_run_id=KFP_ID), made.add(f"{KEY}.search")
    (ended,) = close_ended_runs(
        store,
        "nas",
        is_over=lambda run: True,
        before=lambda key: made.client.set_terminated(step, "FINISHED"),
    )
    assert ended.closed.run_ids == (pipeline,)
    assert made.status(step) == "FINISHED"


@pytest.mark.parametrize(
    ("over", "silent", "closed"),
    [
        (None, timedelta(minutes=31), [".search", ".search.child-1"]),
        (None, timedelta(minutes=29), []),
        (None, timedelta(hours=25), ["", ".search", ".search.child-1"]),
        (False, timedelta(hours=25), []),
        (False, timedelta(days=8), ["", ".search", ".search.child-1"]),
    ],
)
def test_where_kubeflow_does_not_know_signs_of_life_decide(
    store: str, made: Made, over: bool | None, silent: timedelta, closed: list[str]
) -> None:
    alive = ago(seconds=silent.total_seconds())
    runs = {
        "": made.add(KEY, kfp_run_id=KFP_ID, alive=alive),
        ".search": made.add(f"{KEY}.search", alive=alive),
        ".search.child-1": made.add(f"{KEY}.search.child-1"),
    }
    start_before(made.client, store, days=9)
    close_ended_runs(store, "nas", is_over=lambda run: over)
    assert [end for end, run_id in runs.items() if made.status(run_id) == "FAILED"] == closed
    if closed:
        assert "no sign of life" in made.get(runs[".search"]).data.tags["nas.end_reason"]
