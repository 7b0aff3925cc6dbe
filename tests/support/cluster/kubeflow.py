"""The cluster: what is in its namespace, the runs, and what befalls their pods."""

import shutil
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from cluster import launcher
from cluster.argo import KFP_2_17, Node, Phase, RetryStrategy, Workflow
from cluster.driver import Driver, Execution, RunInfo
from cluster.pod import Pod
from cluster.spec import Json, Namespace, Pipeline, PodSpec, pod_spec
from cluster.store import ArtifactStore

_LOOK_S = 0.05
_IMPL = "system-container-impl"


@dataclass(frozen=True, slots=True)
class Options:
    """How unkind it is.

    Attributes:
        user: UID:GID that an administrator sets for all pods (L5), as OpenShift does with an
            arbitrary UID and group 0; None leaves what the pipeline asks for.
        grace_s: from SIGTERM to the end of a container, 0.05 to 1 (H2).
        retry: templateDefaults of Argo's configuration.
        memory_scale: share of the asked memory that a container gets.
        pending_s: after which a pod that waits for a missing Secret fails the test.
        read_only: folders mounted over those of the image, by path within.
    """

    user: str | None = None
    grace_s: float = 0.05
    retry: RetryStrategy = KFP_2_17
    memory_scale: float = 1.0
    pending_s: float = 60.0
    read_only: Mapping[str, Path] = field(default_factory=dict)


@dataclass(slots=True)
class Fault:
    """Something that befalls the pod of a task, once.

    Attributes:
        task: of the pipeline, such as search-worker.
        do: what happens.
        when: looked at all the time; the fault waits for it.
        at: `running` while the container runs; `ended` when it has ended well and nothing was
            uploaded yet; `uploaded` when all was, and Argo has not seen the end yet.
    """

    task: str
    do: Callable[[Pod], None]
    when: Callable[[Pod], bool] = lambda pod: True
    at: Literal["running", "ended", "uploaded"] = "running"
    done_at: float | None = None


