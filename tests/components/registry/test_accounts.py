"""What a real MLflow server with basic authentication answers for what is gone or forbidden."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import PERMISSION_DENIED
from mlflow_server import Account, MlflowServer
from registered_models import Constant, House

from components.config.schema import parse
from components.registry.aliases import champion_of, roll_back, run_key_of
from components.steps.review import _champion, _plan
from components.tracking.registered_models import find_model
from components.tracking.tags import RUN_KEY
from nascore.errors import ResourceUnavailable, ServiceUnavailable

pytestmark = pytest.mark.slow

ADMIN, STEPS = Account("admin", "of-the-admin"), Account("nas-steps", "of-the-steps")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    server = MlflowServer(tmp_path_factory.mktemp("server"), admin=ADMIN)
    server.start()
    server.add_account(STEPS)
    yield server
    server.stop()


class As:
    """Logs in: everything that follows is asked by this account."""

    def __init__(self, server: MlflowServer, monkeypatch: pytest.MonkeyPatch) -> None:
        self._server, self._monkeypatch = server, monkeypatch

    def __call__(self, account: Account) -> MlflowClient:
        for name, value in account.environment().items():
            self._monkeypatch.setenv(name, value)
        return MlflowClient(self._server.uri)


@pytest.fixture
def log_in(server: MlflowServer, monkeypatch: pytest.MonkeyPatch) -> As:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    return As(server, monkeypatch)


@pytest.fixture
def house(server: MlflowServer, log_in: As, tmp_path: Path) -> Iterator[House]:
    """A champion of the administrator, whose run has a key."""
    client = log_in(ADMIN)
    house = House(server.uri, tmp_path)
    new, _ = house.enter(Constant(0))
    client.set_tag(client.get_model_version("net", new.version).run_id, RUN_KEY, "key")
    yield house
    log_in(ADMIN)
    client.delete_registered_model("net")
    client.rename_experiment(house.experiment, tmp_path.name)
    client.delete_experiment(house.experiment)


def test_models_that_do_not_exist(server: MlflowServer, log_in: As) -> None:
    client = log_in(STEPS)
    with pytest.raises(MlflowException) as refused:
        client.get_model_version_by_alias("none", "champion")
    assert refused.value.error_code == "PERMISSION_DENIED", "not 404, as of the model"
    assert find_model(client, "none") is None
    assert champion_of("none", uri=server.uri) is None


def test_a_model_that_may_not_be_read_is_not_taken_for_missing(
    server: MlflowServer, log_in: As
) -> None:
    log_in(ADMIN).create_registered_model("hidden")
    body = {"username": STEPS.user, "permission": "DENY"}
    body |= {"resource_type": "registered_model", "resource_id": "hidden"}
    server.ask("POST", "/api/3.0/mlflow/users/permissions/grant", body)
    client = log_in(STEPS)
    for call in (
        lambda: find_model(client, "hidden"),
        lambda: champion_of("hidden", uri=server.uri),
        lambda: roll_back("hidden", uri=server.uri),
    ):
        with pytest.raises(ResourceUnavailable, match="hidden: MLflow refuses this account"):
            call()


def test_a_server_that_hides_which_models_exist(
    log_in: As, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with default_permission=NO_PERMISSIONS: 403 for each model without a right to it."""
    client = log_in(ADMIN)

    def refuse(name: str) -> None:
        raise MlflowException("Permission denied", error_code=PERMISSION_DENIED)

    monkeypatch.setattr(client, "get_registered_model", refuse)
    assert find_model(client, "none") is None


def test_a_run_that_was_removed(server: MlflowServer, log_in: As, house: House) -> None:
    run_id = house.client.get_model_version_by_alias("net", "champion").run_id
    assert run_key_of("net", "1", uri=server.uri) == "key"
    house.client.delete_run(run_id)
    subprocess.run(
        [
            *(sys.executable, "-m", "mlflow", "gc", "--run-ids", run_id),
            *("--backend-store-uri", f"sqlite:///{server.folder}/mlflow.db"),
            *("--tracking-uri", server.uri),
        ],
        check=True,
        capture_output=True,
    )
    client = log_in(STEPS)
    with pytest.raises(MlflowException) as refused:
        client.get_run(run_id)
    assert refused.value.error_code == "PERMISSION_DENIED", "the server hides which runs exist"
    assert run_key_of("net", "1", uri=server.uri) is None
    settings = parse({"tracking": {"uri": server.uri}, "registry": {"model": "net"}})
    found = _champion(settings)
    assert found is not None
    plan, reason = _plan(settings, found, None)
    assert plan == "search"
    assert "has no search and no profile of its data (any more)" in reason


def test_a_run_that_may_not_be_read_is_not_taken_for_removed(
    server: MlflowServer, log_in: As, house: House
) -> None:
    body = {"username": STEPS.user, "permission": "DENY"}
    body |= {"resource_type": "experiment", "resource_id": house.experiment}
    server.ask("POST", "/api/3.0/mlflow/users/permissions/grant", body)
    log_in(STEPS)
    with pytest.raises(ServiceUnavailable, match="403"):
        run_key_of("net", "1", uri=server.uri)
    settings = parse({"tracking": {"uri": server.uri}, "registry": {"model": "net"}})
    found = _champion(settings)
    assert found is not None
    plan, reason = _plan(settings, found, None)
    assert plan == "search"
    assert "MLflow refuses this account the run of champion 1" in reason
    assert "the right to read the experiment" in reason
