"""Stands in for a Kubernetes API server, which cannot be had without a cluster.

What it knows of the real one, and from where:

- Objects, paths, lists and reviews: the Kubernetes API reference (kubernetes.io/docs/reference/
  kubernetes-api), versions 1.32 to 1.37. A list of a namespace that is not there is empty, not 404.
- Errors are `Status` objects with reason and details, as the API conventions have them. The message
  of a missing right is that of the RBAC authorizer: `secrets "x" is forbidden: User "u" cannot get
  resource "secrets" in API group "" in the namespace "n"`, or `... at the cluster scope`. Rights
  come before the object, so that nobody learns what is there. 401 is a `Status` with the message
  `Unauthorized`. A path of no resource is `404 page not found`, in plain text.
- A limit range is completed when it is made: `default` from `max`, `defaultRequest` from `default`,
  else from `min` (core/v1 defaults). Quotas, claims and nodes have no `status` until a controller
  has written one.
- `stringData` of a Secret is written, encoded, into `data`, and never read.
- Pods of a Job are made by its controller, so that none is there at first; how they go on is given
  by the test. A log that is not there yet is 400 with a `Status`.

It checks no schemas, has no admission, and keeps nothing of a review.
"""

import base64
import threading
import uuid
from collections.abc import Callable, Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml
from kube_http import KINDS, Asked, Handler, Refused

JsonObject = dict[str, Any]

USER, TOKEN = "dev@example.org", "token-of-dev"
NOW = "2026-11-29T10:00:00Z"


