"""Reference networks by name: `standard`, and the classification networks of torchvision.

All start from random weights; nothing is downloaded.
"""

import torch
import torchvision
from torch import nn

from nascore.errors import Problem
from nascore.reference.names import NAMES, STANDARD
from nascore.reference.stem import SMALL, adapt_stem
from nascore.spaces.base import ImageShape, StandardSpace, make_space
from nascore.spaces.residual.config import ResidualSpaceConfig
from nascore.spaces.section import SpaceSection

_KEY = "reference"
_CHANNELS = 3  # of the images that torchvision's networks are made for
_EXTRA = {"aux_logits": False, "init_weights": True}
_ARGUMENTS = {"googlenet": _EXTRA, "inception_v3": _EXTRA}
# The constructor computes widths with tensors, which a device without numbers does not have. Their
# convolutions are padded, so that they take images of any size.
_ANY_SIZE = "regnet_"


def default_names(size: int) -> tuple[str, ...]:
    """Return the networks that are trained where the configuration names none."""
    return (STANDARD, "resnet18" if size < SMALL else "mobilenet_v3_small")


def build_reference(
    name: str, shape: ImageShape, *, space: SpaceSection | None = None
) -> nn.Module:
    """Return a reference network; see `nascore.seeding.seeded_weights` for its initial weights.

    Args:
        name: one of `nascore.reference.names.NAMES`.
        shape: of the images and classes.
        space: search space of the run; if it contains a standard network, `standard` is that one.
    """
    if name == STANDARD:
        standard = standard_space(space)
        return standard.build(standard.standard, shape, "final")
    return _of_torchvision(name, shape)


def standard_space(section: SpaceSection | None) -> StandardSpace:
    """Return the space whose standard network is the reference `standard`.

    Args:
        section: search space of the run; if it contains no standard network, the space `residual`
            of the default size is used.
    """
    space = None if section is None else make_space(section)
    if not isinstance(space, StandardSpace):
        space = make_space(ResidualSpaceConfig())
    assert isinstance(space, StandardSpace), "the space `residual` has a standard network"
    return space


def problems_with(names: tuple[str, ...], shape: ImageShape) -> list[Problem]:
    """Return one problem that lists networks that do not fit, and those that do."""
    wrong = {}
    for name in names:
        if fault := _misfit(name, shape):
            wrong[name] = f"{name} does not take images of {shape.size}x{shape.size} ({fault})"
    if not wrong:
        return []
    fitting = [name for name in NAMES if _misfit(name, shape) is None]
    message = f"{'; '.join(wrong.values())}; networks that fit: {', '.join(fitting)}"
    return [Problem(_KEY, ", ".join(wrong), message)]


def _of_torchvision(name: str, shape: ImageShape) -> nn.Module:
    arguments = {"num_classes": shape.num_classes, **_ARGUMENTS.get(name, {})}
    network: nn.Module = torchvision.models.get_model(name, weights=None, **arguments)
    adapt_stem(network, shape.channels, shape.size)
    return network


def _misfit(name: str, shape: ImageShape) -> str | None:
    """Return why a network cannot classify images of a shape; None if it can.

    The network is run without numbers, so that even the largest costs neither memory nor time.
    """
    if name == STANDARD or name.startswith(_ANY_SIZE):
        return None
    with torch.device("meta"), torch.no_grad():
        x_BCHW = torch.zeros(2, shape.channels, shape.size, shape.size)
        try:
            _of_torchvision(name, shape)(x_BCHW)
        except (RuntimeError, AssertionError, ValueError) as error:
            return str(error).strip().splitlines()[0]
    return None
