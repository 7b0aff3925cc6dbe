"""The time that a training waits for its images is measured."""

import time
from collections.abc import Iterator, Sequence

import pytest
import torch
from torch import Tensor, nn

from nascore.config import TrainingConfig
from nascore.data.batches import Splits, load
from nascore.data.images import Images
from nascore.data.waiting import Waiting
from nascore.training.loop import train


def test_only_the_waiting_counts() -> None:
    def slow() -> Iterator[int]:
        for number in range(3):
            time.sleep(0.05)
            yield number

    waiting = Waiting()
    found = []
    for number in waiting.over(slow()):
        time.sleep(0.1)
        found.append(number)
    assert found == [0, 1, 2]
    assert 0.15 <= waiting.seconds < 0.29


class SlowImages:
    """Each batch takes a while, as from a slow disk."""

    def __init__(self, images: Images, seconds: float) -> None:
        self._images, self._seconds = images, seconds

    def batches(self, positions: Sequence[Tensor]) -> Iterator[Tensor]:
        for batch in self._images.batches(positions):
            time.sleep(self._seconds)
            yield batch


@pytest.fixture(scope="module")
def digits(digits_folder: object) -> Splits:
    return load(digits_folder, torch.device("cpu"))  # type: ignore[arg-type]


@pytest.mark.parametrize(("seconds", "least", "most"), [(0.0, 0.0, 0.9), (0.3, 0.5, 1.0)])
def test_a_training_says_how_long_it_waited(
    digits: Splits, seconds: float, least: float, most: float
) -> None:
    split = digits.train.halves(torch.Generator().manual_seed(0))[0]
    split._images = SlowImages(split._images, seconds)
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    config = TrainingConfig(epochs=1, max_steps=3, batch_size=32)
    found = train(network, split, config, generator=torch.Generator().manual_seed(0))
    assert found.num_steps == 3
    assert found.data_wait_s >= 3 * seconds
    assert least <= found.data_wait_s / found.duration_s < most
