"""A step that has done its work waits for KFP's object store, whose launcher would give up."""

import json
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from components.supervisor.artifact_store import address_of, answers, wait_for_store


def session(endpoint: str, *, plain: bool = True) -> dict[str, Any]:
    """An input artifact as KFP 2.17's driver describes it."""
    info = {
        "Provider": "minio",
        "Params": {"endpoint": endpoint, "disableSSL": "true" if plain else "false"},
    }
    metadata = {"store_session_info": json.dumps(info)}
    return {"artifacts": [{"uri": "minio://mlpipeline/x", "metadata": metadata}]}


def executor_input(inputs: dict[str, Any], uri: str = "minio://mlpipeline/out") -> dict[str, Any]:
    return {
        "inputs": {"artifacts": inputs},
        "outputs": {"artifacts": {"model": {"artifacts": [{"uri": uri}]}}},
    }


class Store(BaseHTTPRequestHandler):
    status = 403

    def do_GET(self) -> None:
        self.send_response(self.status)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def test_the_address_stands_in_the_metadata_of_an_input() -> None:
    found = address_of(executor_input({"data": session("seaweedfs.kubeflow:9000")}))
    assert found == "http://seaweedfs.kubeflow:9000"
    found = address_of(executor_input({"data": session("s3.example.org", plain=False)}))
    assert found == "https://s3.example.org"


def test_where_no_store_is_known_nothing_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAS_STORE_WAIT_S", "600")
    for given in ({}, executor_input({}, uri="gs://bucket/out"), executor_input({}, uri="/a/file")):
        assert address_of(given) is None
        wait_for_store(json.dumps(given), pytest.fail)


def test_a_store_that_refuses_us_answers_and_one_that_is_starting_does_not() -> None:
    server = HTTPServer(("127.0.0.1", 0), Store)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    assert answers(address)
    Store.status = 503
    assert not answers(address)
    Store.status = 403
    server.shutdown()
    server.server_close()
    assert not answers(address)


def test_a_step_waits_until_the_store_is_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Finding N9: refused connections for 11 s, and KFP has failed the run for good."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setenv("NAS_STORE_WAIT_S", "60")
    said: list[str] = []

    def come_back() -> None:
        time.sleep(1.5)
        HTTPServer(("127.0.0.1", port), Store).handle_request()

    threading.Thread(target=come_back, daemon=True).start()
    start = time.monotonic()
    wait_for_store(json.dumps(executor_input({"x": session(f"127.0.0.1:{port}")})), said.append)
    assert 1.5 <= time.monotonic() - start < 10
    assert [text.split()[-1] for text in said] == ["s", "back"]


def test_the_wait_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAS_STORE_WAIT_S", "1")
    said: list[str] = []
    start = time.monotonic()
    wait_for_store(json.dumps(executor_input({"x": session("127.0.0.1:9")})), said.append)
    assert time.monotonic() - start < 5
    assert said[-1].startswith("the artifact store is still unreachable")
