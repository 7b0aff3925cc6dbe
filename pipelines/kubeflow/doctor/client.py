"""Client of the Kubernetes API: requests with a time limit, and refusals as exceptions.

Objects are the JSON of the server. The models of the `kubernetes` package are not used: they reject
objects without fields that a newer or older server leaves out.
"""

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from nascore.redaction import redact

_SHOWN = 300
_ANONYMOUS = 'User "system:anonymous"'

JsonObject = dict[str, Any]
"""An object as the server sends it."""


class KubeError(Exception):
    """The Kubernetes API does not execute a request."""


class Unreachable(KubeError):
    """There is no answer, or not one of a Kubernetes API; other requests would fail too."""


class Missing(KubeError):
    """There is no such object, or no such kind of object."""


class Forbidden(KubeError):
    """The account of this command lacks a right.

    Attributes:
        can_i: `kubectl` command that shows it.
    """

    def __init__(self, message: str, can_i: str) -> None:
        super().__init__(message)
        self.can_i = can_i


@dataclass(frozen=True, slots=True)
class Resource:
    """A kind of object in a namespace or of the cluster; one object if it is named.

    Attributes:
        group: `apps/v1`, or `v1` for the core group; empty for a path that is not an object's.
        sub: subresource such as `log`, or `proxy/PATH`.
    """

    group: str
    plural: str
    namespace: str | None = None
    name: str = ""
    sub: str = ""

    @property
    def path(self) -> str:
        if not self.group:
            return f"/{self.plural}"  # what is no object, such as the version
        root = "/api/v1" if self.group == "v1" else f"/apis/{self.group}"
        place = "" if self.namespace is None else f"/namespaces/{quote(self.namespace, safe='')}"
        name = f"/{quote(self.name, safe=':')}" if self.name else ""
        return f"{root}{place}/{self.plural}{name}" + (f"/{self.sub}" if self.sub else "")

    @property
    def kind(self) -> str:
        """As `kubectl` takes it: `pods`, `deployments.apps`."""
        group = "" if self.group == "v1" else "." + self.group.partition("/")[0]
        return self.plural + group


