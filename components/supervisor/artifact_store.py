"""Waits until the store that takes a step's outputs answers.

When a step has ended, KFP's launcher uploads its outputs at once and gives up after about 11 s of
refused connections; then the run is FAILED for good, with all its work done. So a step that has
done its work waits before it ends. The address of the store is in the metadata of input artifacts,
as `store_session_info`; a step without inputs uses the names that KFP's own store has in a cluster.
"""

import json
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import urllib3

from components.variables import STORE_WAIT_S, seconds

_OWN = (("seaweedfs.kubeflow", 9000), ("minio-service.kubeflow", 9000))
_CONNECT_S = 5.0
_PAUSE_S = 1.0
_GATEWAY_ERRORS = (502, 503, 504)


def wait_for_store(executor_input: str, say: Callable[[str], None]) -> None:
    """Wait until the store of the outputs answers, for at most `NAS_STORE_WAIT_S` seconds.

    It returns also when the store is still unreachable, since KFP's launcher tries once more.

    Args:
        executor_input: JSON, from KFP's launcher.
        say: gets a sentence when the wait begins and when it ends.
    """
    limit_s = seconds(STORE_WAIT_S)
    address = address_of(json.loads(executor_input))
    if address is None or limit_s <= 0 or answers(address):
        return
    say(f"the artifact store {address} does not answer; waiting for it for up to {limit_s:g} s")
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        time.sleep(_PAUSE_S)
        if answers(address):
            say("the artifact store is back")
            return
    say("the artifact store is still unreachable; ending anyway")


def address_of(executor_input: Mapping[str, Any]) -> str | None:
    """Return `http(s)://HOST:PORT` of the outputs' store; None when it is not known."""
    scheme = next((uri.partition("://")[0] for uri in _output_uris(executor_input)), None)
    if scheme is None:
        return None
    for info in _sessions(executor_input):
        settings = info.get("Params") or {}
        if str(info.get("Provider", "")) in (scheme, "") and settings.get("endpoint"):
            return _address(str(settings["endpoint"]), str(settings.get("disableSSL")) == "true")
    if scheme == "minio":
        for host, port in _OWN:
            if _is_known(host):
                return f"http://{host}:{port}"
    return None


def answers(address: str) -> bool:
    """Return whether an HTTP server answers there, also one that refuses access."""
    try:
        answer = urllib3.request("GET", address, timeout=_CONNECT_S, retries=False)
        return answer.status not in _GATEWAY_ERRORS
    except urllib3.exceptions.SSLError:  # only the launcher may know the server's certificate
        return True
    except (OSError, urllib3.exceptions.HTTPError):
        return False


def _address(endpoint: str, is_plain: bool) -> str:
    if "://" in endpoint:
        return endpoint
    return f"{'http' if is_plain else 'https'}://{endpoint}"


def _output_uris(executor_input: Mapping[str, Any]) -> Iterator[str]:
    for _, artifact in _artifacts(executor_input.get("outputs", {})):
        if "://" in str(artifact.get("uri", "")):
            yield str(artifact["uri"])


def _sessions(executor_input: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for _, artifact in _artifacts(executor_input.get("inputs", {})):
        text = (artifact.get("metadata") or {}).get("store_session_info")
        if text:
            yield json.loads(text)


def _artifacts(part: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for name, artifacts in part.get("artifacts", {}).items():
        for artifact in artifacts.get("artifacts", ()):
            yield name, artifact


def _is_known(host: str) -> bool:
    try:
        socket.getaddrinfo(host, None)
        return True
    except OSError:
        return False