class Run:
    """A run of a pipeline.

    Attributes:
        state: as the API says it; a cancelled run ends as FAILED (H4).
        pods: all that were started, in order.
    """

    def __init__(self, cluster: "Cluster", pipeline: Pipeline, title: str) -> None:
        self.id, self.title = str(uuid.uuid4()), title
        self.pipeline = pipeline
        self.created, self.finished = datetime.now(UTC), None
        self.history: list[tuple[datetime, str]] = [(self.created, "PENDING")]
        name = f"{pipeline.name}-{self.id[:5]}"
        self.info = RunInfo(self.id, name, title, self.created.isoformat())
        self.pods: list[Pod] = []
        self._cluster = cluster
        self.driver = Driver(
            pipeline, self.info, root=cluster.store.root, session=cluster.store.session()
        )
        self.workflow = Workflow(
            name, self.driver, default=cluster.options.retry, run_pod=self._run_pod
        )
        self._thread: threading.Thread | None = None
        self.abandoned = False

    finished: datetime | None

    @property
    def state(self) -> str:
        return self.history[-1][1]

    def start(self, parameters: Mapping[str, Any]) -> None:
        def work() -> None:
            self._enter("RUNNING")
            phase = self.workflow.run(parameters)
            if not self.abandoned:  # N7: nobody is left to report the end
                self.finished = datetime.now(UTC)
                self._enter("SUCCEEDED" if phase is Phase.SUCCEEDED else "FAILED")

        self._thread = threading.Thread(target=work, daemon=True)
        self._thread.start()

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
            self.stop()
            raise AssertionError(f"the run has not ended in {seconds} s: {self.tell()}")
        return self.state

    def tell(self) -> str:
        """Return how its nodes ended, and the last lines of what each pod printed."""
        with self.workflow.lock:
            nodes = [
                f"{one.shown}: {one.phase} {one.message}" for one in self.workflow.nodes.values()
            ]
        logs = [f"--- {pod.task} ({pod.attempt})\n{pod.text()[-3000:]}" for pod in self.pods]
        return "\n".join([*nodes, *logs])

    def cancel(self) -> None:
        """K: resource_manager.go TerminateRun: activeDeadlineSeconds 0; the exit task does not run
        (the unkind reading; A: GetShutdownStrategy().ShouldExecute)."""
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

    # --- one pod ----------------------------------------------------------------------------

    def _run_pod(
        self,
        workflow: Workflow,
        node: Node,
        made: Execution,
        task: Json,
        attempt: int,
        deadline: float | None,
    ) -> Phase:
        workflow.mark(node, Phase.PENDING)
        given = self._cluster.executor_inputs.setdefault(
            (self.id, made.id), self.driver.executor_input(made)
        )
        executor_input = launcher.copy_for_try(given, attempt)
        spec = self._await_spec(workflow, node, made, executor_input)
        if spec is None:
            return Phase.FAILED
        # A: workflow/util/pod_name.go, K: v2/compiler/argocompiler/container.go
        template = "retry-system-container-impl" if "retryPolicy" in task else _IMPL
        node.pod = f"{workflow.name}-{template}-{node.id.rpartition('-')[2]}"
        folder = self._cluster.folder / "pods" / node.pod
        pod = Pod(node.pod, made.task, attempt, spec, folder)
        node.log = pod.log
        self.pods.append(pod)
        phase = Phase.FAILED
        try:
            phase = self._launch(workflow, node, pod, made, executor_input, deadline)
        except launcher.LauncherError as error:
            made.state = "FAILED"
            pod.log.open("a").write(f"failed to execute component: {error}\n")
            workflow.mark(node, Phase.FAILED, "main: Error (exit code 1)")
        finally:
            if workflow.shutdown.is_set():
                pod.kill()
            for scratch in ("minio", "tmp"):
                shutil.rmtree(folder / scratch, ignore_errors=True)
        if pod.deleted:
            node.log = None  # nothing is archived of a pod that is gone
            workflow.mark(node, Phase.ERROR, "pod deleted")
            return Phase.ERROR
        return phase

    def _await_spec(
        self, workflow: Workflow, node: Node, made: Execution, executor_input: Json
    ) -> PodSpec | None:
        """Wait until all that the pod refers to is there; None when it was cancelled before."""
        component = made.component
        end = time.monotonic() + self._cluster.options.pending_s
        while True:
            spec = pod_spec(
                self.pipeline.container(component),
                self.pipeline.kubernetes(component),
                self._cluster.namespace,
                labels={"pipeline/runid": self.id},
            )
            if not spec.missing or workflow.shutdown.wait(_LOOK_S):
                break
            workflow.mark(node, Phase.PENDING, f"not found: {', '.join(spec.missing)}")
            if time.monotonic() > end or (
                spec.deadline_s is not None and time.time() > node.started + spec.deadline_s
            ):
                workflow.mark(node, Phase.FAILED, node.message)
                return None
        if spec.missing:
            return None
        memory = spec.memory
        return replace(
            spec,
            command=launcher.command(list(spec.command), executor_input, component),
            user=self._cluster.options.user or spec.user,
            memory=None if memory is None else int(memory * self._cluster.options.memory_scale),
        )

    def _launch(
        self,
        workflow: Workflow,
        node: Node,
        pod: Pod,
        made: Execution,
        executor_input: Json,
        deadline: float | None,
    ) -> Phase:
        cluster = self._cluster
        launcher.fetch(pod, executor_input, cluster.store)
        made.state = "RUNNING"
        pod.start(
            grace_s=cluster.options.grace_s,
            claims={name: cluster.claim(name) for name in pod.spec.claims.values()},
            read_only=cluster.options.read_only,
        )
        workflow.mark(node, Phase.RUNNING)
        limits = [deadline] if deadline is not None else []
        if pod.spec.deadline_s is not None:
            limits.append(time.monotonic() + pod.spec.deadline_s)
        while (code := pod.poll()) is None:
            cluster.befall(pod, "running")
            if limits and time.monotonic() > min(limits) and pod.stopped is None:
                pod.terminate("Pod was active on the node longer than the specified deadline")
            if workflow.shutdown.is_set() and pod.stopped is None:
                pod.terminate("cancelled")
            time.sleep(_LOOK_S)
        if pod.deleted:
            return Phase.ERROR
        if code != 0 or pod.stopped is not None:
            made.state = "FAILED"
            (logs,) = executor_input["outputs"]["artifacts"]["executor-logs"]["artifacts"]
            if pod.stopped is None:
                launcher.upload(pod, logs, cluster.store)
            workflow.mark(node, Phase.FAILED, pod.stopped or "main: Error (exit code 1)")
            return Phase.FAILED
        cluster.befall(pod, "ended")
        if not pod.deleted:
            launcher.conclude(pod, made, executor_input, self.driver, cluster.store)
            made.state = "COMPLETE"
            cluster.befall(pod, "uploaded")
        return Phase.ERROR if pod.deleted else Phase.SUCCEEDED


class Cluster:
    """A namespace with Kubeflow.

    Attributes:
        faults: what is to befall pods, each once.
        runs: by id.
    """

    def __init__(
        self, folder: Path, store: ArtifactStore, *, options: Options | None = None
    ) -> None:
        self.folder, self.store = folder, store
        self.options = options or Options()
        self.namespace = Namespace({}, {})
        self.faults: list[Fault] = []
        self.runs: dict[str, Run] = {}
        self.executor_inputs: dict[tuple[str, int], Json] = {}
        self._lock = threading.Lock()

    def submit(
        self, pipeline: Pipeline, parameters: Mapping[str, Any] | None = None, *, title: str = "run"
    ) -> Run:
        run = Run(self, pipeline, title)
        self.runs[run.id] = run
        run.start(parameters or {})
        return run

    def claim(self, name: str) -> Path:
        """The folder of a PersistentVolumeClaim: root's, 0755, as block storage comes (H1)."""
        folder = self.folder / "claims" / name
        with self._lock:
            if not folder.exists():
                folder.mkdir(parents=True)
                folder.chmod(0o755)
        return folder

    def befall(self, pod: Pod, at: str) -> None:
        for fault in self.faults:
            wanted = fault.done_at is None and fault.at == at and fault.task == pod.task
            if wanted and (pod.stopped is None) and fault.when(pod):
                fault.done_at = time.time()
                fault.do(pod)

    def stop(self) -> None:
        """End all that runs."""
        for run in self.runs.values():
            run.stop()
            for pod in run.pods:
                pod.kill()
