"""HTTP around the stand-in for the Kubernetes API: paths, errors, and what `kubectl` asks first."""

import json
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

JsonObject = dict[str, Any]


@dataclass(frozen=True)
class Kind:
    """A kind of objects: where it is served."""

    group: str
    version: str
    plural: str
    namespaced: bool = True

    @property
    def root(self) -> str:
        return f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version


KINDS = {
    "Namespace": Kind("", "v1", "namespaces", namespaced=False),
    "Node": Kind("", "v1", "nodes", namespaced=False),
    "Pod": Kind("", "v1", "pods"),
    "Secret": Kind("", "v1", "secrets"),
    "ConfigMap": Kind("", "v1", "configmaps"),
    "Service": Kind("", "v1", "services"),
    "ServiceAccount": Kind("", "v1", "serviceaccounts"),
    "PersistentVolumeClaim": Kind("", "v1", "persistentvolumeclaims"),
    "ResourceQuota": Kind("", "v1", "resourcequotas"),
    "LimitRange": Kind("", "v1", "limitranges"),
    "Event": Kind("", "v1", "events"),
    "Deployment": Kind("apps", "v1", "deployments"),
    "StatefulSet": Kind("apps", "v1", "statefulsets"),
    "Job": Kind("batch", "v1", "jobs"),
    "CronJob": Kind("batch", "v1", "cronjobs"),
    "StorageClass": Kind("storage.k8s.io", "v1", "storageclasses", namespaced=False),
    "LocalSubjectAccessReview": Kind("authorization.k8s.io", "v1", "localsubjectaccessreviews"),
    "SelfSubjectAccessReview": Kind(
        "authorization.k8s.io", "v1", "selfsubjectaccessreviews", namespaced=False
    ),
}


@dataclass(frozen=True)
class Asked:
    """A request: what is wanted of which objects."""

    verb: str
    kind: str
    namespace: str
    name: str = ""
    sub: str = ""
    body: Any = None
    query: dict[str, str] = field(default_factory=dict)


class Refused(Exception):
    """An answer that says no."""

    def __init__(self, code: int, reason: str, message: str, **details: Any) -> None:
        super().__init__(message)
        self.code, self.reason, self.details = code, reason, details

    @property
    def status(self) -> JsonObject:
        return {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": str(self),
            "reason": self.reason,
            "details": self.details,
            "code": self.code,
        }


class Handler(BaseHTTPRequestHandler):
    api: Any  # the server that answers
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else each answer waits 40 ms for an acknowledgement

    def do_GET(self) -> None:
        self._serve("get")

    def do_POST(self) -> None:
        self._serve("create")

    def do_DELETE(self) -> None:
        self._serve("delete")

    def _serve(self, verb: str) -> None:
        text = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        address = urlsplit(self.path)
        if self.api.fault is not None:
            self._send(*self.api.fault)
            return
        shown = self.headers.get("Authorization")
        if self.api.token is not None and shown != f"Bearer {self.api.token}":
            self._send_json(Refused(401, "Unauthorized", "Unauthorized").status, 401)
            return
        if address.path in self.api.raw:
            self._send_json(self.api.raw[address.path], 200)
            return
        asked = _read(verb, address.path)
        if asked is None:
            found = _discovery(address.path)
            if found is None:
                self._send(404, "404 page not found\n", "text/plain; charset=utf-8")
            else:
                self._send_json(found, 200)
            return
        if text and self.headers.get_content_type() != "application/json":
            message = "the body of the request was in an unknown format - accepted media types "
            refused = Refused(415, "UnsupportedMediaType", message + "include: application/json")
            self._send_json(refused.status, 415)
            return
        query = {name: values[0] for name, values in parse_qs(address.query).items()}
        body = json.loads(text) if text and verb == "create" else None
        asked = Asked(*asked, body=body, query=query)
        try:
            answer = self.api.answer(asked)
        except Refused as refused:
            self._send_json(refused.status, refused.code)
            return
        if isinstance(answer, str):
            self._send(200, answer, "text/plain")
        else:
            self._send_json(answer, 201 if asked.verb == "create" else 200)

    def _send_json(self, body: Any, status: int) -> None:
        self._send(status, json.dumps(body), "application/json")

    def _send(self, status: int, text: str, kind: str = "text/plain") -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: Any) -> None:
        pass


def _read(verb: str, path: str) -> tuple[str, str, str, str, str] | None:
    """Verb, kind, namespace, name and subresource of a path; None when it is of no object."""
    for name, kind in KINDS.items():
        rest = path.removeprefix(kind.root + "/")
        if rest == path:
            continue
        parts = [unquote(part) for part in rest.split("/")]
        namespace = ""
        if kind.namespaced and parts[0] == "namespaces" and len(parts) > 2:
            namespace, parts = parts[1], parts[2:]
        if parts[0] != kind.plural or (not kind.namespaced and len(parts) > 2):
            continue
        one, sub = (*parts[1:2], ""), "/".join(parts[2:3])
        return ("list" if verb == "get" and not one[0] else verb), name, namespace, one[0], sub
    return None


def _discovery(path: str) -> JsonObject | None:
    """What `kubectl` asks first: the groups, and the kinds of each."""
    groups = sorted({(kind.group, kind.version) for kind in KINDS.values() if kind.group})
    if path == "/version":
        return {"major": "1", "minor": "33", "gitVersion": "v1.33.4", "platform": "linux/amd64"}
    if path == "/api":
        return {"kind": "APIVersions", "versions": ["v1"]}
    if path == "/apis":
        listed = []
        for group, version in groups:
            served = {"groupVersion": f"{group}/{version}", "version": version}
            listed.append({"name": group, "versions": [served], "preferredVersion": served})
        return {"kind": "APIGroupList", "apiVersion": "v1", "groups": listed}
    kinds = {name: kind for name, kind in KINDS.items() if kind.root == path}
    if not kinds:
        return None
    resources = [
        {
            "name": kind.plural,
            "singularName": name.lower(),
            "namespaced": kind.namespaced,
            "kind": name,
            "shortNames": ["pvc"] if name == "PersistentVolumeClaim" else [],
            "verbs": ["create", "delete", "get", "list"],
        }
        for name, kind in kinds.items()
    ]
    version = next(iter(kinds.values())).api_version
    body = {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version}
    return {**body, "resources": resources}
