"""Meta-learners as pure functions of a network's parameters: Reptile, first-order MAML and MAML.

A task is learned by `adapt`: a few steps of an optimiser on its support set, started from shared
parameters. The meta-learners find parameters from which that works well. Sources: Reptile (arXiv
1803.02999) and its released code, MAML (arXiv 1703.03400).

Batch norm always uses the statistics of the batch, while a task is learned and while it is judged
(`stateless`); with running averages few-shot accuracy breaks down. The inner optimiser is a fresh
one for each task: nothing but the parameters goes from one to the next.

Shapes: N images of a support set, M of a query set, K classes, S inner steps.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, grad_and_value, replace_all_batch_norm_modules_, vmap
from torch.nn import functional as F

Parameters = dict[str, Tensor]
Forward = Callable[[Parameters, Tensor], Tensor]
"""Parameters and images (B, C, H, W) to logits (B, K)."""

_TINY = 1e-30  # the slope of a root at zero is infinite, and MAML goes through it


@dataclass(frozen=True, slots=True)
class Inner:
    """How a task is learned.

    Attributes:
        optimiser: Adam is without momentum (beta1 = 0), which would be that of the support set's
            first batches only (Reptile).
        learning_rate: of either.
        num_steps: gradient steps.
    """

    optimiser: Literal["sgd", "adam"] = "sgd"
    learning_rate: float = 0.01
    num_steps: int = 5
    beta2: float = 0.999
    epsilon: float = 1e-8


def stateless(network: nn.Module) -> tuple[Forward, Parameters]:
    """The network as a function of its parameters, and these.

    Changes `network`: its batch norms use the statistics of the batch in every mode, for good.

    Raises:
        ValueError: it has other buffers than those of batch norms: a function would not keep them.
    """
    replace_all_batch_norm_modules_(network)
    buffers = [name for name, _ in network.named_buffers()]
    if buffers:
        raise ValueError(f"a network with buffers cannot be meta-trained: {', '.join(buffers)}")

    def forward(parameters: Parameters, x_BCHW: Tensor) -> Tensor:
        logits_BK: Tensor = functional_call(network, parameters, (x_BCHW,))
        return logits_BK

    parameters = {name: p.detach().clone() for name, p in network.named_parameters()}
    return forward, parameters


def adapt(
    forward: Forward,
    parameters: Parameters,
    support_x: Tensor,
    support_y: Tensor,
    *,
    inner: Inner,
    batches: Tensor | None = None,
) -> Parameters:
    """Parameters after learning one task; differentiable with respect to `parameters`.

    Args:
        support_x: (N, C, H, W).
        support_y: (N,).
        batches: (S, B) places in the support set, those of each step; all at every step when not
            given.
    """
    slope = grad(_loss, argnums=1)
    squares = {name: torch.zeros_like(p) for name, p in parameters.items()}
    for step in range(inner.num_steps):
        x, y = support_x, support_y
        if batches is not None:
            x, y = x.index_select(0, batches[step]), y.index_select(0, batches[step])
        gradients = slope(forward, parameters, x, y)
        if inner.optimiser == "adam":
            gradients, squares = _scaled(gradients, squares, step=step + 1, inner=inner)
        parameters = {
            name: p - inner.learning_rate * gradients[name] for name, p in parameters.items()
        }
    return parameters


def _loss(forward: Forward, parameters: Parameters, x: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(forward(parameters, x), y)


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


# --- one task's part of a meta-step -----------------------------------------------------------


def reptile_gradient(
    forward: Forward,
    parameters: Parameters,
    support_x: Tensor,
    support_y: Tensor,
    *,
    inner: Inner,
    batches: Tensor | None = None,
) -> Parameters:
    """From the adapted parameters to the shared ones: what a meta-step of Reptile goes down."""
    adapted = adapt(forward, parameters, support_x, support_y, inner=inner, batches=batches)
    return {name: p - adapted[name] for name, p in parameters.items()}


def maml_gradient(
    forward: Forward,
    parameters: Parameters,
    support_x: Tensor,
    support_y: Tensor,
    query_x: Tensor,
    query_y: Tensor,
    *,
    inner: Inner,
    first_order: bool = False,
) -> tuple[Parameters, Tensor]:
    """Gradient of the query loss after adaptation, and that loss.

    Args:
        first_order: at the adapted parameters (FOMAML), not through the steps that led to them.
    """

    def after(parameters: Parameters) -> Tensor:
        adapted = adapt(forward, parameters, support_x, support_y, inner=inner)
        return _loss(forward, adapted, query_x, query_y)

    if first_order:
        parameters = adapt(forward, parameters, support_x, support_y, inner=inner)
        inner = dataclasses.replace(inner, num_steps=0)
    gradients, loss = grad_and_value(after)(parameters)
    return gradients, loss


def meta_step(parameters: Parameters, gradients: Parameters, step_size: float) -> Parameters:
    """Goes down the mean over tasks.

    With `reptile_gradient` this is Reptile's phi + eps * (mean_i(phi_i) - phi), `step_size` its
    eps; with the others it is plain gradient descent.

    Args:
        gradients: (T, ...) for each parameter, one a task.
    """
    return {name: p - step_size * gradients[name].mean(0) for name, p in parameters.items()}


# --- judging ----------------------------------------------------------------------------------


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


def adapted_accuracy(
    forward: Forward,
    parameters: Parameters,
    support_x: Tensor,
    support_y: Tensor,
    query_x: Tensor,
    query_y: Tensor,
    *,
    inner: Inner,
    transductive: bool,
) -> Tensor:
    """Share of query images that are right after adaptation, of one task."""
    adapted = adapt(forward, parameters, support_x, support_y, inner=inner)
    logits_MK = predict(forward, adapted, support_x, query_x, transductive=transductive)
    return (logits_MK.argmax(dim=1) == query_y).to(logits_MK.dtype).mean()


@dataclass(frozen=True, slots=True)
class TaskScores:
    """Accuracy over tasks.

    Attributes:
        mean: of the tasks' accuracies.
        interval: half the width of its 95 % interval, 1.96 standard errors.
        num_tasks: that were judged.
    """

    mean: float
    interval: float
    num_tasks: int

    @classmethod
    def of(cls, accuracies_T: Tensor) -> "TaskScores":
        """Raises ValueError for fewer than two tasks."""
        if len(accuracies_T) < 2:
            raise ValueError(f"an interval needs at least two tasks, got {len(accuracies_T)}")
        values = accuracies_T.double()
        error = float(values.std()) / len(values) ** 0.5
        return cls(float(values.mean()), 1.96 * error, len(values))
