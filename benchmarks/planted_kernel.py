"""Images whose class only one kernel size can recognise."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nascore.spaces.superkernel.config import SuperkernelSpaceConfig

SIZE = 16
DISTANCE = 7  # rows; with the stem of 3 rows only kernels that are 7 high see both ends of a pair
HEIGHT = 7
SPACE = SuperkernelSpaceConfig(
    num_nodes=1, num_stages=1, dilations=(1,), types=("standard",), operations=("conv",)
)
"""One cell of one node: two edges that both read the image, 16 convolutions on each."""


def images(number: int, rng: np.random.Generator) -> tuple[NDArray[np.uint8], NDArray[Any]]:
    """Return images (N, 16, 16) and labels.

    Images are noise with pairs of dots, one above the other, that are equal in one class and
    opposite in the other. A single dot does not depend on the class.
    """
    x_NHW, y_N = rng.normal(0, 0.35, (number, SIZE, SIZE)), rng.integers(0, 2, number)
    for x_HW, y in zip(x_NHW, y_N, strict=True):
        for _ in range(8):
            row, column = rng.integers(0, SIZE - DISTANCE), rng.integers(0, SIZE)
            dot = 1.5 * rng.choice([-1, 1])
            x_HW[row, column] += dot
            x_HW[row + DISTANCE, column] += dot if y else -dot
    return np.clip(128 + 40 * x_NHW, 0, 255).astype(np.uint8), y_N


def write(path: Path, *, num_train: int = 2400, num_test: int = 400, seed: int = 5) -> None:
    """Write an archive for `data.source=npz:PATH`."""
    rng = np.random.default_rng(seed)
    (x_train, y_train), (x_test, y_test) = images(num_train, rng), images(num_test, rng)
    np.savez(path, x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test)
