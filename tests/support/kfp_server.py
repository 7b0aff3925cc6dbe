"""Stands in for a KFP API server, which cannot be had without a cluster.

Every request is checked against KFP's own contract (its swagger file): method, path, query,
headers and body, with no field that the contract does not name. What does not fit is refused and
kept in `violations`. Answers are checked alike before they are sent.
"""

import copy
import email
import json
import re
import ssl
import threading
import time
import uuid
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import jsonschema
import yaml

PREFIX = "/apis/v2beta1"
NOW = "2026-11-25T03:00:00Z"


class Contract:
    """The requests and answers that the swagger file allows."""

    def __init__(self, path: Path) -> None:
        document = json.loads(path.read_text())
        self._definitions = copy.deepcopy(document["definitions"])
        for schema in self._definitions.values():
            if "properties" in schema:
                schema.setdefault("additionalProperties", False)
        self._operations = [
            (method.upper(), re.compile(self._pattern(template)), operation)
            for template, methods in document["paths"].items()
            for method, operation in methods.items()
        ]

    @staticmethod
    def _pattern(template: str) -> str:
        parts = re.split(r"\{[^}]+\}", template)
        return "[^/:]+".join(re.escape(part) for part in parts) + "$"

    def operation(self, method: str, path: str) -> dict[str, Any] | None:
        for known, pattern, operation in self._operations:
            if known == method and pattern.match(path):
                return operation
        return None

    def request_errors(
        self, operation: dict[str, Any], query: dict[str, list[str]], headers: Any, body: bytes
    ) -> list[str]:
        parameters = {p["name"]: p for p in operation.get("parameters", []) if p["in"] == "query"}
        errors = [f"unknown query {name}" for name in query if name not in parameters]
        for name, values in query.items():
            if len(values) != 1:
                errors.append(f"{name} comes {len(values)} times")
            kind = parameters.get(name, {}).get("type")
            if kind == "integer" and not values[0].isdecimal():
                errors.append(f"{name} is no whole number")
        places = {parameter["in"]: parameter for parameter in operation.get("parameters", [])}
        if "formData" in places:
            return errors + self._upload_errors(places["formData"]["name"], headers, body)
        if "body" not in places:
            return errors + (["has a body"] if body else [])
        if headers.get_content_type() != "application/json":
            errors.append(f"body is {headers.get_content_type()}")
        return errors + self._schema_errors(places["body"]["schema"], json.loads(body))

    @staticmethod
    def _upload_errors(name: str, headers: Any, body: bytes) -> list[str]:
        head = f"Content-Type: {headers['Content-Type']}\r\n\r\n".encode()
        message = email.message_from_bytes(head + body)
        parts = message.get_payload() if message.is_multipart() else []
        names = [part.get_param("name", header="content-disposition") for part in parts]
        if names != [name]:
            return [f"form has {names}, not {name}"]
        documents = list(yaml.safe_load_all(parts[0].get_payload(decode=True)))
        return [] if "pipelineInfo" in documents[0] else ["no pipeline in the file"]

    def answer_errors(self, operation: dict[str, Any], answer: Any) -> list[str]:
        return self._schema_errors(operation["responses"]["200"]["schema"], answer)

    def _schema_errors(self, schema: dict[str, Any], value: Any) -> list[str]:
        whole = {"definitions": self._definitions, "allOf": [schema]}
        errors = jsonschema.Draft4Validator(whole).iter_errors(value)
        return [f"{'.'.join(map(str, error.path))}: {error.message}" for error in errors]


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


@dataclass
class Request:
    method: str
    path: str
    query: dict[str, str]
    headers: Any
    body: Any


