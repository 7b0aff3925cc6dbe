"""Address of the KFP API server, and credentials: the arguments of `kfp.Client`, checked first.

Secrets come from files and the environment, never from the command line, where other users can read
them, and are never printed. kfp's own token reader (`ServiceAccountTokenVolumeCredentials`) takes
any file; here it is checked, so that a wrong file gives a message and not a refused request.
"""

import contextlib
import os
import re
import ssl
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from nascore.errors import InputError, Problem, collect_problems

TOKEN, COOKIE = "NAS_KFP_TOKEN", "NAS_KFP_COOKIE"
# The names that kfp gives them.
HOST, UI, TOKEN_FILE = (
    "KF_PIPELINES_ENDPOINT",
    "KF_PIPELINES_UI_ENDPOINT",
    "KF_PIPELINES_SA_TOKEN_PATH",
)
IAP_CLIENT = "KF_PIPELINES_IAP_OAUTH2_CLIENT_ID"
APP_CLIENT, APP_SECRET = (
    "KF_PIPELINES_APP_OAUTH2_CLIENT_ID",
    "KF_PIPELINES_APP_OAUTH2_CLIENT_SECRET",
)
POD_TOKEN = Path("/var/run/secrets/kubeflow/pipelines/token")
"""File into which Kubeflow projects a pod's token for the pipelines."""
POD_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
TIMEOUT_S = 15.0
CREATE_TIMEOUT_S = 60.0
"""Longer, since with Kubeflow's MLflow plugin the server waits for MLflow before it answers."""
_IN_CLUSTER = "http://ml-pipeline.kubeflow.svc.cluster.local:8888"


@dataclass(frozen=True)
class Connection:
    """Checked address and credentials of a server.

    Attributes:
        ui: address of the pages; None if only the address inside the cluster is known.
        pod_namespace: namespace of the pod this runs in; used if the server has profiles.
        token_file: read for every request, since tokens in pods are renewed.
        timeout_s: longest wait for an answer.
        create_timeout_s: longest wait for the answer to the call that starts a run.
    """

    host: str
    ui: str | None = None
    namespace: str | None = None
    pod_namespace: str | None = None
    token_file: Path | None = None
    token: str | None = field(default=None, repr=False)
    cookie: str | None = field(default=None, repr=False)
    ca_file: Path | None = None
    insecure: bool = False
    timeout_s: float = TIMEOUT_S
    create_timeout_s: float = CREATE_TIMEOUT_S

    def bearer(self) -> str | None:
        """Return the current token; None if there is none.

        Raises:
            InputError: the file is missing or contains no token.
        """
        return self.token if self.token_file is None else _read_secret(self.token_file)

    def hide(self, text: str) -> str:
        """Return a text without our secrets, which a server may send back."""
        secrets = [self.token, self.cookie]
        with contextlib.suppress(InputError):
            secrets.append(self.bearer())
        secrets += [part.partition("=")[2] for part in (self.cookie or "").split(";")]
        for secret in sorted({s.strip() for s in secrets if s and s.strip()}, key=len)[::-1]:
            text = text.replace(secret, "***")
        return text


def connect(
    host: str | None,
    *,
    ui: str | None = None,
    namespace: str | None = None,
    token_file: Path | None = None,
    iap_client: str | None = None,
    ca_file: Path | None = None,
    insecure: bool = False,
    timeout_s: float | None = None,
    environment: Mapping[str, str] = os.environ,
    pod_token: Path = POD_TOKEN,
    pod_namespace: Path = POD_NAMESPACE,
) -> Connection:
    """Return the given connection, completed from the pod in which this runs.

    The first of these credentials is used: `token_file`, the token in the environment, Google's
    Identity-Aware Proxy, the pod's token. A cookie may accompany any of them.

    Raises:
        InputError: with all problems.
    """
    problems: list[Problem] = []
    if host is None and "KUBERNETES_SERVICE_HOST" in environment:
        host = _IN_CLUSTER
    address, page, token, cookie = "", None, None, None
    with collect_problems(problems):
        address = _address("--host", host)
    with collect_problems(problems):
        page = None if ui is None else _address("--ui-host", ui)
    with collect_problems(problems):
        _check_tls(ca_file, insecure=insecure)
    with collect_problems(problems):
        cookie = _header(COOKIE, environment.get(COOKIE))
    with collect_problems(problems):
        token = _header(TOKEN, environment.get(TOKEN))
    with collect_problems(problems):
        if token_file is not None:
            _read_secret(token_file)
    if problems:
        raise InputError(problems)
    if token_file is None and token is None and iap_client is not None:
        token = _iap_token(iap_client, environment)
    elif token_file is None and token is None and pod_token.is_file():
        token_file = pod_token
    return Connection(
        host=address,
        ui=page or (None if host == _IN_CLUSTER else address),
        namespace=namespace,
        pod_namespace=pod_namespace.read_text().strip() if pod_namespace.is_file() else None,
        token_file=token_file,
        token=token,
        cookie=cookie,
        ca_file=ca_file,
        insecure=insecure,
        timeout_s=timeout_s or TIMEOUT_S,
        create_timeout_s=timeout_s or CREATE_TIMEOUT_S,
    )


