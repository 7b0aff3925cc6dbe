"""Settings of tracking, registry, promotion, retraining, cluster. No torch, mlflow or kfp here."""

import re
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from components.config.quantities import Bytes, Cpu
from components.run_state.reference import check_reference
from nascore.config import Positive, Section
from nascore.config.addresses import check_files, check_state, tracking_uri


def _check_reference(text: str) -> str:
    if not re.fullmatch(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?/[A-Za-z0-9._-]+", text):
        raise ValueError("is not NAME/KEY")
    return text


Reference = Annotated[str, AfterValidator(_check_reference)]
"""NAME/KEY of a Secret or ConfigMap."""
State = Annotated[str, AfterValidator(check_state), AfterValidator(check_reference)]
"""Place for the state of runs."""
_RESERVED = ("PATH", "HOME", "PYTHONPATH")


def _check_variable(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise ValueError("is not a name of an environment variable")
    if name in _RESERVED or (name.startswith("NAS_") and name not in SETTABLE):
        raise ValueError("is a variable of the image or the steps themselves; choose another name")
    return name


def check_model_name(name: str) -> str:
    """Return the name of a registered model.

    Raises:
        ValueError: MLflow or an address `models:/NAME/VERSION` does not take it.
    """
    if not re.fullmatch(r"\w[\w. -]*", name):
        raise ValueError(
            "is not a name of a model: letters, digits, spaces, '.', '-' and '_' are allowed, and "
            "the first one is a letter, a digit or '_'; write a name such as flowers-v2"
        )
    return name


SETTABLE = ("NAS_STUDY_URL", "NAS_CACHE_DIR")
"""Variables of this project that an installation may set; the pipeline sets the others."""
Variable = Annotated[str, AfterValidator(_check_variable)]


class TrackingConfig(Section):
    """Tracking of runs in MLflow."""

    uri: Annotated[str, AfterValidator(tracking_uri)] = "sqlite:///runs/mlflow.db"
    """URI of the MLflow store: `sqlite:///FILE`, or `http(s)://HOST` of a tracking server."""
    experiment: Annotated[str, Field(min_length=1, max_length=500)] = "nas"
    """MLflow experiment; created if it does not exist."""
    deleted_experiment: Literal["stop", "rename"] = "stop"
    """What to do if the experiment is deleted, whose name MLflow keeps: `stop` before the run, or
    `rename` and use NAME-2, or the next one that is not deleted."""
    kfp_plugin: bool = True
    """Use the MLflow plugin of Kubeflow, if it is installed: it creates runs of the pipeline and of
    its tasks, to which the steps then write."""


class RegistryConfig(Section):
    """The model in the MLflow registry."""

    model: Annotated[str, AfterValidator(check_model_name)] | None = None
    """Name of the registered model; one name for each task. By default made of the name of the data
    set and the hash of its schema (classes, input, outputs), such as `flowers-3f2a91`."""
    ship: Literal["recommended", "found"] = "recommended"
    """Network that is registered: `recommended` may be a standard network of `reference` or that of
    the random control, if it is better than the found one."""
    unusable_champion: Literal["replace", "stop"] | None = None
    """If the champion cannot be loaded or compared: `replace` lets a new model that passes the
    other gates become champion, `stop` ends the run before anything is trained. By default
    `replace` in retraining, `stop` otherwise."""


class PromoteConfig(Section):
    """Conditions under which a model becomes the champion."""

    min_gain: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Smallest gain over the champion on the test images, a fraction, in the metric of
    `search.objective`."""
    confidence: Annotated[float, Field(gt=0.5, lt=1)] | None = 0.95
    """Level of the interval of the gain (paired bootstrap over the test images), which must lie
    above 0; null turns this off."""
    max_class_drop: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Largest loss of recall of any class against the champion, a fraction; null turns this off."""
    max_params: Positive | None = None
    """Largest number of parameters of a champion."""
    max_latency_ms: Annotated[float, Field(gt=0)] | None = None
    """Largest median latency of a champion, measured as `latency` says."""
    int8_max_drop: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Largest loss of validation score, a fraction, with which the network in int8 is offered as
    `model-int8.onnx`, if it is faster than in fp32 on a CPU; null makes none."""

    export_to: Annotated[str, Field(min_length=1), AfterValidator(check_files)] | None = None
    """`s3://BUCKET/PREFIX` or a folder, to which weights, genotype, result, report and latency of
    each run are copied. `champion.json` in it names the run of the champion. A network that routes
    images also has exported programs of its parts."""


class S3Config(Section):
    """Requests to S3; address and credentials are boto3's (AWS_ENDPOINT_URL, AWS_PROFILE, ...)."""

    request_payer: Literal["requester"] | None = None
    """`requester`: this account pays for reading a `data.source` in a requester-pays bucket."""


class RetrainConfig(Section):
    """Conditions under which retraining searches again instead of keeping the architecture."""

    max_drift: Annotated[float, Field(gt=0)] = 0.25
    """Largest population stability index between these data and those of the champion, of class
    frequencies or pixel values; 0.1 is commonly read as no change, 0.25 as a large one."""
    max_age_days: Annotated[float, Field(gt=0)] | None = None
    """Largest age of the champion."""


# --- the cluster ----------------------------------------------------------------------------


class TolerationConfig(Section):
    """A toleration of Kubernetes."""

    key: str | None = None
    """Key of the taint; by default any."""
    operator: Literal["Exists", "Equal"] = "Exists"
    """`Equal` compares the value, `Exists` tolerates any value."""
    value: str | None = None
    """Taint value that is tolerated."""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    """Taint effect that is tolerated."""


class StepConfig(Section):
    """Resources of one step; defaults are in `pipelines/definitions/resources.py`."""

    cpu: Cpu | None = None
    """Processors, such as 4, 0.5 or 500m."""
    memory: Bytes | None = None
    """Request and limit of memory, such as 16Gi or 16GB."""
    gpus: Annotated[int, Field(ge=0)] | None = None
    """Number of GPUs."""
    timeout_s: Positive | None = None
    """Time after which the pod is ended."""


StepName = Literal[
    "prepare_data",
    "review",
    "reuse",
    "pretrain_controller",
    "search",
    "search_worker",
    "train_final",
    "profile_latency",
    "train_references",
    "promote",
    "close_run",
]


class ClusterConfig(Section):
    """Pods of the compiled pipeline on Kubernetes; `nas run` ignores these settings."""

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
    """Size of /dev/shm in steps with a GPU; part of the memory limit."""
    state: Annotated[str, AfterValidator(check_state), AfterValidator(check_reference)] | None = (
        None
    )
    """Storage of the state of runs, from which a step resumes after its pod was lost:
    `s3://BUCKET/PREFIX`, or `pvc:NAME` of a PersistentVolumeClaim that several nodes may write.
    Without it the state is lost with the pod, except for a study in a database."""
    secrets: dict[Variable, Reference] = Field(default={})
    """Environment variables from Secrets, `VARIABLE: NAME/KEY`; values are not written anywhere."""
    config_maps: dict[Variable, Reference] = Field(default={})
    """Environment variables from ConfigMaps, `VARIABLE: NAME/KEY`."""
    image_pull_secrets: tuple[str, ...] = ()
    """Names of Secrets with which the image is pulled."""
    workers_per_pod: Positive | None = None
    """Processes of `search.workers` in one pod; by default one up to eight workers, then enough for
    eight pods, since Kubeflow's list does not update with more tasks. A pod requests processors,
    memory and GPUs for all its processes, unless `cluster.steps` sets them."""
    run_as_user: Annotated[int, Field(ge=1, lt=2**31)] | None = 10001
    """User and group of the steps; null leaves them to the platform, as OpenShift requires. The
    image works for any user of group 0."""
    restarts: Annotated[int, Field(ge=0, le=1000)] = 20
    """Restarts of a step within its pod after a crash, from its last state. Wrong input is not
    tried again, nor an error that occurs three times in a row."""
    restart_pause_s: Annotated[float, Field(ge=0, le=3600)] = 2
    """Pause before the first restart; it doubles with each restart, up to a minute."""
    pod_retries: Annotated[int, Field(ge=0, le=1000)] = 20
    """Retries by Kubeflow of a step whose pod was preempted, drained or deleted."""
    steps: dict[StepName, StepConfig] = Field(default={})

    @model_validator(mode="after")
    def _check_variables(self) -> Self:
        both = sorted(self.secrets.keys() & self.config_maps.keys())
        if both:
            raise ValueError(
                f"{', '.join(both)} is given in secrets and in config_maps; remove one of them"
            )
        return self
