"""The S3 client of a process, and how long it waits for a server.

Credentials come from boto3's usual chain (environment, role, profile) and the address from
AWS_ENDPOINT_URL_S3 or AWS_ENDPOINT_URL; neither is ever part of the configuration.

Retries have two levels. botocore repeats a request twice within seconds. Around it, `Store.call`
repeats a whole operation for minutes: botocore's retries have no limit in time, share a quota among
threads that an outage uses up, and end before the body of an answer is read.
"""

import logging
import math
import os
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

import boto3
import botocore.session
from botocore.config import Config

from components.object_store.s3_errors import (
    CHECK_ADDRESS,
    RAISED,
    brief,
    cause_of,
    code_of,
    final_message,
    is_damage,
    is_transient,
)
from nascore.errors import InputError, ResourceUnavailable
from nascore.retries import Backoff, call_with_retries

_log = logging.getLogger(__name__)
_Result = TypeVar("_Result")

# One request ends within 3 * (3 + 30) s and two pauses of at most 2 s. A wrong address: 15 s.
_CONNECT_S, _READ_S, _FIRST_READ_S, _ATTEMPTS = 3, 30, 3, 3
RETRY_TIMEOUT_S = 300.0
_BACKOFF = Backoff(first_pause_s=0.5, longest_pause_s=10.0)
_WARN_EVERY_S = 30.0
_CONNECTIONS = 64  # as many as there may be threads
_CORRUPT_ATTEMPTS = 3


class Store:
    """Calls S3 from any thread and any process, also from a forked one.

    Args:
        key: the setting that problems are reported for.
        retry_timeout_s: how long transient errors are retried. Before the first answer they are
            final unless `trusted`: a wrong address is reported within 15 s.
        trusted: an earlier step has used the same address.
        damage_help: what to do about an object that does not have its checksum.
    """

    def __init__(
        self,
        *,
        key: str = "uri",
        retry_timeout_s: float = RETRY_TIMEOUT_S,
        trusted: bool = False,
        damage_help: str = "write the object again",
    ) -> None:
        self._key, self._retry_timeout_s, self._damage_help = key, retry_timeout_s, damage_help
        self._answered = trusted
        self._warned_at = -math.inf
        self._clients: dict[tuple[int, bool], Any] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_clients": {}}

    @property
    def client(self) -> Any:
        """A client with open connections must not be shared with a forked process."""
        process = os.getpid(), self._answered
        with _making_clients:
            if process not in self._clients:
                read_s = _READ_S if self._answered else _FIRST_READ_S
                self._clients[process] = make_client(read_s=read_s)
            return self._clients[process]

    def call(self, uri: str, request: Callable[[Any], _Result]) -> _Result:
        """Return what `request(client)` returns; it is repeated while the server is unreachable.

        Raises:
            ResourceUnavailable: with what to do, and without secrets.
            ClientError: 412, when `request` asked for a condition that does not hold.
        """
        num_damaged = 0

        def is_retried(raised: BaseException) -> bool:
            nonlocal num_damaged
            num_damaged += is_damage(raised)
            if is_damage(raised):
                return num_damaged < _CORRUPT_ATTEMPTS
            return self._answered and isinstance(raised, RAISED) and is_transient(cause_of(raised))

        try:
            result = call_with_retries(
                lambda: request(self.client),
                is_transient=is_retried,
                timeout_s=self._retry_timeout_s,
                backoff=_BACKOFF,
                on_retry=lambda raised: self._warn(uri, cause_of(raised)),
            )
        except RAISED as raised:
            error = cause_of(raised)
            if code_of(error) == "PreconditionFailed":
                raise error from raised
            raise ResourceUnavailable.of(self._key, uri, self._message(error)) from None
        self._answered = True
        return result

    def problem(self, uri: str, message: str) -> InputError:
        """Return the error that reports a wrong object or URI."""
        return InputError.of(self._key, uri, message)

    def _warn(self, uri: str, error: BaseException) -> None:
        """Warn now and then: many threads wait for the same server."""
        if time.monotonic() - self._warned_at > _WARN_EVERY_S:
            self._warned_at = time.monotonic()
            _log.warning(
                "%s: %s; retried for up to %.0f s", uri, brief(error), self._retry_timeout_s
            )

    def _message(self, error: BaseException) -> str:
        if is_damage(error):
            return f"does not have the checksum that the store has for it; {self._damage_help}"
        if is_transient(error):
            waited = f" for {self._retry_timeout_s:.0f} s" if self._answered else ""
            return (
                f"the server does not answer as it should{waited} ({brief(error)}); check "
                f"{CHECK_ADDRESS}, and whether it is up, then run again"
            )
        return final_message(error)


_making_clients = threading.Lock()


def _renew_lock() -> None:
    """Replace the lock in a forked process: a thread that is not there may have held it."""
    global _making_clients
    _making_clients = threading.Lock()


os.register_at_fork(after_in_child=_renew_lock)


def make_client(*, read_s: float = _READ_S, if_absent: bool = False) -> Any:
    """Return a client of a session of its own: boto3's default one is not safe in threads.

    Args:
        read_s: time limit of an answer.
        if_absent: every object is written only where none is; boto3's transfer manager has no
            argument for this condition, so that it is added to the requests it makes.
    """
    core = botocore.session.get_session()
    own = core.get_scoped_config().get("s3")
    settings = dict(own) if isinstance(own, dict) else {}
    if os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL"):
        # Servers other than Amazon's seldom have a name for each bucket.
        settings.setdefault("addressing_style", "path")
    config = Config(
        connect_timeout=_CONNECT_S,
        read_timeout=read_s,
        retries={"mode": "standard", "total_max_attempts": _ATTEMPTS},
        max_pool_connections=_CONNECTIONS,
        s3={name: value for name, value in settings.items() if name == "addressing_style"},
    )
    session = boto3.session.Session(botocore_session=core)
    client = session.client("s3", config=config, region_name=session.region_name or "us-east-1")
    if if_absent:
        for operation in ("PutObject", "CompleteMultipartUpload"):
            client.meta.events.register(f"provide-client-params.s3.{operation}", _add_condition)
    return client


def _add_condition(params: dict[str, Any], **kwargs: Any) -> None:
    params["IfNoneMatch"] = "*"