def _address(option: str, text: str | None) -> str:
    if not text:
        raise InputError.of(
            option,
            None,
            f"is missing; give the address of Kubeflow Pipelines, or set {HOST}, such as "
            "https://kubeflow.example.org/pipeline, or http://localhost:8888 behind kubectl "
            "port-forward -n kubeflow svc/ml-pipeline 8888",
        )
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError as error:
        raise InputError.of(option, None, f"is no address ({error})") from None
    if parts.username is not None or parts.password is not None:
        message = f"must hold no user or password; use --token-file, {TOKEN} or {COOKIE}"
        raise InputError.of(option, None, message)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InputError.of(option, text, "must begin with http:// or https:// and name a host")
    if not text.isprintable() or " " in text:
        message = "holds a space or a control character; remove it (a file with Windows line ends "
        raise InputError.of(option, text, f"{message}leaves \\r at the end of a value)")
    if parts.query or parts.fragment:
        raise InputError.of(option, text.partition("?")[0], "must end before the ? or #")
    return text.rstrip("/")


def _check_tls(ca_file: Path | None, *, insecure: bool) -> None:
    if ca_file is None:
        return
    if insecure:
        raise InputError.of("--insecure", None, "contradicts --ca-file; give one of them")
    try:
        ssl.create_default_context(cafile=str(ca_file))
    except ssl.SSLError:
        raise InputError.of("--ca-file", ca_file, "holds no certificates in PEM form") from None
    except OSError as error:
        raise InputError.of("--ca-file", ca_file, f"cannot be read ({error.strerror})") from None


def _read_secret(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8-sig")  # editors of Windows write a mark first
    except UnicodeDecodeError:
        raise InputError.of("--token-file", path, "holds no token but other bytes") from None
    except OSError as error:
        raise InputError.of("--token-file", path, f"cannot be read ({error.strerror})") from None
    try:
        secret = _header("--token-file", text)
    except InputError:
        raise InputError.of("--token-file", path, "holds more than a token") from None
    if secret is None:
        raise InputError.of("--token-file", path, "is empty; write the token into it")
    return secret


def _header(name: str, value: str | None) -> str | None:
    """Return a secret that a header can hold, or None; the message never shows the secret."""
    value = re.sub(r"(?i)^bearer\s+", "", (value or "").strip())  # a header that was copied
    if not (value.isascii() and value.isprintable()):
        raise InputError.of(name, None, "holds characters that no token or cookie has")
    return value or None


def _iap_token(client_id: str, environment: Mapping[str, str]) -> str:
    """Return a token of Google's Identity-Aware Proxy, of a service account or by a browser login.

    Raises:
        InputError: there are no credentials, or Google refuses them.
    """
    from kfp.client import auth

    google: Any = auth.google.auth.exceptions
    option = "--iap-client-id"
    try:
        with contextlib.redirect_stdout(sys.stderr):  # it prints the address to open
            token, _ = auth.get_auth_token(
                client_id, environment.get(APP_CLIENT), environment.get(APP_SECRET)
            )
    except (google.GoogleAuthError, auth.requests.RequestException, OSError, KeyError) as error:
        message = f"Google gives no token ({type(error).__name__}: {str(error)[:200]})"
        raise InputError.of(option, client_id, message) from None
    if not token:
        message = "found no service account; set GOOGLE_APPLICATION_CREDENTIALS to the file of one"
        raise InputError.of(
            option, client_id, f"{message}, or {APP_CLIENT} and {APP_SECRET} to log in by a browser"
        )
    return str(token)
