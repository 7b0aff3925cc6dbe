"""Meta-learners as pure functions of a network's parameters: Reptile, first-order MAML and MAML.

A task is learned by `adapt` (`nascore.meta_learning.task_adaptation`). The meta-learners find
parameters from which that works well. Those of first order also take a `grad` that cannot be
differentiated again. Sources: Reptile (arXiv 1803.02999) and its released code, MAML (arXiv
1703.03400).

Batch norm always uses the statistics of the batch, in training and in evaluation (`stateless`);
with running averages few-shot accuracy collapses.

Shapes: N images of a support set, M of a query set, K classes, S inner steps.
"""

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call, replace_all_batch_norm_modules_

from nascore.meta_learning.task_adaptation import (
    Forward,
    Grad,
    Inner,
    Parameters,
    adapt,
    begin,
    predict,
    task_loss,
)

__all__ = [
    "Forward",
    "Inner",
    "Parameters",
    "TaskScores",
    "adapt",
    "adapted_accuracy",
    "fomaml_gradient",
    "maml_gradient",
    "meta_step",
    "predict",
    "reptile_gradient",
    "stateless",
]


def stateless(network: nn.Module) -> tuple[Forward, Parameters]:
    """Return the network as a function of its parameters, and a copy of these.

    Changes `network`: its batch norms use the statistics of the batch in every mode from now on.

    Raises:
        ValueError: it has buffers other than those of batch norms, which a function cannot update.
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


# --- one task's part of a meta-step -----------------------------------------------------------


def reptile_gradient(
    forward: Forward,
    parameters: Parameters,
    support_x: Tensor,
    support_y: Tensor,
    batches: Tensor | None = None,
    *,
    inner: Inner,
    grad: Grad = torch.func.grad,
) -> Parameters:
    """Return the shared parameters minus the adapted ones, which Reptile descends.

    See `adapt` for the arguments.
    """
    adapted = adapt(
        forward, parameters, support_x, support_y, inner=inner, batches=batches, grad=grad
    )
    return {name: p - adapted[name] for name, p in parameters.items()}


def fomaml_gradient(
    forward: Forward,
    parameters: Parameters,
    support_x: Tensor,
    support_y: Tensor,
    query_x: Tensor,
    query_y: Tensor,
    *,
    inner: Inner,
    grad: Grad = torch.func.grad,
) -> Parameters:
    """Return the gradient of the query loss at the adapted parameters (first-order MAML).

    The map from prototypes to the last layer is differentiated; the gradient steps are constants.
    """
    start = begin(forward, parameters, support_x, support_y, inner=inner)
    onwards = dataclasses.replace(inner, prototypes=False)
    adapted = adapt(forward, start, support_x, support_y, inner=onwards, grad=grad)
    steps = {name: adapted[name] - start[name] for name in start}

    def after(parameters: Parameters) -> Tensor:
        start = begin(forward, parameters, support_x, support_y, inner=inner)
        moved = {name: start[name] + steps[name] for name in start}
        return task_loss(forward, moved, query_x, query_y)

    gradient: Parameters = grad(after)(parameters)
    return gradient


def maml_gradient(
    forward: Forward,
    parameters: Parameters,
    support_x: Tensor,
    support_y: Tensor,
    query_x: Tensor,
    query_y: Tensor,
    *,
    inner: Inner,
) -> Parameters:
    """Return the gradient of the query loss after adaptation, through its steps (second order)."""

    def after(parameters: Parameters) -> Tensor:
        adapted = adapt(forward, parameters, support_x, support_y, inner=inner)
        return task_loss(forward, adapted, query_x, query_y)

    gradient: Parameters = torch.func.grad(after)(parameters)
    return gradient


def meta_step(parameters: Parameters, gradients: Parameters, step_size: float) -> Parameters:
    """Descend the mean of the gradients over tasks.

    With `reptile_gradient` this is Reptile's phi + eps * (mean_i(phi_i) - phi), `step_size` its
    eps; with the others it is plain gradient descent.

    Args:
        gradients: (T, ...) for each parameter.
        step_size: factor of the mean.

    Returns:
        The moved parameters.
    """
    return {name: p - step_size * gradients[name].mean(0) for name, p in parameters.items()}


# --- evaluation -------------------------------------------------------------------------------


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
    grad: Grad = torch.func.grad,
) -> Tensor:
    """Return the accuracy on the queries of one task after adaptation, a scalar."""
    adapted = adapt(forward, parameters, support_x, support_y, inner=inner, grad=grad)
    logits_MK = predict(forward, adapted, support_x, query_x, transductive=transductive)
    return (logits_MK.argmax(dim=1) == query_y).to(logits_MK.dtype).mean()


@dataclass(frozen=True, slots=True)
class TaskScores:
    """Accuracy over tasks.

    Attributes:
        mean: over the accuracies of the tasks, fraction.
        interval: half the width of the 95 % confidence interval, 1.96 standard errors.
    """

    mean: float
    interval: float
    num_tasks: int

    @classmethod
    def of(cls, accuracies_T: Tensor) -> "TaskScores":
        """Return the scores of tasks.

        Args:
            accuracies_T: accuracy of each task, fraction.

        Raises:
            ValueError: there are fewer than two tasks.
        """
        if len(accuracies_T) < 2:
            raise ValueError(f"an interval needs at least two tasks, got {len(accuracies_T)}")
        values = accuracies_T.double()
        error = float(values.std()) / len(values) ** 0.5
        return cls(float(values.mean()), 1.96 * error, len(values))
