"""A real MLflow server with accounts that refuses what we ask: no outage, and nothing is lost."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow_server import Account, MlflowServer

from components.tracking import Tracker, follower, wait_for_run
from components.tracking.closing import close_run
from components.tracking.mlflow_errors import call_mlflow, kind_of, refuses_account
from components.tracking.reading import num_unsent
from components.tracking.replayer import SENT, follow
from nascore.errors import ResourceUnavailable
from nascore.service_errors import ErrorKind

pytestmark = pytest.mark.slow

UNSENT = 3
STEPS, KUBEFLOW = Account("nas-steps", "of-the-steps"), Account("kubeflow", "of-the-plugin")
ADVICE = {
    STEPS.password: "the right to edit the experiment",
    "wrong-password": "give the account as MLFLOW_TRACKING_USERNAME",
}
As = Callable[[Account], MlflowClient]
Runs = Callable[..., dict]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    server = MlflowServer(tmp_path_factory.mktemp("server"), admin=Account("admin", "of-the-admin"))
    server.start()
    for account in (STEPS, KUBEFLOW):
        server.add_account(account)
    yield server
    server.stop()


@pytest.fixture
def log_in(server: MlflowServer, monkeypatch: pytest.MonkeyPatch) -> As:
    """Everything that follows is asked by this account."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")

    def change(account: Account) -> MlflowClient:
        for name, value in account.environment().items():
            monkeypatch.setenv(name, value)
        return MlflowClient(server.uri)

    return change


@pytest.fixture
def experiment(request: pytest.FixtureRequest) -> str:
    """A new name for each test: experiments belong to the account that made them."""
    return request.node.name[:100]


def log(spool: Path, uri: str, experiment: str, adopt: str | None = None) -> None:
    tracker = Tracker.open(spool, uri=uri, experiment=experiment)
    pipeline = tracker.run("p", name="pipeline", adopt_parent_of=adopt)
    step = tracker.run("p.search", name="search", parent="p", adopt=adopt)
    for run in (step, pipeline):
        run.metrics({"accuracy": 0.5})
        run.end()
    tracker.close()


def test_a_run_that_we_may_read_and_not_write_is_not_adopted(
    tmp_path: Path,
    server: MlflowServer,
    log_in: As,
    experiment: str,
    runs_by_key: Runs,
    capfd: pytest.CaptureFixture[str],
) -> None:
    client = log_in(KUBEFLOW)
    theirs = client.create_experiment(f"KFP-Default {experiment}")
    pipeline = client.create_run(theirs).info.run_id
    task = client.create_run(theirs, tags={"mlflow.parentRunId": pipeline}).info.run_id
    client = log_in(STEPS)
    log(tmp_path, server.uri, experiment, adopt=task)
    assert follow(tmp_path) == SENT
    found = runs_by_key(server.uri, experiment)
    assert {key: run.info.status for key, (run,) in found.items()} == {
        "p": "FINISHED",
        "p.search": "FINISHED",
    }
    assert found["p.search"][0].data.metrics == {"accuracy": 0.5}
    assert found["p.search"][0].data.tags["mlflow.parentRunId"] == found["p"][0].info.run_id
    assert wait_for_run(tmp_path, "p", timeout_s=0) == found["p"][0].info.run_id
    assert client.get_run(task).info.status == "RUNNING"
    output = capfd.readouterr().err
    assert output.count("warning: tracking") == 1
    assert "PERMISSION_DENIED" in output or "403" in output
    assert "kfp-mlflow-credentials" in output
    log(tmp_path, server.uri, experiment, adopt=task)  # the step is tried again
    assert follow(tmp_path) == SENT
    assert sorted(map(len, runs_by_key(server.uri, experiment).values())) == [1, 1]


def test_a_run_that_a_server_with_accounts_does_not_have_is_not_adopted(
    tmp_path: Path, server: MlflowServer, log_in: As, experiment: str, runs_by_key: Runs
) -> None:
    """It answers "permission denied", so that an account cannot find out which runs there are."""
    log_in(STEPS)
    log(tmp_path, server.uri, experiment, adopt="0" * 32)
    assert follow(tmp_path) == SENT
    assert runs_by_key(server.uri, experiment).keys() == {"p", "p.search"}


