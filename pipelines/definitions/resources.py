"""Kubernetes resources, placement and environment of each step."""

import math
import string
from dataclasses import dataclass, replace

from kfp import dsl, kubernetes

from components import variables
from components.config.devices import DEVICES, asking_for_cuda
from components.config.schema import Config
from components.config.settings import ClusterConfig, StepConfig
from components.run_state.reference import MOUNT, claim_of
from nascore.errors import Problem

# Kubeflow ends a task, including a running try, this long after the start of the first try.
POD_RETRY_PAUSE_S = 60
"""Pause before each retry of a lost pod: a node that is drained takes some time."""
_YEAR = f"{365 * 24 * 3600}s"


@dataclass(frozen=True, slots=True)
class Resources:
    """Resource requests of a step; the memory limit equals the request, CPU has no limit.

    Attributes:
        cpu: Kubernetes quantity, such as `500m`.
        memory: Kubernetes quantity, such as `4G`.
        gpus: number of GPUs.
        timeout_s: time after which the pod is ended; None for no limit.
    """

    cpu: str
    memory: str
    gpus: int = 0
    timeout_s: int | None = None

    def times(self, processes: int) -> "Resources":
        """Return the requests of several processes."""
        return replace(
            self,
            cpu=_times(self.cpu, processes),
            memory=_times(self.memory, processes),
            gpus=self.gpus * processes,
        )

    def changed(self, config: StepConfig) -> "Resources":
        """Return the requests with the values that the configuration sets."""
        given = config.model_dump(exclude_none=True)
        return Resources(**{name: given.get(name, getattr(self, name)) for name in self.__slots__})


RESOURCES = {
    "prepare_data": Resources(cpu="2", memory="8G"),
    "review": Resources(cpu="2", memory="8G"),
    "reuse": Resources(cpu="1", memory="2G"),
    "pretrain_controller": Resources(cpu="4", memory="16G", gpus=1),
    "search": Resources(cpu="4", memory="16G", gpus=1),
    "search_worker": Resources(cpu="4", memory="16G", gpus=1),
    "train_final": Resources(cpu="4", memory="16G", gpus=1),
    "profile_latency": Resources(cpu="4", memory="8G", gpus=1),
    "train_references": Resources(cpu="4", memory="16G", gpus=1),
    "promote": Resources(cpu="2", memory="8G"),
    "close_run": Resources(cpu="1", memory="2G"),
}


_SHARING = ("search", "search_worker", "train_final", "train_references")
"""Steps in which `training.devices` GPUs train one network together."""


def _times(quantity: str, count: int) -> str:
    """Return a multiple of a Kubernetes quantity that is a whole number with a suffix or none."""
    number = quantity.rstrip(string.ascii_letters)
    return f"{int(number) * count}{quantity.removeprefix(number)}"


def without_gpu(config: Config) -> tuple[str, ...]:
    """Return the steps that a setting of a device concerns and whose pods have no GPU."""
    given = config.cluster.steps
    steps = dict.fromkeys(step for of_key in DEVICES.values() for step in of_key)
    return tuple(
        step
        for step in steps
        if RESOURCES[step].changed(given.get(step, StepConfig())).gpus == 0  # type: ignore[call-overload]
    )


def missing_gpus(config: Config) -> list[Problem]:
    """Return a problem for each setting that asks for more GPUs than a step has."""
    without = without_gpu(config)
    problems = [
        Problem(
            one.key,
            one.value,
            f"cluster.steps.{step}.gpus is 0; give it a GPU, or use {one.otherwise}",
        )
        for one in asking_for_cuda(config)
        for step in DEVICES[one.key]
        if step in without
    ]
    devices = config.training.devices
    for step in _SHARING:
        gpus = config.cluster.steps.get(step, StepConfig()).gpus  # type: ignore[call-overload]
        if gpus and gpus < devices:
            message = f"cluster.steps.{step}.gpus is {gpus}; give it {devices}, or remove it"
            problems.append(Problem("training.devices", str(devices), message))
    return problems


