"""Small runs whose final training has pretrained weights or a teacher."""

import io
import json
import os
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from components.config.schema import Config, parse
from components.steps.transfer import FILE, check_transfer, with_transfer
from nascore.config import OwnTrainingConfig, SearchConfig
from nascore.context import SearchContext
from nascore.data.batches import Splits
from nascore.errors import InputError
from nascore.results import Arm, SearchResult
from nascore.seeding import Seeds
from nascore.spaces.base import ImageShape, make_space
from nascore.spaces.residual.config import ResidualSpaceConfig
from nascore.training.final_model import DeployedModel, FinalModel, train_from_scratch

SPACE = ResidualSpaceConfig(num_stages=2, channels=8)
SHAPE = ImageShape(1, 8, 10)
OWN = OwnTrainingConfig(epochs=1)


def config_of(store: str = "sqlite:///none.db", **training: Any) -> Config:
    return parse(
        {
            "method": "random",
            "search": {"space": SPACE.model_dump()},
            "tracking": {"uri": store},
            "training": training,
        }
    )


def context_of(config: Config, splits: Splits, folder: Path) -> SearchContext:
    return SearchContext(
        method="random",
        seeds=Seeds(0),
        space=make_space(SPACE),
        splits=splits,
        shape=SHAPE,
        search=SearchConfig(space=SPACE),
        final=config.training.resolve(OWN),
        options=config.search.options,
        controller=folder,
        state=folder,
        training=config.training,
    )


def result_of(context: SearchContext) -> SearchResult:
    return SearchResult(
        method="random",
        seed=0,
        genotype=context.space.standard,  # type: ignore[attr-defined]
        valid_accuracy=0.5,
        arm=Arm("random", (), 1.0),
        control=None,
        verdict=None,
        pareto=(),
        versions={},
    )


def trained(config: Config, splits: Splits, folder: Path) -> FinalModel:
    context = context_of(config, splits, folder)
    return train_from_scratch(context, result_of(context))


def check(config: Config, splits: Splits, dataset: Path) -> tuple[Config, list[str]]:
    said: list[str] = []
    state = dataset.parent / "state"
    found = check_transfer(config, splits.info, dataset, state=state, say=said.append)
    assert not any(state.iterdir()) if state.exists() else True, "copies are removed"
    return found, said


def message(config: Config, splits: Splits, dataset: Path) -> str:
    with pytest.raises(InputError) as raised:
        check(config, splits, dataset)
    assert not (dataset / FILE).exists()
    return str(raised.value)


@torch.no_grad()
def asked(config: Config, splits: Splits, dataset: Path) -> torch.Tensor:
    """Return the logits of the teacher of a run for normalised training images."""
    context = context_of(config, splits, dataset.parent)
    state = dataset.parent / "state"
    teacher = with_transfer(context, config, dataset, state=state, say=print).teacher
    assert teacher is not None
    logits: torch.Tensor = teacher(splits.train.normalise(splits.train.pixels_at(range(20))))
    return logits


@torch.no_grad()
def expected(final: FinalModel, splits: Splits) -> torch.Tensor:
    pixels = splits.train.pixels_at(range(20)).float()
    return DeployedModel(final.network, splits.info).eval()(pixels)  # type: ignore[no-any-return]


class RunsCode:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.marker}",)


def with_code(program: Path, marker: Path) -> None:
    """Replace the first weight of a program by a pickle that makes a file."""
    content = io.BytesIO()
    torch.save(RunsCode(marker), content)
    with zipfile.ZipFile(program) as archive:
        records = {name: archive.read(name) for name in archive.namelist()}
    (name,) = (name for name in records if name.endswith("data/weights/model_weights_config.json"))
    described = json.loads(records[name])
    weight = next(iter(described["config"].values()))
    weight["use_pickle"] = True
    records[name] = json.dumps(described).encode()
    records[f"{name.rpartition('/')[0]}/{weight['path_name']}"] = content.getvalue()
    with zipfile.ZipFile(program, "w") as archive:
        for record, data in records.items():
            archive.writestr(record, data)
