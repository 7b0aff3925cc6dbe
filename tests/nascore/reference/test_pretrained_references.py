"""Reference networks start from the weights of the run where these are of their architecture."""

from pathlib import Path

import pytest
import torch
from torch import nn
from torchvision import models

from nascore.config import OwnTrainingConfig, SearchConfig
from nascore.config.training import CommonTrainingConfig
from nascore.context import Callbacks, SearchContext
from nascore.data.batches import load
from nascore.methods.registry import METHODS
from nascore.pretrained.weight_files import WeightFile
from nascore.reference.training import train_reference
from nascore.seeding import Seeds
from nascore.spaces.base import ImageShape, make_space
from nascore.spaces.residual.config import ResidualSpaceConfig

SPACE = ResidualSpaceConfig(num_stages=2, channels=8)


class Messages(Callbacks):
    def __init__(self) -> None:
        self.texts: list[str] = []

    def on_message(self, text: str) -> None:
        self.texts.append(text)


def context_of(data: Path, start: nn.Module, messages: Messages) -> SearchContext:
    training = CommonTrainingConfig(weights="w.pt", device="cpu")
    return SearchContext(
        method="random",
        seeds=Seeds(0),
        space=make_space(SPACE),
        splits=load(data, torch.device("cpu")),
        shape=ImageShape(1, 8, 10),
        search=SearchConfig(space=SPACE),
        final=training.resolve(OwnTrainingConfig(max_steps=1)),
        options=METHODS["random"].options(),
        controller=data,
        state=data,
        callbacks=messages,
        training=training,
        start=WeightFile(dict(start.state_dict()), "w.pt", "0" * 64),
    )


@pytest.mark.parametrize("name", ["resnet18", "standard"])
def test_a_reference_starts_from_weights_of_its_architecture(
    name: str, digits_folder: Path
) -> None:
    space = make_space(SPACE)
    standard = space.build(space.standard, ImageShape(1, 8, 10), "final")  # type: ignore[attr-defined]
    start = {"resnet18": models.resnet18(), "standard": standard}[name]
    messages = Messages()
    final = train_reference(context_of(digits_folder, start, messages), name, seconds=0.1)
    assert final.transfer["weights"]["share"] > 0.999
    (text,) = [text for text in messages.texts if "of the parameters" in text]
    assert text.startswith(f"{name}: ")
    assert "100.0% of the parameters (without the classifier) start from w.pt" in text


def test_a_reference_of_another_architecture_has_initial_weights(digits_folder: Path) -> None:
    messages = Messages()
    context = context_of(digits_folder, models.resnet18(), messages)
    final = train_reference(context, "standard", seconds=0.1)
    assert "weights" not in final.transfer
    assert messages.texts[0].startswith(
        "standard has initial weights: the file is of another architecture: 0.0% of the parameters"
    )
