"""Logs a model to the MLflow registry, and checks that it predicts the same when loaded.

Models are logged in MLflow's `pt2` format (torch.export): no pickled object is written or read. A
model with several outputs returns a tuple, logits first, when loaded by `mlflow.pytorch`, and a
mapping by name when loaded by `mlflow.pyfunc`. A few-shot model that is loaded by `mlflow.pyfunc`
adapts to a task and predicts (`components.registry.model_kinds`).
"""

import logging
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

# The defaults wait four minutes for an unreachable server, in each call.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
# Requirements are given; without this, logging a model asks pip for them, and pip the network.
os.environ.setdefault("MLFLOW_SKIP_PIP_REQUIREMENTS_CHECK", "true")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

import mlflow
from mlflow import MlflowClient
from mlflow.entities import LoggedModelOutput, LoggedModelStatus
from mlflow.exceptions import MlflowException
from mlflow.models import Model, infer_signature

from components.registry import model_metadata
from components.registry.lookup import check_aliases
from components.registry.model_kinds import (
    Arrays,
    ClassifierAdapter,
    ModelAdapter,
    max_abs_difference,
)
from components.tracking.client import make_store, open_client

_log = logging.getLogger(__name__)

if tuple(int(part) for part in torch.__version__.split(".")[:2]) >= (2, 10):
    os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] = "false"
else:
    _log.warning(
        "torch %s cannot check that a registered model is free of pickled code; trust the "
        "registry, or use torch 2.10 or newer",
        torch.__version__,
    )

_TOLERANCE = 1e-4


class ModelMismatchError(Exception):
    """The logged model predicts something else than the trained network."""


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """A version in the registry; `uri` loads it with `mlflow.pytorch.load_model`."""

    name: str
    version: str
    uri: str


def register(
    network: nn.Module,
    example: NDArray[np.float32] | ModelAdapter,
    *,
    uri: str,
    run_id: str,
    model_name: str,
    tags: Mapping[str, str],
    metadata: Mapping[str, Any] | None = None,
    purpose: str | None = None,
) -> ModelVersion:
    """Log a network under a run, register it, and check that it predicts the same when loaded.

    The run is neither started nor ended. May be called again after a failure: a model that an
    earlier call has logged is used when it predicts the same. A new version has the tag
    `validation_status: pending` until `validate` replaces it.

    Args:
        network: in evaluation mode, on the CPU.
        example: input of the network, at least two images (B, C, H, W), since B = 1 would be
            exported as fixed; or the adapter of its kind.
        uri: MLflow store.
        run_id: MLflow run that the model belongs to.
        model_name: name of the registered model.
        tags: of the new version.
        metadata: of the logged model (`components.registry.model_metadata`); it becomes further
            tags of the version.
        purpose: description of the registered model, if it does not exist yet.

    Returns:
        The version.

    Raises:
        ResourceUnavailable: the registry has no aliases; nothing is logged.
        ModelMismatchError: the loaded model predicts something else; nothing is registered.
    """
    adapter = ClassifierAdapter(example) if isinstance(example, np.ndarray) else example
    if len(adapter.images) < 2:
        raise ValueError(f"the example needs at least 2 images, got {len(adapter.images)}")
    use(uri)
    client = open_client(uri)
    expected = adapter.predictions(network)
    check_aliases(client, model_name)
    for version in client.search_model_versions(f"name='{model_name}' and run_id='{run_id}'"):
        made = version_of(model_name, version.version)
        if max_abs_difference(adapter.loaded_predictions(made.uri), expected) <= _TOLERANCE:
            return made
    model_uri, model_id = _log_model(client, network, adapter, expected, run_id, metadata)
    difference = max_abs_difference(adapter.loaded_predictions(model_uri), expected)
    if not difference <= _TOLERANCE:
        raise ModelMismatchError(
            f"the logged model differs from the trained network by {difference:.2g} in its "
            "answers; it is not registered"
        )
    _ensure_registered_model(client, model_name, purpose)
    described = {} if metadata is None else model_metadata.tags_of(metadata)
    every = {**tags, **described, model_metadata.VALIDATION: model_metadata.PENDING}
    version = client.create_model_version(
        model_name,
        model_uri,
        run_id=run_id,
        tags={name: model_metadata.cut(value) for name, value in every.items()},
        model_id=model_id,
    )
    return version_of(model_name, version.version)


