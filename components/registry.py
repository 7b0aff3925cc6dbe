"""The model registry: logging a model, and who is champion. The one place that loads models back.

Models are logged in MLflow's `pt2` form (torch.export): no pickled object is written or read.
"""

import logging
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from components.tracking import redact

# The defaults wait four minutes for a server that is away, in each call.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
# Requirements are given; without this, logging a model asks pip for them, and pip the network.
os.environ.setdefault("MLFLOW_SKIP_PIP_REQUIREMENTS_CHECK", "true")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

import mlflow
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.models import Model, get_model_info, infer_signature

_log = logging.getLogger(__name__)

if tuple(int(part) for part in torch.__version__.split(".")[:2]) >= (2, 10):
    os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] = "false"
else:
    _log.warning(
        "torch %s cannot check that a registered model is free of pickled code; trust the "
        "registry, or use torch 2.10 or newer",
        torch.__version__,
    )

CHAMPION = "champion"
CHALLENGER = "challenger"
_TOLERANCE = 1e-4
_BATCH_SIZE = 256
_ROUNDING = 1e-9  # 0.3 - 0.2 is a gain of 0.1


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

    The run is neither started nor ended. A step that is tried again gets the version that it made
    before, when that still predicts the same.

    Args:
        network: in evaluation mode, on the CPU.
        example: at least two images (B, C, H, W); B = 1 would be exported as fixed.

    Raises:
        ModelDiffers: the loaded model predicts something else; nothing is registered.
    """
    if len(example) < 2:
        raise ValueError(f"the example needs at least 2 images, got {len(example)}")
    _use(uri)
    client = MlflowClient(tracking_uri=uri)
    with torch.inference_mode():
        expected = network(torch.from_numpy(example)).numpy()
    for version in client.search_model_versions(f"name='{model_name}' and run_id='{run_id}'"):
        made = _registered(model_name, version.version)
        if _difference(made.uri, example, expected) <= _TOLERANCE:
            return made
    model_uri, model_id = _log_model(client, network, example, expected, run_id)
    difference = _difference(model_uri, example, expected)
    if not difference <= _TOLERANCE:
        raise ModelDiffers(
            f"the logged model differs from the trained network by {difference:.2g} in its logits; "
            "it is not registered"
        )
    _ensure_registered_model(client, model_name)
    version = client.create_model_version(
        model_name, model_uri, run_id=run_id, tags=dict(tags), model_id=model_id
    )
    return _registered(model_name, version.version)


def promote(
    new: Registered,
    *,
    uri: str,
    accuracy: float,
    images: Tensor,
    labels: Tensor,
    min_gain: float,
) -> Decision:
    """Makes a version champion when there is none or when it beats the present one.

    The champion is judged here on the same test images, so that two models trained at different
    times are compared on equal terms.

    Args:
        accuracy: test accuracy of the new version on `images`, a fraction.
        images: test images (N, C, H, W), as both models read them.
        labels: (N,).
        min_gain: the gain must be at least this fraction, and above 0.
    """
    _use(uri)
    client = MlflowClient(tracking_uri=uri)
    decision = _decide(client, new, accuracy, images, labels, min_gain)
    client.set_registered_model_alias(new.name, decision.alias, new.version)
    client.set_model_version_tag(new.name, new.version, "nas.decision", decision.reason)
    return decision


# --- logging --------------------------------------------------------------------------------


def _use(uri: str) -> None:
    """`models:/` addresses are looked up in the store that was set last in the process."""
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)


def _registered(name: str, version: str | int) -> Registered:
    return Registered(name, str(version), f"models:/{name}/{version}")


def _log_model(
    client: MlflowClient,
    network: nn.Module,
    example: NDArray[np.float32],
    expected: NDArray[np.float32],
    run_id: str,
) -> tuple[str, str]:
    """URI and id of the logged model.

    `mlflow.pytorch.log_model` would need an active run, and leaving one marks it as finished. And
    it asks the environment for the experiment instead of the run, hence the model made before.
    """
    experiment_id = client.get_run(run_id).info.experiment_id
    model = client.create_logged_model(experiment_id, name="model", source_run_id=run_id)
    info = Model.log(
        artifact_path=None,
        flavor=mlflow.pytorch,
        model_id=model.model_id,
        run_id=run_id,
        pytorch_model=network,
        serialization_format="pt2",
        input_example=example,
        signature=infer_signature(example, expected),
        pip_requirements=[f"torch=={torch.__version__.partition('+')[0]}"],
    )
    return str(info.model_uri), str(model.model_id)


def _difference(model_uri: str, example: NDArray[np.float32], expected: Any) -> float:
    """Largest absolute difference of the loaded model's logits from the expected ones."""
    loaded = mlflow.pytorch.load_model(model_uri)
    with torch.inference_mode():
        logits = loaded(torch.from_numpy(example)).numpy()
    return float("inf") if logits.shape != expected.shape else float(abs(logits - expected).max())


