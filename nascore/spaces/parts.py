"""Modules of a network by name: new ones, or shared with other networks.

A space that builds its networks from named parts supports weight sharing: a path of a supernet and
a separate network are assembled by the same code (`nascore.training.supernet`).
"""

from collections.abc import Callable

from torch import nn

Parts = Callable[[str, Callable[[], nn.Module]], nn.Module]
"""`parts(name, make)` returns the module `name`, unique in its network; `make` makes a new one."""


def fresh(name: str, make: Callable[[], nn.Module]) -> nn.Module:
    """Make a new module."""
    return make()


def below_name(parts: Parts, prefix: str) -> Parts:
    """Return the parts whose names start with `prefix`/, under the rest of their names."""
    return lambda name, make: parts(f"{prefix}/{name}", make)
