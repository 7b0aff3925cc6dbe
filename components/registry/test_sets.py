"""What models are compared by: the same test images, or the same tasks of test classes."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

import mlflow
import numpy as np
import torch
from mlflow.models import Model
from numpy.typing import NDArray
from torch import Tensor, nn

from components.registry.model_kinds import LEARNED, arrays_of
from nascore.config import OBJECTIVES, Objective
from nascore.data.raw_dataset import few
from nascore.evaluation.class_metrics import recalls
from nascore.evaluation.paired_bootstrap import (
    PairedComparison,
    compare_classifiers,
    compare_paired,
)
from nascore.meta_learning.task_adaptation import Adapter, TaskSettings
from nascore.training.final_model import DeployedModel


class IncomparableModels(Exception):
    """A model has learned what it shall be examined in, or cannot be examined so."""


class TestSet(Protocol):
    """What models are compared by.

    Attributes:
        unit: what models are asked: `images` or `tasks`.
        figure: what their scores are, in words.
    """

    unit: str
    figure: str

    def load(self, path: str) -> Any:
        """A model whose files are in a folder; runs none of the code that came with it.

        Raises:
            MlflowException: it is pickled, or damaged.
            IncomparableModels: it was trained on classes of this test set.
        """
        ...

    def scores(self, model: Any) -> NDArray[Any]:
        """Of each image the logits (N, K), or of each task the share that is right (N,)."""
        ...

    def compare(
        self,
        new: NDArray[Any],
        old: NDArray[Any],
        *,
        rng: np.random.Generator,
        confidence: float,
    ) -> PairedComparison:
        """Scores of two models."""
        ...

    def recalls(self, scores: NDArray[Any]) -> dict[str, float] | None:
        """Of each class that has images; None where models know no fixed classes."""
        ...


class ImageTestSet:
    """Test images of classes that the models know."""

    unit = "images"

    def __init__(
        self,
        images: Callable[[], Iterable[Tensor]],
        labels: Tensor,
        *,
        classes: Sequence[str] = (),
        objective: Objective = "accuracy",
    ) -> None:
        """
        Args:
            images: gives all N test images in batches (B, C, H, W), as the models read them.
            labels: (N,).
            classes: their names, where recalls are asked for.
            objective: what is compared.
        """
        self._images, self._labels = images, labels.numpy()
        self._classes, self._objective = classes, objective
        self.figure = OBJECTIVES[objective]

    def load(self, path: str) -> nn.Module:
        model: nn.Module = mlflow.pytorch.load_model(path)
        return model

    def scores(self, model: nn.Module) -> NDArray[np.floating[Any]]:
        return logits(model, self._images())

    def compare(
        self,
        new: NDArray[Any],
        old: NDArray[Any],
        *,
        rng: np.random.Generator,
        confidence: float,
    ) -> PairedComparison:
        return compare_classifiers(
            new, old, self._labels, objective=self._objective, rng=rng, confidence=confidence
        )

    def recalls(self, scores: NDArray[Any]) -> dict[str, float]:
        return recalls(scores.argmax(1), self._labels, self._classes)


class FewShotTestSet:
    """Tasks of classes that no model has seen."""

    unit = "tasks"
    figure = OBJECTIVES["accuracy"]

    def __init__(self, tasks: Sequence[dict[str, NDArray[Any]]], classes: Iterable[str]) -> None:
        """
        Args:
            tasks: `support_x`, `support_y`, `query_x` and `query_y` each.
            classes: names of those from which they are drawn.
        """
        self._tasks, self._classes = tasks, frozenset(classes)

    def load(self, path: str) -> Adapter:
        described = Model.load(path)
        seen = sorted(self._classes & set((described.metadata or {}).get(LEARNED, ())))
        if seen:
            raise IncomparableModels(
                f"has learned {len(seen)} of the classes of this test ({few(seen)})"
            )
        settings = described.flavors["python_function"].get("config", {}).get("settings")
        if settings is None:
            raise IncomparableModels("does not say how it learns a task")
        return Adapter(mlflow.pytorch.load_model(path), TaskSettings.from_dict(settings))

    def scores(self, model: Adapter | DeployedModel) -> NDArray[np.float64]:
        adapter = model.adapter() if isinstance(model, DeployedModel) else model
        return np.array([_share(adapter, task) for task in self._tasks])

    def compare(
        self,
        new: NDArray[Any],
        old: NDArray[Any],
        *,
        rng: np.random.Generator,
        confidence: float,
    ) -> PairedComparison:
        return compare_paired(new, old, rng=rng, confidence=confidence)

    def recalls(self, scores: NDArray[Any]) -> None:
        return None


def _share(model: Adapter, task: dict[str, NDArray[Any]]) -> float:
    answer = model.adapt(task["support_x"], task["support_y"])(task["query_x"])
    return float((answer.labels == task["query_y"]).mean())


def logits(model: nn.Module, images: Iterable[Tensor]) -> NDArray[np.floating[Any]]:
    """Of all images, (N, K); only one batch of them is in memory at a time."""
    with torch.inference_mode():
        return np.concatenate([arrays_of(model(x_BCHW))[0] for x_BCHW in images])
