"""What a person may set about tracking, promotion and the cluster. No torch, mlflow or kfp here."""

import re
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from components.run_state.reference import check_reference
from nascore.config import Positive, Section


def _check_cpu(text: object) -> str:
    if isinstance(text, int) and not isinstance(text, bool):
        text = str(text)  # YAML reads 4 as a number
    if not isinstance(text, str) or not re.fullmatch(r"[1-9]\d*m?", text):
        raise ValueError("is no number of processors; write whole ones such as 4, or 500m")
    return text


def _check_bytes(text: object) -> str:
    if isinstance(text, int) and not isinstance(text, bool):
        text = str(text)
    if not isinstance(text, str) or not re.fullmatch(r"[1-9]\d*([KMGTPE]i|[kMGTPE])?", text):
        raise ValueError("is no amount of memory; write a whole number with a unit: 16Gi or 500Mi")
    return text


Cpu = Annotated[str, BeforeValidator(_check_cpu)]
"""Processors as Kubernetes counts them: `4`, or `500m` for half of one."""
Bytes = Annotated[str, BeforeValidator(_check_bytes)]
"""Memory as Kubernetes counts it, such as `16Gi`; whole numbers, which kfp's compiler wants."""
Reference = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?/[A-Za-z0-9._-]+$")]
"""NAME/KEY of a Secret or ConfigMap."""
_RESERVED = ("PATH", "HOME", "PYTHONPATH")


