"""Teachers: answers to normalised images, classes and images, and what a network learns."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim

from nascore.config import TrainingConfig
from nascore.data.batches import Splits, load
from nascore.data.prepared import DatasetInfo
from nascore.errors import InputError
from nascore.spaces.base import ImageShape, make_space
from nascore.spaces.residual.config import ResidualSpaceConfig
from nascore.training.distillation import Teacher, TeacherTask
from nascore.training.final_model import DeployedModel
from nascore.training.loop import train
from nascore.training.losses import loss_of
from nascore.training.prediction import predict

DIGITS = tuple("0123456789")
TASK = TeacherTask("digits", "1", DIGITS, 1, 8)
OTHER = SimpleNamespace(mean=(0.9,), std=(0.05,))
"""Normalisation of the data on which the teacher was trained, far from that of the digits."""


@pytest.fixture(scope="module")
def splits(digits_folder: Path) -> Splits:
    return load(digits_folder, torch.device("cpu"))


def network_of(seed: int) -> nn.Module:
    space = make_space(ResidualSpaceConfig(num_stages=2, channels=8))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return space.build(space.standard, ImageShape(1, 8, 10))


@torch.no_grad()
def test_a_teacher_answers_normalised_images_as_it_answers_their_pixels(splits: Splits) -> None:
    model = DeployedModel(network_of(0), OTHER).eval()
    teacher = Teacher(model, TASK, splits.info)
    pixels = splits.train.pixels_at(range(20)).float()
    expected = model(pixels)
    found = teacher(splits.train.normalise(pixels))
    assert torch.allclose(found, expected, atol=1e-3, rtol=1e-4)
    assert expected.std() > 0.1, "the logits say something"


def test_a_teacher_stays_in_evaluation_mode_and_has_no_gradient(splits: Splits) -> None:
    model = DeployedModel(network_of(0), OTHER).eval()
    teacher = Teacher(model, TASK, splits.info)
    teacher.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    logits = teacher(torch.randn(4, 1, 8, 8))
    assert not model.training
    assert not logits.requires_grad
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name


@torch.no_grad()
def test_an_exported_program_is_a_teacher_of_any_number_of_images(
    splits: Splits,
) -> None:
    model = DeployedModel(network_of(0), OTHER).eval()
    example = (torch.zeros(2, 1, 8, 8),)
    program = torch.export.export(model, example, dynamic_shapes=({0: Dim("batch", min=2)},))
    teacher = loss_of(TrainingConfig(), None, teacher=Teacher(program.module(), TASK, splits.info))
    assert teacher  # the loss sets its evaluation mode, which a program cannot change
    asked = Teacher(program.module(), TASK, splits.info)
    x_BCHW = splits.train.normalise(splits.train.pixels_at(range(3)))
    assert torch.allclose(asked(x_BCHW[:1]), asked(x_BCHW)[:1], atol=1e-4)


class Several(nn.Module):
    def forward(self, pixels_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        return pixels_BCHW.flatten(1)[:, :10], pixels_BCHW


def test_the_first_of_several_outputs_are_the_logits(splits: Splits) -> None:
    teacher = Teacher(Several(), TASK, splits.info)
    teacher.check_outputs()
    assert teacher(torch.zeros(2, 1, 8, 8)).shape == (2, 10)


class Wrong(nn.Module):
    def __init__(self, answer: Any) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, pixels_BCHW: Tensor) -> Any:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (
            torch.zeros(2, 3),
            r"answers two images with \(2, 3\), not with logits of shape \(2, 10\)",
        ),
        (RuntimeError("no such kernel\nmore"), "cannot be asked: no such kernel; name another"),
    ],
)
def test_a_model_that_gives_no_logits_is_refused(
    answer: Any, expected: str, splits: Splits
) -> None:
    with pytest.raises(InputError, match=expected):
        Teacher(Wrong(answer), TASK, splits.info).check_outputs()


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"classes": ("cat", "dog")},
            "has other classes: the teacher [cat, dog] (2), the data "
            "[0, 1, 2, 3, 4, 5, 6, 7, 8, 9] (10)",
        ),
        (
            {"classes": tuple("1023456789")},
            "has the same classes in another order: the teacher [1, 0, 2, 3, 4, 5, 6, 7, 8, 9] "
            "(10), the data [0, 1,",
        ),
        ({"size": 28}, "reads images of 1x28x28, the data have 1x8x8"),
        ({"channels": 3}, "reads images of 3x8x8, the data have 1x8x8"),
    ],
)
def test_a_teacher_of_another_task_is_refused_with_both_lists(
    changes: dict[str, Any], expected: str, splits: Splits
) -> None:
    info: DatasetInfo = splits.info
    TASK.check(info)
    with pytest.raises(InputError) as raised:
        replace(TASK, **changes).check(info)
    (problem,) = raised.value.problems
    assert problem.key == "training.teacher"
    assert expected in problem.message


def test_a_network_learns_from_the_teacher_alone(splits: Splits) -> None:
    """With the whole weight on the teacher, the labels of the images have no effect."""
    config = TrainingConfig(epochs=8, crop_padding=0)
    taught = network_of(0)
    train(taught, splits.train, config, generator=torch.Generator().manual_seed(0))
    model = DeployedModel(taught.eval(), splits.info).eval()
    teacher = Teacher(model, TASK, splits.info)
    network, unlabelled = network_of(1), load_unlabelled(splits)
    loss = loss_of(config, None, teacher=teacher, teacher_weight=1.0)
    train(network, unlabelled, config, generator=torch.Generator().manual_seed(1), loss=loss)
    same = predict(network, splits.test).argmax(1) == predict(taught, splits.test).argmax(1)
    assert same.float().mean() > 0.4, "the labels alone lead to 0.1"


def load_unlabelled(splits: Splits) -> Any:
    """Return the training images, all with the label 0."""
    split = splits.train.balanced(TrainingConfig())
    split.labels = torch.zeros_like(split.labels)
    return split
