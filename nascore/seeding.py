"""Random streams of a run: each comes from the seed and a name; there is no global generator.

A stream depends on nothing but the seed and its name, so a step that is restarted, or a worker that
joins late, draws the numbers of an uninterrupted run.
"""

import contextlib
import threading
import zlib
from collections.abc import Iterator

import numpy as np
import torch


class Seeds:
    """Named random streams of one root seed.

    >>> Seeds(0).numpy("search", 3).integers(10) == Seeds(0).numpy("search", 3).integers(10)
    True
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def _sequence(self, *name: str | int) -> np.random.SeedSequence:
        key = [part if isinstance(part, int) else zlib.crc32(part.encode()) for part in name]
        return np.random.SeedSequence(self.seed, spawn_key=key)

    def integer(self, *name: str | int) -> int:
        """Return a 63-bit seed for a library that needs one."""
        return int(self._sequence(*name).generate_state(1, np.uint64)[0] >> 1)

    def numpy(self, *name: str | int) -> np.random.Generator:
        return np.random.default_rng(self._sequence(*name))

    def torch(self, *name: str | int, device: str | torch.device = "cpu") -> torch.Generator:
        generator = torch.Generator(device=device)
        generator.manual_seed(self.integer(*name))
        return generator


# Several arms may build a network at once, and initial weights come from torch's global generator.
_GLOBAL_GENERATOR = threading.Lock()


@contextlib.contextmanager
def seeded_weights(seed: int) -> Iterator[None]:
    """Make weights in the block depend on `seed` alone; the global generator is restored."""
    with _GLOBAL_GENERATOR, torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
