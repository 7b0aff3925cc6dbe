"""The cluster: how unkind it is, what is in its namespace, what is to befall pods."""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from cluster.kubelet import Kubelet
from cluster.nodes import KFP_2_17, RetryStrategy
from cluster.pod import Pod
from cluster.runs import Run
from cluster.spec import Namespace, Pipeline
from cluster.store import ArtifactStore


@dataclass(frozen=True, slots=True)
class Options:
    """How unkind it is.

    Attributes:
        user: UID:GID that an administrator sets for all pods (L5), as OpenShift does with an
            arbitrary UID and group 0; None leaves what the pipeline asks for.
        grace_s: from SIGTERM to the end of a container, 0.05 to 1 (H2).
        retry: templateDefaults of Argo's configuration.
        memory_scale: share of the asked memory that a container gets.
        pending_s: after which a pod that waits for a missing Secret is given up.
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
        done_at: when it has happened, seconds since the epoch.
    """

    task: str
    do: Callable[[Pod], None]
    when: Callable[[Pod], bool] = lambda pod: True
    at: Literal["running", "ended", "uploaded"] = "running"
    done_at: float | None = None


class Cluster:
    """A namespace with Kubeflow.

    Attributes:
        namespace: Secrets, ConfigMaps and GPUs that pods may ask for.
        faults: what is to befall pods.
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
        self._kubelet = Kubelet(self)
        self._lock = threading.Lock()

    def submit(
        self, pipeline: Pipeline, parameters: Mapping[str, Any] | None = None, *, title: str = "run"
    ) -> Run:
        """Start a run with parameters laid over the defaults."""
        run = Run(
            pipeline,
            title,
            store=self.store,
            retry=self.options.retry,
            run_pod=self._kubelet.run_pod,
        )
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
        """Let happen what is due for a pod; at most one thing at a time."""
        for fault in self.faults:
            is_meant = fault.done_at is None and fault.at == at and fault.task == pod.task
            if is_meant and pod.stopped is None and not pod.deleted and fault.when(pod):
                with self._lock:
                    is_first, fault.done_at = fault.done_at is None, time.time()
                if is_first:
                    fault.do(pod)

    def stop(self) -> None:
        """End all that runs."""
        for run in self.runs.values():
            run.stop()
            for pod in run.pods:
                pod.kill()
