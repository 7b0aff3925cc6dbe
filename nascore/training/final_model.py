"""Training of the final network from scratch, wider than in the search, and its single test."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from nascore import checkpoint
from nascore.config import Objective
from nascore.context import SearchContext, device_of
from nascore.data.batches import Statistics, normalisation
from nascore.evaluation.scoring import score_of
from nascore.files import replacing
from nascore.genotype import Genotype
from nascore.pretrained.weight_files import FINAL_MODEL
from nascore.results import SearchResult
from nascore.spaces.base import ImageShape, SearchSpace
from nascore.spaces.flops import count
from nascore.training.child import build_network
from nascore.training.final_checkpoint import final_checkpoint
from nascore.training.final_start import (
    fine_tuning,
    origin_of,
    start,
    taught_loss,
    transfer_of,
)
from nascore.training.flip_averaging import flip_averaged
from nascore.training.length import cost_in_updates, for_cost
from nascore.training.loop import train
from nascore.training.network_kinds import kind_named, kind_of, spec_of
from nascore.training.prediction import accuracy_and_score, predict

if TYPE_CHECKING:
    from nascore.pretrained.matching import WeightTransfer

VERSION = 1


@dataclass(frozen=True, slots=True)
class FinalModel:
    """A trained network and its measurements.

    Attributes:
        genotype: of the network; where each image has its own, that of most images.
        macs: multiply-adds of one image; where images differ, in the mean.
        test_accuracy: of the weights after the last epoch; the test split is used for nothing else.
        details: further results of the method, by its name; JSON.
        figures: of the test split, `nascore.evaluation.class_metrics.ClassFigures` as JSON; None of
            a network without fixed classes.
        objective: the metric of `valid_score` and `test_score`.
        data_wait_share: fraction of the training that waited for images; None: not measured.
        origin: settings of the space, classes, and mean and deviation of the training images, by
            which other runs use the network; None of networks without fixed classes.
        transfer: what it has learned from: `weights` (`WeightTransfer` as JSON) and `teacher`.
        ensemble: of the finalists, `nascore.training.ensemble.EnsembleResult` as JSON.
    """

    genotype: Genotype
    shape: ImageShape
    network: nn.Module
    train_accuracy: float
    valid_accuracy: float
    test_accuracy: float
    num_params: int
    macs: int
    num_steps: int
    duration_s: float
    details: dict[str, Any] = field(default_factory=dict)
    figures: dict[str, Any] | None = None
    objective: Objective = "accuracy"
    valid_score: float | None = None
    test_score: float | None = None
    data_wait_share: float | None = None
    origin: dict[str, Any] | None = None
    transfer: dict[str, Any] = field(default_factory=dict)
    ensemble: dict[str, Any] | None = None

    def summary(self) -> dict[str, Any]:
        """Return the content of `model.json`."""
        return {
            "version": VERSION,
            "genotype": self.genotype.to_dict(),
            "shape": asdict(self.shape),
            "train_accuracy": self.train_accuracy,
            "valid_accuracy": self.valid_accuracy,
            "test_accuracy": self.test_accuracy,
            "num_params": self.num_params,
            "macs": self.macs,
            "num_steps": self.num_steps,
            "duration_s": self.duration_s,
            "details": self.details,
            "figures": self.figures,
            "objective": self.objective,
            "valid_score": self.valid_score,
            "test_score": self.test_score,
            "data_wait_share": self.data_wait_share,
            "origin": self.origin,
            "transfer": self.transfer,
            "ensemble": self.ensemble,
            "network": spec_of(self.network),
        }

    def save(self, folder: Path) -> None:
        """Write `model.json` and `weights.pt`."""
        folder.mkdir(parents=True, exist_ok=True)
        meta: dict[str, Any] = {"genotype": self.genotype.to_dict()}
        if self.origin is not None:
            meta["classes"] = self.origin["classes"]
        checkpoint.save(folder / "weights.pt", self.network.state_dict(), meta, FINAL_MODEL)
        with replacing(folder / "model.json") as temporary:
            temporary.write_text(json.dumps(self.summary(), indent=2))

    @classmethod
    def load(cls, folder: Path, space: SearchSpace) -> "FinalModel":
        """Read what `save` wrote.

        Raises:
            CheckpointError: the weights are damaged or of another network.
        """
        summary = json.loads((folder / "model.json").read_text())
        genotype = Genotype.from_dict(summary["genotype"])
        shape = ImageShape(**summary["shape"])
        spec = summary["network"]
        network = kind_named(spec["kind"]).rebuild(spec, space, genotype, shape)
        weights, _ = checkpoint.load(folder / "weights.pt", FINAL_MODEL)
        network.load_state_dict(weights)
        read = ("version", "genotype", "shape", "network")
        values = {k: v for k, v in summary.items() if k not in read}
        return cls(genotype=genotype, shape=shape, network=network.eval(), **values)


class DeployedModel(nn.Module):
    """The network as it is deployed, with the normalisation of its training data inside.

    Pixels as they are stored, float (B, C, H, W) of 0..255 -> logits (B, num_classes): users need
    to know nothing about the data set. Networks with more outputs return several tensors, logits
    first.

    Attributes:
        answers: the names of its outputs.
        kind: of its network.
        tasks: settings by which it learns classes from examples, if it does
            (`nascore.meta_learning.task_adaptation.TaskSettings`); its logits are those of before.
    """

    scale_C11: Tensor
    shift_C11: Tensor

    def __init__(self, network: nn.Module, info: Statistics) -> None:
        super().__init__()
        self.kind = kind_of(network)
        self.network = self.kind.deployed(network)
        self.tasks: Any = getattr(network, "settings", None)
        self.answers: tuple[str, ...] = getattr(self.network, "answers", ("logits",))
        scale_C11, shift_C11 = normalisation(info)
        self.register_buffer("scale_C11", scale_C11)
        self.register_buffer("shift_C11", shift_C11)

    def forward(self, pixels_BCHW: Tensor) -> Tensor | tuple[Tensor, ...]:
        answer: Tensor | tuple[Tensor, ...] = self.network(
            pixels_BCHW * self.scale_C11 + self.shift_C11
        )
        return answer

    def adapter(self) -> Any:
        """Return what learns the classes of tasks by this network, if its kind does."""
        return self.kind.adapter(self)


def train_from_scratch(
    context: SearchContext,
    result: SearchResult,
    *,
    on_epoch: Callable[[int, float | None], None] | None = None,
) -> FinalModel:
    """Train the winner with its final width and evaluate it once on the test split.

    The release of NASES keeps the epoch with the best *test* accuracy, which is optimistic; here it
    is the last epoch, and the validation split stays held out. It is as long as `context.final`
    says, in updates of a network of the cost 1 (`nascore.training.length`).
    """
    cost = cost_in_updates(context.space, result.genotype, context.shape)
    context = replace(context, final=for_cost(context.final, context.splits.train, cost))
    network = build_network(
        context.space,
        result.genotype,
        context.shape,
        seed=context.seeds.integer("final", "weights"),
        final=True,
    )
    started = start(context, network, result.genotype)
    return train_network(
        context,
        network.to(device_of(context.final)),
        result.genotype,
        on_epoch=on_epoch,
        started=started,
    )


def train_network(
    context: SearchContext,
    network: nn.Module,
    genotype: Genotype,
    *,
    on_epoch: Callable[[int, float | None], None] | None = None,
    seconds: float | None = None,
    started: "WeightTransfer | None" = None,
) -> FinalModel:
    """Train a network as `context.final` says, and evaluate it once on the test split.

    Args:
        network: on the device of the training; it is trained in place. A training that was killed
            continues from its checkpoint in the state folder.
        genotype: of the network, or what stands for it.
        on_epoch: called with the 0-based epoch and the validation score in the objective.
        seconds: wall time of the training, instead of its epochs.
        started: what the network has taken from a file of weights.
    """

    objective = context.search.objective

    def report_epoch(epoch: int, score: float | None) -> None:
        if score is not None:
            context.callbacks.on_metrics({f"final/valid_{objective}": score}, epoch)
        if on_epoch is not None:
            on_epoch(epoch, score)

    training = train(
        network,
        context.splits.train,
        context.final,
        generator=context.seeds.torch("final", "batches"),
        valid=context.splits.valid,
        on_epoch=report_epoch,
        should_stop=context.callbacks.should_stop,
        objective=objective,
        loss=taught_loss(context),
        seconds=seconds,
        checkpoint=final_checkpoint(context, network, genotype, seconds),
        on_message=context.callbacks.on_message,
        fine_tuning=fine_tuning(context, network, started),
    )
    valid = training.valid_accuracy[-1], training.valid_score[-1]
    shipped = flip_averaged(network, context.final)
    if shipped is not network:
        network, valid = shipped, accuracy_and_score(shipped, context.splits.valid, objective)
    cost = count(network, context.shape)
    from nascore.evaluation.class_metrics import (
        class_figures,  # scikit-learn: a search need not wait for it
    )

    logits_NK = predict(network, context.splits.test)
    figures = class_figures(
        logits_NK.float().cpu().numpy(),
        context.splits.test.labels.cpu().numpy(),
        context.splits.info.classes,
    )
    return FinalModel(
        genotype=genotype,
        shape=context.shape,
        network=network.eval(),
        train_accuracy=training.train_accuracy[-1],
        valid_accuracy=valid[0],
        test_accuracy=score_of("accuracy", logits_NK, context.splits.test.labels),
        num_params=cost.num_params,
        macs=cost.macs,
        num_steps=training.num_steps,
        duration_s=training.duration_s,
        data_wait_share=training.data_wait_s / training.duration_s,
        figures=asdict(figures),
        objective=objective,
        valid_score=valid[1],
        test_score=score_of(objective, logits_NK, context.splits.test.labels),
        origin=origin_of(context),
        transfer=transfer_of(context, started),
    )
