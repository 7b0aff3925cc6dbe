"""HTTP around the stand-in for KFP's API server: contract, faults on demand, what was asked."""

import json
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, urlsplit

LOGS = "/apis/v1alpha1"


@dataclass
class Fault:
    """What is answered instead, `count` times or for ever; only where the path holds `where`."""

    status: int = 200
    body: str = ""
    kind: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)
    count: int | None = None
    hang_s: float = 0.0
    where: str = ""
    method: str = ""


@dataclass
class Request:
    method: str
    path: str
    query: dict[str, str]
    headers: Any
    body: Any


class Refusal(Exception):
    """An answer that says no; an error within another is an internal one to KFP."""

    def __init__(self, status: int, code: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"code": code, "message": message}


class Handler(BaseHTTPRequestHandler):
    kfp: Any  # the server that answers
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._serve()

    do_POST = do_DELETE = do_GET

    def _serve(self) -> None:
        kfp: Any = self.kfp
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        address = urlsplit(self.path)
        query = parse_qs(address.query, keep_blank_values=True)
        is_log = address.path.startswith(LOGS)  # in no contract
        operation = None if is_log else kfp.contract.operation(self.command, address.path)
        errors = [] if is_log else ["no such operation"]
        if operation is not None:
            errors = kfp.contract.request_errors(operation, query, self.headers, body)
        if errors:
            kfp.violations += [f"{self.command} {self.path}: {error}" for error in errors]
            self._send_json(400, {"code": 3, "message": "; ".join(errors)})
            return
        is_json = body and self.headers.get_content_type() == "application/json"
        request = Request(
            self.command,
            address.path,
            {name: values[0] for name, values in query.items()},
            self.headers,
            json.loads(body) if is_json else body,
        )
        kfp.requests.append(request)
        kfp.before(request)
        if self._sent_fault(kfp, request):
            return
        if kfp.token is not None and self.headers["Authorization"] != f"Bearer {kfp.token}":
            self._send_json(401, {"code": 16, "message": "no valid token"})
        elif is_log:
            _, run_id, _, pod, _ = address.path.removeprefix(f"{LOGS}/").split("/")
            self._send(200, kfp.log(run_id, pod).encode(), "text/plain", {})
        else:
            self._send_answer(kfp, request, operation or {})

    def _send_answer(self, kfp: Any, request: Request, operation: dict[str, Any]) -> None:
        try:
            answer = kfp.answer(request)
        except Refusal as refusal:
            self._send_json(refusal.status, refusal.body)
            return
        if answer is None:
            self._send_json(404, {"code": 5, "message": f"{request.path} not found"})
            return
        errors = kfp.contract.answer_errors(operation, answer)
        place = f"answer to {request.method} {request.path}"
        kfp.violations += [f"{place}: {error}" for error in errors]
        self._send_json(200, answer)

    def _sent_fault(self, kfp: Any, request: Request) -> bool:
        fault = kfp.fault
        if fault is None or fault.where not in request.path or fault.count == 0:
            return False
        if fault.method not in ("", request.method):
            return False
        if fault.count is not None:
            fault.count -= 1
        time.sleep(fault.hang_s)
        self._send(fault.status, fault.body.encode(), fault.kind, fault.headers)
        return True

    def _send_json(self, status: int, answer: Any) -> None:
        self._send(status, json.dumps(answer).encode(), "application/json", {})

    def _send(self, status: int, body: bytes, kind: str, headers: dict[str, str]) -> None:
        try:
            self.send_response(status)
            for name, value in {"Content-Type": kind, **headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
        except OSError:
            self.close_connection = True  # the client has given up

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""
