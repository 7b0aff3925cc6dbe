"""What each step asks of the cluster."""

from dataclasses import dataclass, replace

from kfp import dsl, kubernetes

from components.config import Config
from components.settings import ClusterConfig, StepConfig
from nascore.errors import Problem
from pipelines.devices import DEVICES, asking_for_cuda

STATE_FOLDER = "/var/lib/nas"
USER_ID = 10001  # of the Dockerfile
_BACKOFF_FACTOR = 2.0
_MOST_BACKOFF = "3600s"


@dataclass(frozen=True, slots=True)
class Resources:
    """Requests of one step; the limit of memory equals its request, CPU is not limited.

    Attributes:
        memory: Kubernetes quantity, such as `4G`.
        gpus: whole GPUs.
        retries: new tries after a failure that is not the input's fault; a step resumes from its
            own state.
        timeout_s: after which the pod is ended; None for never.
    """

    cpu: str
    memory: str
    gpus: int = 0
    retries: int = 0
    timeout_s: int | None = None

    def changed(self, config: StepConfig) -> "Resources":
        """With what the configuration gives."""
        given = config.model_dump(exclude_none=True)
        return Resources(**{name: given.get(name, getattr(self, name)) for name in self.__slots__})


RESOURCES = {
    # Bad input is found here and must not be tried again.
    "prepare_data": Resources(cpu="2", memory="8G"),
    "review": Resources(cpu="2", memory="8G", retries=2),
    "reuse": Resources(cpu="1", memory="2G", retries=2),
    "pretrain_controller": Resources(cpu="4", memory="16G", gpus=1, retries=2),
    "search": Resources(cpu="4", memory="16G", gpus=1, retries=3),
    "search_worker": Resources(cpu="4", memory="16G", gpus=1, retries=3),
    "train_final": Resources(cpu="4", memory="16G", gpus=1, retries=3),
    "profile_latency": Resources(cpu="4", memory="8G", gpus=1, retries=2),
    "promote": Resources(cpu="2", memory="8G", retries=3),
}


def missing_gpus(config: Config) -> list[Problem]:
    """Settings that ask for CUDA in a step that is given no GPU."""
    steps = config.cluster.steps
    return [
        Problem(key, "cuda", f"cluster.steps.{step}.gpus is 0; give it a GPU, or use auto or cpu")
        for key in asking_for_cuda(config)
        for step in DEVICES[key]
        if RESOURCES[step].changed(steps.get(step, StepConfig())).gpus == 0  # type: ignore[call-overload]
    ]


def apply(task: dsl.PipelineTask, step: str, cluster: ClusterConfig, *, processes: int = 1) -> None:
    """Sets all of it on a task; a step that computes is never cached.

    Args:
        processes: that compute in the task, each with a GPU unless the configuration says other.
    """
    given = cluster.steps.get(step, StepConfig())  # type: ignore[call-overload]
    usual = replace(RESOURCES[step], gpus=RESOURCES[step].gpus * processes)
    wanted = usual.changed(given)
    task.set_cpu_request(wanted.cpu)
    task.set_memory_request(wanted.memory)
    task.set_memory_limit(wanted.memory)
    if wanted.retries:
        task.set_retry(
            wanted.retries,
            backoff_duration=f"{cluster.backoff_s}s",
            backoff_factor=_BACKOFF_FACTOR,
            backoff_max_duration=_MOST_BACKOFF,
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
            # Loaders of several processes hand tensors over in it; the default is 64 MB.
            kubernetes.empty_dir_mount(
                task, "dshm", "/dev/shm", medium="Memory", size_limit=cluster.shared_memory
            )
    _surround(task, cluster)


def _place(task: dsl.PipelineTask, cluster: ClusterConfig, *, with_gpu: bool) -> None:
    """On which nodes it may run."""
    labels = cluster.node_selector | (cluster.gpu_node_selector if with_gpu else {})
    for label, value in labels.items():
        kubernetes.add_node_selector(task, label, value)
    for one in cluster.tolerations + (cluster.gpu_tolerations if with_gpu else ()):
        kubernetes.add_toleration(
            task, key=one.key, operator=one.operator, value=one.value, effect=one.effect
        )


def _surround(task: dsl.PipelineTask, cluster: ClusterConfig) -> None:
    """The user that the image is made for, environment and volumes."""
    # Names the folder of a run on a shared volume, and the run in what is tracked.
    kubernetes.use_field_path_as_env(task, "NAS_RUN_ID", "metadata.labels['pipeline/runid']")
    # Kubeflow sets the rest of what a restricted name space asks for, but not this.
    kubernetes.set_security_context(
        task, run_as_user=USER_ID, run_as_group=USER_ID, run_as_non_root=True
    )
    for variable, reference in cluster.secrets.items():
        name, _, key = reference.partition("/")
        kubernetes.use_secret_as_env(task, name, {key: variable})
    for variable, reference in cluster.config_maps.items():
        name, _, key = reference.partition("/")
        kubernetes.use_config_map_as_env(task, name, {key: variable})
    if cluster.image_pull_secrets:
        kubernetes.set_image_pull_secrets(task, list(cluster.image_pull_secrets))
    if cluster.state_volume is not None:
        kubernetes.mount_pvc(task, cluster.state_volume, STATE_FOLDER)
        task.set_env_variable("NAS_STATE_ROOT", STATE_FOLDER)
