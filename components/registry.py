"""The model registry: logging a model, and who is champion. The one place that loads models back.

Models are logged in MLflow's `pt2` form (torch.export): no pickled object is written or read.
"""

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

os.environ.setdefault("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
# Requirements are given; without this, logging a model asks pip for them, and pip the network.
os.environ.setdefault("MLFLOW_SKIP_PIP_REQUIREMENTS_CHECK", "true")

import mlflow
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

CHAMPION = "champion"
CHALLENGER = "challenger"
_TOLERANCE = 1e-4


class ModelDiffers(Exception):
    """The logged model does not predict what the trained network does."""


@dataclass(frozen=True, slots=True)
class Registered:
    """A version in the registry; `uri` loads it with `mlflow.pytorch.load_model`."""

    name: str
    version: str
    uri: str


@dataclass(frozen=True, slots=True)
class Decision:
    """What became of a new version.

    Attributes:
        alias: the alias that points to it now.
        reason: why, in words.
        champion_accuracy: test accuracy of the old champion on the same images; None without one.
    """

    alias: str
    reason: str
    champion_accuracy: float | None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def register(
    network: nn.Module,
    example: NDArray[np.float32],
    *,
    uri: str,
    run_id: str,
    model_name: str,
    tags: Mapping[str, str],
) -> Registered:
    """Logs a network under a run, registers it, and checks that it predicts the same when loaded.

    Args:
        network: in evaluation mode, on the CPU.
        example: at least two images (B, C, H, W), normalised; B = 1 would be exported as fixed.

    Raises:
        ModelDiffers: the loaded model predicts something else.
    """
    from mlflow.models import infer_signature

    mlflow.set_tracking_uri(uri)
    with torch.inference_mode():
        expected = network(torch.from_numpy(example)).numpy()
    with mlflow.start_run(run_id=run_id, log_system_metrics=False):
        info = mlflow.pytorch.log_model(
            network,
            name="model",
            input_example=example,
            signature=infer_signature(example, expected),
            pip_requirements=[f"torch=={torch.__version__.partition('+')[0]}"],
        )
    loaded = mlflow.pytorch.load_model(info.model_uri)
    with torch.inference_mode():
        difference = np.abs(loaded(torch.from_numpy(example)).numpy() - expected).max()
    if not difference <= _TOLERANCE:
        raise ModelDiffers(
            f"the logged model differs from the trained network by {difference:.2g} in its logits; "
            "it is not registered"
        )
    client = MlflowClient(tracking_uri=uri)
    try:
        client.create_registered_model(model_name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    version = client.create_model_version(
        model_name, info.model_uri, run_id=run_id, tags=dict(tags), model_id=info.model_id
    )
    return Registered(model_name, str(version.version), f"models:/{model_name}/{version.version}")


def promote(
    new: Registered,
    *,
    uri: str,
    accuracy: float,
    images: torch.Tensor,
    labels: torch.Tensor,
    min_gain: float,
) -> Decision:
    """Makes a version champion when there is none or when it beats the present one.

    The champion is judged here on the same test images, so that two models trained at different
    times are compared on equal terms.

    Args:
        accuracy: test accuracy of the new version on `images`, a fraction.
        images: normalised test images (N, C, H, W).
        labels: (N,).
        min_gain: the gain must be above this fraction.
    """
    client = MlflowClient(tracking_uri=uri)
    decision = _decide(client, new, accuracy, images, labels, min_gain)
    client.set_registered_model_alias(new.name, decision.alias, new.version)
    client.set_model_version_tag(new.name, new.version, "nas.decision", decision.reason)
    return decision


def find_run(uri: str, experiment: str, key: str) -> str | None:
    """Id of the run with our key, or None when the follower has not made it yet."""
    client = MlflowClient(tracking_uri=uri)
    found = client.get_experiment_by_name(experiment)
    if found is None:
        return None
    runs = client.search_runs([found.experiment_id], f"tags.`nas.run_key` = '{key}'", max_results=1)
    return str(runs[0].info.run_id) if runs else None


def _decide(
    client: MlflowClient,
    new: Registered,
    accuracy: float,
    images: torch.Tensor,
    labels: torch.Tensor,
    min_gain: float,
) -> Decision:
    try:
        champion = client.get_model_version_by_alias(new.name, CHAMPION)
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise
        return Decision(CHAMPION, "there was no champion", None)
    mlflow.set_tracking_uri(client.tracking_uri)
    model = mlflow.pytorch.load_model(f"models:/{new.name}/{champion.version}")
    try:
        with torch.inference_mode():
            predicted = model(images).argmax(1)
            old = float((predicted == labels).double().mean())
    except (RuntimeError, AssertionError, ValueError) as error:  # other image or class shape
        return Decision(
            CHALLENGER,
            f"the champion (version {champion.version}) does not read these images "
            f"({str(error).splitlines()[0][:120]}); set promote.model_name to another name, or "
            "move the alias by hand",
            None,
        )
    gain = accuracy - old
    if gain > min_gain:
        return Decision(
            CHAMPION,
            f"test accuracy {accuracy:.4f} beats the champion's {old:.4f} "
            f"(version {champion.version}) by more than {min_gain:g}",
            old,
        )
    return Decision(
        CHALLENGER,
        f"test accuracy {accuracy:.4f} does not beat the champion's {old:.4f} "
        f"(version {champion.version}) by more than {min_gain:g}",
        old,
    )
