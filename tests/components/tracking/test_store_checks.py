import base64
import json
import os
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow_server import MlflowServer
from postgres import Postgres
from sqlalchemy import create_engine
from sqlalchemy.engine import make_url

from components.tracking import check_store
from components.tracking.client import open_client
from components.tracking.experiments import active_experiment
from components.tracking.store_checks import absolute


def test_a_relative_store_becomes_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    assert absolute("sqlite:///runs/a.db?timeout=9") == f"sqlite:///{tmp_path}/runs/a.db?timeout=9"
    assert absolute("http://host:5000") == "http://host:5000"


def problems(uri: str) -> str:
    found, warnings = check_store(uri)
    assert warnings == []
    return "\n".join(map(str, found))


def test_a_new_store_and_a_present_one_are_fine(tmp_path: Path, store: str):
    assert problems(f"sqlite:///{tmp_path}/new/folder/mlflow.db") == ""
    assert problems(store) == ""
    assert not (tmp_path / "new").exists()


def test_what_is_no_database_of_mlflow_is_refused(tmp_path: Path):
    (tmp_path / "text.db").write_text("this is not a database, however long it may be" * 10)
    sqlite3.connect(tmp_path / "other.db").execute("CREATE TABLE mine (id)")
    assert "cannot be opened as an SQLite database" in problems(f"sqlite:///{tmp_path}/text.db")
    assert "something else than MLflow" in problems(f"sqlite:///{tmp_path}/other.db")
    assert "is a folder" in problems(f"sqlite:///{tmp_path}")
    assert "is a folder" in problems("sqlite:///")
    assert "not a writable folder" in problems(f"sqlite:///{tmp_path}/text.db/mlflow.db")


def test_a_folder_that_may_not_be_written_is_refused():
    # No process can write to /proc, root included.
    assert "not a writable folder" in problems("sqlite:////proc/mlflow.db")


def test_addresses_that_mlflow_does_not_take_are_explained():
    assert "keeps no runs in plain folders" in problems("file:///tmp/mlruns")
    assert "keeps no runs in plain folders" in problems("./mlruns")
    for uri in ("databricks", "databricks://profile", "databricks-uc"):
        assert "Databricks has its own accounts and registry" in problems(uri)
    assert "use sqlite:///FILE" in problems("redis://host")
    assert "names no host" in problems("http:///mlflow")


def test_an_unreachable_server_is_a_warning_without_its_password(monkeypatch):
    # The registry sets it for its uploads; in the check it would cost minutes.
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for uri in (f"http://me:secret@127.0.0.1:{port}", "http://me:secret@host.invalid"):
        start = time.monotonic()
        found, (warning,) = check_store(uri)
        assert found == []
        assert "does not answer" in warning
        assert "secret" not in warning
        assert time.monotonic() - start < 10
    assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "3"


@pytest.fixture
def guarded() -> Iterator[str]:
    """A server that is well, and asks for an account."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            pair = base64.b64encode(b"me:p@ss").decode()
            is_known = self.headers["Authorization"] in (f"Basic {pair}", "Bearer tok")
            self.send_response(200 if is_known else 401)
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def no_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No account of whoever runs the tests."""
    for name in ("USERNAME", "PASSWORD", "TOKEN", "AUTH", "AWS_SIGV4"):
        monkeypatch.delenv(f"MLFLOW_TRACKING_{name}", raising=False)
    monkeypatch.delenv("NETRC", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.mark.parametrize(
    ("account", "is_right"),
    [
        ({}, False),
        ({"MLFLOW_TRACKING_USERNAME": "me", "MLFLOW_TRACKING_PASSWORD": "p@ss"}, True),
        ({"MLFLOW_TRACKING_USERNAME": "me", "MLFLOW_TRACKING_PASSWORD": "typo"}, False),
        ({"MLFLOW_TRACKING_TOKEN": "tok"}, True),
    ],
)
def test_a_server_that_refuses_the_account_is_a_problem(
    account: dict[str, str],
    is_right: bool,
    guarded: str,
    no_account: None,
    monkeypatch: pytest.MonkeyPatch,
):
    for name, value in account.items():
        monkeypatch.setenv(name, value)
    found, warnings = check_store(guarded)
    assert warnings == []
    text = "\n".join(map(str, found))
    assert ("answers 401; give the account" in text) is not is_right
    assert "typo" not in text


def test_the_account_in_the_address_goes_first(
    guarded: str, no_account: None, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "me")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "p@ss")
    assert check_store(guarded.replace("//", "//me:p%40ss@")) == ([], [])
    (problem,) = check_store(guarded.replace("//", "//me:typo@"))[0]
    assert "typo" not in str(problem)


