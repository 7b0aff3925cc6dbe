"""The database of studies: what is said when it cannot be used, and living through its absence."""

import logging
import socket
import subprocess
import sys
import time
import traceback
from pathlib import Path

import pytest
from postgres import PASSWORD, Postgres, free_port
from sqlalchemy.exc import IntegrityError, OperationalError, PendingRollbackError

from nascore.errors import InputError, ResourceUnavailable, ServiceUnavailable
from nascore.search import study_storage
from nascore.search.database_url import file_url, resolve_url, without_password
from nascore.search.study_storage import Storage

SECRET = "se-cret%40"  # @ at its end, as a URL has it


def opening_error(url: str, caplog: pytest.LogCaptureFixture) -> str:
    """Return the error of opening, which takes 15 seconds at most and hides the password."""
    start = time.monotonic()
    with caplog.at_level(logging.DEBUG), pytest.raises(InputError) as raised:
        Storage(resolve_url(url)).close()
    assert time.monotonic() - start < 15
    message = "".join(traceback.format_exception(raised.value)) + caplog.text
    for secret in ("se-cret", PASSWORD):
        assert secret not in message
    return str(raised.value)


# --- addresses --------------------------------------------------------------------------------


def test_a_closed_port_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    message = opening_error(f"postgresql://nas:{SECRET}@127.0.0.1:{free_port()}/nas", caplog)
    assert "search.storage = postgresql+psycopg://nas:***@127.0.0.1" in message
    assert "refused" in message


def test_a_server_that_does_not_answer_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    """It takes connections and says nothing, as a firewall or a dying machine does."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        message = opening_error(f"postgresql://nas:{SECRET}@127.0.0.1:{port}/nas", caplog)
    assert "timeout" in message


def test_refusals_are_reported_at_once(
    postgres: Postgres, caplog: pytest.LogCaptureFixture
) -> None:
    start = time.monotonic()
    assert "authentication failed" in opening_error(
        postgres.url("postgres", password=SECRET), caplog
    )
    assert '"nowhere" does not exist' in opening_error(postgres.url("nowhere"), caplog)
    assert time.monotonic() - start < 4, "a refusal does not go away by waiting"


def test_a_refusal_is_wrong_input_and_a_closed_port_an_outage(postgres: Postgres) -> None:
    """A supervisor starts a step again after an outage, for many minutes."""
    for url in (postgres.url("postgres", password=SECRET), postgres.url("nowhere")):
        with pytest.raises(InputError) as raised:
            Storage(resolve_url(url))
        assert not isinstance(raised.value, ResourceUnavailable)
    with pytest.raises(ResourceUnavailable):
        Storage(resolve_url("postgresql://nas:x@127.0.0.1:9/nas"), should_stop=lambda: True)


@pytest.mark.parametrize(
    "url",
    [
        "nonsense se-cret",
        "postgresql://nas:se-cret@host:port/nas",
        "postgresql://nas:a@1/se-cret@host/nas",
        "postgresql://nas:a@se-cret@host/nas",
        "nosuch://nas:se-cret@host/nas",
    ],
)
def test_what_is_no_url_is_reported(url: str, caplog: pytest.LogCaptureFixture) -> None:
    assert "is no URL of a database" in opening_error(url, caplog)


def test_a_driver_that_is_not_installed_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    assert "driver" in opening_error(f"postgresql+pg8000://nas:{SECRET}@host/nas", caplog)


def test_a_variable_may_hold_the_address(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("NAS_TEST_URL", raising=False)
    assert "NAS_TEST_URL is not set" in opening_error("env:NAS_TEST_URL", caplog)
    monkeypatch.setenv("NAS_TEST_URL", f"postgresql://nas:{SECRET}@host/nas")
    assert resolve_url("env:NAS_TEST_URL") == f"postgresql+psycopg://nas:{SECRET}@host/nas"
    monkeypatch.setenv("NAS_TEST_URL", f"postgres://nas:{SECRET}@host/nas")
    assert resolve_url("env:NAS_TEST_URL") == f"postgresql+psycopg://nas:{SECRET}@host/nas"


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n"])
def test_a_variable_made_of_files_with_line_breaks(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, end: str
) -> None:
    monkeypatch.setenv("NAS_TEST_URL", f"postgresql://nas:{SECRET}@host/nas{end}")
    assert resolve_url("env:NAS_TEST_URL") == f"postgresql+psycopg://nas:{SECRET}@host/nas"
    monkeypatch.setenv("NAS_TEST_URL", f"postgresql://nas:{SECRET}{end}@host/nas")
    message = opening_error("env:NAS_TEST_URL", caplog)
    assert "env:NAS_TEST_URL: has a line break in it" in message


def test_a_file_whose_name_reads_as_a_part_of_an_address(tmp_path: Path) -> None:
    path = tmp_path / "My%20#?study.db"
    Storage(file_url(path)).close()
    assert [one.name for one in tmp_path.iterdir() if one.is_file()] == [path.name]


def test_a_password_in_the_query_is_hidden_too() -> None:
    shown = without_password(f"postgresql+psycopg://host/nas?user=nas&password={SECRET}")
    assert shown == "postgresql+psycopg://host/nas?user=nas"


def test_a_folder_with_braces_and_spaces(tmp_path: Path) -> None:
    folder = tmp_path / "{run} a%b"
    folder.mkdir()
    Storage(f"sqlite:///{folder / 'study.db'}").close()
    assert (folder / "study.db").exists()


def test_tables_may_be_made_by_several_at_once(postgres: Postgres) -> None:
    url = postgres.new_database()
    code = "import sys; from nascore.search.study_storage import Storage; input(); "
    code += "Storage(sys.argv[1]).close()"
    processes = [
        subprocess.Popen([sys.executable, "-c", code, url], stdin=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    time.sleep(2)  # all have imported what they need
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    assert [process.wait(timeout=30) for process in processes] == [0] * 4


# --- absence ----------------------------------------------------------------------------------


def outage() -> OperationalError:
    return OperationalError("SELECT 1", {}, Exception("server closed the connection"))


def test_a_server_that_is_starting_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the words of PostgreSQL 15 while it recovers from a crash."""
    reason = (
        'connection to server at "127.0.0.1" failed: FATAL:  the database system is starting up'
    )
    answers = [OperationalError("", {}, Exception(reason))] * 3

    def check(url: str) -> None:
        if answers:
            raise answers.pop()

    monkeypatch.setattr(study_storage, "check_database", check)
    monkeypatch.setattr(study_storage, "_OPEN_S", study_storage.CONNECT_S)  # no other patience
    with pytest.raises(ResourceUnavailable, match="starting up"):
        Storage(f"sqlite:///{tmp_path}/a.db", retry_timeout_s=0.0)
    Storage(f"sqlite:///{tmp_path}/a.db").close()
    assert not answers