def _ensure_registered_model(client: MlflowClient, name: str) -> None:
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


# --- champion and challenger ----------------------------------------------------------------


def _decide(
    client: MlflowClient,
    new: Registered,
    accuracy: float,
    images: Tensor,
    labels: Tensor,
    min_gain: float,
) -> Decision:
    version = client.get_registered_model(new.name).aliases.get(CHAMPION)
    if version is None:
        return Decision(CHAMPION, "there was no champion", None)
    if str(version) == new.version:
        return Decision(CHAMPION, "it is the champion already", None)
    champion = _registered(new.name, version)
    fault = _why_incomparable(champion, new)
    if fault is None:
        try:
            old = _accuracy(mlflow.pytorch.load_model(champion.uri), images, labels)
        except MlflowException as error:  # pickled, damaged, or gone
            fault = f"cannot be loaded: {redact(str(error)).splitlines()[0][:200]}"
    if fault is not None:
        return Decision(
            CHALLENGER,
            f"the champion (version {version}) {fault}; set promote.model_name to another name, "
            "or move the alias by hand",
            None,
        )
    gain = accuracy - old
    beats = gain > 0 and gain >= min_gain - _ROUNDING
    return Decision(
        CHAMPION if beats else CHALLENGER,
        f"test accuracy {accuracy:.4f} against {old:.4f} of the champion (version {version}) on "
        f"the same images: a gain of {gain:.4f}, {_needed(min_gain)}",
        old,
    )


def _needed(min_gain: float) -> str:
    return f"where {min_gain:g} is needed" if min_gain > 0 else "where any gain is enough"


def _why_incomparable(champion: Registered, new: Registered) -> str | None:
    """Models are comparable when they read images and give logits of the same shapes."""
    theirs, ours = get_model_info(champion.uri), get_model_info(new.uri)
    if "pytorch" not in theirs.flavors:
        return "is not a PyTorch model"
    for what, is_output in (("reads images", False), ("answers with logits", True)):
        shapes = [_shapes(info.signature, is_output) for info in (theirs, ours)]
        if shapes[0] != shapes[1]:
            return f"{what} of shape {shapes[0]}, the new model of shape {shapes[1]}"
    return None


def _shapes(signature: Any, is_output: bool) -> Any:
    schema = None if signature is None else signature.outputs if is_output else signature.inputs
    if schema is None or not schema.is_tensor_spec():
        return "unknown"
    return tuple(schema.inputs[0].shape)


def _accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Fraction of images that are classified right, in batches that bound the memory."""
    correct = 0
    with torch.inference_mode():
        for x_BCHW, y_B in zip(images.split(_BATCH_SIZE), labels.split(_BATCH_SIZE), strict=True):
            correct += int((model(x_BCHW).argmax(1) == y_B).sum())
    return correct / len(labels)