class KfpServer:
    """A small server that remembers what it was told, as KFP would.

    Attributes:
        requests: all that fitted the contract.
        violations: what did not.
        fault: answered instead of the real thing.
        script: the states of a run at each look, the last for ever: changes laid over the run.
        token: wanted in the header of every request.
    """

    def __init__(self, swagger: Path, *, tls: ssl.SSLContext | None = None) -> None:
        self.contract = Contract(swagger)
        self.requests: list[Request] = []
        self.violations: list[str] = []
        self.fault: Fault | None = None
        self.script: list[dict[str, Any]] = []
        self.token: str | None = None
        self.experiments: list[dict[str, Any]] = []
        self.pipelines: list[dict[str, Any]] = []
        self.versions: list[dict[str, Any]] = []
        self.runs: dict[str, dict[str, Any]] = {}
        self.schedules: dict[str, dict[str, Any]] = {}
        self.page = 100
        self.multi_user = False
        handler = type("Handler", (_Handler,), {"kfp": self})
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._http.daemon_threads = True
        self._http.block_on_close = False
        if tls is not None:
            self._http.socket = tls.wrap_socket(self._http.socket, server_side=True)
        scheme = "http" if tls is None else "https"
        self.url = f"{scheme}://127.0.0.1:{self._http.server_port}"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()

    def sent(self, method: str, path: str) -> list[Request]:
        return [r for r in self.requests if r.method == method and r.path == PREFIX + path]

    # --- what KFP does ----------------------------------------------------------------------

    def answer(self, request: Request) -> Any:
        path, body = request.path.removeprefix(PREFIX), request.body
        match (request.method, path.strip("/").replace(":", "/").split("/")):
            case ("GET", ["healthz"]):
                return {"multi_user": self.multi_user}
            case ("GET", ["experiments"]):
                return {"experiments": self._named(self.experiments, request)}
            case ("POST", ["experiments"]):
                return self._add(self.experiments, {"experiment_id": _id(), **body})
            case ("GET", ["pipelines"]):
                return {"pipelines": self._named(self.pipelines, request)}
            case ("POST", ["pipelines", "upload"]):
                name = request.query["name"]
                made = {"pipeline_id": _id(), "display_name": name, "name": name}
                self._add_version(made["pipeline_id"], name)
                return self._add(self.pipelines, made)
            case ("POST", ["pipelines", "upload_version"]):
                return self._add_version(request.query["pipelineid"], request.query["name"])
            case ("GET", ["pipelines", pipeline, "versions"]):
                found = [v for v in self.versions if v["pipeline_id"] == pipeline]
                return {"pipeline_versions": found[::-1][: int(request.query["page_size"])]}
            case ("GET", ["runs"]):
                wanted = request.query["experiment_id"]
                found = [r for r in self.runs.values() if r.get("experiment_id") == wanted]
                return {"runs": found[::-1]}
            case ("POST", ["runs"]):
                run = {"run_id": _id(), "state": "PENDING", "created_at": NOW, **body}
                return self.runs.setdefault(run["run_id"], run)
            case ("GET", ["runs", run_id]) if run_id in self.runs:
                if self.script:
                    change = self.script.pop(0) if len(self.script) > 1 else self.script[0]
                    self.runs[run_id].update(change)
                return self.runs[run_id]
            case ("POST", ["runs", run_id, "terminate"]) if run_id in self.runs:
                self.runs[run_id]["state"] = "CANCELING"
                return {}
            case ("GET", ["recurringruns"]):
                return self._page_of_schedules(request)
            case ("POST", ["recurringruns"]):
                status = f"{body['mode']}D"
                made = {"recurring_run_id": _id(), "status": status, "created_at": NOW, **body}
                return self.schedules.setdefault(made["recurring_run_id"], made)
            case ("POST", ["recurringruns", one, action]) if one in self.schedules:
                self.schedules[one]["status"] = f"{action.upper()}D"
                return {}
            case ("DELETE", ["recurringruns", one]) if one in self.schedules:
                del self.schedules[one]
                return {}
        return None

    def _page_of_schedules(self, request: Request) -> dict[str, Any]:
        first = int(request.query.get("page_token", "0"))
        found = list(self.schedules.values())[first : first + self.page]
        following = first + self.page
        more = {"next_page_token": str(following)} if following < len(self.schedules) else {}
        return {"recurringRuns": found, "total_size": len(self.schedules), **more}

    @staticmethod
    def _named(things: list[dict[str, Any]], request: Request) -> list[dict[str, Any]]:
        (same,) = json.loads(request.query["filter"])["predicates"]
        assert (same["operation"], same["key"]) == ("EQUALS", "display_name")
        return [thing for thing in things if thing["display_name"] == same["stringValue"]]

    @staticmethod
    def _add(things: list[dict[str, Any]], thing: dict[str, Any]) -> dict[str, Any]:
        things.append(thing)
        return thing

    def _add_version(self, pipeline: str, name: str) -> dict[str, Any]:
        version = {"pipeline_id": pipeline, "pipeline_version_id": _id(), "display_name": name}
        return self._add(self.versions, version)


def _id() -> str:
    return str(uuid.uuid4())


class _Handler(BaseHTTPRequestHandler):
    kfp: KfpServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._serve()

    do_POST = do_DELETE = do_GET

    def _serve(self) -> None:
        kfp = self.kfp
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        address = urlsplit(self.path)
        query = parse_qs(address.query, keep_blank_values=True)
        operation = kfp.contract.operation(self.command, address.path)
        errors = ["no such operation"]
        if operation is not None:
            errors = kfp.contract.request_errors(operation, query, self.headers, body)
        if operation is None or errors:
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
        if self._sent_fault(kfp, request):
            return
        if kfp.token is not None and self.headers["Authorization"] != f"Bearer {kfp.token}":
            self._send_json(401, {"code": 16, "message": "no valid token"})
            return
        answer = kfp.answer(request)
        if answer is None:
            self._send_json(404, {"code": 5, "message": f"{address.path} not found"})
            return
        errors = kfp.contract.answer_errors(operation, answer)
        kfp.violations += [f"answer to {self.command} {self.path}: {error}" for error in errors]
        self._send_json(200, answer)

    def _sent_fault(self, kfp: KfpServer, request: Request) -> bool:
        fault = kfp.fault
        if fault is None or fault.where not in request.path or fault.count == 0:
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
