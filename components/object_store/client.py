"""Calls of S3 by any thread of a process, and how long they wait for a server.

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
from urllib.parse import urlsplit

from botocore.exceptions import ConnectTimeoutError, ReadTimeoutError

from components.object_store.answers import NeedsTlsError
from components.object_store.connection import READ_S, make_client, speaks_tls
from components.object_store.s3_errors import (
    CHECK_ADDRESS,
    RAISED,
    brief,
    cause_of,
    code_of,
    final_message,
    is_damage,
    is_transient,
    refuses_condition,
)
from nascore.errors import InputError, ResourceUnavailable
from nascore.retries import Backoff, call_with_retries

_log = logging.getLogger(__name__)
_Result = TypeVar("_Result")

_FIRST_READ_S = 3  # three tries and their pauses: a wrong address is reported within 15 s
RETRY_TIMEOUT_S = 300.0
_BACKOFF = Backoff(first_pause_s=0.5, longest_pause_s=10.0)
_WARN_EVERY_S = 30.0
_CORRUPT_ATTEMPTS = 3


class ConditionRefused(Exception):
    """The store refuses a write because it is on a condition (If-None-Match, If-Match)."""


class Store:
    """Calls S3 from any thread and any process, also from a forked one.

    Args:
        key: the setting that problems are reported for.
        retry_timeout_s: how long transient errors are retried. Before the first answer they are
            final unless `trusted`: a wrong address is reported within 15 s.
        trusted: an earlier step has used the same address.
        damage_help: what to do about an object that does not have its checksum.
        is_payer: the requester pays for requests and downloads.
    """

    def __init__(
        self,
        *,
        key: str = "uri",
        retry_timeout_s: float = RETRY_TIMEOUT_S,
        trusted: bool = False,
        damage_help: str = "write the object again",
        is_payer: bool = False,
    ) -> None:
        self._key, self._retry_timeout_s, self._damage_help = key, retry_timeout_s, damage_help
        self._answered = trusted
        self._warned_at = -math.inf
        self._options = {"is_payer": is_payer}
        self._clients: dict[tuple[int, bool, bool], Any] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_clients": {}}

    def without_checksums(self) -> "Store":
        """Return a store of one try, which sends no checksums, whatever the user has configured."""
        other = Store(key=self._key, retry_timeout_s=0)
        other._options = {**self._options, "with_checksums": False}
        return other

    @property
    def client(self) -> Any:
        """A client with open connections must not be shared with a forked process."""
        return self._client()

    @property
    def client_if_absent(self) -> Any:
        """The same, which writes an object only where none is."""
        return self._client(if_absent=True)

    def _client(self, *, if_absent: bool = False) -> Any:
        process = os.getpid(), self._answered, if_absent
        with _making_clients:
            if process not in self._clients:
                read_s = READ_S if self._answered else _FIRST_READ_S
                self._clients[process] = make_client(
                    read_s=read_s, if_absent=if_absent, **self._options
                )
            return self._clients[process]

    def call(
        self, uri: str, request: Callable[[Any], _Result], *, has_condition: bool = False
    ) -> _Result:
        """Return what `request(client)` returns; it is repeated while the server is unreachable.

        Args:
            uri: of the object, for messages.
            request: may be called several times.
            has_condition: it writes on a condition, which some stores refuse.

        Raises:
            ResourceUnavailable: with what to do, and without secrets.
            ClientError: 412, when `request` asked for a condition that does not hold.
            ConditionRefused: `has_condition`, and the store takes no such request.
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
            if has_condition and refuses_condition(error):
                raise ConditionRefused(brief(error)) from raised
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
            is_silent = isinstance(error, ReadTimeoutError | ConnectTimeoutError)
            if not self._answered and not is_silent and speaks_tls(self._address()):
                return final_message(NeedsTlsError())
            waited = f" for {self._retry_timeout_s:.0f} s" if self._answered else ""
            return (
                f"the server does not answer as it should{waited} ({brief(error)}); check "
                f"{CHECK_ADDRESS}, and whether it is up, then run again"
            )
        path = urlsplit(self._address()).path.strip("/")
        hint = f" (the address has the path /{path}, which most stores do not have)" if path else ""
        return final_message(error) + hint

    def _address(self) -> str:
        """Return the address of the server; empty when there is no client."""
        known = next(iter(self._clients.values()), None)
        return "" if known is None else str(known.meta.endpoint_url)


_making_clients = threading.Lock()


def _renew_lock() -> None:
    """Replace the lock in a forked process: a thread that is not there may have held it."""
    global _making_clients
    _making_clients = threading.Lock()


os.register_at_fork(after_in_child=_renew_lock)
