"""The MLflow runs behind the keys of a spool: found, adopted, made, opened again and ended.

A run is found by the tag `nas.run_key` before one is made. Events may arrive late, long after they
were written and after others have ended the run. So times decide: a declaration that is older than
the end of the run opens nothing, and an end that is older changes nothing.
"""

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Run, RunTag
from mlflow.exceptions import MlflowException

from components.ending import TAG_KIND
from components.tracking.mlflow_errors import brief, kind_of, refuses_account
from components.tracking.reading import RunInfo, UndeclaredRun
from components.tracking.tags import ADOPTED, ALIVE, END_TAGS, MAX_TAG, PARENT, RUN_KEY
from nascore.service_errors import ErrorKind

_PER_CALL = 100  # tags; MLflow's limit
_MOST_LEVELS = 20  # from a task up to its pipeline; more is no tree of Kubeflow's
_FINISHED, _RUNNING = "FINISHED", "RUNNING"


class Runs:
    """The runs that one follower writes to.

    Args:
        experiment_id: where runs are made.
        known: what earlier followers of the spool have found out, by key; completed here.
        warn: gets one sentence when runs of Kubeflow's MLflow plugin cannot be adopted.
    """

    def __init__(
        self,
        client: MlflowClient,
        experiment_id: str,
        known: dict[str, RunInfo],
        warn: Callable[[str], None],
    ) -> None:
        self._client = client
        self._experiment_id = experiment_id
        self._known = known
        self._warn = warn
        self._has_warned = False
        self._open: set[str] = set()  # declared and not ended by the events sent so far

    def require(self, key: str) -> RunInfo:
        """Return the run of a key; raise UndeclaredRun."""
        run = self._known.get(key) or self._find(key, self._experiment_id)
        if run is None:
            raise UndeclaredRun(f"run {key!r} was not declared")
        self._known[key] = run
        return run

    def declare(self, event: Mapping[str, Any]) -> None:
        """Find, adopt or make the run of an event, and open it again where it has ended."""
        key = event["run"]
        parent = None if event["parent"] is None else self.require(event["parent"])
        experiment_id = self._experiment_id if parent is None else parent.experiment_id
        run = self._known.get(key)
        if run is None or run.adopted:  # another try of Kubeflow's has another run
            run = self._adopt(event) or run or self._find(key, experiment_id)
        if run is None:
            self._known[key] = self._make(event, parent, experiment_id)
        else:
            self._known[key] = run
            self.set_tags(run.id, {RUN_KEY: key, **event["values"]})
            self._resume(run, event["time_ms"])
        self._open.add(key)

    def end(self, event: Mapping[str, Any]) -> None:
        """End the run of an event, unless it was adopted."""
        key, status, time_ms = event["run"], event["status"], event["time_ms"]
        run = self.require(key)
        self._open.discard(key)
        if run.adopted:
            return
        found = self._client.get_run(run.id)
        if _ended_ms(found) > time_ms:
            was_closed = TAG_KIND in found.data.tags  # from outside, as the step seemed to be lost
            if not (was_closed and status == _FINISHED):
                return
        self._client.set_terminated(run.id, status, end_time=time_ms)
        if status == _FINISHED:
            self._delete_tags(found, END_TAGS)

    def make_ended(self, event: Mapping[str, Any]) -> str:
        """Return the id of the run of an event, which is over: found, or made as running."""
        key, parent = event["run"], self.require(event["parent"])
        run = self._known.get(key) or self._find(key, parent.experiment_id)
        if run is None:
            start_ms = event["time_ms"] if event["between_ms"] is None else event["between_ms"][0]
            run = self._make(event, parent, parent.experiment_id, start_ms=start_ms)
        self._known[key] = run
        return run.id

    def end_made(self, run_id: str, event: Mapping[str, Any]) -> None:
        """End a run that `make_ended` has returned, at the time at which it was over."""
        end_ms = event["time_ms"] if event["between_ms"] is None else event["between_ms"][1]
        self._client.set_terminated(run_id, event["status"], end_time=end_ms)

    def give_sign(self) -> None:
        """Write the tag `nas.alive` on the runs that are declared and have not ended."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        for key in sorted(self._open):
            try:
                self._client.set_tag(self._known[key].id, ALIVE, now)
            except MlflowException as error:
                if kind_of(error) is ErrorKind.REQUEST:  # the run was deleted
                    self._open.discard(key)
                elif not refuses_account(error):  # which the next event reports
                    raise

    def set_tags(self, run_id: str, values: Mapping[str, str]) -> None:
        """Set any number of tags; long values are cut."""
        tags = [RunTag(name, value[:MAX_TAG]) for name, value in values.items()]
        for start in range(0, len(tags), _PER_CALL):
            self._client.log_batch(run_id, tags=tags[start : start + _PER_CALL])

    # --- runs that are there ----------------------------------------------------------------

    def _find(self, key: str, experiment_id: str) -> RunInfo | None:
        runs = self._client.search_runs(
            [experiment_id],
            f"tags.`{RUN_KEY}` = '{key}'",
            order_by=["attributes.start_time ASC"],
            max_results=1,
        )
        if not runs:
            return None
        return RunInfo(runs[0].info.run_id, experiment_id, adopted=ADOPTED in runs[0].data.tags)

    def _resume(self, run: RunInfo, time_ms: int) -> None:
        """Open a run again for a step that is tried again."""
        found = self._client.get_run(run.id)
        if _ended_ms(found) > time_ms:
            return  # the event was sent late; what it declared is over
        if found.info.status != _RUNNING and not run.adopted:
            self._client.update_run(run.id, status=_RUNNING)
        self._delete_tags(found, END_TAGS)

    def _delete_tags(self, run: Run, names: Iterable[str]) -> None:
        for name in names:
            if name in run.data.tags:
                self._client.delete_tag(run.info.run_id, name)

    def _make(
        self,
        event: Mapping[str, Any],
        parent: RunInfo | None,
        experiment_id: str,
        *,
        start_ms: int | None = None,
    ) -> RunInfo:
        tags = {RUN_KEY: event["run"], **{k: v[:MAX_TAG] for k, v in event["values"].items()}}
        if parent is not None:
            tags[PARENT] = parent.id
        run = self._client.create_run(
            experiment_id,
            start_time=event["time_ms"] if start_ms is None else start_ms,
            tags=tags,
            run_name=event["name"],
        )
        return RunInfo(run.info.run_id, experiment_id)

    # --- runs of Kubeflow's MLflow plugin ---------------------------------------------------

    def _adopt(self, event: Mapping[str, Any]) -> RunInfo | None:
        """Return the run that the plugin made, if it exists and this account may write to it."""
        given = event["adopt"] or event["adopt_parent_of"]
        if given is None:
            return None
        try:
            run = self._client.get_run(given)
            if event["adopt"] is None:
                run = self._topmost(run)
            if run is not None and run.info.lifecycle_stage != "active":
                deleted_id = run.info.run_id
                self._warn_once(
                    f"run {deleted_id} (MLFLOW_RUN_ID) is deleted; this run has its own"
                )
                return None
            if run is None or self._belongs_to_another(run.info.run_id, event["run"]):
                return None
            self.set_tags(run.info.run_id, {RUN_KEY: event["run"], ADOPTED: "true"})
        except MlflowException as error:
            if refuses_account(error):
                self._warn_once(
                    f"the runs that Kubeflow's MLflow plugin made (such as {given}) cannot be "
                    f"written ({brief(error)}), so that this run has its own; give the secret "
                    "kfp-mlflow-credentials the account of the steps, or set "
                    "tracking.kfp_plugin=false"
                )
            elif kind_of(error) is not ErrorKind.REQUEST:
                raise
            return None
        return RunInfo(run.info.run_id, str(run.info.experiment_id), adopted=True)

    def _topmost(self, run: Run) -> Run | None:
        """Return the run of the pipeline, above loops and branches; None where there is no end."""
        seen = {run.info.run_id}
        while (above := run.data.tags.get(PARENT)) is not None:
            if above in seen or len(seen) == _MOST_LEVELS:
                return None
            seen.add(above)
            run = self._client.get_run(above)
        return run

    def _belongs_to_another(self, run_id: str, key: str) -> bool:
        return any(known.id == run_id for other, known in self._known.items() if other != key)

    def _warn_once(self, text: str) -> None:
        if not self._has_warned:
            self._warn(text)
        self._has_warned = True


def _ended_ms(run: Run) -> int:
    """Return when a run ended, in milliseconds; 0 for one that is running."""
    return 0 if run.info.status == _RUNNING else int(run.info.end_time or 0)
