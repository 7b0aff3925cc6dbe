"""What networks are assembled from: parts by name, made anew or shared with other networks.

A space that builds its networks by asking for parts can have all of them share weights: a path of a
supernet and a network of its own are then assembled by the same code (`nascore.training.supernet`).
"""

from collections.abc import Callable

from torch import nn

Parts = Callable[[str, Callable[[], nn.Module]], nn.Module]
"""`parts(name, make)` is the part called `name`, unique in its network; `make` makes one."""


def fresh(name: str, make: Callable[[], nn.Module]) -> nn.Module:
    """Every part is a new one."""
    return make()


def below_name(parts: Parts, prefix: str) -> Parts:
    """The same parts with shorter names: those that start with `prefix`/."""
    return lambda name, make: parts(f"{prefix}/{name}", make)