class KubeApi:
    """A small server that keeps objects, as the real one would.

    Attributes:
        asked: all requests.
        denied: rights that the user lacks: (verb, plural), or (verb, plural, namespace).
        granted: of service accounts, `namespace/name`: (verb, plural) that they have.
        raw: answers to a path that is no object's, such as the proxy of a service.
        pods: gives the states of the pod of a Job, look by look; the last for ever.
        log: of that pod; None while there is none.
        fault: status and body that are answered instead of everything.
        token: that is wanted; None lets everybody in.
    """

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.denied: set[tuple[str, ...]] = set()
        self.granted: dict[str, set[tuple[str, str]]] = {}
        self.raw: dict[str, Any] = {}
        self.pods: Callable[[JsonObject], list[JsonObject]] = lambda job: []
        self.log: str | None = None
        self.fault: tuple[int, str] | None = None
        self.token: str | None = TOKEN
        self._objects: dict[tuple[str, str, str], JsonObject] = {}
        self._looks: dict[str, list[JsonObject]] = {}
        self._lock = threading.Lock()
        handler = type("OneHandler", (Handler,), {"api": self})
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._http.daemon_threads = True
        self._http.block_on_close = False
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()

    def kubeconfig(self, path: Path, *, namespace: str | None = None, token: str = TOKEN) -> Path:
        """Write a kubeconfig with the contexts `stand-in` (the current one) and `elsewhere`."""
        context: JsonObject = {"cluster": "stand-in", "user": "dev"}
        if namespace is not None:
            context["namespace"] = namespace
        away = {"cluster": "elsewhere", "user": "dev"}
        written = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "stand-in",
            "clusters": [
                {"name": "stand-in", "cluster": {"server": self.url}},
                {"name": "elsewhere", "cluster": {"server": "http://127.0.0.1:9"}},
            ],
            "contexts": [
                {"name": "stand-in", "context": context},
                {"name": "elsewhere", "context": away},
            ],
            "users": [{"name": "dev", "user": {"token": token}}],
        }
        path.write_text(yaml.safe_dump(written))
        return path

    # --- objects ----------------------------------------------------------------------------

    def put(self, kind: str, name: str, namespace: str = "", **content: Any) -> JsonObject:
        """Keep an object, as the server would have completed it."""
        known = KINDS[kind]
        metadata = {
            "name": name,
            "uid": str(uuid.uuid4()),
            "resourceVersion": str(len(self._objects) + 1000),
            "creationTimestamp": NOW,
            "managedFields": [{"manager": "kubectl", "operation": "Apply", "apiVersion": "v1"}],
            **({"namespace": namespace} if known.namespaced else {}),
            **content.pop("metadata", {}),
        }
        made = {"apiVersion": known.api_version, "kind": kind, "metadata": metadata, **content}
        if kind == "LimitRange":
            for item in made["spec"]["limits"]:
                _complete(item)
        self._objects[kind, namespace, name] = made
        return made

    def drop(self, kind: str, name: str, namespace: str = "") -> None:
        del self._objects[kind, namespace, name]

    def find(self, kind: str, name: str, namespace: str = "") -> JsonObject | None:
        return self._objects.get((kind, namespace, name))

    def of(self, kind: str) -> list[JsonObject]:
        return [each for (one, _, _), each in self._objects.items() if one == kind]

    # --- answers ----------------------------------------------------------------------------

    def answer(self, asked: Asked) -> Any:
        with self._lock:
            self.asked.append(asked)
            self._check_rights(asked)
            if asked.kind.endswith("AccessReview"):
                return self._review(asked)
            if asked.sub == "log":
                return self._log(asked)
            if asked.verb == "list":
                return self._list(asked)
            if asked.verb == "create":
                return self._create(asked)
            found = self.find(asked.kind, asked.name, asked.namespace)
            if found is None:
                raise _missing(asked)
            if asked.verb == "delete":
                self._delete(asked)
                return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}
            return found

    def _check_rights(self, asked: Asked) -> None:
        kind = KINDS[asked.kind]
        plural = f"{kind.plural}/{asked.sub}" if asked.sub else kind.plural
        if not self.denied & {(asked.verb, plural), (asked.verb, plural, asked.namespace)}:
            return
        scope = (
            f'in the namespace "{asked.namespace}"' if asked.namespace else "at the cluster scope"
        )
        group = f".{kind.group}" if kind.group else ""
        what = f'{kind.plural}{group} "{asked.name}"' if asked.name else f"{kind.plural}{group}"
        raise Refused(
            403,
            "Forbidden",
            f'{what} is forbidden: User "{USER}" cannot {asked.verb} resource "{plural}" in API '
            f'group "{kind.group}" {scope}',
            name=asked.name,
            kind=kind.plural,
        )

    def _review(self, asked: Asked) -> JsonObject:
        spec = asked.body["spec"]
        wanted = spec["resourceAttributes"]
        if asked.kind == "SelfSubjectAccessReview":
            denied = self.denied & {
                (wanted["verb"], wanted["resource"]),
                (wanted["verb"], wanted["resource"], wanted.get("namespace", "")),
            }
            return {**asked.body, "status": {"allowed": not denied}}
        if wanted.get("namespace") != asked.namespace:
            message = "spec.resourceAttributes.namespace must match namespace: " + asked.namespace
            raise Refused(400, "BadRequest", message)
        account = spec["user"].removeprefix("system:serviceaccount:").replace(":", "/")
        allowed = (wanted["verb"], wanted["resource"]) in self.granted.get(account, set())
        return {**asked.body, "status": {"allowed": allowed}}

    def _list(self, asked: Asked) -> JsonObject:
        kind = KINDS[asked.kind]
        found = [
            each
            for (one, namespace, _), each in self._objects.items()
            if one == asked.kind and (not asked.namespace or namespace == asked.namespace)
        ]
        wanted = dict(part.split("=", 1) for part in _parts(asked.query.get("labelSelector")))
        found = [each for each in found if wanted.items() <= _labels(each).items()]
        for each in found if asked.kind == "Pod" else ():
            looks = self._looks.get(each["metadata"]["name"])
            if looks:
                each["status"] = looks.pop(0) if len(looks) > 1 else looks[0]
        # The items of a list have neither kind nor apiVersion.
        items = [{k: v for k, v in e.items() if k not in ("kind", "apiVersion")} for e in found]
        return {
            "kind": f"{asked.kind}List",
            "apiVersion": kind.api_version,
            "metadata": {"resourceVersion": "2000"},
            "items": items,
        }

    def _create(self, asked: Asked) -> JsonObject:
        body = dict(asked.body)
        metadata = body.pop("metadata")
        if self.find("Namespace", asked.namespace) is None:
            message = f'namespaces "{asked.namespace}" not found'
            raise Refused(404, "NotFound", message, name=asked.namespace, kind="namespaces")
        content = {k: v for k, v in body.items() if k not in ("kind", "apiVersion")}
        for key, text in content.pop("stringData", {}).items():  # of a Secret
            content.setdefault("data", {})[key] = base64.b64encode(text.encode()).decode()
        made = self.put(asked.kind, metadata["name"], asked.namespace, metadata=metadata, **content)
        if asked.kind == "Job":
            self._start(made)
        return made

    def _start(self, job: JsonObject) -> None:
        name, template = job["metadata"]["name"], job["spec"]["template"]
        looks = self.pods(job)
        if not looks:
            return
        labels = {
            **template["metadata"].get("labels", {}),
            "job-name": name,
            "batch.kubernetes.io/job-name": name,
        }
        namespace, pod = job["metadata"]["namespace"], f"{name}-x7k2p"
        self.put("Pod", pod, namespace, metadata={"labels": labels}, spec=template["spec"])
        self._looks[pod] = looks

    def _delete(self, asked: Asked) -> None:
        self.drop(asked.kind, asked.name, asked.namespace)
        if asked.kind == "Job" and asked.query.get("propagationPolicy") != "Orphan":
            for pod in self.of("Pod"):
                if _labels(pod).get("job-name") == asked.name:
                    self.drop("Pod", pod["metadata"]["name"], asked.namespace)

    def _log(self, asked: Asked) -> str:
        if self.find("Pod", asked.name, asked.namespace) is None:
            raise _missing(asked)
        if self.log is None:
            message = f'container "main" in pod "{asked.name}" is waiting to start: trying to pull'
            raise Refused(400, "BadRequest", message)
        return self.log


def _missing(asked: Asked) -> Refused:
    kind = KINDS[asked.kind]
    group = f".{kind.group}" if kind.group else ""
    details = {"name": asked.name, "kind": kind.plural}
    message = f'{kind.plural}{group} "{asked.name}" not found'
    return Refused(404, "NotFound", message, **details)


def _complete(item: JsonObject) -> None:
    if item["type"] != "Container":
        return
    default = {**item.get("max", {}), **item.get("default", {})}
    request = {**item.get("min", {}), **default, **item.get("defaultRequest", {})}
    item |= {"default": default} if default else {}
    item |= {"defaultRequest": request} if request else {}


def _labels(thing: JsonObject) -> dict[str, str]:
    return thing["metadata"].get("labels") or {}


def _parts(selector: str | None) -> Iterator[str]:
    yield from (part for part in (selector or "").split(",") if part)
