"""The check of the champion before anything is trained, on real stores."""

import shutil
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from registered_models import Constant, House

from components.config.schema import Config, parse
from components.registry.champion_check import Fault
from components.registry.lookup import answer_of
from components.registry.task_schema import TAG, schema_hash
from components.steps.champion import call_registry, check_champion, warn_of_new_name
from components.steps.review import _Champion, _champion, _plan, _read
from components.tracking.mlflow_errors import kind_of
from nascore.data.drift import DataProfile
from nascore.data.prepared import DatasetInfo
from nascore.errors import InputError, ResourceUnavailable
from nascore.service_errors import ErrorKind

CLASSES = ("a", "b", "c", "d")


@pytest.fixture
def house(store: str, tmp_path: Path) -> House:
    return House(store, tmp_path)


def info(classes: tuple[str, ...] = CLASSES) -> DatasetInfo:
    return DatasetInfo(
        source="npz:x.npz",
        classes=classes,
        channels=1,
        size=8,
        num_images=4,
        num_train=2,
        num_valid=1,
        num_test=1,
        mean=(0.5,),
        std=(0.2,),
        data_sha256="0" * 64,
        split_sha256="0" * 64,
        class_counts={},
        seed=0,
        streamed=False,
    )


def config(uri: str, policy: str | None = None) -> Config:
    registry = {"model": "net", "unusable_champion": policy}
    return parse({"tracking": {"uri": uri}, "registry": registry})


def check(uri: str, policy: str | None = None, classes: tuple[str, ...] = CLASSES) -> list[str]:
    said: list[str] = []
    check_champion(config(uri, policy), info(classes), say=said.append)
    return said


def remove_files(folder: Path) -> None:
    (found,) = folder.rglob("MLmodel")
    shutil.rmtree(found.parent)


def test_nothing_is_said_where_nothing_is_wrong(house: House, tmp_path: Path) -> None:
    assert check(f"sqlite:///{tmp_path}/none.db") == []
    assert not (tmp_path / "none.db").exists()
    assert check(house.store) == []
    house.enter(Constant(0))
    assert check(house.store) == []


def test_a_search_stops_at_a_champion_without_files(house: House, tmp_path: Path) -> None:
    house.enter(Constant(0))
    remove_files(tmp_path)
    for policy in (None, "stop"):
        with pytest.raises(InputError) as raised:
            check(house.store, policy)
        text = str(raised.value)
        assert text.startswith("registry.model = net: the champion (version 1) has no files")
        assert str(tmp_path) in text
        assert "--set registry.unusable_champion=replace" in text
    (said,) = check(house.store, "replace")
    assert "the new model replaces it" in said


def test_other_classes_are_refused_with_both_ways_out(house: House) -> None:
    house.enter(Constant(0))
    for policy in (None, "stop"):
        with pytest.raises(InputError, match="logits of shape") as raised:
            check(house.store, policy, (*CLASSES, "e"))
        assert "--set registry.model=NAME" in str(raised.value)
    assert len(check(house.store, "replace", (*CLASSES, "e"))) == 1


def test_a_retraining_of_an_unknown_model_names_those_of_the_same_task(house: House) -> None:
    house.enter(Constant(0))
    house.client.set_model_version_tag("net", "1", TAG, schema_hash(info()))
    known = config(house.store)
    typo = known.model_copy(update={"registry": known.registry.model_copy(update={"model": "nte"})})
    for settings, classes in ((known, CLASSES), (typo, (*CLASSES, "e"))):
        said: list[str] = []
        warn_of_new_name(settings, info(classes), say=said.append)
        assert said == []
    warn_of_new_name(typo, info(), say=said.append)
    (text,) = said
    assert text.startswith("warning: there is no model nte")
    assert "net of the same classes" in text


def test_a_server_that_is_unreachable_is_no_fault_of_the_champion() -> None:
    with socket.socket() as closed:  # bound and not listening: connections are refused
        closed.bind(("127.0.0.1", 0))
        uri = f"http://127.0.0.1:{closed.getsockname()[1]}"
        for policy in (None, "stop", "replace"):
            start = time.monotonic()
            (said,) = check(uri, policy)
            assert "does not answer" in said
            assert time.monotonic() - start < 15


class Answering(BaseHTTPRequestHandler):
    """The same status to every request, as a proxy before a server answers."""

    status = 503

    def do_GET(self) -> None:
        self.send_response(self.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_POST = do_GET

    def log_message(self, *arguments: Any) -> None:
        """Nothing is printed."""


@pytest.fixture
def proxy() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answering)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("status", [503, 500, 429])
def test_an_overloaded_server_is_no_fault_either(
    proxy: str, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    monkeypatch.setattr(Answering, "status", status)
    (said,) = check(proxy, "replace")
    assert "does not answer" in said


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_account_ends_the_run_and_replaces_nothing(
    proxy: str, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    monkeypatch.setattr(Answering, "status", status)
    with pytest.raises(ResourceUnavailable):
        check(proxy, "replace")
    with pytest.raises(ResourceUnavailable):
        call_registry(config(proxy), lambda: _champion(config(proxy)), say=lambda text: None)


@pytest.mark.parametrize(
    "error", [TypeError("x"), AttributeError("x"), KeyError("x"), ImportError("x")]
)
def test_an_error_of_the_program_is_no_outage(
    house: House, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("components.steps.champion.find_fault", fail)
    with pytest.raises(type(error)):
        check(house.store, "replace")
    assert kind_of(error) is ErrorKind.REQUEST


# --- the plan of a retraining -----------------------------------------------------------------


def test_a_run_that_was_removed_has_no_files(house: House, tmp_path: Path) -> None:
    """`mlflow gc` removes the run, and leaves model and version."""
    new, _ = house.enter(Constant(0))
    run_id = house.client.get_model_version("net", new.version).run_id
    for _ in range(2):
        found = _read(
            house.client, run_id, "data/profile.json", str(tmp_path), DataProfile.from_dict
        )
        assert found is None
        run_id = "0" * 32
    assert answer_of(lambda: house.client.get_run(run_id)) is None


def test_a_run_whose_files_are_damaged_leads_to_a_search(house: House, tmp_path: Path) -> None:
    house.enter(Constant(0))
    (run,) = house.client.search_runs([house.experiment])
    for text in ("{", "[]", '{"version": 99}'):
        path = tmp_path / "profile.json"
        path.write_text(text)
        house.client.log_artifact(run.info.run_id, str(path), "data")
        found = _read(
            house.client, run.info.run_id, "data/profile.json", str(tmp_path), DataProfile.from_dict
        )
        assert found is None, text


def test_the_plan_names_the_fault() -> None:
    settings = parse({"method": "random"})
    gone = Fault("3", "missing", "is not in the registry any more")
    assert _plan(settings, None, None, gone) == ("search", str(gone))
    other = Fault("3", "task", "has other data")
    champion = _Champion("3", "run", 1.0, None, None)
    assert _plan(settings, champion, None, other) == ("search", str(other))
    assert "has no search" in _plan(settings, champion, None, None)[1]
