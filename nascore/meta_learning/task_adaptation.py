"""How a task is learned, and a trained network as a thing that learns them.

This file is copied beside each registered few-shot model, so it needs torch and numpy and nothing
else of this project.

A task is learned by `adapt`: a few steps of an optimiser on its support set, started from shared
parameters. The inner optimiser is a fresh one for each task: nothing but the parameters goes from
one to the next. The last layer may start from the task's prototypes, the mean features of each
class, instead of from shared weights. Sources: Reptile (arXiv 1803.02999) and its released code,
MAML (arXiv 1703.03400), Proto-MAML (arXiv 1903.03096, section 3).

Shapes: N images of a support set, M of a query set, K classes, D features, S inner steps.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn import functional as F

Parameters = dict[str, Tensor]
Forward = Callable[[Parameters, Tensor], Tensor]
"""Parameters and images (B, C, H, W) to logits (B, K)."""
Grad = Callable[[Callable[..., Tensor]], Callable[..., Any]]
"""Makes of a function of parameters, and of more, that of its gradient: `torch.func.grad`, which
may be differentiated and run on several tasks by `vmap`, or `plain_grad`."""

_TINY = 1e-30  # the slope of a root at zero is infinite, and MAML goes through it
_ALONE = "this network is transductive: it needs the others of its task beside it; give several"
_QUERIES_AT_ONCE = 32  # each brings the whole support set with it


@dataclass(frozen=True, slots=True)
class Inner:
    """How a task is learned.

    Attributes:
        optimiser: Adam is without momentum (beta1 = 0), which would be that of the support set's
            first batches only (Reptile).
        learning_rate: of either.
        num_steps: gradient steps.
        prototypes: the last layer starts from them; its shared weights are then not used.
    """

    optimiser: Literal["sgd", "adam"] = "sgd"
    learning_rate: float = 0.01
    num_steps: int = 5
    beta2: float = 0.999
    epsilon: float = 1e-8
    prototypes: bool = False


def adapt(
    forward: Forward,
    parameters: Parameters,
    support_x: Tensor,
    support_y: Tensor,
    *,
    inner: Inner,
    batches: Tensor | None = None,
    grad: Grad = torch.func.grad,
) -> Parameters:
    """Parameters after learning one task.

    With `torch.func.grad` they are differentiable with respect to `parameters`.

    Args:
        support_x: (N, C, H, W).
        support_y: (N,).
        batches: (S, B) places in the support set, those of each step; all at every step when not
            given.
    """
    slope = grad(partial(task_loss, forward))
    parameters = begin(forward, parameters, support_x, support_y, inner=inner)
    squares = {name: torch.zeros_like(p) for name, p in parameters.items()}
    for step in range(inner.num_steps):
        x, y = support_x, support_y
        if batches is not None:
            x, y = x.index_select(0, batches[step]), y.index_select(0, batches[step])
        gradients = slope(parameters, x, y)
        if inner.optimiser == "adam":
            gradients, squares = _scaled(gradients, squares, step=step + 1, inner=inner)
        parameters = {
            name: p - inner.learning_rate * gradients[name] for name, p in parameters.items()
        }
    return parameters


def task_loss(forward: Forward, parameters: Parameters, x: Tensor, y: Tensor) -> Tensor:
    """Mean cross-entropy of these images."""
    return F.cross_entropy(forward(parameters, x), y)


def begin(
    forward: Forward, parameters: Parameters, support_x: Tensor, support_y: Tensor, *, inner: Inner
) -> Parameters:
    """What a task is learned from: these parameters, the last layer by prototypes where asked for.

    With them a class's logit is, but for what all have in common, minus the squared distance of
    features to its prototype c: weights 2c and bias -|c|^2. Departure: both over the root of D, for
    distances grow with D and softmax would leave a task little to learn from.
    """
    if not inner.prototypes:
        return parameters
    weight, bias = last_layer(parameters)
    num_classes, num_features = parameters[weight].shape
    # A last layer that is the identity gives the features on.
    passing = torch.eye(num_features, dtype=support_x.dtype, device=support_x.device)
    features_ND = forward(
        {**parameters, weight: passing, bias: torch.zeros_like(passing[0])}, support_x
    )
    classes_K = torch.arange(num_classes, device=support_y.device)
    members_NK = (support_y[:, None] == classes_K).to(features_ND.dtype)
    centres_KD = members_NK.T @ features_ND / members_NK.sum(0)[:, None]
    scale = num_features**-0.5
    return {**parameters, weight: 2 * scale * centres_KD, bias: -scale * (centres_KD**2).sum(1)}


def last_layer(parameters: Parameters) -> tuple[str, str]:
    """The names of its weights (K, D) and bias (K,); parameters are in the network's order.

    Raises:
        ValueError: what comes last is not a linear layer with a bias.
    """
    names = list(parameters)[-2:]
    if [parameters[name].ndim for name in names] != [2, 1]:
        raise ValueError(f"the network ends with {names}; prototypes need a linear layer and bias")
    weight, bias = names
    return weight, bias


def plain_grad(function: Callable[..., Tensor]) -> Callable[..., Parameters]:
    """Like `torch.func.grad`, by autograd alone: less to do around every operation."""

    def gradient(parameters: Parameters, *arguments: Tensor) -> Parameters:
        leaves = {name: p.detach().requires_grad_() for name, p in parameters.items()}
        with torch.enable_grad():
            value = function(leaves, *arguments)
        gradients = torch.autograd.grad(value, list(leaves.values()), materialize_grads=True)
        return dict(zip(leaves, gradients, strict=True))

    return gradient


def _scaled(
    gradients: Parameters, squares: Parameters, *, step: int, inner: Inner
) -> tuple[Parameters, Parameters]:
    """Adam with beta1 = 0: gradients over the root of their mean square, and the squares' state."""
    decay, correction = inner.beta2, 1 - inner.beta2**step
    squares = {
        name: decay * squares[name] + (1 - decay) * gradient**2
        for name, gradient in gradients.items()
    }
    scaled = {
        name: gradient / ((squares[name] / correction).clamp_min(_TINY).sqrt() + inner.epsilon)
        for name, gradient in gradients.items()
    }
    return scaled, squares


