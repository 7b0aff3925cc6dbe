"""A run of a pipeline: its workflow in a thread, its states as the API says them, its pods."""

import threading
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from cluster.argo import Workflow
from cluster.driver import Driver, Execution, RunInfo
from cluster.nodes import Node, Phase, RetryStrategy
from cluster.pod import Pod
from cluster.spec import Json, Pipeline
from cluster.store import ArtifactStore

RunPod = Callable[["Run", Node, Execution, Json, int, float | None], Phase]


class Run:
    """A run.

    Args:
        run_pod: runs one pod of it: run, node, execution, task, number of the try, deadline.

    Attributes:
        state: as the API says it; a cancelled run ends as FAILED (H4).
        pods: all that were started, in order.
        abandoned: its workflow is gone, and nobody is left to report its end (N7).
    """

    def __init__(
        self,
        pipeline: Pipeline,
        title: str,
        *,
        store: ArtifactStore,
        retry: RetryStrategy,
        run_pod: RunPod,
    ) -> None:
        self.id, self.title, self.pipeline = str(uuid.uuid4()), title, pipeline
        self.created = datetime.now(UTC)
        self.finished: datetime | None = None
        self.history: list[tuple[datetime, str]] = [(self.created, "PENDING")]
        self.pods: list[Pod] = []
        self.abandoned = False
        name = f"{pipeline.name}-{self.id[:5]}"
        self.info = RunInfo(self.id, name, title, self.created.isoformat())
        self.driver = Driver(pipeline, self.info, root=store.root, session=store.session())
        self.workflow = Workflow(
            name,
            self.driver,
            default=retry,
            run_pod=lambda *arguments: run_pod(self, *arguments),
        )
        self._thread: threading.Thread | None = None

    @property
    def state(self) -> str:
        return self.history[-1][1]

    def start(self, parameters: Mapping[str, Any]) -> None:
        self._thread = threading.Thread(target=self._work, args=(parameters,), daemon=True)
        self._thread.start()

    def _work(self, parameters: Mapping[str, Any]) -> None:
        self._enter("RUNNING")
        phase = self.workflow.run(parameters)
        if not self.abandoned:
            self.finished = datetime.now(UTC)
            self._enter("SUCCEEDED" if phase is Phase.SUCCEEDED else "FAILED")

    def _enter(self, state: str) -> None:
        self.history.append((datetime.now(UTC), state))

    def wait(self, seconds: float) -> str:
        """Return the state at the end.

        Raises:
            AssertionError: it has not ended in time; what its pods printed last is told.
        """
        assert self._thread is not None
        self._thread.join(seconds)
        if self._thread.is_alive():
            told = self.tell()
            self.stop()
            raise AssertionError(f"the run has not ended in {seconds} s: {told}")
        return self.state

    def tell(self) -> str:
        """Return how its nodes ended, and the last lines of what each pod printed."""
        with self.workflow.lock:
            known = list(self.workflow.nodes.values())
        nodes = [f"{one.shown}: {one.phase} {one.message}" for one in known]
        logs = [f"--- {pod.task} ({pod.attempt})\n{pod.text()[-3000:]}" for pod in self.pods]
        return "\n".join([*nodes, *logs])

    def cancel(self) -> None:
        """K: apiserver/resource/resource_manager.go TerminateRun: activeDeadlineSeconds becomes 0;
        the exit task does not run (the unkind reading; A: GetShutdownStrategy().ShouldExecute)."""
        self._enter("CANCELING")
        self.stop()

    def stop(self) -> None:
        self.workflow.shutdown.set()
        for pod in list(self.pods):
            pod.terminate("cancelled")

    def collect(self) -> None:
        """N7: the workflow is garbage, and KFP goes on showing the run as RUNNING."""
        self.abandoned = True
        self.stop()
