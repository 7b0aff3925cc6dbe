"""Learns a task: a few steps of an optimiser on its support set, from shared parameters.

The optimiser starts without state in each task: only the parameters are shared. The last layer may
start from the task's prototypes, the mean features of each class, instead of from shared weights.
Sources: Reptile (arXiv 1803.02999) and its released code, MAML (arXiv 1703.03400), Proto-MAML
(arXiv 1903.03096, section 3).

Shapes: N images of a support set, M of a query set, K classes, D features, S inner steps.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor
from torch.func import vmap
from torch.nn import functional as F

Parameters = dict[str, Tensor]
Forward = Callable[[Parameters, Tensor], Tensor]
"""Parameters and images (B, C, H, W) to logits (B, K)."""
Grad = Callable[[Callable[..., Tensor]], Callable[..., Any]]
"""Turns a function of parameters and other arguments into the function of its gradient:
`torch.func.grad`, which can be differentiated and run by `vmap`, or `plain_grad`."""

_TINY = 1e-30  # the slope of a root at zero is infinite, and MAML goes through it


@dataclass(frozen=True, slots=True)
class Inner:
    """Settings of learning a task.

    Attributes:
        optimiser: Adam is without momentum (beta1 = 0), as in Reptile.
        learning_rate: of either optimiser.
        num_steps: gradient steps.
        prototypes: whether the last layer starts from them instead of its shared weights.
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
    """Return the parameters after learning one task.

    With `torch.func.grad` they are differentiable with respect to `parameters`.

    Args:
        parameters: shared ones, from which the task is learned.
        support_x: images, (N, C, H, W).
        support_y: labels 0..K-1, (N,).
        batches: indices into the support set for each step, (S, B); all images in every step when
            None.
        grad: see `Grad`.
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
    """Return the mean cross-entropy of images."""
    return F.cross_entropy(forward(parameters, x), y)


def begin(
    forward: Forward, parameters: Parameters, support_x: Tensor, support_y: Tensor, *, inner: Inner
) -> Parameters:
    """Return the initial parameters of a task: the shared ones, or with a last layer of prototypes.

    With prototypes the logit of a class is, up to a term that all classes share, minus the squared
    distance of the features to its prototype c: weights 2c and bias -|c|^2. Departure: both are
    divided by the root of D, since distances grow with D and softmax would saturate.
    """
    if not inner.prototypes:
        return parameters
    weight, bias = last_layer(parameters)
    num_classes, num_features = parameters[weight].shape
    # With the identity as last layer the logits are the features.
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
    """Return the names of the last layer's weights (K, D) and bias (K,).

    Args:
        parameters: in the order of the network.

    Raises:
        ValueError: the last layer is not linear with a bias.
    """
    names = list(parameters)[-2:]
    if [parameters[name].ndim for name in names] != [2, 1]:
        raise ValueError(f"the network ends with {names}; prototypes need a linear layer and bias")
    weight, bias = names
    return weight, bias


def plain_grad(function: Callable[..., Tensor]) -> Callable[..., Parameters]:
    """Return the gradient function, as `torch.func.grad`; autograd alone has less overhead."""

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
    """Return the gradients scaled by Adam with beta1 = 0, and its state, the mean squares."""
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
    """Return the logits (M, K) of query images; batch norms make them depend on the batch.

    Args:
        parameters: adapted to the task.
        support_x: images of the support set, (N, C, H, W).
        query_x: images to classify, (M, C, H, W).
        transductive: whether all queries are one batch; else each is in a batch with the support
            set alone. Accuracies of the two cannot be compared.
    """
    if transductive:
        return forward(parameters, query_x)

    def alone(image_CHW: Tensor) -> Tensor:
        return forward(parameters, torch.cat([support_x, image_CHW[None]]))[-1]

    logits_MK: Tensor = vmap(alone)(query_x)
    return logits_MK
