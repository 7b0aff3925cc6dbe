"""The database of studies: opened, retried while it is unreachable, with heartbeats of workers.

Any database that SQLAlchemy supports works. SQLite serves one machine; PostgreSQL serves many.
"""

import logging
import math
import re
import threading
import time
import warnings
from collections.abc import Callable
from typing import Any, TypeVar

import optuna
from optuna.storages import RDBStorage
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError

from nascore.errors import InputError, ResourceUnavailable, ServiceUnavailable
from nascore.retries import Backoff, call_with_retries
from nascore.search import optuna_private
from nascore.search.database_url import KEY, without_password
from nascore.search.worker_identity import WorkerIdentity

log = logging.getLogger(__name__)

_OPENING = (SQLAlchemyError, optuna.exceptions.OptunaError, RuntimeError)
_OPEN_S = 10.0  # a database that is away at the start is most likely a wrong address
_CONNECT_S = 5
_SQLITE_LOCK_S = 60
_LIBPQ = {  # a server whose machine has gone is noticed within half a minute, not after hours
    "connect_timeout": _CONNECT_S,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,  # ms
}
_LONGEST_PAUSE_S = 2.0
# What PostgreSQL says of a wrong password, account, database or host.
_REFUSED = re.compile(
    r'password authentication failed|no pg_hba.conf entry|(role|database) "[^"]*" does not exist'
)
_BEATS_PER_TIMEOUT = 6

T = TypeVar("T")


