"""How the trained network of a run is logged, examined and timed; it says itself what it answers."""

from collections.abc import Iterator
from typing import Any

from numpy.typing import NDArray
from torch import Tensor

from components.config import Config
from components.exams import Exam, ImageExam, TaskExam
from components.forms import Classifier, Form, Learner
from nascore.data.batches import Splits
from nascore.data.episodes import FewShotData
from nascore.final import FinalModel, Predictor
from nascore.latency import LatencyResult, settled_device
from nascore.meta.convnet import FourConvolutions
from nascore.meta.product import FewShotLearner
from nascore.meta.timing import as_latency, measure
from nascore.methods import METHODS
from nascore.methods.options import FewShotOptions
from nascore.seeding import Seeds

FEW_SHOT = "few_shot"
_BATCH_SIZE = 256
_EXAMPLE_IMAGES = 2  # one image would be exported as a fixed batch size
_NUM_TASKS = 200  # their mean is known to a hundredth or so, and pairs to less
_NUM_TIMED = 10  # different tasks


def form_and_exam(network: Predictor, splits: Splits, settings: Config) -> tuple[Form, Exam]:
    """Of a network that knows its classes, or of one that learns them."""
    if network.tasks is not None:
        return _learning(splits, settings)

    def images() -> Iterator[Tensor]:
        return (x_BCHW.float() for x_BCHW in splits.test.pixel_batches(_BATCH_SIZE))

    example = next(images())[:_EXAMPLE_IMAGES].numpy()
    return Classifier(example), ImageExam(images, splits.test.labels)


def _learning(splits: Splits, settings: Config) -> tuple[Form, Exam]:
    """Tasks of test classes, as they are stored."""
    tasks = _tasks(splits, settings, "test", _NUM_TASKS)
    info = splits.info
    asked = {name: tasks[0][name] for name in ("support_x", "support_y", "query_x")}
    form = Learner(asked, learned=[*info.names_of("train"), *info.names_of("valid")])
    return form, TaskExam(tasks, info.names_of("test"))


def _tasks(
    splits: Splits, settings: Config, split: str, number: int
) -> list[dict[str, NDArray[Any]]]:
    options = METHODS[settings.method].options.model_validate(settings.search.options)
    assert isinstance(options, FewShotOptions), "only these leave networks that learn tasks"
    sampler = FewShotData.of(splits).sampler(split, options.shape, as_pixels=True)
    drawn = sampler.draw(number, Seeds(settings.seed).torch("examining", split))
    names = ("support_x", "support_y", "query_x", "query_y")
    return [
        {name: getattr(drawn, name)[place].cpu().numpy() for name in names}
        for place in range(number)
    ]


def profile_tasks(
    final: FinalModel, splits: Splits, settings: Config
) -> tuple[LatencyResult, dict[str, Any]]:
    """Times a network that learns tasks, on validation classes.

    The four convolutions go beside it where the final training has had them, untrained: their times
    do not depend on the weights.

    Raises:
        InputError: `latency.device` is cuda and there is none.
    """
    learner, device = final.network, settled_device(settings.latency)
    assert isinstance(learner, FewShotLearner)
    networks = [learner]
    four = final.details.get("auto_meta", {}).get("four_convolutions")
    if four is not None:
        shape = final.shape
        control = FourConvolutions(
            shape.channels, shape.size, shape.num_classes, channels=four["channels"]
        )
        networks.append(FewShotLearner(control, learner.settings))
    adapters = [Predictor(one, splits.info).eval().to(device).adapter() for one in networks]
    tasks = _tasks(splits, settings, "valid", _NUM_TIMED)
    latencies = measure(adapters, tasks, settings.latency)
    told = {"ways": learner.settings.ways, "images": len(tasks[0]["support_y"])}
    told |= latencies[0].to_dict()
    if four is not None:
        known = {name: four[name] for name in ("channels", "num_params")}
        told["four_convolutions"] = known | latencies[1].to_dict()
    return as_latency(latencies[0], device, settings.latency), told
