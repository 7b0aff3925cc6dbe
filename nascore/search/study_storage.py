"""The database of studies: opened, retried while it is unreachable, with heartbeats of workers.

Any database that SQLAlchemy supports works. SQLite serves one machine; PostgreSQL serves many.
"""

import logging
import math
import threading
import time
import warnings
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TypeVar, cast

import optuna
from optuna.storages import RDBStorage
from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError

from nascore.errors import ResourceUnavailable, ServiceUnavailable
from nascore.retries import Backoff, call_with_retries
from nascore.search import optuna_private
from nascore.search.database_check import CONNECT_S, check_database, engine_options
from nascore.search.database_errors import (
    OPENING,
    input_error,
    is_final,
    is_outage,
    is_starting,
    report,
)
from nascore.search.database_url import KEY
from nascore.search.worker_identity import WorkerIdentity

log = logging.getLogger(__name__)

_OPEN_S = 10.0  # a database that is unreachable at the start most likely has a wrong address
_LONGEST_PAUSE_S = 2.0
_BEATS_PER_TIMEOUT = 6

T = TypeVar("T")


class Storage:
    """An Optuna storage that retries while its database is unreachable, with heartbeats.

    Args:
        url: as `nascore.search.database_url.resolve_url` returns it.
        worker_timeout_s: a worker without a heartbeat for so long counts as dead.
        retry_timeout_s: how long an operation is retried while the database is unreachable.
        should_stop: ends the waiting early.

    Raises:
        ResourceUnavailable: the database cannot be reached; raised within 15 seconds, or after
            `retry_timeout_s` where its server says that it is starting.
        InputError: it refuses the account, or its driver is not installed.
    """

    def __init__(
        self,
        url: str,
        *,
        worker_timeout_s: int = 60,
        retry_timeout_s: float = 600.0,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self.worker = WorkerIdentity.here()
        self.worker_timeout_s = worker_timeout_s
        self._retry_timeout_s = retry_timeout_s
        self._should_stop = should_stop
        self._is_closing = False
        self._trouble_s = -math.inf  # of the last outage, by the monotonic clock
        self._listened_s: dict[int, float] = {}  # of the last query for silent trials, by study
        self._heart = _Heart(self, max(1, worker_timeout_s // _BEATS_PER_TIMEOUT))
        self.optuna = self._open(url)
        self._clocks = (_Clock(lambda: time.time()), _Clock(self._database_time))
        self._are_clocks_set()

    def _open(self, url: str) -> RDBStorage:
        """Open the database; wait for a server that is starting, since its address is right."""
        return call_with_retries(
            lambda: self._open_soon(url),
            is_transient=is_starting,
            timeout_s=self._retry_timeout_s,
            backoff=Backoff(first_pause_s=1.0, longest_pause_s=_LONGEST_PAUSE_S),
            should_stop=self._should_stop,
        )

    def _open_soon(self, url: str) -> RDBStorage:
        def open_once() -> RDBStorage:
            check_database(url)
            with warnings.catch_warnings():  # heartbeats are experimental to Optuna
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                return RDBStorage(
                    url.replace("{", "{{").replace("}", "}}"),  # Optuna's is a template
                    engine_kwargs=engine_options(url),
                    heartbeat_interval=self._heart.interval_s,
                    grace_period=self.worker_timeout_s,
                )

        try:
            # Two processes that create the tables at once also fail here; a retry works.
            return call_with_retries(
                open_once,
                is_transient=lambda error: isinstance(error, OPENING) and not is_final(error),
                timeout_s=_OPEN_S - CONNECT_S,
                backoff=Backoff(first_pause_s=0.6, longest_pause_s=0.6),
                should_stop=self._should_stop,
            )
        except OPENING as error:
            raise input_error(url, error) from error

    def close(self) -> None:
        """End the heartbeats and close the connections."""
        self._is_closing = True  # a heartbeat that is retried would keep this thread waiting
        self._heart.stop()
        self.worker.retire()
        self.optuna.engine.dispose()

    def call_with_retries(self, operation: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Call `operation` until the database answers.

        An operation may have been done although its answer was lost, so doing it twice must be
        harmless.

        Raises:
            ServiceUnavailable: it did not answer for `retry_timeout_s`, or a stop was requested.
            ResourceUnavailable: a retry is useless, such as with a full disk.
        """
        start = time.monotonic()
        warned = False

        def note(error: BaseException) -> None:
            nonlocal warned
            self._trouble_s = now = time.monotonic()
            if not warned and now - start > _LONGEST_PAUSE_S:
                log.warning("the study database does not answer (%s); retrying", report(error))
                warned = True

        try:
            return call_with_retries(
                lambda: operation(*args, **kwargs),
                is_transient=is_outage,
                timeout_s=self._retry_timeout_s,
                backoff=Backoff(first_pause_s=0.05, longest_pause_s=_LONGEST_PAUSE_S),
                on_retry=note,
                should_stop=lambda: self._should_stop() or self._is_closing,
            )
        except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
            if is_final(error):
                message = f"the database cannot be used any more ({report(error)})"
                raise ResourceUnavailable.of(KEY, None, message) from error
            if not is_outage(error):
                raise
            self._trouble_s = now = time.monotonic()
            raise ServiceUnavailable(
                "study database",
                f"the database of {KEY} did not answer for {now - start:.0f} s: {report(error)}",
            ) from error

    # --- heartbeats.

    def keep_alive(self, trial_id: int) -> None:
        """Send heartbeats for a trial until `rest`."""
        self._heart.add(trial_id)

    def rest(self, trial_id: int) -> None:
        """End the heartbeats of a trial."""
        self._heart.remove(trial_id)

    def beat(self, trial_id: int) -> None:
        """Send one heartbeat for a trial."""
        self.call_with_retries(self.optuna.record_heartbeat, trial_id)

    def is_settled(self) -> bool:
        """Return whether every living worker has had time for a heartbeat since the last outage."""
        settling_s = self.worker_timeout_s + 2 * _LONGEST_PAUSE_S
        return time.monotonic() - self._trouble_s > settling_s

    def silent_trials(self, study_id: int) -> set[int]:
        """Return the ids of running trials without recent heartbeat; queries once an interval.

        Just after an outage none counts as silent, since no worker could send a heartbeat; nor when
        a clock was set, by which the last heartbeats of all workers are old.
        """
        now = time.monotonic()
        is_new = now - self._listened_s.get(study_id, -math.inf) > self._heart.interval_s
        if not (is_new and self.is_settled()):
            return set()
        self._listened_s[study_id] = now
        if self._are_clocks_set():
            log.warning("a clock was set; silent workers count as alive for a while")
            self._trouble_s = now
            return set()
        return self.call_with_retries(optuna_private.stale_trials, self.optuna, study_id)

    def _are_clocks_set(self) -> bool:
        changes = [clock.change_s() for clock in self._clocks]
        return any(abs(change_s) > self._heart.interval_s + 1 for change_s in changes)

    def _database_time(self) -> float:
        found = self.call_with_retries(self._query_time)
        # In the time zone of the session, as Optuna compares heartbeats: summer time is a jump.
        return found.replace(tzinfo=UTC).timestamp()

    def _query_time(self) -> datetime:
        with self.optuna.engine.connect() as connection:
            return cast(datetime, connection.scalar(select(func.now())))


class _Clock:
    """A clock that may be set, compared with the monotonic clock of this machine."""

    def __init__(self, time_s: Callable[[], float]) -> None:
        self._time_s = time_s
        self._ahead_s: float | None = None

    def change_s(self) -> float:
        """Return by how much the clock was set since the last call."""
        ahead_s = self._time_s() - time.monotonic()
        before_s, self._ahead_s = self._ahead_s, ahead_s
        return 0.0 if before_s is None else ahead_s - before_s


class _Heart:
    """A thread that sends heartbeats, also during a long training."""

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
                except Exception as error:  # without this thread a living worker counts as dead
                    log.warning("no heartbeat was sent (%s); the next one follows", report(error))