# --- logging --------------------------------------------------------------------------------


def use(uri: str) -> None:
    """Make a store the one in which `models:/` addresses are looked up in this process."""
    make_store(uri)
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)


def set_description(version: ModelVersion, text: str, *, uri: str) -> None:
    """Set the description of a version, Markdown; replaces an earlier one."""
    client = open_client(uri)
    client.update_model_version(version.name, version.version, description=text)


def validate(version: ModelVersion, *, passed: bool, uri: str) -> None:
    """Set the tag `validation_status` of a version: whether it has passed the checks.

    The last call about a version: until then it is `pending`, also after a failure in between.
    """
    status = model_metadata.APPROVED if passed else model_metadata.REJECTED
    client = open_client(uri)
    client.set_model_version_tag(version.name, version.version, model_metadata.VALIDATION, status)


def version_of(name: str, version: str | int) -> ModelVersion:
    """Return a version of a registered model."""
    return ModelVersion(name, str(version), f"models:/{name}/{version}")


def _log_model(
    client: MlflowClient,
    network: nn.Module,
    adapter: ModelAdapter,
    expected: Arrays,
    run_id: str,
    metadata: Mapping[str, Any] | None,
) -> tuple[str, str]:
    """Return URI and id of the logged model, and log what an earlier try has not.

    `mlflow.pytorch.log_model` would need an active run, and leaving one marks it as finished. It
    takes the experiment from the environment instead of the run, and links a model to its run again
    with each call, which MLflow refuses.
    """
    run = client.get_run(run_id)
    experiment_id = run.info.experiment_id
    logged = client.search_logged_models([experiment_id], f"source_run_id = '{run_id}'")
    for model in logged:
        uri = f"models:/{model.model_id}"
        if model.status == LoggedModelStatus.READY and (
            max_abs_difference(adapter.loaded_predictions(uri), expected) <= _TOLERANCE
        ):
            return uri, str(model.model_id)
    # A model that is ready may be that of a version, and is never written over.
    begun = [model for model in logged if model.status == LoggedModelStatus.PENDING]
    model = (
        begun[0]
        if begun
        else client.create_logged_model(experiment_id, name="model", source_run_id=run_id)
    )
    linked = [] if run.outputs is None else run.outputs.model_outputs
    if model.model_id not in [output.model_id for output in linked]:
        client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])
    described = Model(
        artifact_path=model.artifact_location,
        model_uuid=model.model_id,
        model_id=model.model_id,
        run_id=run_id,
        metadata=None if metadata is None else dict(metadata),
    )
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/model"
        _save(network, path, described, adapter, expected)
        client.log_model_artifacts(model.model_id, path)
    client.finalize_logged_model(model.model_id, "READY")
    return f"models:/{model.model_id}", str(model.model_id)


def _save(
    network: nn.Module, path: str, described: Model, adapter: ModelAdapter, expected: Arrays
) -> None:
    """Write the files of a model, its description included."""
    mlflow.pytorch.save_model(
        network,
        path,
        mlflow_model=described,
        serialization_format="pt2",
        input_example=adapter.images,
        signature=infer_signature(adapter.images, expected[0]),
        pip_requirements=[f"torch=={torch.__version__.partition('+')[0]}"],
        code_paths=adapter.code(expected) or None,
    )
    adapter.complete(described, network, expected)
    described.save(f"{path}/MLmodel")


def _ensure_registered_model(client: MlflowClient, name: str, purpose: str | None) -> None:
    try:
        client.create_registered_model(name, description=purpose)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
