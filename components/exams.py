"""What models are compared by: the same test images, or the same tasks of test classes."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

import mlflow
import numpy as np
import torch
from mlflow.models import Model
from numpy.typing import NDArray
from torch import Tensor, nn

from components.forms import LEARNED, arrays_of
from nascore.data.raw import few
from nascore.final import Predictor
from nascore.meta.task_adaptation import Adapter, TaskSettings


class Unfair(Exception):
    """A model has learned what it shall be examined in, or cannot be examined so."""


class Exam(Protocol):
    """What models are compared by.

    Attributes:
        unit: what a score is of: `images` or `tasks`.
    """

    unit: str

    def load(self, path: str) -> Any:
        """A model whose files are in a folder; runs none of the code that came with it.

        Raises:
            MlflowException: it is pickled, or damaged.
            Unfair: it has learned classes of this exam.
        """
        ...

    def scores(self, model: Any) -> NDArray[Any]:
        """Of each image whether it is right, or of each task the share that is; (N,)."""
        ...


class ImageExam:
    """Test images of classes that the models know."""

    unit = "images"

    def __init__(self, images: Callable[[], Iterable[Tensor]], labels: Tensor) -> None:
        """
        Args:
            images: gives all N test images in batches (B, C, H, W), as the models read them.
            labels: (N,).
        """
        self._images, self._labels = images, labels

    def load(self, path: str) -> nn.Module:
        model: nn.Module = mlflow.pytorch.load_model(path)
        return model

    def scores(self, model: nn.Module) -> NDArray[np.bool_]:
        return correct(model, self._images(), self._labels)


class TaskExam:
    """Tasks of classes that no model has seen."""

    unit = "tasks"

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
            raise Unfair(f"has learned {len(seen)} of the classes of this test ({few(seen)})")
        settings = described.flavors["python_function"].get("config", {}).get("settings")
        if settings is None:
            raise Unfair("does not say how it learns a task")
        return Adapter(mlflow.pytorch.load_model(path), TaskSettings.from_dict(settings))

    def scores(self, model: Adapter | Predictor) -> NDArray[np.float64]:
        adapter = model.adapter() if isinstance(model, Predictor) else model
        return np.array([_share(adapter, task) for task in self._tasks])


def _share(model: Adapter, task: dict[str, NDArray[Any]]) -> float:
    answer = model.adapt(task["support_x"], task["support_y"])(task["query_x"])
    return float((answer.labels == task["query_y"]).mean())


def correct(model: nn.Module, images: Iterable[Tensor], labels: Tensor) -> NDArray[np.bool_]:
    """Which images are classified right, (N,); only one batch of them is in memory at a time."""
    with torch.inference_mode():
        predicted_N = np.concatenate([arrays_of(model(x_BCHW))[0].argmax(1) for x_BCHW in images])
    return np.asarray(predicted_N == labels.numpy())
