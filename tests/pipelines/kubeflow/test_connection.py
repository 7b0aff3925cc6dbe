"""How the commands reach a KFP API server, who they say they are, and what it may answer."""

import json
import os
import shutil
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from kfp_commands import SEARCH, done, nas, only, refused
from kfp_http import Fault
from kfp_server import KfpServer

from nascore.errors import InputError
from pipelines.kubeflow import client as cluster_module
from pipelines.kubeflow.connection import connect

TOKEN, COOKIE = "tok-5f2c9e-secret", "authservice_session=MTYx-cookie-secret"


# --- who we are -----------------------------------------------------------------------------


def test_the_token_of_a_file_goes_with_every_request(kfp: KfpServer, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    kfp.token = TOKEN
    done(*SEARCH, f"--token-file={tmp_path / 'token'}", "--pipeline=p")
    assert len(kfp.requests) > 4


def test_a_token_that_is_renewed_is_read_again(kfp: KfpServer, tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("old")
    server = cluster_module.Cluster(connect(kfp.url, pod_token=path))
    server.schedules()
    path.write_text("new")
    server.schedules()
    assert [r.headers["Authorization"] for r in kfp.requests] == ["Bearer old", "Bearer new"]
    path.unlink()
    with pytest.raises(cluster_module.ClusterError, match="cannot be read"):
        server.schedules()


def test_a_token_may_be_a_copied_header_or_come_from_an_editor_of_windows(
    kfp: KfpServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "token").write_bytes(b"\xef\xbb\xbf" + f"{TOKEN}\r\n".encode())
    done("schedule", "list", f"--token-file={tmp_path / 'token'}")
    monkeypatch.setenv("NAS_KFP_TOKEN", f"Bearer {TOKEN}\n")
    done("schedule", "list")
    assert [r.headers["Authorization"] for r in kfp.requests] == [f"Bearer {TOKEN}"] * 2


def test_a_token_or_cookie_of_the_environment(
    kfp: KfpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NAS_KFP_TOKEN", TOKEN)
    monkeypatch.setenv("NAS_KFP_COOKIE", COOKIE)
    kfp.token = TOKEN
    done("schedule", "list")
    assert only(kfp.requests).headers["Cookie"] == COOKIE


def test_a_proxy_of_google_without_credentials(
    kfp: KfpServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    message = refused("schedule", "list", "--iap-client-id=client.apps")
    assert "--iap-client-id = client.apps" in message
    assert kfp.requests == []


def test_in_a_pod_the_server_of_its_cluster_is_meant() -> None:
    pod = {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}
    found = connect(None, environment=pod)
    assert found.host == "http://ml-pipeline.kubeflow.svc.cluster.local:8888"
    assert found.ui is None
    with pytest.raises(InputError, match="is missing"):
        connect(None, environment={})


@pytest.mark.parametrize(
    ("host", "told"),
    [
        ("kubeflow.example", "must begin with http"),
        ("http://", "name a host"),
        ("http://x:port", "no address"),
        ("http://me:hunter2@x", "no user or password"),
        ("http://x/pipeline/#/runs", "must end before"),
    ],
)
def test_an_address_that_cannot_be_one(host: str, told: str) -> None:
    with pytest.raises(InputError, match=told) as caught:
        connect(host, environment={})
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "told"), [("", "is empty"), ("a\nb", "more than a token"), (b"\xff\xfe", "bytes")]
)
def test_a_file_that_holds_no_token(tmp_path: Path, content: str | bytes, told: str) -> None:
    path = tmp_path / "token"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=told):
        connect("http://x", token_file=path, environment={})


def test_a_cookie_with_a_line_break_is_not_shown() -> None:
    with pytest.raises(InputError, match="NAS_KFP_COOKIE") as caught:
        connect("http://x", environment={"NAS_KFP_COOKIE": "hunter2\nHost: y"})
    assert "hunter2" not in str(caught.value)


# --- what a server may answer ---------------------------------------------------------------

ECHO = json.dumps({"code": 7, "message": f"Bearer {TOKEN} with {COOKIE} may not"})
PAGE = "<!doctype html><title>Sign in</title>"


@pytest.mark.parametrize(
    ("fault", "status", "told"),
    [
        (Fault(401, ECHO), 2, "does not know who we are (401)"),
        (Fault(401, PAGE, "text/html"), 2, "does not know who we are (401)"),
        (Fault(302, "", headers={"Location": "/dex/auth"}), 2, "wants a log-in (302)"),
        (Fault(403, ECHO), 2, "forbids this (403): Bearer *** with *** may not"),
        (Fault(404, ECHO), 2, "does not find it (404)"),
        (Fault(409, ECHO), 2, "has it already (409)"),
        (Fault(400, ECHO), 2, "refuses this (400)"),
        (Fault(429, ECHO), 1, "is too busy, at every try (429)"),
        (Fault(500, ECHO), 1, "fails (500)"),
        (Fault(503, PAGE, "text/html"), 1, "fails (503)"),
        (Fault(200, PAGE, "text/html"), 2, "does not answer as a KFP API server"),
        (Fault(404, PAGE, "text/html"), 2, "does not answer as a KFP API server"),
        (Fault(200, "[]"), 2, "does not answer as a KFP API server"),
    ],
)
@pytest.mark.parametrize("arguments", [SEARCH, ("schedule", "list"), ("status", "r1")])
def test_every_refusal_is_one_clear_message(
    kfp: KfpServer,
    monkeypatch: pytest.MonkeyPatch,
    fault: Fault,
    status: int,
    told: str,
    arguments: tuple[str, ...],
) -> None:
    monkeypatch.setenv("NAS_KFP_TOKEN", TOKEN)
    monkeypatch.setenv("NAS_KFP_COOKIE", COOKIE)
    kfp.fault = fault
    message = refused(*arguments, "--json", status=status)
    assert message.startswith(f"{kfp.url} ")
    assert told in message
    assert len(message.splitlines()) == 1
    assert "secret" not in message


def test_a_busy_server_is_asked_again_a_few_times(kfp: KfpServer) -> None:
    kfp.fault = Fault(429, ECHO, count=3)
    done("schedule", "list")
    assert len(kfp.requests) == 4
    kfp.requests.clear()
    kfp.fault = Fault(429, ECHO, headers={"Retry-After": "0"})
    refused("schedule", "list", status=1)
    assert len(kfp.requests) == 5


def test_what_may_have_been_done_is_not_sent_twice(kfp: KfpServer) -> None:
    kfp.fault = Fault(500, ECHO, where="/runs")
    refused_run = nas(*SEARCH)
    assert refused_run.exit_code == 1
    assert len(kfp.sent("POST", "/runs")) == 1


def test_a_server_that_hangs(kfp: KfpServer) -> None:
    kfp.fault = Fault(hang_s=3)
    start = time.monotonic()
    message = refused("schedule", "list", "--timeout=0.3", status=1)
    assert time.monotonic() - start < 2.9  # and not the three that it hangs
    assert "did not answer within 0.3 s" in message


def test_the_time_limit_is_fifteen_seconds_by_default() -> None:
    assert connect("http://x", environment={}).timeout_s == 15


def test_nobody_answers_at_the_address(kfp: KfpServer) -> None:
    start = time.monotonic()
    message = refused("schedule", "list", "--host=http://127.0.0.1:1")
    assert "http://127.0.0.1:1 cannot be reached (Connection refused)" in message
    assert "no host of that name" in refused("status", "x", "--host=http://no.invalid")
    assert time.monotonic() - start < 30


# --- TLS ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    command += ["-keyout", str(path.with_name("key.pem")), "-out", str(path.with_name("cert.pem"))]
    command += ["-subj", "/CN=kfp", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(command, check=True, capture_output=True)
    return path.with_name("cert.pem")


@pytest.fixture
def kfp_tls(swagger: Path, certificate: Path) -> Iterator[KfpServer]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_name("key.pem"))
    server = KfpServer(swagger, tls=context)
    yield server
    server.close()
    assert server.violations == []


def test_an_unknown_certificate_is_refused_and_a_known_one_taken(
    kfp_tls: KfpServer, certificate: Path
) -> None:
    message = refused("schedule", "list", f"--host={kfp_tls.url}")
    assert "cannot be trusted" in message
    assert "--ca-file" in message
    assert kfp_tls.requests == []
    assert done("schedule", "list", f"--host={kfp_tls.url}", f"--ca-file={certificate}") == []


def test_insecure_is_never_silent(kfp_tls: KfpServer, certificate: Path) -> None:
    result = nas("schedule", "list", f"--host={kfp_tls.url}", "--insecure", "--json")
    assert result.exit_code == 0
    assert result.stdout == "[]\n"
    assert "warning: --insecure" in result.stderr
    message = refused(
        "schedule", "list", f"--host={kfp_tls.url}", "--insecure", f"--ca-file={certificate}"
    )
    assert "contradicts --ca-file" in message


def test_a_file_without_certificates(kfp: KfpServer, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")
    for name, told in (("ca.pem", "PEM form"), ("none.pem", "cannot be read")):
        assert told in refused("schedule", "list", f"--ca-file={tmp_path / name}")


def test_tls_with_a_server_that_speaks_none(kfp: KfpServer) -> None:
    message = refused("schedule", "list", f"--host={kfp.url.replace('http', 'https')}")
    assert "write http:// if it speaks no TLS" in message


# --- in a process of its own ----------------------------------------------------------------


def test_nothing_but_json_is_printed_and_no_option_takes_a_secret(
    kfp: KfpServer, tmp_path: Path
) -> None:
    environment = {**os.environ, "NAS_KFP_TOKEN": TOKEN, "PYTHONWARNINGS": "default"}
    ended = subprocess.run(
        [sys.executable, "-m", "pipelines.cli", *SEARCH, "--json"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)["run_id"] in kfp.runs
    assert TOKEN not in ended.stdout + ended.stderr
    assert list(tmp_path.iterdir()) == []
    for command in (["submit"], ["status"], ["cancel"], ["schedule", "create"]):
        shown = nas(*command, "--help").stdout
        assert "--token " not in shown
        assert "--cookie" not in shown