def apply(task: dsl.PipelineTask, step: str, cluster: ClusterConfig, *, processes: int = 1) -> None:
    """Set resources, placement, environment and retries of a task; tasks are never cached.

    Args:
        task: task of the pipeline.
        step: name of its step.
        cluster: settings of the cluster.
        processes: number of processes in the task; each adds the requests of one, unless the
            configuration sets those of the pod.
    """
    given = cluster.steps.get(step, StepConfig())  # type: ignore[call-overload]
    wanted = RESOURCES[step].times(processes).changed(given)
    task.set_cpu_request(wanted.cpu)
    task.set_memory_request(wanted.memory)
    task.set_memory_limit(wanted.memory)
    if cluster.pod_retries:
        # For lost pods only: Argo, as Kubeflow 2.17 configures it, retries nothing else. The
        # supervisor restarts the work after a crash.
        task.set_retry(
            cluster.pod_retries,
            backoff_duration=f"{POD_RETRY_PAUSE_S}s",
            backoff_factor=1.0,
            backoff_max_duration=_YEAR,
        )
    if wanted.timeout_s is not None:
        kubernetes.set_timeout(task, wanted.timeout_s)
    task.set_caching_options(False)
    task.set_display_name(step.replace("_", " "))
    _place(task, cluster, with_gpu=wanted.gpus > 0)
    if wanted.gpus:
        task.set_accelerator_type(cluster.gpu_type)
        task.set_accelerator_limit(wanted.gpus)
        if cluster.shared_memory is not None:
            # Data loaders with several processes pass tensors in it; the default is 64 MB.
            kubernetes.empty_dir_mount(
                task, "dshm", "/dev/shm", medium="Memory", size_limit=cluster.shared_memory
            )
    _supervise(task, cluster, wanted)
    _surround(task, cluster)


def _place(task: dsl.PipelineTask, cluster: ClusterConfig, *, with_gpu: bool) -> None:
    """Set node selectors and tolerations."""
    labels = cluster.node_selector | (cluster.gpu_node_selector if with_gpu else {})
    for label, value in labels.items():
        kubernetes.add_node_selector(task, label, value)
    for one in cluster.tolerations + (cluster.gpu_tolerations if with_gpu else ()):
        kubernetes.add_toleration(
            task, key=one.key, operator=one.operator, value=one.value, effect=one.effect
        )


def _supervise(task: dsl.PipelineTask, cluster: ClusterConfig, wanted: Resources) -> None:
    """Set the environment variables of the supervisor (`components.supervisor`)."""
    values = {
        variables.RESTARTS: str(cluster.restarts),
        variables.MEMORY: wanted.memory,
        variables.CPUS: str(num_cpus(wanted.cpu)),
    }
    if cluster.restart_pause_s != variables.DEFAULTS[variables.RESTART_PAUSE_S]:
        values[variables.RESTART_PAUSE_S] = f"{cluster.restart_pause_s:g}"
    for name, value in values.items():
        task.set_env_variable(name, value)


def num_cpus(quantity: str) -> int:
    """Return the number of CPUs of a Kubernetes quantity, at least 1: `500m` is 1, `4` is 4."""
    value = float(quantity[:-1]) / 1000 if quantity.endswith("m") else float(quantity)
    return max(1, math.floor(value))


def _surround(task: dsl.PipelineTask, cluster: ClusterConfig) -> None:
    """Set the user of the image, environment variables and volumes."""
    # Names the state folder of a run, and the run in MLflow.
    kubernetes.use_field_path_as_env(task, "NAS_RUN_ID", "metadata.labels['pipeline/runid']")
    if cluster.run_as_user is not None:
        # Kubeflow sets the other fields that a restricted namespace requires, but not this.
        kubernetes.set_security_context(
            task,
            run_as_user=cluster.run_as_user,
            run_as_group=cluster.run_as_user,
            run_as_non_root=True,
        )
    for variable, reference in cluster.secrets.items():
        name, _, key = reference.partition("/")
        kubernetes.use_secret_as_env(task, name, {key: variable})
    for variable, reference in cluster.config_maps.items():
        name, _, key = reference.partition("/")
        kubernetes.use_config_map_as_env(task, name, {key: variable})
    if cluster.image_pull_secrets:
        kubernetes.set_image_pull_secrets(task, list(cluster.image_pull_secrets))
    if cluster.state is None:
        return
    claim = claim_of(cluster.state)
    if claim is not None:
        kubernetes.mount_pvc(task, claim, MOUNT)
    task.set_env_variable(variables.STATE_ROOT, cluster.state if claim is None else MOUNT)
