"""What each step asks of the cluster."""

from dataclasses import dataclass

from kfp import dsl


@dataclass(frozen=True, slots=True)
class Resources:
    """Requests of one step; the limit of memory equals its request, CPU is not limited.

    Attributes:
        memory: Kubernetes quantity, such as `4G`.
        gpus: whole GPUs.
        retries: new tries after a failure that is not the input's fault; a step resumes from its
            own state.
    """

    cpu: str
    memory: str
    gpus: int = 0
    retries: int = 0


RESOURCES = {
    # Bad input is found here and must not be tried again.
    "prepare_data": Resources(cpu="2", memory="8G"),
    "pretrain_controller": Resources(cpu="4", memory="16G", gpus=1, retries=2),
    "search": Resources(cpu="4", memory="16G", gpus=1, retries=3),
    "search_worker": Resources(cpu="4", memory="16G", gpus=1, retries=3),
    "train_final": Resources(cpu="4", memory="16G", gpus=1, retries=3),
    "profile_latency": Resources(cpu="4", memory="8G", gpus=1, retries=2),
    "promote": Resources(cpu="2", memory="8G", retries=3),
}


def apply(task: dsl.PipelineTask, step: str) -> None:
    """Sets requests, retries and caching of a task; a step that computes is never cached."""
    wanted = RESOURCES[step]
    task.set_cpu_request(wanted.cpu)
    task.set_memory_request(wanted.memory)
    task.set_memory_limit(wanted.memory)
    if wanted.gpus:
        task.set_accelerator_type("nvidia.com/gpu")
        task.set_accelerator_limit(wanted.gpus)
    if wanted.retries:
        task.set_retry(
            wanted.retries,
            backoff_duration="60s",
            backoff_factor=2.0,
            backoff_max_duration="3600s",
        )
    task.set_caching_options(False)
    task.set_display_name(step.replace("_", " "))
