"""Tasks for a trained network that learns them: to be examined in, and to be timed on."""

from typing import Any

from numpy.typing import NDArray

from components.config.schema import Config
from nascore.data.batches import Splits
from nascore.data.episodes import FewShotData
from nascore.latency.benchmark import LatencyResult, resolve_device
from nascore.meta_learning.convnet import FourConvolutions
from nascore.meta_learning.few_shot_model import FewShotLearner
from nascore.meta_learning.latency import as_latency, measure
from nascore.meta_learning.options import FewShotOptions
from nascore.methods.registry import METHODS
from nascore.seeding import Seeds
from nascore.training.final_model import DeployedModel, FinalModel

_NUM_TIMED = 10  # different tasks


def tasks_of(
    splits: Splits, settings: Config, split: str, number: int
) -> list[dict[str, NDArray[Any]]]:
    """Of the classes of a split: pixels as they are stored, by the names of a model's inputs."""
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
    learner, device = final.network, resolve_device(settings.latency)
    assert isinstance(learner, FewShotLearner)
    networks = [learner]
    four = final.details.get("auto_meta", {}).get("four_convolutions")
    if four is not None:
        shape = final.shape
        control = FourConvolutions(
            shape.channels, shape.size, shape.num_classes, channels=four["channels"]
        )
        networks.append(FewShotLearner(control, learner.settings))
    adapters = [DeployedModel(one, splits.info).eval().to(device).adapter() for one in networks]
    tasks = tasks_of(splits, settings, "valid", _NUM_TIMED)
    latencies = measure(adapters, tasks, settings.latency)
    told: dict[str, Any] = {
        "ways": learner.settings.ways,
        "images": len(tasks[0]["support_y"]),
        **latencies[0].to_dict(),
    }
    if four is not None:
        known = {name: four[name] for name in ("channels", "num_params")}
        told["four_convolutions"] = known | latencies[1].to_dict()
    return as_latency(latencies[0], device, settings.latency), told
