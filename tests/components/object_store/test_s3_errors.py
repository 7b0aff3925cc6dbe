"""What a server answers that is no S3 store, not for us, or not able to."""

import os
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from components.object_store.client import Store
from components.object_store.connection import make_client
from components.object_store.objects import fetch, list_objects, look
from components.object_store.writing import put_if_absent
from nascore.errors import InputError

pytestmark = pytest.mark.usefixtures("aws_account")
HTML = "<html>log in</html>"
Answering = Callable[..., None]


@pytest.fixture
def answering(monkeypatch: pytest.MonkeyPatch) -> Iterator[Answering]:
    """`answering(200, HTML)`: every request to AWS_ENDPOINT_URL is answered so."""
    servers: list[HTTPServer] = []

    def start(status: int, body: str = "", **headers: str) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                for name, value in headers.items():
                    self.send_header(name, value.format(port=self.server.server_port))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body.encode())

            do_HEAD = do_PUT = do_GET

            def log_message(self, *args: object) -> None:
                pass

        servers.append(HTTPServer(("127.0.0.1", 0), Handler))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{servers[-1].server_port}")

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def said(call: Callable[[Store], object]) -> str:
    """What is raised by a store that would wait a minute for a server that has answered before."""
    with pytest.raises(InputError) as caught:
        call(Store(trusted=True, retry_timeout_s=60))
    return str(caught.value)


def error_xml(code: str) -> str:
    return f"<?xml version='1.0'?><Error><Code>{code}</Code></Error>"


@pytest.mark.timeout(20)
@pytest.mark.parametrize("request_", [look, fetch], ids=["look", "fetch"])
def test_a_web_page_is_no_store(answering: Answering, request_: Callable[..., object]) -> None:
    answering(200, HTML)
    text = said(lambda store: request_("s3://data/x", store=store))
    assert "does not answer as S3 does" in text
    assert "AWS_ENDPOINT_URL" in text


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (403, HTML, "no code of S3, HTTP status 403"),
        (403, error_xml("ExpiredToken"), "the credentials have expired"),
        (501, error_xml("NotImplemented"), "does not support this request"),
        (501, HTML, "does not support this request"),
    ],
)
def test_final_answers_are_not_waited_for(
    answering: Answering, status: int, body: str, words: str
) -> None:
    answering(status, body)
    assert words in said(lambda store: put_if_absent(b"", "s3://data/x", store=store))


@pytest.mark.timeout(20)
def test_redirects_in_a_circle_end(answering: Answering) -> None:
    answering(301, error_xml("PermanentRedirect"), Location="http://127.0.0.1:{port}/data")
    text = said(lambda store: list(list_objects("s3://data/x", store=store)))
    assert "does not answer as S3 does (it redirects to http://127.0.0.1:" in text
    assert "AWS_ENDPOINT_URL" in text


@pytest.mark.parametrize("mark", ["\n", "\r\n", "\r", " ", "\u00a0"])
def test_white_space_around_variables_is_removed_and_reported_once(
    answering: Answering,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    mark: str,
) -> None:
    answering(200, "", ETag='"0"')
    address = os.environ["AWS_ENDPOINT_URL"]
    monkeypatch.setenv("AWS_ENDPOINT_URL", address + mark)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", f"ak-0123456789{mark}")
    monkeypatch.setenv("AWS_PROFILE", "")
    for _ in range(2):
        assert look("s3://data/x", store=Store())["ETag"] == '"0"'
    assert os.environ["AWS_ENDPOINT_URL"] == address
    (message,) = [record.getMessage() for record in caplog.records]
    assert "the value of AWS_ACCESS_KEY_ID and AWS_ENDPOINT_URL was removed" in message
    assert "ak-0123456789" not in message


def test_a_line_break_inside_a_key_is_named(
    answering: Answering, monkeypatch: pytest.MonkeyPatch
) -> None:
    answering(200, HTML)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "ak-012\n3456789")
    text = said(lambda store: look("s3://data/x", store=store))
    assert "a key has a line break" in text
    assert "3456789" not in text


def test_the_users_addressing_style_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://store.example.org")

    def address() -> str:
        url: str = make_client().generate_presigned_url(
            "get_object", Params={"Bucket": "data", "Key": "k"}
        )
        return url.partition("?")[0]

    assert address() == "http://store.example.org/data/k"
    (tmp_path / "config").write_text("[default]\ns3 =\n    addressing_style = virtual\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    assert address() == "http://data.store.example.org/k"
    (tmp_path / "config").write_text("[default]\nendpoint_url = http://in-a-file.example.org\n")
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    assert address() == "http://in-a-file.example.org/data/k"
    (tmp_path / "config").write_text("[default]\nregion = eu-west-1\n")
    assert address() == "https://data.s3.amazonaws.com/k"


def test_checksums_are_those_of_the_configuration_of_boto3(monkeypatch: pytest.MonkeyPatch) -> None:
    assert make_client().meta.config.request_checksum_calculation == "when_supported"
    monkeypatch.setenv("AWS_REQUEST_CHECKSUM_CALCULATION", "when_required")
    monkeypatch.setenv("AWS_RESPONSE_CHECKSUM_VALIDATION", "when_required")
    assert make_client().meta.config.request_checksum_calculation == "when_required"
    assert make_client().meta.config.response_checksum_validation == "when_required"
