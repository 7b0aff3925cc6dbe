"""The final training: the winner from scratch, wider than in the search, tested once."""

import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nascore.config import Objective
from nascore.context import SearchContext, device_of
from nascore.data.batches import normalisation
from nascore.data.prepared import DatasetInfo
from nascore.evaluation.scoring import score_of
from nascore.genotype import Genotype
from nascore.results import SearchResult
from nascore.spaces.base import ImageShape, SearchSpace
from nascore.spaces.flops import count
from nascore.training import checkpoint
from nascore.training.child import build_network
from nascore.training.loop import predict, train
from nascore.training.network_kinds import kind_named, kind_of, spec_of

VERSION = 1
_KIND = "final-model"


@dataclass(frozen=True, slots=True)
class FinalModel:
    """A trained network and what is known about it.

    Attributes:
        genotype: of the network; where each image has its own, of the one that most images have.
        macs: multiply-adds of one image; where images differ, in the mean.
        test_accuracy: of the weights after the last epoch; the test split serves nothing else.
        details: what the method has to say beside, by its name; JSON.
        figures: of the test split, `nascore.evaluation.class_metrics.ClassFigures` as JSON; None of
            a network that knows no fixed classes, and of models of earlier versions.
        objective: what `valid_score` and `test_score` are.
        data_wait_share: of the training's time, waiting for images; None where it is not measured.
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

    def summary(self) -> dict[str, Any]:
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
            "network": spec_of(self.network),
        }

    def save(self, folder: Path) -> None:
        """Writes `model.json` and `weights.pt`."""
        folder.mkdir(parents=True, exist_ok=True)
        weights = {name: value.cpu() for name, value in self.network.state_dict().items()}
        checkpoint.save(
            folder / "weights.pt", weights, {"genotype": self.genotype.to_dict()}, _KIND
        )
        temporary = folder / ".model.json"
        temporary.write_text(json.dumps(self.summary(), indent=2))
        os.replace(temporary, folder / "model.json")

    @classmethod
    def load(cls, folder: Path, space: SearchSpace) -> "FinalModel":
        """Raises CheckpointError when the weights are damaged or of another network."""
        summary = json.loads((folder / "model.json").read_text())
        genotype = Genotype.from_dict(summary["genotype"])
        shape = ImageShape(**summary["shape"])
        spec = summary["network"]
        network = kind_named(spec["kind"]).rebuild(spec, space, genotype, shape)
        weights, _ = checkpoint.load(folder / "weights.pt", _KIND)
        network.load_state_dict(weights)
        read = ("version", "genotype", "shape", "network")
        values = {k: v for k, v in summary.items() if k not in read}
        return cls(genotype=genotype, shape=shape, network=network.eval(), **values)


class DeployedModel(nn.Module):
    """The network as it is deployed, with the normalisation of its training data inside.

    Pixels as they are stored, float (B, C, H, W) of 0..255 -> logits (B, num_classes). Whoever
    loads the model needs to know nothing about its data set. Networks that have more to say answer
    with several tensors, logits first.

    Attributes:
        answers: the names of what it answers, if that is more than logits.
        kind: what is special about networks like this one.
        tasks: settings by which it learns classes from examples, if it does
            (`nascore.meta_learning.task_adaptation.TaskSettings`); its logits are those of before.
    """

    scale_C11: Tensor
    shift_C11: Tensor

    def __init__(self, network: nn.Module, info: DatasetInfo) -> None:
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
    task: SearchContext,
    result: SearchResult,
    *,
    on_epoch: Callable[[int, float | None], None] | None = None,
) -> FinalModel:
    """Trains the winner with its final width and judges it once on the test split.

    The release keeps the epoch with the best *test* accuracy, which is optimistic; here it is the
    last epoch, and the validation split stays held out.
    """
    network = build_network(
        task.space,
        result.genotype,
        task.shape,
        seed=task.seeds.integer("final", "weights"),
        final=True,
    )
    return train_network(
        task, network.to(device_of(task.final)), result.genotype, on_epoch=on_epoch
    )


def train_network(
    task: SearchContext,
    network: nn.Module,
    genotype: Genotype,
    *,
    on_epoch: Callable[[int, float | None], None] | None = None,
) -> FinalModel:
    """Trains a network on as `task.final` says, and judges it once on the test split.

    Args:
        network: on the device of the training; it is trained in place.
    """

    objective = task.search.objective

    def report_epoch(epoch: int, score: float | None) -> None:
        if score is not None:
            task.callbacks.on_metrics({f"final/valid_{objective}": score}, epoch)
        if on_epoch is not None:
            on_epoch(epoch, score)

    training = train(
        network,
        task.splits.train,
        task.final,
        generator=task.seeds.torch("final", "batches"),
        valid=task.splits.valid,
        on_epoch=report_epoch,
        should_stop=task.callbacks.should_stop,
        objective=objective,
    )
    cost = count(network, task.shape)
    from nascore.evaluation.class_metrics import (
        class_figures,  # scikit-learn: a search need not wait for it
    )

    logits_NK = predict(network, task.splits.test)
    figures = class_figures(
        logits_NK.float().cpu().numpy(),
        task.splits.test.labels.cpu().numpy(),
        task.splits.info.classes,
    )
    return FinalModel(
        genotype=genotype,
        shape=task.shape,
        network=network.eval(),
        train_accuracy=training.train_accuracy[-1],
        valid_accuracy=training.valid_accuracy[-1],
        test_accuracy=score_of("accuracy", logits_NK, task.splits.test.labels),
        num_params=cost.num_params,
        macs=cost.macs,
        num_steps=training.num_steps,
        duration_s=training.duration_s,
        data_wait_share=training.data_wait_s / training.duration_s,
        figures=asdict(figures),
        objective=objective,
        valid_score=training.valid_score[-1],
        test_score=score_of(objective, logits_NK, task.splits.test.labels),
    )


def device_summary() -> str:
    """The name of the device that trainings with `device: auto` use."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