def test_an_operation_is_tried_until_the_database_is_back(tmp_path: Path) -> None:
    storage, tries = Storage(f"sqlite:///{tmp_path / 'study.db'}"), []

    def operation(value: int) -> int:
        tries.append(value)
        if len(tries) == 2:  # what a session says that was in the middle of something
            try:
                raise outage()
            except OperationalError:
                raise PendingRollbackError("rolled back") from None
        if len(tries) < 4:
            raise outage()
        return value

    assert storage.is_settled()
    assert storage.call_with_retries(operation, 7) == 7
    assert tries == [7] * 4
    assert not storage.is_settled(), "silence just after an outage is no sign of a death"
    storage.close()


def test_patience_ends(tmp_path: Path) -> None:
    def operation() -> None:
        raise outage()

    url = f"sqlite:///{tmp_path / 'study.db'}"
    impatient = Storage(url, retry_timeout_s=0.3)
    with pytest.raises(ServiceUnavailable, match="did not answer"):
        impatient.call_with_retries(operation)
    stopping = Storage(url, should_stop=lambda: True)
    start = time.monotonic()
    with pytest.raises(ServiceUnavailable):
        stopping.call_with_retries(operation)
    assert time.monotonic() - start < 10


def test_a_mistake_is_not_tried_again(tmp_path: Path) -> None:
    tries = []

    def operation() -> None:
        tries.append(1)
        raise IntegrityError("INSERT", {}, Exception("duplicate key"))

    with pytest.raises(IntegrityError):
        Storage(f"sqlite:///{tmp_path / 'study.db'}").call_with_retries(operation)
    assert tries == [1]


def test_a_full_disk_is_not_waited_for(tmp_path: Path) -> None:
    """A real one: SQLite may not take another page."""
    storage = Storage(f"sqlite:///{tmp_path / 'study.db'}")
    study_id = storage.optuna.create_new_study([], "study")

    def fill() -> None:
        with storage.optuna.engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA max_page_count = 1")
            connection.exec_driver_sql("CREATE TABLE filler AS SELECT zeroblob(1000000) AS x")

    start = time.monotonic()
    with pytest.raises(ResourceUnavailable, match=r"disk is full.*; the disk of the database is"):
        storage.call_with_retries(fill)
    assert time.monotonic() - start < 10
    assert storage.call_with_retries(storage.optuna.get_study_name_from_id, study_id) == "study"
    storage.close()


def test_heartbeats_survive_any_error_and_a_close_does_not_wait(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = Storage(f"sqlite:///{tmp_path / 'study.db'}", worker_timeout_s=6)
    beats: list[int] = []

    def record(trial_id: int) -> None:
        beats.append(trial_id)
        if len(beats) == 2:
            raise KeyError("whatever a driver raises")
        if len(beats) > 3:
            raise outage()

    monkeypatch.setattr(storage.optuna, "record_heartbeat", record)
    storage.keep_alive(7)
    end = time.monotonic() + 20
    while len(beats) < 5 and time.monotonic() < end:
        time.sleep(0.05)
    assert len(beats) >= 5
    assert "no heartbeat was sent" in caplog.text
    start = time.monotonic()
    storage.close()  # the thread retries, and could do so for ten minutes
    assert time.monotonic() - start < 10


def test_what_was_written_survives_a_server_that_is_stopped_at_once(postgres: Postgres) -> None:
    storage = Storage(postgres.new_database())
    study_id = storage.optuna.create_new_study([], "study")
    storage.optuna.set_study_user_attr(study_id, "key", "value")
    postgres.stop()
    postgres.start()
    found = storage.call_with_retries(storage.optuna.get_study_user_attrs, study_id)
    assert found == {"key": "value"}
    storage.close()