@pytest.mark.parametrize("account", [STEPS, Account("nas-steps", "wrong-password")])
def test_what_is_refused_is_kept_reported_and_sent_once_the_account_is_right(
    tmp_path: Path,
    server: MlflowServer,
    log_in: As,
    experiment: str,
    runs_by_key: Runs,
    capfd: pytest.CaptureFixture[str],
    account: Account,
) -> None:
    log_in(KUBEFLOW).create_experiment(experiment)  # which others may read
    log_in(account)
    start = time.monotonic()
    with follower(tmp_path):
        log(tmp_path, server.uri, experiment)
        with pytest.raises(ResourceUnavailable, match=ADVICE[account.password]):
            wait_for_run(tmp_path, "p", timeout_s=120)
    assert time.monotonic() - start < 30, "no wait for what will not come"
    output = capfd.readouterr().err
    assert "the tracking store refuses access" in output
    assert "is unreachable" not in output
    assert "6 events are not sent yet" in output
    assert not (tmp_path / "rejected.jsonl").exists()
    log_in(KUBEFLOW)
    assert follow(tmp_path) == SENT
    assert num_unsent(tmp_path) == 0
    assert wait_for_run(tmp_path, "p", timeout_s=0)
    found = runs_by_key(server.uri, experiment)
    assert [found[key][0].data.metrics for key in ("p", "p.search")] == [{"accuracy": 0.5}] * 2


def test_the_command_ends_at_once_when_it_is_refused(
    tmp_path: Path, server: MlflowServer, log_in: As, experiment: str
) -> None:
    log_in(KUBEFLOW).create_experiment(experiment)
    log_in(STEPS)
    log(tmp_path, server.uri, experiment)
    command = [sys.executable, "-m", "components.tracking.replayer", "--spool", str(tmp_path)]
    assert subprocess.run(command, timeout=60, check=False).returncode == UNSENT


@pytest.mark.parametrize("account", [STEPS, Account("nas-steps", "wrong-password")])
def test_a_refusal_is_no_outage_for_those_who_wait(
    server: MlflowServer, log_in: As, experiment: str, account: Account, tmp_path: Path
) -> None:
    theirs = log_in(KUBEFLOW)
    run_id = theirs.create_run(theirs.create_experiment(experiment)).info.run_id
    client = log_in(account)
    for call in (
        lambda: client.create_run(theirs.get_run(run_id).info.experiment_id),
        lambda: client.set_tag(run_id, "a", "b"),
        lambda: client.log_text(run_id, "text", "file.txt"),
    ):
        start = time.monotonic()
        with pytest.raises(ResourceUnavailable, match="the tracking store refuses access"):
            call_mlflow(call, timeout_s=60, on_outage=pytest.fail)
        assert time.monotonic() - start < 5
    with pytest.raises(MlflowException) as refused:
        client.set_tag(run_id, "a", "b")
    assert refuses_account(refused.value)
    assert kind_of(refused.value) is ErrorKind.SETUP, (
        "the model of a champion is not unusable for it"
    )


def test_runs_that_this_account_may_not_end_are_named(
    server: MlflowServer, log_in: As, experiment: str
) -> None:
    client = log_in(KUBEFLOW)
    theirs = client.create_experiment(f"other {experiment}")
    key = "1" * 32
    foreign = client.create_run(theirs, tags={"nas.run_key": key}).info.run_id
    client = log_in(STEPS)
    ours = client.create_experiment(experiment)
    step = client.create_run(ours, tags={"nas.run_key": f"{key}.search"}).info.run_id
    closed = close_run(
        uri=server.uri,
        run_key=key,
        experiment=experiment,
        status="KILLED",
        reason="cancelled",
        kind="stopped",
    )
    assert (closed.run_ids, closed.refused) == ((step,), (foreign,))
    log_in(Account("nas-steps", "wrong-password"))
    with pytest.raises(ResourceUnavailable, match="MLFLOW_TRACKING_PASSWORD"):
        close_run(
            uri=server.uri,
            run_key=key,
            experiment=experiment,
            status="KILLED",
            reason="cancelled",
            kind="stopped",
        )