class Kube:
    """A Kubernetes API server.

    Args:
        client: client of the `kubernetes` package.
        context: context of the kubeconfig; None for the current one.
        place: name of the server in messages.
        namespace: namespace that the kubeconfig or the pod names.
        timeout_s: longest wait for an answer.
        is_pod: whether this runs in a pod of the cluster.
    """

    def __init__(
        self,
        client: Any,
        *,
        context: str | None,
        place: str,
        namespace: str | None,
        timeout_s: float,
        is_pod: bool = False,
    ) -> None:
        self.place, self.namespace, self.is_pod = place, namespace, is_pod
        self._client, self._context, self._timeout_s = client, context, timeout_s
        self._seen: dict[str, JsonObject | KubeError] = {}

    def kubectl(self, *words: str, namespace: str | None = None) -> str:
        """Return a command line for this cluster."""
        context = ("--context", self._context) if self._context else ()
        place = () if namespace is None else ("-n", namespace)
        return shlex.join(("kubectl", *context, *place, *words))

    def get(self, resource: Resource) -> JsonObject:
        """Return an object, or a list of objects; the same request is sent once.

        Raises:
            KubeError: there is no answer, or it is a refusal.
        """
        path = resource.path
        if path not in self._seen:
            try:
                self._seen[path] = self._json("GET", resource)
            except KubeError as error:
                self._seen[path] = error
        known = self._seen[path]
        if isinstance(known, KubeError):
            raise known
        return known

    def has(self, resource: Resource) -> bool:
        """Return whether there is such an object. Raises KubeError."""
        try:
            self.get(resource)
        except Missing:
            return False
        return True

    def items(self, resource: Resource) -> list[JsonObject]:
        """Return the objects of a list. Raises KubeError."""
        return list(self.get(resource).get("items") or ())

    def now(self, resource: Resource, **query: str) -> JsonObject:
        """Return an object or a list by a new request. Raises KubeError."""
        return self._json("GET", resource, query=query)

    def text(self, resource: Resource) -> str:
        """Return an answer that is not JSON, such as a log. Raises KubeError."""
        return self._send("GET", resource)

    def create(self, resource: Resource, body: JsonObject) -> JsonObject:
        """Create an object, or request a review. Raises KubeError."""
        return self._json("POST", resource, body=body)

    def delete(self, resource: Resource) -> None:
        """Delete an object and its dependents. Raises KubeError."""
        self._json("DELETE", resource, query={"propagationPolicy": "Background"})

    def _json(self, method: str, resource: Resource, **options: Any) -> JsonObject:
        text = self._send(method, resource, **options)
        try:
            answer = json.loads(text)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise Unreachable(f"{self.place} does not answer as a Kubernetes API")
        return answer

    def _send(
        self,
        method: str,
        resource: Resource,
        *,
        body: JsonObject | None = None,
        query: Mapping[str, str] | None = None,
    ) -> str:
        import urllib3
        from kubernetes.client import ApiException  # type: ignore[import-untyped]

        try:
            answer = self._client.call_api(
                resource.path,
                method,
                query_params=list((query or {}).items()),
                header_params={"Accept": "application/json", "Content-Type": "application/json"},
                body=body,
                auth_settings=["BearerToken"],
                _preload_content=False,
                _request_timeout=(self._timeout_s, self._timeout_s),
                _return_http_data_only=True,
            )
            return str(answer.data.decode(errors="replace"))
        except ApiException as error:
            raise self._refusal(error, method, resource) from None
        except (urllib3.exceptions.HTTPError, OSError) as error:
            cause = getattr(error, "reason", None) or error
            raise Unreachable(f"{self.place} cannot be reached ({short(str(cause))})") from None

    def _refusal(self, error: Any, method: str, resource: Resource) -> KubeError:
        said = _message(error.body) or str(error.reason or "no reason given")
        if error.status == 0:  # the client could not make a TLS connection
            return Unreachable(f"{self.place} cannot be trusted ({short(said)})")
        if error.status == 401 or (error.status == 403 and _ANONYMOUS in said):
            return Unreachable(
                f"{self.place} does not know who we are ({error.status}); log in again, or choose "
                "another account with --kube-context"
            )
        if error.status == 403:
            return Forbidden(short(said), self._can_i(method, resource))
        if error.status == 404:
            return Missing(short(said))
        if 400 <= error.status < 500:
            return KubeError(f"{self.place} refuses this ({error.status}): {short(said)}")
        return Unreachable(f"{self.place} fails ({error.status}): {short(said)}")

    def _can_i(self, method: str, resource: Resource) -> str:
        """Return the command that shows that the right for a request is missing."""
        reading = "get" if resource.name else "list"
        verb = {"GET": reading, "POST": "create", "DELETE": "delete"}[method]
        what = (
            resource.kind
            if verb == "create" or not resource.name
            else (f"{resource.kind}/{resource.name}")
        )
        sub = resource.sub.partition("/")[0]
        words = ["auth", "can-i", verb, what, *([f"--subresource={sub}"] if sub else [])]
        return self.kubectl(*words, namespace=resource.namespace)


def open_client(settings: Any) -> Any:
    """Return a client of the `kubernetes` package for its configuration object."""
    import urllib3
    from kubernetes.client import ApiClient

    settings.retries = False  # urllib3 would try three times, each up to the limit
    if not settings.verify_ssl:  # as the kubeconfig wants it; kubectl does not warn either
        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
    return ApiClient(settings)


def _message(body: Any) -> str:
    """Return the message of a Status object, or the text of an answer by a gateway."""
    text = body.decode(errors="replace") if isinstance(body, bytes) else str(body or "")
    try:
        said = json.loads(text)
    except ValueError:
        return text
    return str(said.get("message") or "") if isinstance(said, dict) else ""


def short(text: str) -> str:
    """Return the text of a server in one line, without secrets."""
    text = redact(" ".join(text.split()))
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."
