"""The baseline of a search: the network that has the first operation in every block, MobileNetV2.

It is trained from scratch by the settings of the final training, for as many epochs as the chosen
point's meta-graph in all: before the search, in it, and after it. So both are trained on as many
images.
"""

from dataclasses import asdict, dataclass
from typing import Any

from nascore.context import device_of
from nascore.genotype import Genotype
from nascore.methods.instanas.networks import Context
from nascore.methods.instanas.search_points import Point
from nascore.spaces.base import SearchSpace, make_genotype
from nascore.spaces.flops import count
from nascore.spaces.mobilenet.network import OPS
from nascore.training.child import build_network
from nascore.training.loop import planned_steps, train
from nascore.training.prediction import evaluate


@dataclass(frozen=True, slots=True)
class Baseline:
    """Results of the training of the baseline.

    Attributes:
        latency: by the table of the search, in its unit; without a controller.
        test_accuracy: accuracy of the weights after the last epoch.
    """

    epochs: int
    latency: float
    valid_accuracy: float
    test_accuracy: float
    num_params: int
    macs: int
    duration_s: float

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def train_baseline(context: Context, point: Point, *, latency: float) -> Baseline:
    """Train the baseline, and evaluate it once on the test split.

    Args:
        point: the point whose meta-graph was trained further.

    Raises:
        TrainingStopped: the search has to stop.
    """
    network = build_network(
        context.space,
        first_operations(context.space),
        context.shape,
        seed=context.seeds.integer("baseline", "weights"),
        final=True,
    ).to(device_of(context.final))
    epochs = epochs_of(context, point)
    training = train(
        network,
        context.splits.train,
        context.final.model_copy(update={"epochs": epochs, "max_steps": None}),
        generator=context.seeds.torch("baseline", "batches"),
        valid=context.splits.valid,
        on_epoch=lambda epoch, accuracy: _report(context, epoch, accuracy),
        should_stop=context.callbacks.should_stop,
    )
    cost = count(network, context.shape)
    return Baseline(
        epochs=epochs,
        latency=latency,
        valid_accuracy=training.valid_accuracy[-1],
        test_accuracy=evaluate(network.eval(), context.splits.test),
        num_params=cost.num_params,
        macs=cost.macs,
        duration_s=training.duration_s,
    )


def first_operations(space: SearchSpace) -> Genotype:
    """Return the architecture that has the first operation in every block."""
    places = range(len(space.cardinalities))
    return make_genotype(space, [int(place % len(OPS) == 0) for place in places])


def epochs_of(context: Context, point: Point) -> int:
    """Return the epochs of the point's meta-graph in all three stages, at least one."""
    options, train_split = context.options, context.splits.train
    searched = point.step / train_split.steps_per_epoch(options.weights)
    around = sum(
        planned_steps(train_split, stage) / train_split.steps_per_epoch(stage)
        for stage in (options.pretraining.resolve(context.training), context.final)
    )
    return max(1, round(around + searched))


def _report(context: Context, epoch: int, accuracy: float | None) -> None:
    if accuracy is not None:
        context.callbacks.on_metrics({"baseline/valid_accuracy": accuracy}, epoch)
