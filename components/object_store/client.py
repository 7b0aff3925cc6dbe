"""One S3 client a process, errors in words, and how long a server is waited for.

Credentials come from boto3's usual chain (environment, role, profile) and the address from
AWS_ENDPOINT_URL_S3 or AWS_ENDPOINT_URL; neither is ever part of the configuration.
"""

import logging
import math
import os
import random
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

import boto3
from boto3.exceptions import Boto3Error, RetriesExceededError
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,
    CredentialRetrievalError,
    EndpointConnectionError,
    FlexibleChecksumError,
    HTTPClientError,
    IncompleteReadError,
    NoCredentialsError,
    PartialCredentialsError,
    ResponseStreamingError,
    SSLError,
)
from s3transfer.exceptions import S3DownloadFailedError

from nascore.errors import InputError, ResourceUnavailable
from nascore.redaction import redact

_log = logging.getLogger(__name__)
_Result = TypeVar("_Result")

# One request ends within 3 * (3 + 30) s and two pauses of at most 2 s. A wrong address: 15 s.
_CONNECT_S, _READ_S, _FIRST_READ_S, _ATTEMPTS = 3, 30, 3, 3
PATIENCE_S = 300.0
_PAUSE_S, _MAX_PAUSE_S = 0.5, 10.0
_WARN_EVERY_S = 30.0
_CONNECTIONS = 64  # as many as there may be threads
_CORRUPT_ATTEMPTS = 3
TRANSFER = TransferConfig(multipart_chunksize=8 * 2**20, max_concurrency=8)

# The transfer manager wraps some errors in others.
_WRAPPING = (Boto3Error, S3DownloadFailedError)
_RAISED = (*_WRAPPING, BotoCoreError, ClientError, OSError, ValueError)
_AWAY = (
    EndpointConnectionError,
    ConnectionError,
    HTTPClientError,
    IncompleteReadError,
    ResponseStreamingError,
    ConnectionResetError,
    TimeoutError,
)
_BUSY_CODES = frozenset(
    {
        "SlowDown",
        "RequestTimeout",
        "InternalError",
        "ServiceUnavailable",
        "ConditionalRequestConflict",  # of two writes with a condition at the same moment
        "OperationAborted",
    }
)
_CHECK = "AWS_ENDPOINT_URL_S3 or AWS_ENDPOINT_URL"
_SAID = {
    "NoSuchBucket": "there is no such bucket; correct the name, or " + _CHECK,
    "NoSuchKey": "there is no such object; correct the key",
    "404": "there is no such object or bucket; correct the name",
    "AccessDenied": "may not be read or written with these credentials; grant s3:GetObject (and "
    "s3:ListBucket for a folder, s3:PutObject for an output, s3:DeleteObject for cluster.state), "
    "or use other credentials",
    "403": "is forbidden to these credentials; check them and their rights",
    "InvalidAccessKeyId": "the server does not know the access key; correct AWS_ACCESS_KEY_ID, or "
    + _CHECK,
    "SignatureDoesNotMatch": "the secret key is wrong; correct AWS_SECRET_ACCESS_KEY",
    "ExpiredToken": "the credentials have expired; renew them",
    "InvalidToken": "the session token is not valid; renew the credentials",
    "RequestTimeTooSkewed": "the clock of this machine differs from the server's; set it",
    "PermanentRedirect": "the bucket lies in another region; set AWS_REGION to it",
    "AuthorizationHeaderMalformed": "the bucket lies in another region; set AWS_REGION to it",
    "301": "the bucket lies in another region; set AWS_REGION to it",
    "PreconditionFailed": "has changed while it was read; let it rest, then run again",
    "412": "has changed while it was read; let it rest, then run again",
}


