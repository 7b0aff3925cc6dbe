"""Queries Kubeflow's API from within a pod: whether a run has ended."""

import http.client
import json
import os
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

HOST = "KF_PIPELINES_ENDPOINT"
_IN_CLUSTER = "http://ml-pipeline.kubeflow.svc.cluster.local:8888"
_POD_TOKEN = Path("/var/run/secrets/kubeflow/pipelines/token")  # for this audience alone
_TIMEOUT_S = 5.0
_OVER = ("SUCCEEDED", "FAILED", "CANCELED", "SKIPPED")
_NOT_OVER = ("PENDING", "RUNNING", "CANCELING", "PAUSED")


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Refuses redirects: the token goes only to the configured server."""

    def redirect_request(self, *arguments: Any, **named: Any) -> None:
        return None


class KubeflowRuns:
    """Reports whether runs have ended; after one failed request it sends no other.

    Args:
        host: address of the API server; None outside a cluster, where nothing is known.
        token: file with the token to send; None sends none.
    """

    def __init__(self, host: str | None, token: Path | None = None) -> None:
        self._host = None if host is None else host.rstrip("/")
        self._token = token
        # Services of the cluster are not behind a proxy.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirects)

    @classmethod
    def of_pod(cls, environment: Mapping[str, str] = os.environ) -> "KubeflowRuns":
        """Return the server of the cluster that this pod runs in."""
        host = environment.get(HOST)
        if not host and "KUBERNETES_SERVICE_HOST" in environment:
            host = _IN_CLUSTER
        return cls(host or None, _POD_TOKEN if _POD_TOKEN.is_file() else None)

    def is_over(self, run_id: str) -> bool | None:
        """Return whether a run has ended; None where that is not known.

        A run that the server does not have may belong to another cluster with the same store, so
        the answer is None.
        """
        if self._host is None:
            return None
        try:
            with self._opener.open(self._request(run_id), timeout=_TIMEOUT_S) as answer:
                state = json.load(answer).get("state")
        except urllib.error.HTTPError as error:
            if error.code != 404:
                self._host = None
            return None
        except (OSError, http.client.HTTPException, ValueError, AttributeError):
            self._host = None
            return None
        return state in _OVER if state in _OVER + _NOT_OVER else None

    def _request(self, run_id: str) -> urllib.request.Request:
        request = urllib.request.Request(f"{self._host}/apis/v2beta1/runs/{quote(run_id, safe='')}")
        # Without encryption the token is sent only within the cluster.
        is_private = urlsplit(str(self._host)).scheme == "https" or self._host == _IN_CLUSTER
        if self._token is not None and is_private:
            request.add_header("Authorization", f"Bearer {self._token.read_text().strip()}")
        return request