class Storage:
    """An Optuna storage that lives through the times in which its database is away.

    Args:
        url: as `resolve_url` gives it.
        worker_timeout_s: a worker that gives no sign of life for so long counts as dead.
        patience_s: how long an operation is tried again while the database is away.
        should_stop: ends the waiting early.

    Raises:
        ResourceUnavailable: the database cannot be reached; within 15 seconds.
        InputError: it refuses the account, or its driver is not installed.
    """

    def __init__(
        self,
        url: str,
        *,
        worker_timeout_s: int = 60,
        patience_s: float = 600.0,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self.worker = WorkerIdentity.here()
        self.worker_timeout_s = worker_timeout_s
        self._patience_s = patience_s
        self._should_stop = should_stop
        self._trouble_s = -math.inf  # when the database was last away, by the monotonic clock
        self._listened_s: dict[int, float] = {}  # when each study was last asked for silent trials
        self._heart = _Heart(self, max(1, worker_timeout_s // _BEATS_PER_TIMEOUT))
        self.optuna = self._open(url)

    def _open(self, url: str) -> RDBStorage:
        # SQLAlchemy tells of a connection that died in the pool by an error at its next use.
        options: dict[str, Any] = {"pool_pre_ping": True}
        connect: dict[str, Any] = {}
        if make_url(url).get_backend_name() == "sqlite":
            connect["timeout"] = _SQLITE_LOCK_S
        elif make_url(url).drivername in ("postgresql+psycopg", "postgresql+psycopg2"):
            connect |= _LIBPQ

        def open_once() -> RDBStorage:
            with warnings.catch_warnings():  # heartbeats are experimental to Optuna
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                return RDBStorage(
                    url.replace("{", "{{").replace("}", "}}"),  # Optuna's is a template
                    engine_kwargs={**options, "connect_args": connect},
                    heartbeat_interval=self._heart.interval_s,
                    grace_period=self.worker_timeout_s,
                )

        try:
            # Two processes that make the tables at once also fail here; the second try works.
            return call_with_retries(
                open_once,
                is_transient=lambda error: isinstance(error, _OPENING) and not _is_final(error),
                timeout_s=_OPEN_S - _CONNECT_S,
                backoff=Backoff(first_pause_s=0.6, longest_pause_s=0.6),
                should_stop=self._should_stop,
            )
        except ImportError as error:
            raise InputError.of(
                KEY, without_password(url), f"needs a driver that is not installed ({error})"
            ) from error
        except _OPENING as error:
            kind = InputError if _is_refused(error) else ResourceUnavailable
            raise kind.of(
                KEY,
                without_password(url),
                f"cannot be used ({_first_line(error)}); check the address, the account "
                "and that the server is up",
            ) from error

    def close(self) -> None:
        """Gives no further sign of life, and lets go of the connections."""
        self._heart.stop()
        self.worker.retire()
        self.optuna.engine.dispose()

    def call_with_retries(self, operation: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Calls `operation` until the database answers.

        It may have been done although the answer was lost, so it must be harmless to do it twice.

        Raises:
            ServiceUnavailable: it did not answer for `patience_s`, or it is time to stop.
        """
        start = time.monotonic()
        warned = False

        def note(error: BaseException) -> None:
            nonlocal warned
            self._trouble_s = now = time.monotonic()
            if not warned and now - start > _LONGEST_PAUSE_S:
                log.warning("the study database does not answer (%s); retrying", _first_line(error))
                warned = True

        try:
            return call_with_retries(
                lambda: operation(*args, **kwargs),
                is_transient=_is_outage,
                timeout_s=self._patience_s,
                backoff=Backoff(first_pause_s=0.05, longest_pause_s=_LONGEST_PAUSE_S),
                on_retry=note,
                should_stop=self._should_stop,
            )
        except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
            if not _is_outage(error):
                raise
            self._trouble_s = now = time.monotonic()
            raise ServiceUnavailable(
                "study database",
                f"the database of {KEY} did not answer for {now - start:.0f} s: "
                f"{_first_line(error)}",
            ) from error

    # --- signs of life.

    def keep_alive(self, trial_id: int) -> None:
        """Gives signs of life for a trial, from now until `rest`."""
        self._heart.add(trial_id)

    def rest(self, trial_id: int) -> None:
        self._heart.remove(trial_id)

    def beat(self, trial_id: int) -> None:
        self.call_with_retries(self.optuna.record_heartbeat, trial_id)

    def is_settled(self) -> bool:
        """Whether the database has been there for so long that all who live have given a sign."""
        settling_s = self.worker_timeout_s + 2 * _LONGEST_PAUSE_S
        return time.monotonic() - self._trouble_s > settling_s

    def silent_trials(self, study_id: int) -> set[int]:
        """Ids of running trials whose worker has been silent for too long; asked now and then.

        Just after the database was away nobody counts as silent: nobody could give a sign.
        """
        now = time.monotonic()
        is_new = now - self._listened_s.get(study_id, -math.inf) > self._heart.interval_s
        if not (is_new and self.is_settled()):
            return set()
        self._listened_s[study_id] = now
        return self.call_with_retries(optuna_private.stale_trials, self.optuna, study_id)


class _Heart:
    """A thread that gives signs of life; they go on while the search waits for a long training."""

    def __init__(self, storage: Storage, interval_s: int) -> None:
        self.interval_s = interval_s
        self._storage = storage
        self._trials: set[int] = set()
        self._thread: threading.Thread | None = None
        self._stopped = threading.Event()
        self._lock = threading.Lock()

    def add(self, trial_id: int) -> None:
        self._storage.beat(trial_id)
        with self._lock:
            self._trials.add(trial_id)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)
                self._thread.start()

    def remove(self, trial_id: int) -> None:
        with self._lock:
            self._trials.discard(trial_id)

    def stop(self) -> None:
        self._stopped.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(self.interval_s):
            with self._lock:
                trials = list(self._trials)
            for trial_id in trials:
                try:
                    self._storage.beat(trial_id)
                except ServiceUnavailable as error:  # the search itself will say so and end
                    log.warning("%s", error)


def _is_outage(error: BaseException) -> bool:
    """Return whether it may end by itself: no connection, a server that shuts down, a lock."""
    if not isinstance(error, (SQLAlchemyError, optuna.exceptions.StorageInternalError)):
        return False
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, DBAPIError):
        # One that came while another was dealt with, as in a session that is out of order.
        cause = cause.__cause__ or cause.__context__
    if cause is None:
        return False
    return cause.connection_invalidated or type(cause).__name__ in (
        "OperationalError",
        "InterfaceError",
        "InternalError",
    )


def _is_final(error: BaseException) -> bool:
    """Whether trying again is of no use: a wrong password, a schema that is not ours."""
    text = str(error).lower()
    return isinstance(error, (RuntimeError, ArgumentError)) or any(
        sign in text for sign in ("password authentication", "does not exist", "unable to open")
    )


def _is_refused(error: BaseException) -> bool:
    """Whether the address names an account or a database that another try meets refused again."""
    return _REFUSED.search(str(error)) is not None


def _first_line(error: BaseException) -> str:
    """The database's own words, which are those of the innermost error."""
    while error.__cause__ is not None:
        error = error.__cause__
    text = str(getattr(error, "orig", None) or error).strip()
    return text.splitlines()[0] if text else type(error).__name__
