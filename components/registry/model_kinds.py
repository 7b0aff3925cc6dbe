"""How the registry logs, loads and queries a model: with fixed classes, or few-shot.

Either is a program of torch.export in MLflow's `pt2` format. What `mlflow.pyfunc` needs in addition
is code in `components/registry/served`, which is stored with the model.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import mlflow
import numpy as np
import torch
from mlflow.models import Model, infer_signature
from numpy.typing import NDArray
from torch import nn

from components.registry.served import pyfunc_few_shot, pyfunc_multi_output
from nascore.meta_learning import task_adaptation

Arrays = list[NDArray[Any]]

LEARNED = "learned_classes"
"""Key in a model's metadata: names of the classes on which it was trained or searched."""


class ModelAdapter(Protocol):
    """A kind of model, with an example of its input.

    Attributes:
        images: for torch.export, at least two; one would be exported as a fixed number.
    """

    images: NDArray[np.float32]

    def predictions(self, network: nn.Module) -> Arrays:
        """Return the outputs of a network on the example."""
        ...

    def loaded_predictions(self, model_uri: str) -> Arrays:
        """Return the outputs of a logged model on the example."""
        ...

    def code(self, outputs: Arrays) -> list[str]:
        """Return the source files that are stored with the model."""
        ...

    def complete(self, described: Model, network: nn.Module, outputs: Arrays) -> None:
        """Add to MLflow's description of the model what its PyTorch flavour lacks."""
        ...


class ClassifierAdapter:
    """Images to logits, and to further outputs for some networks."""

    def __init__(self, images: NDArray[np.float32]) -> None:
        self.images = images

    def predictions(self, network: nn.Module) -> Arrays:
        with torch.inference_mode():
            return arrays_of(network(torch.from_numpy(self.images)))

    def loaded_predictions(self, model_uri: str) -> Arrays:
        model = mlflow.pytorch.load_model(model_uri)
        with torch.inference_mode():
            return arrays_of(model(torch.from_numpy(self.images)))

    def code(self, outputs: Arrays) -> list[str]:
        return [pyfunc_multi_output.__file__] if len(outputs) > 1 else []

    def complete(self, described: Model, network: nn.Module, outputs: Arrays) -> None:
        names = getattr(network, "answers", ("logits",))
        # The input has no name: with one, `mlflow.pyfunc` would take no plain array.
        described.signature = infer_signature(self.images, dict(zip(names, outputs, strict=True)))
        if len(outputs) == 1:
            return
        _load_by(pyfunc_multi_output.__file__, described, {"answers": list(names)})


class FewShotAdapter:
    """A support set and queries to labels and probabilities; networks are `DeployedModel`.

    Args:
        task: `support_x`, `support_y` and `query_x`, the input of the model.
        learned: names of the classes on which the model was trained or searched.
    """

    def __init__(self, task: Mapping[str, NDArray[Any]], *, learned: Sequence[str]) -> None:
        self._task = dict(task)
        self._learned = list(learned)
        self.images = self._task["support_x"]

    def predictions(self, network: Any) -> Arrays:
        return self._arrays(network.adapter().predict(self._task))

    def loaded_predictions(self, model_uri: str) -> Arrays:
        return self._arrays(mlflow.pyfunc.load_model(model_uri).predict(self._task))

    def code(self, outputs: Arrays) -> list[str]:
        return [pyfunc_few_shot.__file__, str(Path(task_adaptation.__file__).parent)]

    def complete(self, described: Model, network: Any, outputs: Arrays) -> None:
        (probabilities,) = outputs
        answer = {"labels": probabilities.argmax(axis=1), "probabilities": probabilities}
        described.signature = infer_signature(self._task, answer)
        described.metadata = {**(described.metadata or {}), LEARNED: self._learned}
        settings = network.tasks.to_dict()
        _load_by(pyfunc_few_shot.__file__, described, {"settings": settings})

    @staticmethod
    def _arrays(answer: Mapping[str, NDArray[Any]]) -> Arrays:
        # Labels follow from the probabilities, and do not measure a small difference.
        return [answer["probabilities"]]


def _load_by(module: str, described: Model, config: Mapping[str, Any]) -> None:
    """Let `mlflow.pyfunc` load the model by the code of a module that is stored with it."""
    pyfunc = described.flavors["python_function"]
    pyfunc["loader_module"] = Path(module).stem
    pyfunc["config"] = {**pyfunc.get("config", {}), **config}


def arrays_of(answer: torch.Tensor | Sequence[torch.Tensor]) -> Arrays:
    """Return all outputs of a model as arrays, logits first."""
    outputs = [answer] if isinstance(answer, torch.Tensor) else answer
    return [output.cpu().numpy() for output in outputs]


def max_abs_difference(found: Arrays, expected: Arrays) -> float:
    """Return the largest absolute difference of outputs; infinite where their shapes differ."""
    if [array.shape for array in found] != [array.shape for array in expected]:
        return float("inf")
    return max(
        float(abs(array.astype(np.float64) - other).max())
        for array, other in zip(found, expected, strict=True)
    )