def predict(
    forward: Forward,
    parameters: Parameters,
    support_x: Tensor,
    query_x: Tensor,
    *,
    transductive: bool,
) -> Tensor:
    """Logits (M, K) of query images; they depend on the batch, by the batch norms.

    Args:
        transductive: all query images are one batch, so that each tells something of the others;
            else each is in a batch of its own with the support set. Accuracies of the two cannot
            be compared.
    """
    if transductive:
        return forward(parameters, query_x)

    def alone(image_CHW: Tensor) -> Tensor:
        return forward(parameters, torch.cat([support_x, image_CHW[None]]))[-1]

    logits_MK: Tensor = vmap(alone)(query_x)
    return logits_MK


# --- the product ------------------------------------------------------------------------------


class Fault(NamedTuple):
    """One thing that is wrong with a task: where, what was found, and what to do."""

    key: str
    value: str
    message: str

    def __str__(self) -> str:
        return f"{self.key} = {self.value}: {self.message}"


class UnfitTask(ValueError):
    """The images or labels of a task are wrong; lists all that is."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(map(str, faults)))


class Answer(NamedTuple):
    """What is said of M query images.

    Attributes:
        labels: int64 (M,), those of the support set.
        probabilities: float32 (M, ways).
    """

    labels: NDArray[np.int64]
    probabilities: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class TaskSettings:
    """How a network learns a task and answers; JSON by `to_dict`.

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
    set may have as many images of a class as one likes, one of each at least. Nothing is kept from
    one task to the next.
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
        """Learns a task; what it gives answers for any number of query images.

        Args:
            support_x: (N, C, H, W).
            support_y: whole numbers 0..ways-1, (N,).

        Raises:
            UnfitTask: they are not such; everything is told at once. The function that is given
                back raises it, too.
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
                faults.append(Fault("query_x", "one image", _ALONE))
            if faults:
                raise UnfitTask(faults)
            return self._answer(adapted, x_NCHW, self._tensor(query))

        return answer

    def predict(
        self, inputs: Mapping[str, Any], params: Mapping[str, Any] | None = None
    ) -> dict[str, NDArray[Any]]:
        """Learns a task and answers, as `mlflow.pyfunc` asks: `support_x`, `support_y`, `query_x`.

        Raises:
            UnfitTask: as `adapt`.
        """
        return self.adapt(inputs["support_x"], inputs["support_y"])(inputs["query_x"])._asdict()

    def get_raw_model(self) -> "Adapter":
        """What `mlflow.pyfunc.load_model(uri).get_raw_model()` gives: learn once, answer often."""
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
        message = f"this network tells {ways} classes apart; number them 0..{ways - 1}"
        faults.append(Fault(key, _few(unknown), message))
    missing = sorted(set(range(ways)) - set(y.ravel().tolist()))
    if missing:
        message = f"no image has this label; each of {ways} classes needs at least one"
        faults.append(Fault(key, f"without {_few(missing)}", message))
    return faults


def _few(values: Sequence[int]) -> str:
    return ", ".join(map(str, values[:5])) + (", ..." if len(values) > 5 else "")
