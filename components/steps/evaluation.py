"""How the trained network of a run is logged and examined; the network says what it answers."""

from collections.abc import Iterator

from torch import Tensor

from components.config.schema import Config
from components.registry.model_kinds import Classifier, FewShotAdapter, ModelAdapter
from components.registry.test_sets import ImageExam, TaskExam, TestSet
from components.steps.context_builder import examples_of
from nascore.data.batches import Splits
from nascore.training.final_model import DeployedModel
from nascore.training.network_kinds import NetworkKind

_BATCH_SIZE = 256
_EXAMPLE_IMAGES = 2  # one image would be exported as a fixed batch size
_NUM_TASKS = 200  # their mean is known to a hundredth or so, and pairs to less


def form_and_exam(
    network: DeployedModel, splits: Splits, settings: Config
) -> tuple[ModelAdapter, TestSet]:
    """Return how a network is logged and loaded, and what it is compared by."""
    if network.kind.is_tested_by == "tasks":
        return _learning(network.kind, splits, settings)

    def images() -> Iterator[Tensor]:
        return (x_BCHW.float() for x_BCHW in splits.test.pixel_batches(_BATCH_SIZE))

    example = next(images())[:_EXAMPLE_IMAGES].numpy()
    exam = ImageExam(
        images,
        splits.test.labels,
        classes=splits.info.classes,
        objective=settings.search.objective,
    )
    return Classifier(example), exam


def _learning(kind: NetworkKind, splits: Splits, settings: Config) -> tuple[ModelAdapter, TestSet]:
    """Tasks of test classes, as they are stored."""
    tasks = list(kind.tasks(examples_of(splits, settings), "test", _NUM_TASKS))
    info = splits.info
    asked = {name: tasks[0][name] for name in ("support_x", "support_y", "query_x")}
    form = FewShotAdapter(asked, learned=[*info.names_of("train"), *info.names_of("valid")])
    return form, TaskExam(tasks, info.names_of("test"))
