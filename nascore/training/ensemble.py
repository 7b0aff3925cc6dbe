"""The finalists of a search as one model: the mean of their probabilities (Lakshminarayanan 2017).

A finalist is the best child of its architecture. Each is trained by the final recipe, and the whole
is stored as a folder with one final model for each member.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nascore.context import SearchContext, device_of
from nascore.evaluation.mcnemar import mcnemar
from nascore.evaluation.scoring import score_of
from nascore.files import replacing, sha256_of
from nascore.genotype import Genotype
from nascore.latency.benchmark import LatencyResult, measure
from nascore.results import SearchResult
from nascore.spaces.base import SearchSpace, make_space
from nascore.training.distillation import Teacher, TeacherTask
from nascore.training.final_model import DeployedModel, FinalModel
from nascore.training.prediction import predict

FOLDER = "ensemble"
"""Folder of the members, in that of the final model."""
MEMBERS = "ensemble.json"
VERSION = 1


def finalists(result: SearchResult, space: SearchSpace, number: int) -> list[Genotype]:
    """Return the best architectures of a search, the winner first; fewer where there are fewer.

    Args:
        result: of the search.
        space: in which equal networks of two genotypes are known as equal.
        number: of architectures.
    """
    scored = [(child.objective, child) for child in result.arm.children]
    ranked = sorted(
        ((score, child) for score, child in scored if score is not None),
        key=lambda one: (-one[0], one[1].number),
    )
    chosen = {space.canonical(result.genotype): result.genotype}
    for _, child in ranked:
        if len(chosen) >= number:
            break
        chosen.setdefault(space.canonical(child.genotype), child.genotype)
    return list(chosen.values())


class Ensemble(nn.Module):
    """Images (B, C, H, W) -> logarithms of the mean probabilities (B, K) of several networks."""

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        answers = [network(x_BCHW) for network in self.networks]
        logits = [one if isinstance(one, Tensor) else one[0] for one in answers]
        log_probabilities = torch.stack([one.float().log_softmax(dim=1) for one in logits])
        return log_probabilities.logsumexp(dim=0) - math.log(len(logits))


@dataclass(frozen=True, slots=True)
class EnsembleResult:
    """Measurements of an ensemble; accuracies are fractions.

    Attributes:
        members: genotype, parameters, accuracies, latency and comparison of each, the winner of the
            search first.
        difference: test accuracy of the found network minus that of the ensemble.
        p_value: of McNemar's test of this difference, on the same images.
        num_params, macs: sums over the members.
        seconds: wall time of the trainings of the members.
        latency: of all members, one after the other.
    """

    members: tuple[dict[str, Any], ...]
    difference: float
    p_value: float
    test_accuracy: float
    valid_accuracy: float
    test_score: float
    num_params: int
    macs: int
    seconds: float
    latency: LatencyResult

    def to_dict(self) -> dict[str, Any]:
        """Return JSON."""
        own = {"members": list(self.members), "latency": self.latency.to_dict()}
        return asdict(self) | own

    def __str__(self) -> str:
        return (
            f"ensemble of {len(self.members)} finalists: test accuracy {self.test_accuracy:.4f}, "
            f"latency p50 {self.latency.p50_ms:.2f} ms, {self.num_params:,} parameters"
        )


def measured(
    context: SearchContext, members: Sequence[FinalModel], found: FinalModel
) -> EnsembleResult:
    """Return accuracy and latency of the ensemble of some trained networks, and of each of them.

    Args:
        context: data, and protocol of the latency.
        members: trained on the data of the context.
        found: network with which ensemble and members are compared.
    """
    splits, objective = context.splits, context.search.objective
    ensemble = Ensemble([one.network for one in members]).to(splits.test.device).eval()
    test_NK, valid_NK = predict(ensemble, splits.test), predict(ensemble, splits.valid)
    found_NK = predict(found.network.to(splits.test.device), splits.test)
    return EnsembleResult(
        members=tuple(_member(context, one, found_NK) for one in members),
        **_compared(found_NK, test_NK, splits.test.labels),
        test_accuracy=score_of("accuracy", test_NK, splits.test.labels),
        valid_accuracy=score_of("accuracy", valid_NK, splits.valid.labels),
        test_score=score_of(objective, test_NK, splits.test.labels),
        num_params=sum(one.num_params for one in members),
        macs=sum(one.macs for one in members),
        seconds=sum(one.duration_s for one in members),
        latency=measure(ensemble, context.shape, context.latency),
    )


def _member(context: SearchContext, one: FinalModel, found_NK: Tensor) -> dict[str, Any]:
    test = context.splits.test
    return {
        "genotype": one.genotype.to_dict(),
        "architecture": context.space.describe(one.genotype),
        "num_params": one.num_params,
        "test_accuracy": one.test_accuracy,
        "valid_accuracy": one.valid_accuracy,
        **_compared(found_NK, predict(one.network, test), test.labels),
        "latency_ms": measure(one.network, context.shape, context.latency).p50_ms,
    }


def _compared(found_NK: Tensor, other_NK: Tensor, labels_N: Tensor) -> dict[str, float]:
    """Return the difference in accuracy of two classifiers, and its p-value."""
    found_N, other_N = (
        (logits_NK.argmax(1) == labels_N).cpu().numpy() for logits_NK in (found_NK, other_NK)
    )
    return {
        "difference": float(found_N.mean() - other_N.mean()),
        "p_value": mcnemar(found_N, other_N),
    }


def save_members(folder: Path, names: Sequence[str]) -> None:
    """Write the list of the folders of the members; call it when all of them are complete."""
    with replacing(folder / MEMBERS) as temporary:
        temporary.write_text(json.dumps({"version": VERSION, "members": list(names)}))


def member_folders(folder: Path) -> list[Path]:
    """Return the folders of the members of a stored ensemble."""
    return [folder / str(name) for name in json.loads((folder / MEMBERS).read_text())["members"]]


def with_finalists(context: SearchContext, folder: Path) -> SearchContext:
    """Return a context whose teacher is the ensemble of finalists in a folder.

    The members were trained on the data of the context, whose normalisation they share.

    Args:
        context: of a final training.
        folder: written by `save_members`.
    """
    space = make_space(context.search.space)
    folders, info = member_folders(folder), context.splits.info
    networks = [FinalModel.load(one, space).network for one in folders]
    model = Ensemble([DeployedModel(network, info) for network in networks]).eval()
    identity = "+".join(sha256_of(one / "weights.pt")[:16] for one in folders)
    name = f"{len(folders)} finalists"
    task = TeacherTask(name, identity, info.classes, info.channels, info.size)
    teacher = Teacher(model, task, info).to(device_of(context.final))
    return replace(context, teacher=teacher)
