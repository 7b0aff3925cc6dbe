"""The trained model of a few-shot method: it learns new classes from a few examples.

Shapes: B images, N of a support set, K classes.
"""

from collections.abc import Callable, Mapping
from typing import Any, Self

from torch import Tensor, nn
from torch.func import replace_all_batch_norm_modules_

from nascore.errors import InputError, Problem
from nascore.meta_learning.task_adaptation import (
    Adapter,
    Answer,
    Parameters,
    TaskSettings,
    UnfitTask,
)

KIND = "few-shot"


class FewShotLearner(nn.Module):
    """A network, the weights from which it learns tasks, and how it learns them.

    Normalised images (B, C, H, W) to logits (B, ways), as they are before any task is learned.
    Batch norms use the statistics of the batch in every mode.
    """

    def __init__(self, network: nn.Module, settings: TaskSettings) -> None:
        """
        Args:
            network: is changed, see `nascore.meta_learning.learners.stateless`.
            settings: how a task is learned.
        """
        super().__init__()
        replace_all_batch_norm_modules_(network)
        self.network = network
        self.settings = settings

    @classmethod
    def of(cls, network: nn.Module, parameters: Parameters, settings: TaskSettings) -> Self:
        """Make a learner with meta-trained weights, which are copied into the network."""
        learner = cls(network, settings)
        network.load_state_dict(parameters)
        return learner

    def forward(self, x_BCHW: Tensor) -> Tensor:
        logits_BK: Tensor = self.network(x_BCHW)
        return logits_BK

    def blueprint(self) -> dict[str, Any]:
        """Return what `rebuild` needs in addition to a network of the genotype, as JSON."""
        return {"kind": KIND, "settings": self.settings.to_dict()}


def rebuild(blueprint: Mapping[str, Any], network: nn.Module) -> FewShotLearner:
    """Return a learner of the same architecture, with initial weights."""
    return FewShotLearner(network, TaskSettings.from_dict(blueprint["settings"]))


def adapt(learner: Adapter, support_x: Any, support_y: Any) -> Callable[[Any], Answer]:
    """Learn a task: `predict = adapt(learner, support_x, support_y)`, see `Adapter.adapt`.

    Args:
        learner: a few-shot network.
        support_x: images, (N, C, H, W).
        support_y: labels 0..ways-1, (N,).

    Returns:
        A function of query images (M, C, H, W).

    Raises:
        InputError: images or labels are invalid, also when the function is called.
    """
    try:
        predict = learner.adapt(support_x, support_y)
    except UnfitTask as error:
        raise _input_error(error) from error

    def predict_or_raise(query_x: Any) -> Answer:
        try:
            return predict(query_x)
        except UnfitTask as error:
            raise _input_error(error) from error

    return predict_or_raise


def _input_error(error: UnfitTask) -> InputError:
    return InputError([Problem(*fault) for fault in error.faults])
