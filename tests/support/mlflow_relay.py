"""A reverse proxy before a real MLflow server, as unkind as those that people put there.

nginx, oauth2-proxy and the ingress controllers of Kubernetes are not at hand in tests. What they
answer is taken from their documentation: paths below a prefix, 401 with `WWW-Authenticate`, a
log-in page with status 200 or behind a redirect, 413 with a page of HTML, 429 and 503, connections
that are reset, and TLS with a certificate of a private authority.
"""

import datetime
import http.client
import ipaddress
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

_NOT_PASSED_ON = {"connection", "transfer-encoding", "content-length", "host", "keep-alive"}
_TIMEOUT_S = 60


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as the proxy sees it; `length` is that of the body."""

    method: str
    path: str
    headers: Mapping[str, str]
    length: int


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer of the proxy itself."""

    status: int
    body: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)


Rule = Callable[[Asked], Answer | None]
"""Answers a request itself, or returns None to pass it on; ConnectionResetError resets it."""


class Relay:
    """A proxy on a port of loopback; use it as a context manager.

    Args:
        target: address of the server behind it.
        prefix: path below which the server is; other paths are answered by 404.
        rule: see `Rule`; may be replaced at any time.
        certificate: PEM file with certificate and key; the proxy then speaks https only.
    """

    def __init__(
        self,
        target: str,
        *,
        prefix: str = "",
        rule: Rule | None = None,
        certificate: Path | None = None,
    ) -> None:
        self.rule, self.prefix = rule, prefix
        self.asked: list[Asked] = []
        self._target = urlsplit(target)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self._server.socket = context.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        scheme = "http" if certificate is None else "https"
        self.address = f"{scheme}://127.0.0.1:{self._server.server_port}"
        self.uri = f"{self.address}{prefix}"

    def __enter__(self) -> "Relay":
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def pass_on(self, asked: Asked, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        """Ask the server behind the proxy; return status, headers and body."""
        host, port = self._target.hostname, self._target.port
        assert host is not None
        connection = http.client.HTTPConnection(host, port, timeout=_TIMEOUT_S)
        headers = {k: v for k, v in asked.headers.items() if k.lower() not in _NOT_PASSED_ON}
        headers["Host"] = self._target.netloc
        try:
            connection.request(asked.method, asked.path.removeprefix(self.prefix), body, headers)
            answer = connection.getresponse()
            kept = [(k, v) for k, v in answer.getheaders() if k.lower() not in _NOT_PASSED_ON]
            return answer.status, kept, answer.read()
        finally:
            connection.close()

    def _handler(relay) -> type[BaseHTTPRequestHandler]:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one_request(self) -> None:
                try:
                    super().handle_one_request()
                except (ssl.SSLError, ConnectionError):
                    self.close_connection = True

            def do_GET(self) -> None:
                body = self._body()
                asked = Asked(self.command, self.path, dict(self.headers), len(body))
                relay.asked.append(asked)
                try:
                    answer = None if relay.rule is None else relay.rule(asked)
                except ConnectionResetError:
                    self._reset()
                    return
                if answer is None and not asked.path.startswith(relay.prefix):
                    answer = Answer(404, "<html>404 Not Found</html>")
                if answer is not None:
                    self._send(answer.status, list(answer.headers.items()), answer.body.encode())
                else:
                    self._send(*relay.pass_on(asked, body))

            do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = do_GET

            def _body(self) -> bytes:
                if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
                    return self.rfile.read(int(self.headers.get("Content-Length") or 0))
                body = b""
                while size := int(self.rfile.readline().split(b";")[0], 16):
                    body += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
                return body

            def _send(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
                self.send_response(status)
                for name, value in headers:
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            def _reset(self) -> None:
                """Close without the usual end, such that the client reads ECONNRESET."""
                self.close_connection = True
                linger = struct.pack("ii", 1, 0)
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                self.connection.close()

            def log_message(self, *args: Any) -> None:
                pass

        return Handler


def make_authority(folder: Path) -> tuple[Path, Path]:
    """Make an authority and a certificate of it for 127.0.0.1.

    Returns:
        PEM file of the authority, and PEM file with certificate and key of the server.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    now = datetime.datetime.now(datetime.UTC)

    def builder(subject: str, issuer: str, key: Any) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
        )

    authority_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    authority = (
        builder("test authority", "test authority", authority_key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(authority_key, hashes.SHA256())
    )
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    server = (
        builder("127.0.0.1", "test authority", key)
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    (folder / "authority.pem").write_bytes(authority.public_bytes(pem))
    private = key.private_bytes(
        pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "server.pem").write_bytes(private + server.public_bytes(pem))
    return folder / "authority.pem", folder / "server.pem"
