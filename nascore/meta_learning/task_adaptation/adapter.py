"""A few-shot network as a function of arrays: it adapts to a support set and classifies queries."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call

from .inner_loop import Inner, Parameters, adapt, plain_grad, predict

_SINGLE_QUERY = (
    "this network is transductive: it predicts the queries of a task together; give several"
)
_QUERIES_AT_ONCE = 32  # each brings the whole support set with it


class Fault(NamedTuple):
    """One error in a task: the argument, its value, and what to do."""

    key: str
    value: str
    message: str

    def __str__(self) -> str:
        return f"{self.key} = {self.value}: {self.message}"


class UnfitTask(ValueError):
    """The images or labels of a task are invalid; lists all errors."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(map(str, faults)))


class Answer(NamedTuple):
    """Predictions for M query images.

    Attributes:
        labels: int64 (M,), labels of the support set.
        probabilities: float32 (M, ways).
    """

    labels: NDArray[np.int64]
    probabilities: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class TaskSettings:
    """How a network learns a task and predicts; JSON by `to_dict`.

    Attributes:
        ways: classes of a task; labels are 0..ways-1.
        shape: channels, height and width of an image.
        transductive: see `predict`.
    """

    ways: int
    shape: tuple[int, int, int]
    inner: Inner
    transductive: bool = False

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "TaskSettings":
        return cls(data["ways"], tuple(data["shape"]), Inner(**data["inner"]), data["transductive"])


class Adapter:
    """A network that learns new classes from a few examples of each.

        predict = adapter.adapt(support_x, support_y)
        labels, probabilities = predict(query_x)

    Images are pixels as they are stored, 0..255, in uint8 or float32 arrays (N, C, H, W). A support
    set has one or more images of each class. Tasks are independent of each other.
    """

    def __init__(self, network: nn.Module, settings: TaskSettings) -> None:
        """
        Args:
            network: pixels (B, C, H, W) to logits (B, ways), with batch norms that use the batch.
        """
        self.settings = settings
        self._network = network
        self._parameters = {name: p.detach() for name, p in network.named_parameters()}
        self._device = next(iter(self._parameters.values())).device

    def adapt(self, support_x: Any, support_y: Any) -> Callable[[Any], Answer]:
        """Learn a task.

        Args:
            support_x: (N, C, H, W).
            support_y: whole numbers 0..ways-1, (N,).

        Returns:
            A function of query images (M, C, H, W), which raises UnfitTask, too.

        Raises:
            UnfitTask: the support set is invalid; it lists all errors.
        """
        x, y = np.asarray(support_x), np.asarray(support_y)
        faults = [*_of_images(x, "support_x", self.settings), *_of_labels(y, x, self.settings)]
        if faults:
            raise UnfitTask(faults)
        x_NCHW, inner = self._tensor(x), self.settings.inner
        y_N = torch.from_numpy(y.astype(np.int64)).to(self._device)
        with torch.no_grad():
            adapted = adapt(
                self._forward, self._parameters, x_NCHW, y_N, inner=inner, grad=plain_grad
            )

        def answer(query_x: Any) -> Answer:
            query = np.asarray(query_x)
            faults = _of_images(query, "query_x", self.settings)
            if self.settings.transductive and len(query) == 1:
                faults.append(Fault("query_x", "one image", _SINGLE_QUERY))
            if faults:
                raise UnfitTask(faults)
            return self._answer(adapted, x_NCHW, self._tensor(query))

        return answer

    def predict(
        self, inputs: Mapping[str, Any], params: Mapping[str, Any] | None = None
    ) -> dict[str, NDArray[Any]]:
        """Learn a task and predict: the interface of `mlflow.pyfunc`.

        Args:
            inputs: `support_x`, `support_y` and `query_x`.
            params: not read.

        Raises:
            UnfitTask: as `adapt`.
        """
        return self.adapt(inputs["support_x"], inputs["support_y"])(inputs["query_x"])._asdict()

    def get_raw_model(self) -> "Adapter":
        """Return the adapter itself, to learn a task once and predict often; MLflow calls this."""
        return self

    def _forward(self, parameters: Parameters, x_BCHW: Tensor) -> Tensor:
        logits_BK: Tensor = functional_call(self._network, parameters, (x_BCHW,))
        return logits_BK

    def _answer(self, adapted: Parameters, support_x: Tensor, query_x: Tensor) -> Answer:
        transductive = self.settings.transductive
        at_once = len(query_x) if transductive else _QUERIES_AT_ONCE
        with torch.no_grad():
            logits_MK = torch.cat(
                [
                    predict(self._forward, adapted, support_x, part, transductive=transductive)
                    for part in query_x.split(at_once)
                ]
            )
        probabilities = logits_MK.softmax(dim=1).cpu().numpy()
        return Answer(probabilities.argmax(axis=1), probabilities)

    def _tensor(self, x: NDArray[Any]) -> Tensor:
        return torch.from_numpy(x.astype(np.float32)).to(self._device)


def _of_images(x: NDArray[Any], key: str, settings: TaskSettings) -> list[Fault]:
    faults = []
    channels, height, width = settings.shape
    if x.ndim != 4 or x.shape[1:] != settings.shape or not len(x):
        wanted = f"(N, {channels}, {height}, {width}) with at least one image"
        faults.append(Fault(key, str(x.shape), f"must have shape {wanted}"))
    if x.dtype not in (np.uint8, np.float32):
        message = "must be uint8 or float32 pixels, 0..255 as they are stored; convert them"
        faults.append(Fault(key, str(x.dtype), message))
    elif not np.isfinite(x).all():
        message = "has NaN or infinite pixels; remove or repair such images"
        faults.append(Fault(key, f"{int((~np.isfinite(x)).sum())} pixels", message))
    return faults


def _of_labels(y: NDArray[Any], x: NDArray[Any], settings: TaskSettings) -> list[Fault]:
    key, ways = "support_y", settings.ways
    faults = []
    if y.ndim != 1 or y.shape[:1] != x.shape[:1]:
        message = f"must have one label for each image of support_x, whose shape is {x.shape}"
        faults.append(Fault(key, f"shape {y.shape}", message))
    if y.dtype.kind not in "iu":
        faults.append(Fault(key, str(y.dtype), f"must be whole numbers 0..{ways - 1}"))
        return faults
    unknown = sorted(set(y.ravel().tolist()) - set(range(ways)))
    if unknown:
        message = f"this network has {ways} classes; number them 0..{ways - 1}"
        faults.append(Fault(key, _few(unknown), message))
    missing = sorted(set(range(ways)) - set(y.ravel().tolist()))
    if missing:
        message = f"no image has this label; each of {ways} classes needs at least one"
        faults.append(Fault(key, f"without {_few(missing)}", message))
    return faults


def _few(values: Sequence[int]) -> str:
    return ", ".join(map(str, values[:5])) + (", ..." if len(values) > 5 else "")