def _check_variable(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise ValueError("is no name of an environment variable")
    if name in _RESERVED or (name.startswith("NAS_") and name not in SETTABLE):
        raise ValueError("is a variable of the image or the steps themselves; choose another name")
    return name


SETTABLE = ("NAS_STUDY_URL", "NAS_CACHE_DIR")
"""Variables of ours that an installation may set; the others are set by the compiled pipeline."""
Variable = Annotated[str, AfterValidator(_check_variable)]


class TrackingConfig(Section):
    """Where runs are logged."""

    uri: str = "sqlite:///runs/mlflow.db"
    """MLflow store: `sqlite:///FILE`, or `http(s)://HOST` of a tracking server."""
    experiment: Annotated[str, Field(min_length=1)] = "nas"
    """MLflow experiment; it is made when it is not there."""
    kfp_plugin: bool = True
    """Whether the MLflow plugin of Kubeflow, where there is one, makes runs of its own for the
    pipeline and its tasks, which the steps then write to."""


class PromoteConfig(Section):
    """When a model becomes the champion."""

    model_name: Annotated[str, Field(min_length=1, pattern=r"^\w[\w. -]*$")] = "nas-model"
    """Name in the MLflow registry."""
    min_gain: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """A challenger must beat the champion on the test images, in accuracy or what else
    `search.objective` names, and by at least this fraction."""
    confidence: Annotated[float, Field(gt=0.5, lt=1)] | None = 0.95
    """The interval of the gain (paired bootstrap over the test images) must lie above 0; null turns
    this off."""
    max_class_drop: Annotated[float, Field(ge=0, lt=1)] | None = None
    """No class's recall on the test images may fall by more than this fraction against the
    champion's; null asks for nothing."""
    max_params: Positive | None = None
    """A model with more parameters is not promoted."""
    max_latency_ms: Annotated[float, Field(gt=0)] | None = None
    """Nor one that is slower at the median, as `latency` measures it."""

    export_to: Annotated[str, Field(min_length=1)] | None = None
    """`s3://BUCKET/PREFIX`, or a folder: weights, genotype, result, report and latency of each run
    are copied there, and `champion.json` names the run whose model is champion. A network that is
    another one for each image comes with programs of its parts, too."""


class RetrainConfig(Section):
    """When retraining searches anew instead of training the champion's architecture."""

    max_drift: Annotated[float, Field(gt=0)] = 0.25
    """Population stability index of class shares or pixel values, the larger of the two, against
    the data of the champion; 0.1 is commonly read as no change, 0.25 as a large one."""
    max_age_days: Annotated[float, Field(gt=0)] | None = None
    """Of the champion."""


# --- the cluster ----------------------------------------------------------------------------


class TolerationConfig(Section):
    """A taint that a pod puts up with."""

    key: str | None = None
    """Every taint, when not given."""
    operator: Literal["Exists", "Equal"] = "Exists"
    """`Equal` compares the value, `Exists` tolerates any."""
    value: str | None = None
    """Taint value that is tolerated."""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    """Taint effect that is tolerated."""


class StepConfig(Section):
    """What one step asks of the cluster; the rest is as `pipelines/definitions/resources.py` has
    it."""

    cpu: Cpu | None = None
    """Processors, as Kubernetes writes them."""
    memory: Bytes | None = None
    """Request and limit."""
    gpus: Annotated[int, Field(ge=0)] | None = None
    """GPUs."""
    timeout_s: Positive | None = None
    """The pod is ended after so many seconds."""


StepName = Literal[
    "prepare_data",
    "review",
    "reuse",
    "pretrain_controller",
    "search",
    "search_worker",
    "train_final",
    "profile_latency",
    "promote",
    "close_run",
]


class ClusterConfig(Section):
    """How the compiled pipeline runs on Kubernetes; nothing of it matters to `nas run`."""

    gpu_type: str = "nvidia.com/gpu"
    """Name of the GPU resource."""
    gpu_node_selector: dict[str, str] = Field(default={})
    """Node labels for steps with a GPU, such as `nvidia.com/gpu.product: NVIDIA-A100-SXM4-80GB`."""
    gpu_tolerations: tuple[TolerationConfig, ...] = (
        TolerationConfig(key="nvidia.com/gpu", effect="NoSchedule"),
    )
    """Taints that steps with a GPU tolerate, as Kubernetes writes them."""
    node_selector: dict[str, str] = Field(default={})
    """Node labels for all steps."""
    tolerations: tuple[TolerationConfig, ...] = ()
    """Taints that all steps tolerate."""
    shared_memory: Bytes | None = "2Gi"
    """Size of /dev/shm in steps with a GPU; it counts against the memory limit."""
    state: Annotated[str, AfterValidator(check_reference)] | None = None
    """Where every run keeps its state, so that a step whose pod was lost resumes from its last
    checkpoint: `s3://BUCKET/PREFIX`, or `pvc:NAME` of a PersistentVolumeClaim that several nodes
    may write. Without one the state is lost with the pod (a search in a database is not)."""
    secrets: dict[Variable, Reference] = Field(default={})
    """Environment variables from Secrets, `VARIABLE: NAME/KEY`; the values are written nowhere."""
    config_maps: dict[Variable, Reference] = Field(default={})
    """Environment variables from ConfigMaps."""
    image_pull_secrets: tuple[str, ...] = ()
    """Names of Secrets by which the image is pulled."""
    workers_per_pod: Positive | None = None
    """Processes of `search.workers` in one pod. By default one each up to eight workers, then as
    many as make eight pods: Kubeflow's list of more tasks stands still. A pod asks for the
    processors, memory and GPUs of all its processes, unless `cluster.steps` says what it has."""
    run_as_user: Annotated[int, Field(ge=1, lt=2**31)] | None = 10001
    """User and group of the steps; null leaves them to the platform, as OpenShift wants it. The
    image works for any user of group 0."""
    restarts: Annotated[int, Field(ge=0, le=1000)] = 20
    """How often a step starts its work again after a crash, within its pod, from its last state.
    Wrong input is never tried again, nor an error that comes three times in a row."""
    restart_pause_s: Annotated[float, Field(ge=0, le=3600)] = 2
    """Seconds before the first restart; the pause doubles, up to a minute."""
    pod_retries: Annotated[int, Field(ge=0, le=1000)] = 20
    """How often Kubeflow makes a step's pod again after it was preempted, drained or deleted."""
    pod_retry_pause_s: Positive = 60
    """Seconds before each of them."""
    steps: dict[StepName, StepConfig] = Field(default={})

    @model_validator(mode="after")
    def _check_variables(self) -> Self:
        both = sorted(self.secrets.keys() & self.config_maps.keys())
        if both:
            raise ValueError(
                f"{', '.join(both)} is given in secrets and in config_maps; leave one of them out"
            )
        return self
