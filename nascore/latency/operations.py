"""Operations of a network: which modules they are, and their keys in a latency table."""

from collections.abc import Iterable, Iterator

from torch import nn


def unit_key(module: nn.Module, input_shape: Iterable[int]) -> str:
    """Return structure and input shape of an operation, which equal work has in common."""
    return f"{_structure(module)} @ {'x'.join(map(str, input_shape))}"


def _structure(module: nn.Module) -> str:
    name = type(module).__name__
    inner = [_structure(child) for child in module.children()]
    if isinstance(module, nn.Sequential):
        return " > ".join(inner)
    settings = ", ".join([text for text in [module.extra_repr()] if text] + inner)
    return f"{name}({settings})" if settings else name


def units(network: nn.Module) -> Iterator[nn.Module]:
    """Yield the sequences and layers of a network, from its first to its last."""
    for module in network.children():
        if isinstance(module, nn.Sequential) or next(module.children(), None) is None:
            yield module
        else:
            yield from units(module)
