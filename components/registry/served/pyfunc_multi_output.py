"""A model with several outputs for `mlflow.pyfunc`, which returns them by name.

MLflow's own loader takes models with one output only. This file is stored with each model that has
several, so it needs mlflow and torch and nothing else of this project.
"""

from typing import Any

import mlflow.pytorch
import numpy as np
import torch
from numpy.typing import NDArray


class MultiOutputModel:
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


def _load_pyfunc(path: str, model_config: dict[str, Any]) -> MultiOutputModel:
    """Return the model whose data is at `path`; MLflow calls this with the saved configuration."""
    device = torch.device(model_config.get("device") or "cpu")
    loaded = mlflow.pytorch._load_pyfunc(path, {"device": str(device)})
    return MultiOutputModel(loaded.get_raw_model(), model_config["answers"], device)
