"""A meta-trained network as what a run hands on: it learns new classes from a few examples.

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
        """Changes `network`: see `nascore.meta_learning.learners.stateless`."""
        super().__init__()
        replace_all_batch_norm_modules_(network)
        self.network = network
        self.settings = settings

    @classmethod
    def of(cls, network: nn.Module, parameters: Parameters, settings: TaskSettings) -> Self:
        """With meta-trained weights, which are copied into the network."""
        learner = cls(network, settings)
        network.load_state_dict(parameters)
        return learner

    def forward(self, x_BCHW: Tensor) -> Tensor:
        logits_BK: Tensor = self.network(x_BCHW)
        return logits_BK

    def blueprint(self) -> dict[str, Any]:
        """What `rebuild` needs beside a network of the genotype; JSON."""
        return {"kind": KIND, "settings": self.settings.to_dict()}


def rebuild(blueprint: Mapping[str, Any], network: nn.Module) -> FewShotLearner:
    """A learner of the same form, whose weights are to be loaded."""
    return FewShotLearner(network, TaskSettings.from_dict(blueprint["settings"]))


def adapt(learner: Adapter, support_x: Any, support_y: Any) -> Callable[[Any], Answer]:
    """Learns a task: `predict = adapt(learner, support_x, support_y)`, see `Adapter.adapt`.

    Raises:
        InputError: images or labels do not do, now or when `predict` is called; all that is wrong.
    """
    try:
        predict = learner.adapt(support_x, support_y)
    except UnfitTask as error:
        raise _told(error) from error

    def answer(query_x: Any) -> Answer:
        try:
            return predict(query_x)
        except UnfitTask as error:
            raise _told(error) from error

    return answer


def _told(error: UnfitTask) -> InputError:
    return InputError([Problem(*fault) for fault in error.faults])
