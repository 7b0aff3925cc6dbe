"""Test sets on which models are compared: the same images, or the same few-shot tasks."""

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
from nascore.data.findings import join_first
from nascore.evaluation.class_metrics import recalls
from nascore.evaluation.paired_bootstrap import (
    PairedComparison,
    compare_classifiers,
    compare_paired,
)
from nascore.meta_learning.task_adaptation import Adapter, TaskSettings
from nascore.redaction import redact
from nascore.training.final_model import DeployedModel


class IncomparableModels(Exception):
    """A model was trained on classes of this test set, or cannot be evaluated on it."""


class UnusableModel(Exception):
    """The files of a model are complete, and cannot be loaded: pickled, damaged or too new."""


class TestSet(Protocol):
    """The test set on which two models are compared.

    Attributes:
        unit: what it consists of: `images` or `tasks`.
        figure: what the scores are, as text, such as `accuracy`.
    """

    unit: str
    figure: str

    def load(self, path: str) -> Any:
        """Return the model whose files are in a folder, and run none of the code stored with it.

        Raises:
            UnusableModel: it is pickled, or damaged.
            IncomparableModels: it was trained on classes of this test set.
        """
        ...

    def scores(self, model: Any) -> NDArray[Any]:
        """Return the logits (N, K) of N images, or the accuracies (N,) of N tasks."""
        ...

    def compare(
        self,
        new: NDArray[Any],
        old: NDArray[Any],
        *,
        rng: np.random.Generator,
        confidence: float,
    ) -> PairedComparison:
        """Compare the scores of two models."""
        ...

    def recalls(self, scores: NDArray[Any]) -> dict[str, float] | None:
        """Return the recall of each class that has images; None where classes are not fixed."""
        ...


class ImageTestSet:
    """Test images of the classes on which the models were trained."""

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
            images: returns all N test images in batches (B, C, H, W), pixels of 0..255.
            labels: class indices (N,).
            classes: names of the classes; needed for `recalls` only.
            objective: the metric that is compared.
        """
        self._images, self._labels = images, labels.numpy()
        self._classes, self._objective = classes, objective
        self.figure = OBJECTIVES[objective]

    def load(self, path: str) -> nn.Module:
        return load_model(path)

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
    """Few-shot tasks of classes on which no model was trained."""

    unit = "tasks"
    figure = OBJECTIVES["accuracy"]

    def __init__(self, tasks: Sequence[dict[str, NDArray[Any]]], classes: Iterable[str]) -> None:
        """
        Args:
            tasks: each with `support_x`, `support_y`, `query_x` and `query_y`.
            classes: names of the classes from which they are drawn.
        """
        self._tasks, self._classes = tasks, frozenset(classes)

    def load(self, path: str) -> Adapter:
        described = Model.load(path)
        seen = sorted(self._classes & set((described.metadata or {}).get(LEARNED, ())))
        if seen:
            raise IncomparableModels(
                f"has learned {len(seen)} of the classes of this test ({join_first(seen)})"
            )
        settings = described.flavors["python_function"].get("config", {}).get("settings")
        if settings is None:
            raise IncomparableModels("does not say how it learns a task")
        return Adapter(load_model(path), TaskSettings.from_dict(settings))

    def scores(self, model: Adapter | DeployedModel) -> NDArray[np.float64]:
        adapter = model.adapter() if isinstance(model, DeployedModel) else model
        return np.array([_accuracy(adapter, task) for task in self._tasks])

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


def load_model(path: str) -> nn.Module:
    """Return the model in a folder of MLflow, and run none of the code stored with it.

    Raises:
        UnusableModel: it is pickled, or damaged.
    """
    try:
        model: nn.Module = mlflow.pytorch.load_model(path)
    except Exception as error:  # torch.export raises anything for a damaged or a newer file
        raise UnusableModel(_line(error)) from error
    return model


def load_program(path: str) -> nn.Module:
    """Return a program of torch.export, after the check for pickled code that MLflow makes.

    Raises:
        UnusableModel: it contains pickled code, or is damaged.
    """
    # torch.export.load runs pickled code; no public function of MLflow checks a single file.
    from mlflow.pytorch import _validate_pt2_archive_is_pickle_free as check

    try:
        check(path)
        program: nn.Module = torch.export.load(path).module()
    except Exception as error:  # torch.export raises anything for a damaged or a newer file
        raise UnusableModel(_line(error)) from error
    return program


def _line(error: Exception) -> str:
    text = str(error).strip().splitlines() or [type(error).__name__]
    return redact(text[0])[:200]


def _accuracy(model: Adapter, task: dict[str, NDArray[Any]]) -> float:
    answer = model.adapt(task["support_x"], task["support_y"])(task["query_x"])
    return float((answer.labels == task["query_y"]).mean())


def logits(model: nn.Module, images: Iterable[Tensor]) -> NDArray[np.floating[Any]]:
    """Return the logits (N, K) of all images; only one batch is in memory at a time."""
    with torch.inference_mode():
        return np.concatenate([arrays_of(model(x_BCHW))[0] for x_BCHW in images])
