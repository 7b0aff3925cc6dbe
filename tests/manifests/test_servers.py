"""The database and the MLflow server, started as the manifests say."""

import base64
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from loopback import open_url
from manifest_build import MANIFESTS, build, container, find
from postgres import PASSWORD, USER, Postgres, free_port, programs

from components.config.schema import parse
from pipelines.doctor import service_checks

_STUDY_PASSWORD = 'it\'s a "study" \\ %40 $HOME'
_MLFLOW_PASSWORD = "mlflow's: p@ss"


@pytest.fixture(scope="module")
def databases(postgres: Postgres) -> Postgres:
    """A server on which the script of the manifests has run, as the image runs it: by psql."""
    folder = programs()
    assert folder is not None
    environment = {
        **os.environ,
        "PGPASSWORD": PASSWORD,
        "STUDY_PASSWORD": _STUDY_PASSWORD,
        "MLFLOW_PASSWORD": _MLFLOW_PASSWORD,
    }
    command = [str(folder / "psql"), "--host=127.0.0.1", f"--port={postgres.port}"]
    command += [f"--username={USER}", "--dbname=postgres", "--no-psqlrc"]
    command += [f"--file={MANIFESTS / 'base/init.sql'}"]
    subprocess.run(command, env=environment, check=True, capture_output=True, timeout=60)
    return postgres


def _connect(server: Postgres, user: str, password: str, database: str) -> Any:
    return psycopg.connect(
        host="127.0.0.1", port=server.port, user=user, password=password, dbname=database
    )


def test_each_account_reaches_its_own_database_alone(databases: Postgres) -> None:
    accounts = {"studies": _STUDY_PASSWORD, "mlflow": _MLFLOW_PASSWORD}
    for user, password in accounts.items():
        with _connect(databases, user, password, user) as connection:
            connection.execute("CREATE TABLE probe (id integer)")
            connection.rollback()
    with pytest.raises(psycopg.OperationalError, match="permission denied"):
        _connect(databases, "studies", _STUDY_PASSWORD, "mlflow")
    with pytest.raises(psycopg.OperationalError, match="permission denied"):
        _connect(databases, "mlflow", _MLFLOW_PASSWORD, "studies")


def _ask(port: int, path: str, host: str, account: str = "") -> int:
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers={"Host": host})
    if account:
        pair = base64.b64encode(account.encode()).decode()
        request.add_header("Authorization", f"Basic {pair}")
    try:
        with open_url(request, timeout=20) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


@pytest.fixture(scope="module")
def mlflow_server(
    databases: Postgres, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[int, Path]]:
    """The container's command and environment, with other addresses; gives its port and home."""
    folder, port = tmp_path_factory.mktemp("mlflow"), free_port()
    one = container(build("local"), "mlflow")

    def here(text: str) -> str:
        text = text.replace("nas-postgres:5432", f"127.0.0.1:{databases.port}")
        text = text.replace("=0.0.0.0", "=127.0.0.1").replace("--port=5000", f"--port={port}")
        return text.replace("localhost:5000", f"localhost:{port}")

    auth = folder / "basic_auth.ini"
    auth.write_text(here((MANIFESTS / "base/basic_auth.ini").read_text()))
    secrets = {
        "nas-postgres": {"mlflow-password": _MLFLOW_PASSWORD},
        "nas-mlflow-server": {
            "admin-username": "admin",
            "admin-password": "a long password",
            "flask-secret-key": "any",
        },
    }
    environment = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"}
    for variable in one["env"]:
        source = variable.get("valueFrom", {}).get("secretKeyRef", {})
        value = secrets.get(source.get("name"), {}).get(source.get("key"), "unused")
        environment[variable["name"]] = variable.get("value", value)
    home = folder / "home"
    home.mkdir()
    environment |= {"HOME": str(home), "MLFLOW_AUTH_CONFIG_PATH": str(auth)}
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [*one["command"], *map(here, one["args"])],
            cwd=home,
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        _wait(port, process, folder / "log")
        yield port, home
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(timeout=30)


def _wait(port: int, process: "subprocess.Popen[bytes]", log: Path) -> None:
    end = time.monotonic() + 120
    while time.monotonic() < end:
        assert process.poll() is None, log.read_text()
        try:
            # As the kubelet asks: by the address of the pod, which is no allowed name.
            assert _ask(port, "/health", "10.1.2.3:5000") == 200
            return
        except OSError:
            time.sleep(0.3)
    pytest.fail(f"no answer: {log.read_text()}")


@pytest.mark.slow
def test_the_mlflow_server_as_deployed(mlflow_server: tuple[int, Path]) -> None:
    port, home = mlflow_server
    settings = find(build("local"), "ConfigMap", "nas-settings")["data"]
    host = settings["MLFLOW_TRACKING_URI"].removeprefix("http://")
    experiments = "/api/2.0/mlflow/experiments/search?max_results=1"
    assert _ask(port, experiments, host, "admin:a long password") == 200
    for name in ("nas-mlflow.nas", "nas-mlflow.nas:5000", "nas-mlflow.nas.svc:5000"):
        assert _ask(port, experiments, name, "admin:a long password") == 200
    assert _ask(port, experiments, host, "admin:wrong") == 401
    assert _ask(port, experiments, host) == 401
    assert _ask(port, experiments, "elsewhere:5000", "admin:a long password") == 403
    assert [path for path in home.rglob("*.db")] == [], "all it keeps lies in PostgreSQL"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("host", "account", "seen", "advice"),
    [
        ("localhost", "admin:a long password", None, ""),
        ("localhost", "admin:wrong", "401", "MLFLOW_TRACKING_PASSWORD"),
        ("localhost", "", "401", "MLFLOW_TRACKING_USERNAME"),
        ("127.0.0.1", "admin:a long password", "403", "--allowed-hosts"),
    ],
)
def test_doctor_sees_what_the_health_of_the_server_hides(
    mlflow_server: tuple[int, Path],
    monkeypatch: pytest.MonkeyPatch,
    host: str,
    account: str,
    seen: str | None,
    advice: str,
) -> None:
    user, _, password = account.partition(":")
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", user)
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", password)
    uri = f"http://{host}:{mlflow_server[0]}"
    finding = service_checks.check_tracking(parse({"tracking": {"uri": uri}}))
    # The object store of the server is not there, so the right account gets as far as the artifact.
    assert finding.state == ("problem" if seen else "warning"), finding.advice
    assert seen or "500 error responses" in finding.advice
    assert finding.seen == uri
    assert (f"answers {seen}" if seen else "") in finding.advice
    assert advice in finding.advice


@pytest.mark.slow
def test_the_account_of_the_steps(mlflow_server: tuple[int, Path]) -> None:
    """By the script that mlflow_account.sh runs in the container of the server."""
    port, _ = mlflow_server
    experiments = "/api/2.0/mlflow/experiments/search?max_results=1"
    script = MANIFESTS / "scripts" / "mlflow_account.py"
    environment = {
        "NAS_MLFLOW": f"http://localhost:{port}",
        "MLFLOW_AUTH_ADMIN_USERNAME": "admin",
        "MLFLOW_AUTH_ADMIN_PASSWORD": "a long password",
    }
    for password in ("the first password", "the second password"):
        done = subprocess.run(
            [sys.executable, str(script)],
            input=f"nas-steps\n{password}\n",
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        assert _ask(port, experiments, f"localhost:{port}", f"nas-steps:{password}") == 200