class Store:
    """Calls S3 from any thread and any process, also one that was forked off.

    Args:
        key: the setting that problems are put to.
        patience_s: how long errors that may pass are waited out. Before the first answer there is
            no patience unless `trusted`: a wrong address is told within 15 s.
        trusted: the address has proved right in an earlier step.
        damage_help: what to do about an object that does not have its checksum.
    """

    def __init__(
        self,
        *,
        key: str = "uri",
        patience_s: float = PATIENCE_S,
        trusted: bool = False,
        damage_help: str = "write the object again",
    ) -> None:
        self._key, self._patience_s, self._damage_help = key, patience_s, damage_help
        self._answered = trusted
        self._warned_at = -math.inf
        self._clients: dict[bool, Any] = {}
        self._pid = 0
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_clients": {}, "_pid": 0, "_lock": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=threading.Lock())

    @property
    def client(self) -> Any:
        """A client with open connections must not be shared with a process that is forked off."""
        if self._pid != os.getpid():
            self._lock, self._clients, self._pid = threading.Lock(), {}, os.getpid()
        with self._lock:
            if self._answered not in self._clients:
                read_s = _READ_S if self._answered else _FIRST_READ_S
                self._clients[self._answered] = make_client(read_s=read_s)
            return self._clients[self._answered]

    def call(self, uri: str, request: Callable[[Any], _Result]) -> _Result:
        """What `request(client)` gives; it is made again while the server is away.

        Raises:
            ResourceUnavailable: with what to do, and without secrets.
            ClientError: 412, when `request` asked for a condition that does not hold.
        """
        start, pause, corrupt = time.monotonic(), _PAUSE_S, 0
        while True:
            try:
                result = request(self.client)
            except _RAISED as raised:
                error = _cause(raised)
                if code_of(error) == "PreconditionFailed":
                    raise error from raised
                corrupt += isinstance(error, FlexibleChecksumError)
                if not self._is_worth_waiting(error, start, corrupt):
                    raise self.refusal(uri, error) from None
            else:
                self._answered = True
                return result
            self._warn(uri, error)
            time.sleep(pause * random.uniform(0.5, 1))
            pause = min(2 * pause, _MAX_PAUSE_S)

    def refusal(self, uri: str, error: Exception) -> ResourceUnavailable:
        """The error in words."""
        return ResourceUnavailable.of(self._key, uri, self._said(error))

    def problem(self, uri: str, message: str) -> InputError:
        return InputError.of(self._key, uri, message)

    def _warn(self, uri: str, error: Exception) -> None:
        """Once in a while: many threads wait for the same server."""
        if time.monotonic() - self._warned_at > _WARN_EVERY_S:
            self._warned_at = time.monotonic()
            _log.warning(
                "%s: %s; tried again for up to %.0f s", uri, _brief(error), self._patience_s
            )

    def _is_worth_waiting(self, error: Exception, start: float, corrupt: int) -> bool:
        if isinstance(error, FlexibleChecksumError):
            return corrupt < _CORRUPT_ATTEMPTS
        waited = time.monotonic() - start
        return is_passing(error) and self._answered and waited < self._patience_s

    def _said(self, error: Exception) -> str:
        if isinstance(error, FlexibleChecksumError):
            return f"does not have the checksum that the store has for it; {self._damage_help}"
        if isinstance(error, NoCredentialsError | PartialCredentialsError):
            return (
                "no complete credentials were found; set AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY (from a secret), or give the step a role"
            )
        if isinstance(error, CredentialRetrievalError):
            return "the credentials cannot be fetched; check the role or profile"
        if isinstance(error, SSLError):
            return f"the server's certificate is not trusted; set AWS_CA_BUNDLE ({_brief(error)})"
        if is_passing(error):
            waited = f" for {self._patience_s:.0f} s" if self._answered else ""
            return (
                f"the server does not answer as it should{waited} ({_brief(error)}); check "
                f"{_CHECK}, and whether it is up, then run again"
            )
        if isinstance(error, OSError):
            return (
                f"a file cannot be read or written here ({error}); free space or correct the path"
            )
        code = code_of(error)
        return _SAID.get(code, f"failed ({_brief(error)}); check the URI and {_CHECK}")


def make_client(*, read_s: float = _READ_S, if_absent: bool = False) -> Any:
    """Of a session of its own: the default one is not safe in threads.

    Args:
        if_absent: every object is written only where none is; boto3's transfer manager has no
            argument for this condition, so that it is added to the requests it makes.
    """
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    config = Config(
        connect_timeout=_CONNECT_S,
        read_timeout=read_s,
        retries={"mode": "standard", "total_max_attempts": _ATTEMPTS},
        max_pool_connections=_CONNECTIONS,
        # Servers of one's own seldom have a name for each bucket.
        s3={"addressing_style": "path" if endpoint else "auto"},
    )
    session = boto3.session.Session()
    region = session.region_name or "us-east-1"
    client = session.client("s3", config=config, region_name=region)
    if if_absent:
        for operation in ("PutObject", "CompleteMultipartUpload"):
            client.meta.events.register(f"provide-client-params.s3.{operation}", _add_condition)
    return client


def _add_condition(params: dict[str, Any], **kwargs: Any) -> None:
    params["IfNoneMatch"] = "*"


def is_passing(error: Exception) -> bool:
    """Whether the same request may succeed later."""
    if isinstance(error, ClientError):
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return status >= 500 or status == 429 or code_of(error) in _BUSY_CODES
    return isinstance(error, _AWAY) and not isinstance(error, SSLError)


def code_of(error: BaseException) -> str:
    """S3's code; of a HEAD, whose answers have no body, the status."""
    if not isinstance(error, ClientError):
        return ""
    code = str(error.response.get("Error", {}).get("Code", ""))
    return "PreconditionFailed" if code == "412" else code


def is_damage(error: Exception) -> bool:
    """Whether what was received does not have the checksum that the store has for it."""
    return isinstance(_cause(error), FlexibleChecksumError)


def _cause(error: Exception) -> Exception:
    """What is behind an error of the transfer manager."""
    if isinstance(error, RetriesExceededError):
        last: Exception = error.last_exception
        return last
    if isinstance(error, _WRAPPING) and isinstance(error.__context__, Exception):
        return error.__context__
    return error


def _brief(error: Exception) -> str:
    if isinstance(error, ClientError):
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", "?")
        return f"{code_of(error)}, HTTP status {status}"
    return redact(str(error))[:300]
