"""One pod from its start to its end, with the launcher around it."""

import shutil
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from cluster import launcher
from cluster.driver import Execution
from cluster.nodes import Node, Phase
from cluster.pod import Pod
from cluster.runs import Run
from cluster.spec import Json, PodSpec, pod_spec

if TYPE_CHECKING:
    from cluster.kubeflow import Cluster

_LOOK_S = 0.05
_IMPL = "system-container-impl"


class Kubelet:
    """Runs the pods of a cluster."""

    def __init__(self, cluster: "Cluster") -> None:
        self._cluster = cluster
        self._executor_inputs: dict[tuple[str, int], Json] = {}

    def run_pod(
        self,
        run: Run,
        node: Node,
        made: Execution,
        task: Json,
        attempt: int,
        deadline: float | None,
    ) -> Phase:
        """Return the phase of the pod's node at its end.

        Args:
            deadline: of a monotonic clock, from the retries of the task (C4).
        """
        run.workflow.mark(node, Phase.PENDING)
        given = self._executor_inputs.setdefault((run.id, made.id), run.driver.executor_input(made))
        executor_input = launcher.copy_for_try(given, attempt)
        spec = self._await_spec(run, node, made, executor_input)
        if spec is None:
            return Phase.FAILED
        # A: workflow/util/pod_name.go, K: v2/compiler/argocompiler/container.go
        template = f"retry-{_IMPL}" if "retryPolicy" in task else _IMPL
        node.pod = f"{run.workflow.name}-{template}-{node.id.rpartition('-')[2]}"
        pod = Pod(node.pod, made.task, attempt, spec, self._cluster.folder / "pods" / node.pod)
        node.log = pod.log
        run.pods.append(pod)
        phase = Phase.FAILED
        try:
            phase = self._launch(run, node, pod, made, executor_input, deadline)
        except launcher.LauncherError as error:
            made.state = "FAILED"
            with open(pod.log, "a") as log:
                log.write(f"failed to execute component: {error}\n")
            run.workflow.mark(node, Phase.FAILED, "main: Error (exit code 1)")
        finally:
            if run.workflow.shutdown.is_set():
                pod.kill()
            for scratch in ("minio", "s3", "tmp"):
                shutil.rmtree(pod.folder / scratch, ignore_errors=True)
        if pod.deleted:
            node.log = None  # nothing is archived of a pod that is gone
            run.workflow.mark(node, Phase.ERROR, "pod deleted")
            return Phase.ERROR
        return phase

    def _await_spec(
        self, run: Run, node: Node, made: Execution, executor_input: Json
    ) -> PodSpec | None:
        """Wait until all that the pod refers to is there; None when it was ended before."""
        options, component = self._cluster.options, made.component
        end = time.monotonic() + options.pending_s
        while True:
            spec = pod_spec(
                run.pipeline.container(component),
                run.pipeline.kubernetes(component),
                self._cluster.namespace,
                labels={"pipeline/runid": run.id},
            )
            if not spec.missing:
                break
            message = f"not found: {', '.join(spec.missing)}"
            run.workflow.mark(node, Phase.PENDING, message)
            over = spec.deadline_s is not None and time.time() > node.started + spec.deadline_s
            if run.workflow.shutdown.wait(_LOOK_S) or time.monotonic() > end or over:
                run.workflow.mark(node, Phase.FAILED, message)
                return None
        memory = spec.memory
        return replace(
            spec,
            command=launcher.command(list(spec.command), executor_input, component),
            user=options.user or spec.user,
            memory=None if memory is None else int(memory * options.memory_scale),
        )

    def _launch(
        self,
        run: Run,
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
        run.workflow.mark(node, Phase.RUNNING)
        self._watch(run, pod, deadline)
        if pod.deleted:
            return Phase.ERROR
        if pod.poll() != 0 or pod.stopped is not None:
            made.state = "FAILED"
            (logs,) = executor_input["outputs"]["artifacts"]["executor-logs"]["artifacts"]
            if pod.stopped is None:  # else the launcher is dead, too
                launcher.upload(pod, logs, cluster.store)
            run.workflow.mark(node, Phase.FAILED, pod.stopped or "main: Error (exit code 1)")
            return Phase.FAILED
        cluster.befall(pod, "ended")
        if not pod.deleted:
            launcher.conclude(pod, made, executor_input, run.driver, cluster.store)
            made.state = "COMPLETE"
            cluster.befall(pod, "uploaded")
        return Phase.ERROR if pod.deleted else Phase.SUCCEEDED

    def _watch(self, run: Run, pod: Pod, deadline: float | None) -> None:
        """Wait for the container's end, and bring it about where it is due."""
        limits = [deadline] if deadline is not None else []
        if pod.spec.deadline_s is not None:
            limits.append(time.monotonic() + pod.spec.deadline_s)
        while pod.poll() is None:
            self._cluster.befall(pod, "running")
            if limits and time.monotonic() > min(limits):
                pod.terminate("Pod was active on the node longer than the specified deadline")
            if run.workflow.shutdown.is_set():
                pod.terminate("cancelled")
            time.sleep(_LOOK_S)