def test_an_account_that_mlflow_finds_elsewhere_counts(
    guarded: str, no_account: None, tmp_path: Path
):
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login me password p@ss")
    assert check_store(guarded) == ([], [])


def test_a_token_for_a_server_that_takes_passwords(
    no_account: None, monkeypatch: pytest.MonkeyPatch
):
    """As the basic-auth app of MLflow 3.17, which answers 500 to any bearer token."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.send_response(500 if "Bearer" in self.headers.get("Authorization", "") else 401)
            self.send_header("WWW-Authenticate", 'Basic realm="mlflow"')
            self.end_headers()

        do_GET = do_POST

        def log_message(self, *args: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "se-cret-token")
    message = problems(f"http://127.0.0.1:{server.server_port}")
    server.shutdown()
    server.server_close()
    assert "takes a user name and a password, not a token; unset MLFLOW_TRACKING_TOKEN" in message


# --- what a server answers that is no MLflow server, or not for us ------------------------------


@pytest.fixture
def answering() -> Iterator[Callable[[int, str], str]]:
    """`answering(status, body)`: the address of a server that answers so to every request."""
    servers: list[HTTPServer] = []

    def start(status: int, body: str) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                self.send_response(status)
                self.end_headers()
                self.wfile.write(body.encode())

            def log_message(self, *args: object) -> None:
                pass

        servers.append(HTTPServer(("127.0.0.1", 0), Handler))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (401, "log in", "answers 401; give the account as MLFLOW_TRACKING_USERNAME"),
        (403, "Invalid Host header", "answers 403; give the account of the steps"),
        (404, "<html>nothing here</html>", "answers 404; this is no MLflow server, or its path"),
        (200, "<html>log in</html>", "a log-in page or another program answers in place of MLflow"),
    ],
)
def test_what_waiting_does_not_mend_is_a_problem(
    status: int, body: str, said: str, answering: Callable[[int, str], str], no_account: None
):
    assert said in problems(answering(status, body))


@pytest.mark.parametrize("status", [429, 500, 503])
def test_an_overloaded_server_is_a_warning(
    status: int, answering: Callable[[int, str], str], no_account: None
):
    found, (warning,) = check_store(answering(status, "busy"))
    assert found == []
    assert "does not answer" in warning


@pytest.fixture
def mlflow_like() -> Iterator[Callable[[str, int], str]]:
    """`mlflow_like(artifact_location, logged_models)`: a server with one experiment, `nas`.

    `logged_models` is its status for what MLflow 3 has added.
    """
    servers: list[HTTPServer] = []

    def start(location: str, logged_models: int = 200) -> str:
        experiment = {
            "experiment_id": "1",
            "name": "nas",
            "lifecycle_stage": "active",
            "artifact_location": location,
        }

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                status, body = 200, json.dumps({"experiments": [experiment]})
                if "logged-models" in self.path:
                    status, body = logged_models, "{}" if logged_models == 200 else "not found"
                elif "get-by-name" in self.path:
                    body = json.dumps({"experiment": experiment})
                self.send_response(status)
                self.end_headers()
                self.wfile.write(body.encode())

            do_GET = do_POST

            def log_message(self, *args: object) -> None:
                pass

        servers.append(HTTPServer(("127.0.0.1", 0), Handler))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("experiment", ["nas", None])
def test_an_old_server_is_a_problem(
    mlflow_like: Callable[..., str], no_account: None, experiment: str | None
):
    assert check_store(mlflow_like("mlflow-artifacts:/1"), experiment) == ([], [])
    (problem,) = check_store(mlflow_like("mlflow-artifacts:/1", 404), experiment)[0]
    assert "the server is older than this client (MLflow 3); update the server" in problem.message


def test_artifacts_in_a_folder_of_another_machine(
    mlflow_like: Callable[..., str], no_account: None, tmp_path: Path
):
    assert check_store(mlflow_like(str(tmp_path)), "nas") == ([], [])
    assert check_store(mlflow_like("s3://bucket/1"), "nas") == ([], [])
    found, (warning,) = check_store(mlflow_like(f"file://{tmp_path}/new"), "nas")
    assert found == []
    assert "not on this machine; start the server with --serve-artifacts" in warning
    (problem,) = check_store(mlflow_like("/proc/artifacts"), "nas")[0]
    assert "not on this machine" in problem.message


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n", "\r\nse-cret-token"])
def test_a_line_break_in_a_token_is_a_problem_that_hides_the_token(
    guarded: str, no_account: None, monkeypatch: pytest.MonkeyPatch, end: str
):
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", f"se-cret-token{end}")
    text = problems(guarded)
    assert "has a line break or a space at an end; remove it from MLFLOW_TRACKING_TOKEN" in text
    assert "se-cret-token" not in text


def test_addresses_that_cannot_be_read_are_explained():
    assert "is no address" in problems("http://host:port")
    assert "is no address" in problems("http://[::1")


def test_a_deleted_experiment_is_found_before_a_run(store: str):
    client = MlflowClient(tracking_uri=store)
    experiment_id = client.create_experiment("nas")
    assert check_store(store, "nas") == ([], [])
    client.delete_experiment(experiment_id)
    (problem,) = check_store(store, "nas")[0]
    assert problem.key == "tracking.experiment"
    assert "is deleted; restore it in MLflow" in problem.message
    assert check_store(store, "other") == ([], [])


# --- a database as a store ----------------------------------------------------------------------


def test_an_unreachable_database_is_a_warning():
    found, (warning,) = check_store("postgresql+psycopg://me:planted@127.0.0.1:9/mlflow")
    assert found == []
    assert "the tracking database postgresql+psycopg://me:***@127.0.0.1:9/mlflow does" in warning


def test_a_database_of_another_program_or_account_is_a_problem(postgres: Postgres):
    empty = postgres.new_database()
    assert check_store(empty) == ([], [])
    wrong = make_url(empty).set(password="planted").render_as_string(hide_password=False)
    text = problems(wrong)
    assert "password authentication failed" in text
    assert "planted" not in text
    engine = create_engine(empty)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE studies (id int)")
    engine.dispose()
    assert "is a database of something else than MLflow" in problems(empty)


def test_a_folder_whose_name_reads_as_a_part_of_an_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    folder = tmp_path / "100% of #j?x"
    folder.mkdir()
    monkeypatch.chdir(folder)
    uri = absolute("sqlite:///runs/mlflow.db")
    assert check_store(uri, "nas") == ([], [])
    open_client(uri).create_experiment("nas")
    assert (folder / "runs" / "mlflow.db").is_file()
    assert check_store(uri, "nas") == ([], [])
    folder.rename(tmp_path / "My%20Project")
    monkeypatch.chdir(tmp_path / "My%20Project")
    assert "MLflow reads %20 and the like in the name of a folder as other characters" in problems(
        absolute("sqlite:///runs/mlflow.db")
    )


def test_a_deleted_experiment_is_renamed(store: str):
    client = MlflowClient(tracking_uri=store)
    for name in ("nas", "nas-2"):
        client.delete_experiment(client.create_experiment(name))
    assert active_experiment(store, "nas") == "nas-3"
    assert active_experiment(store, "other") == "other"


SLOW_IMPORT = """
import sys, time
from components.tracking import experiments

class Slow:
    def find_spec(self, name, path=None, target=None):
        if name == "mlflow":
            time.sleep(experiments._LIMIT_S + 1)

sys.meta_path.insert(0, Slow())
experiments._LIMIT_S = 5
print(experiments.active_experiment(sys.argv[1], "imported slowly"))
"""


@pytest.mark.slow
def test_the_time_limit_of_a_renaming_does_not_count_the_import_of_mlflow(
    mlflow_server: MlflowServer,
):
    client = MlflowClient(tracking_uri=mlflow_server.uri)
    client.delete_experiment(client.create_experiment("imported slowly"))
    command = [sys.executable, "-c", SLOW_IMPORT, mlflow_server.uri]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout == "imported slowly-2\n"
