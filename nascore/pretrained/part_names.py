"""Which part of a file's network is which part of another network, where their names differ.

Networks of a search space number their blocks, so that one name stands for different parts in two
architectures. Here a part is known by its place in the space: `stage1/block0/basic`, or the name by
which a supernet shares it. ResNet and MobileNetV2 as torchvision names them have the same blocks as
the spaces `residual` and `mobile`: a block is that of the same kind, number of channels and place
in its stage.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nascore.genotype import Genotype
from nascore.pretrained.weight_files import WeightFile
from nascore.spaces import ops
from nascore.spaces.base import ImageShape, SearchSpace
from nascore.spaces.mobilenet.network import INVERTED, OPS
from nascore.spaces.mobilenet.space import MobileSpace
from nascore.spaces.residual.space import ResidualSpace

Renaming = Callable[[str], str | None]
"""Name of a module in the network -> its name in the file; None where the file has no such part."""

_RESNET = {"body.0": "conv1", "body.1": "bn1", "body.3": "conv2", "body.4": "bn2"}
_INSIDE: Mapping[str, Mapping[str, str]] = {
    "basic": _RESNET | {"shortcut": "downsample"},
    "bottleneck": _RESNET | {"body.6": "conv3", "body.7": "bn3", "shortcut": "downsample"},
    "inverted": {
        **{"0": "conv.0.0", "1": "conv.0.1", "3": "conv.1.0", "4": "conv.1.1"},
        **{"6": "conv.2", "7": "conv.3"},
    },
}
"""Modules of a block in the spaces, and their names in torchvision."""


@dataclass(frozen=True, slots=True)
class _Block:
    """A block: its name in the network, and by what the same one is found elsewhere."""

    prefix: str
    stage: int
    place: int
    kind: str
    channels: int

    @property
    def part(self) -> str:
        return f"stage{self.stage}/block{self.place}/{self.kind}"


def renaming(
    network: nn.Module,
    file: WeightFile,
    *,
    space: SearchSpace | None,
    genotype: Genotype | None,
    shape: ImageShape,
) -> Renaming | None:
    """Return how the parts of a network are called in a file; None where its own names are used.

    Args:
        network: the network that takes the weights.
        file: the weights.
        space: of the network; None for networks of no space, whose names are used as they are.
        genotype: of the network, in that space.
        shape: of the images and classes of the network.
    """
    if space is None or genotype is None:
        return None
    if file.genotype is not None and file.genotype.space == space.identifier:
        with torch.device("meta"):
            other = space.build(file.genotype, shape, "final")
        theirs = {part: p for p, part in _parts(other, space, file.genotype, shape).items()}
        ours = _parts(network, space, genotype, shape)
        return _by_prefix({p: theirs[part] for p, part in ours.items() if part in theirs}, ours)
    blocks = list(_blocks(network, space, genotype, shape))
    names = _torchvision(blocks, file.tensors, space) if blocks else {}
    return _by_prefix(names, None) if names else None


def _by_prefix(names: Mapping[str, str], numbered: Mapping[str, str] | None) -> Renaming:
    """Return a renaming by the longest beginning of a name.

    Args:
        names: in the file, by the beginning in the network.
        numbered: parts of the network; names that begin with none of them are the same in both.
            None: there are no other names.
    """

    def rename(name: str) -> str | None:
        pieces = name.split(".")
        for end in range(len(pieces), 0, -1):
            start = ".".join(pieces[:end])
            if start in names:
                return ".".join([names[start], *pieces[end:]])
            if numbered is not None and start in numbered:
                return None
        return None if numbered is None else name

    return rename


# --- parts of the spaces ------------------------------------------------------------------------


def _parts(
    network: nn.Module, space: SearchSpace, genotype: Genotype, shape: ImageShape
) -> dict[str, str]:
    """Return the parts of a network by their names in it."""
    if isinstance(space, ResidualSpace):
        return {block.prefix: block.part for block in _blocks(network, space, genotype, shape)}
    assemble = getattr(space, "assemble", None)
    if assemble is None:
        return {}
    made: dict[int, str] = {}

    def record(name: str, make: Callable[[], nn.Module]) -> nn.Module:
        module = make()
        made[id(module)] = name
        return module

    with torch.device("meta"):
        assembled: nn.Module = assemble(genotype, shape, record, "final")
    return {
        name: made[id(module)] for name, module in assembled.named_modules() if id(module) in made
    }


def _blocks(
    network: nn.Module, space: SearchSpace, genotype: Genotype, shape: ImageShape
) -> Iterator[_Block]:
    """Yield the blocks of a network of the spaces `residual` and `mobile`; none of other spaces."""
    if isinstance(space, ResidualSpace):
        number = 0
        for index, stage in enumerate(space.stages(genotype)):
            for place in range(stage.depth):
                module = network.get_submodule(f"blocks.{number}")
                inside = ".0" if stage.block in ("basic", "bottleneck") else ""
                inside = ".body" if isinstance(module, ops.Sum) else inside
                prefix = f"blocks.{number}{inside}"
                yield _Block(prefix, index, place, stage.block, stage.channels)
                number += 1
    elif isinstance(space, MobileSpace):
        places = [
            (index, place)
            for index, (_, repeats, _) in enumerate(space.config.stages)
            for place in range(repeats)
        ]
        plans = space.plans(shape, "final")
        for plan, active in zip(plans, space.operations(genotype), strict=True):
            index, place = places[plan.index]
            for position, operation in enumerate(active):
                if OPS[operation] in INVERTED:
                    prefix = f"blocks.{plan.index}.operations.{position}.body"
                    kernel, expansion = INVERTED[OPS[operation]]
                    kind = f"inverted{expansion}" if kernel == 3 else OPS[operation]
                    yield _Block(prefix, index, place, kind, plan.out_channels)


# --- names of torchvision -----------------------------------------------------------------------


def _torchvision(
    blocks: list[_Block], tensors: Mapping[str, Tensor], space: SearchSpace
) -> dict[str, str]:
    """Return torchvision's names of the modules of a network; empty for other architectures."""
    found = _torchvision_blocks(tensors)
    if not found:
        return {}
    is_resnet = "conv1.weight" in tensors
    last = max((int(n) for n in re.findall(r"features\.(\d+)\.0\.", "\n".join(tensors))), default=0)
    names = (
        {"stem.0": "conv1", "stem.1": "bn1"}
        if is_resnet
        else {"stem.0": "features.0.0", "stem.1": "features.0.1"}
    )
    classifier = "fc" if is_resnet else "classifier.1"
    if isinstance(space, MobileSpace):
        names |= {"head.5": classifier}
        names |= {} if is_resnet else {f"head.{i}": f"features.{last}.{i}" for i in (0, 1)}
    else:
        names |= {"head": classifier}
    for block in blocks:
        alike = found.get((block.kind, block.channels), [])
        if block.place < len(alike):
            inside = _INSIDE[block.kind.rstrip("36")]
            names |= {
                f"{block.prefix}.{own}": f"{alike[block.place]}.{theirs}"
                for own, theirs in inside.items()
            }
    return names


def _torchvision_blocks(tensors: Mapping[str, Tensor]) -> dict[tuple[str, int], list[str]]:
    """Return the names of the blocks of a ResNet or MobileNetV2 by kind and channels, in order.

    Of ResNets that repeat a number of channels, such as WideResNet, the first stage counts.
    """
    found: dict[tuple[str, int], list[str]] = defaultdict(list)
    for name, tensor in tensors.items():
        if match := re.fullmatch(r"(layer\d\.\d+)\.conv([23])\.weight", name):
            is_bottleneck = f"{match[1]}.conv3.weight" in tensors
            if match[2] == ("3" if is_bottleneck else "2"):
                kind = "bottleneck" if is_bottleneck else "basic"
                found[kind, tensor.shape[0]].append(match[1])
        elif match := re.fullmatch(r"(features\.\d+)\.conv\.2\.weight", name):
            expanded = tensors.get(f"{match[1]}.conv.0.0.weight")
            if tensor.ndim == 4 and expanded is not None:
                expansion = expanded.shape[0] // expanded.shape[1]
                found[f"inverted{expansion}", tensor.shape[0]].append(match[1])
    return found
