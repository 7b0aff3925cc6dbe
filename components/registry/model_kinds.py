"""How a model is logged, loaded and asked: one that knows its classes, or one that learns them.

Either is a program of torch.export in MLflow's `pt2` form. What `mlflow.pyfunc` makes of it beyond
that is code in `components/registry/served`, which travels with the model.
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

from components.registry.served import learned_answers, named_answers
from nascore.meta_learning import task_adaptation
from nascore.training.final_model import DeployedModel

Arrays = list[NDArray[Any]]

LEARNED = "learned_classes"
"""In a model's metadata: names of the classes that it, or its search, has seen."""


class ModelAdapter(Protocol):
    """A kind of model, with an example of what it is asked.

    Attributes:
        images: for torch.export, at least two; one would be exported as a fixed number.
    """

    images: NDArray[np.float32]

    def expected(self, network: nn.Module) -> Arrays:
        """What the network answers to the example."""
        ...

    def found(self, model_uri: str) -> Arrays:
        """What a logged model answers to it."""
        ...

    def code(self, expected: Arrays) -> list[str]:
        """Files that travel with the model."""
        ...

    def complete(self, described: Model, network: nn.Module, expected: Arrays) -> None:
        """Describes the model to MLflow, beyond its flavour of PyTorch."""
        ...


class ClassifierAdapter:
    """Images to logits, and further answers if it has some."""

    def __init__(self, images: NDArray[np.float32]) -> None:
        self.images = images

    def expected(self, network: nn.Module) -> Arrays:
        with torch.inference_mode():
            return arrays_of(network(torch.from_numpy(self.images)))

    def found(self, model_uri: str) -> Arrays:
        model = mlflow.pytorch.load_model(model_uri)
        with torch.inference_mode():
            return arrays_of(model(torch.from_numpy(self.images)))

    def code(self, expected: Arrays) -> list[str]:
        return [named_answers.__file__] if len(expected) > 1 else []

    def complete(self, described: Model, network: nn.Module, expected: Arrays) -> None:
        if len(expected) == 1:
            return
        names = getattr(network, "answers", ("logits",))
        described.signature = infer_signature(self.images, dict(zip(names, expected, strict=True)))
        _answer_by(named_answers.__file__, described, {"answers": list(names)})


class FewShotAdapter:
    """A support set and queries to labels and probabilities.

    Args:
        task: `support_x`, `support_y` and `query_x`, as the model is asked.
        learned: names of the classes that it has seen.
    """

    def __init__(self, task: Mapping[str, NDArray[Any]], *, learned: Sequence[str]) -> None:
        self._task = dict(task)
        self._learned = list(learned)
        self.images = self._task["support_x"]

    def expected(self, network: nn.Module) -> Arrays:
        assert isinstance(network, DeployedModel), "only these say how they learn"
        return self._arrays(network.adapter().predict(self._task))

    def found(self, model_uri: str) -> Arrays:
        return self._arrays(mlflow.pyfunc.load_model(model_uri).predict(self._task))

    def code(self, expected: Arrays) -> list[str]:
        return [learned_answers.__file__, task_adaptation.__file__]

    def complete(self, described: Model, network: nn.Module, expected: Arrays) -> None:
        assert isinstance(network, DeployedModel), "only these say how they learn"
        assert network.tasks is not None
        (probabilities,) = expected
        answer = {"labels": probabilities.argmax(axis=1), "probabilities": probabilities}
        described.signature = infer_signature(self._task, answer)
        described.metadata = {LEARNED: self._learned}
        settings = network.tasks.to_dict()
        _answer_by(learned_answers.__file__, described, {"settings": settings})

    @staticmethod
    def _arrays(answer: Mapping[str, NDArray[Any]]) -> Arrays:
        return [answer["probabilities"]]  # labels follow, and are no measure of a small difference


def _answer_by(module: str, described: Model, config: Mapping[str, Any]) -> None:
    pyfunc = described.flavors["python_function"]
    pyfunc["loader_module"] = Path(module).stem
    pyfunc["config"] = {**pyfunc.get("config", {}), **config}


def arrays_of(answer: torch.Tensor | Sequence[torch.Tensor]) -> Arrays:
    """All that a model answers, logits first."""
    several = [answer] if isinstance(answer, torch.Tensor) else answer
    return [one.cpu().numpy() for one in several]


def max_abs_difference(found: Arrays, expected: Arrays) -> float:
    """Largest absolute difference of answers; infinite where their shapes differ."""
    if [one.shape for one in found] != [one.shape for one in expected]:
        return float("inf")
    return max(
        float(abs(one.astype(np.float64) - other).max())
        for one, other in zip(found, expected, strict=True)
    )
