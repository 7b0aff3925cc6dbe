"""Answers of a model by their names, for `mlflow.pyfunc`.

MLflow's own loader takes models that answer with one tensor only. This file is copied beside each
model that answers with several, so it needs mlflow and torch and nothing else of this project.
"""

from typing import Any

import mlflow.pytorch
import numpy as np
import torch
from numpy.typing import NDArray


class NamedAnswers:
    """`predict(images) -> {name: array}`; images are float32 (B, C, H, W) of 0..255."""

    def __init__(self, model: torch.nn.Module, names: list[str], device: torch.device) -> None:
        self._model, self._names, self._device = model, names, device

    def predict(
        self, images: NDArray[np.float32], params: dict[str, Any] | None = None
    ) -> dict[str, NDArray[Any]]:
        with torch.inference_mode():
            answers = self._model(torch.from_numpy(np.asarray(images)).to(self._device))
        return {
            name: answer.cpu().numpy() for name, answer in zip(self._names, answers, strict=True)
        }


def _load_pyfunc(path: str, model_config: dict[str, Any]) -> NamedAnswers:
    """What MLflow calls; `path` is the model's data, `model_config` was given when it was saved."""
    device = torch.device(model_config.get("device") or "cpu")
    loaded = mlflow.pytorch._load_pyfunc(path, {"device": str(device)})
    return NamedAnswers(loaded.get_raw_model(), model_config["answers"], device)
