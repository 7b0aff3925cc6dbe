"""A start from trained weights: layers are matched by name and shape, and taken whole or not.

A normalisation is taken only together with the layer before it, whose output its averages describe.
The first convolution may read another number of channels, and the classifier may have other
classes. What was taken is reported; a file of which too little fits is refused.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nascore.errors import InputError
from nascore.pretrained.part_names import Renaming
from nascore.pretrained.weight_files import KEY, WeightFile

MIN_SHARE = 0.5
"""Share of the parameters, without the classifier, that must fit by their names."""
MIN_SHARE_OF_PARTS = 0.1
"""The same for networks of a search space, of which a file may have some kinds of blocks only."""
_COUNTER = "num_batches_tracked"
_ABSENT = "not in the file"
_SHOWN = 4  # names in a message


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A layer that keeps its initial weights, and why."""

    name: str
    reason: str

    def __str__(self) -> str:
        return f"{self.name} ({self.reason})"


@dataclass(frozen=True, slots=True)
class WeightTransfer:
    """What a network has taken from a file of weights.

    Attributes:
        share: of the parameters, without the classifier, that were taken.
        taken: names of the layers.
        left_out: the other layers.
        first_convolution: how its channels were changed; None where they are the same.
        unused: names of the tensors of the file that no layer has taken.
    """

    source: str
    sha256: str
    share: float
    taken: tuple[str, ...]
    left_out: tuple[LeftOut, ...]
    first_convolution: str | None
    unused: tuple[str, ...]

    def __str__(self) -> str:
        total = len(self.taken) + len(self.left_out)
        parts = [
            f"{len(self.taken)} of {total} layers and {self.share:.1%} of the parameters "
            f"(without the classifier) start from {self.source} (SHA-256 {self.sha256[:12]})"
        ]
        if self.first_convolution is not None:
            parts.append(self.first_convolution)
        parts.append(f"left out: {_first(self.left_out)}" if self.left_out else "nothing left out")
        if self.unused:
            parts.append(f"unused in the file: {_first(self.unused)}")
        return "; ".join(parts)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON."""
        return {
            "source": self.source,
            "sha256": self.sha256,
            "share": self.share,
            "taken": list(self.taken),
            "left_out": {one.name: one.reason for one in self.left_out},
            "first_convolution": self.first_convolution,
            "unused": list(self.unused),
        }


@dataclass(frozen=True, slots=True)
class _Layer:
    """The tensors that belong to one module itself, without those of modules inside it."""

    name: str
    module: nn.Module
    own: Mapping[str, Tensor]

    @property
    def num_params(self) -> int:
        return sum(parameter.numel() for parameter in self.module.parameters(recurse=False))

    @property
    def is_normalisation(self) -> bool:
        return all(tensor.ndim <= 1 for tensor in self.own.values())


def load_weights(
    network: nn.Module,
    file: WeightFile,
    *,
    classes: Sequence[str],
    renaming: Renaming | None = None,
    needed: float = MIN_SHARE,
) -> WeightTransfer:
    """Copy the weights that fit into a network.

    Args:
        network: on any device; it is not changed when the file is refused.
        file: the weights.
        classes: names of the classes of the network in the order of its outputs.
        renaming: names of modules in the file by parts (`nascore.pretrained.part_names`); None
            where they are those of the network.
        needed: share of the parameters, without the classifier, that must fit.

    Raises:
        InputError: too few parameters fit, or weights are not finite.
    """
    plan, transfer = fit(network, file, classes=classes, renaming=renaming)
    if transfer.share < needed:
        raise refusal(network, file, transfer, needed)
    broken = [name for name, tensor in plan.items() if not torch.isfinite(tensor).all()]
    if broken:
        message = f"has weights that are not finite: {_first(broken)}; use another file"
        raise InputError.of(KEY, file.source, message)
    state = network.state_dict()
    with torch.no_grad():
        for name, tensor in plan.items():
            state[name].copy_(tensor)
    return transfer


def fit(
    network: nn.Module,
    file: WeightFile,
    *,
    classes: Sequence[str],
    renaming: Renaming | None = None,
) -> tuple[dict[str, Tensor], WeightTransfer]:
    """Return the tensors that fit by their names in a network, and a report; copy nothing.

    Arguments as for `load_weights`; the network may be on the device `meta`.
    """
    layers = [one for one in (_layer(*named) for named in network.named_modules()) if one.own]
    first = next((one for one in layers if isinstance(one.module, nn.Conv2d)), None)
    last = [one for one in layers if isinstance(one.module, nn.Linear | nn.Conv2d)][-1:]
    theirs = _by_module(file.tensors)
    plan: dict[str, Tensor] = {}
    taken, left_out, used = list[str](), list[LeftOut](), set[str]()
    note: str | None = None
    before_fits = True
    for layer in layers:
        source = layer.name if renaming is None else renaming(layer.name)
        found: Mapping[str, Tensor] = {} if source is None else theirs.get(source, {})
        if layer is first:
            found, note = _with_channels(layer, found)
        reason = _misfit(layer, found)
        if not reason and layer.is_normalisation and not before_fits:
            reason = "the layer before it was left out"
        if layer in last:
            reason = _other_classes(layer, found, file.classes, classes) or reason
        before_fits = not reason
        if reason:
            left_out.append(LeftOut(layer.name, reason))
            continue
        taken.append(layer.name)
        used |= {_joined(source or "", name) for name in found}
        plan |= {_joined(layer.name, name): tensor for name, tensor in found.items()}
    counted = {one.name: one.num_params for one in layers if one not in last or len(layers) == 1}
    transfer = WeightTransfer(
        source=file.source,
        sha256=file.sha256,
        share=sum(counted.get(name, 0) for name in taken) / max(1, sum(counted.values())),
        taken=tuple(taken),
        left_out=tuple(left_out),
        first_convolution=note if first is not None and first.name in taken else None,
        unused=tuple(n for n in file.tensors if n not in used and not n.endswith(_COUNTER)),
    )
    return plan, transfer


def _layer(name: str, module: nn.Module) -> _Layer:
    own = dict(module.named_parameters(recurse=False)) | dict(module.named_buffers(recurse=False))
    stored = module.state_dict(keep_vars=True)  # without buffers that are not stored
    return _Layer(name, module, {n: t for n, t in own.items() if n in stored and n != _COUNTER})


def _by_module(tensors: Mapping[str, Tensor]) -> Mapping[str, Mapping[str, Tensor]]:
    found = defaultdict[str, dict[str, Tensor]](dict)
    for name, tensor in tensors.items():
        module, _, own = name.rpartition(".")
        if own != _COUNTER:
            found[module][own] = tensor
    return found


def _misfit(layer: _Layer, found: Mapping[str, Tensor]) -> str:
    """Return why a layer cannot take what a file has under its name; empty if it can."""
    if not found:
        return _ABSENT
    if found.keys() != layer.own.keys():
        return f"{_names(found)} in the file, {_names(layer.own)} in the network"
    for name, tensor in layer.own.items():
        if found[name].shape != tensor.shape:
            return f"{name} is {_size(found[name])} in the file, {_size(tensor)} in the network"
        if found[name].is_complex() or not found[name].is_floating_point():
            return f"{name} has numbers of the type {found[name].dtype} in the file"
    return ""


def _with_channels(
    layer: _Layer, found: Mapping[str, Tensor]
) -> tuple[Mapping[str, Tensor], str | None]:
    """Return the tensors of the first convolution for the channels of the images, and a note.

    The sum over channels answers a grey image as the file's network answers it with that image in
    each of its channels.
    """
    weight, own = found.get("weight"), layer.own["weight"]
    if weight is None or weight.ndim != 4 or weight.shape[0] != own.shape[0]:
        return found, None
    given, wanted = weight.shape[1], own.shape[1]
    if given == wanted or weight.shape[2:] != own.shape[2:]:
        return found, None
    if wanted == 1:
        note = f"the first convolution was summed over {given} channels"
        return {**found, "weight": weight.sum(dim=1, keepdim=True)}, note
    if given == 1:
        note = f"the first convolution was divided among {wanted} channels"
        return {**found, "weight": weight.expand(-1, wanted, -1, -1) / wanted}, note
    return found, None


def _other_classes(
    layer: _Layer,
    found: Mapping[str, Tensor],
    theirs: Sequence[str] | None,
    ours: Sequence[str],
) -> str:
    """Return why the last layer is left out as classifier; empty where its classes may be ours."""
    weight = found.get("weight")
    if weight is None or weight.shape[1:] != layer.own["weight"].shape[1:]:
        return ""
    if weight.shape[0] != layer.own["weight"].shape[0]:
        return f"classifier of {weight.shape[0]} classes, not {layer.own['weight'].shape[0]}"
    if theirs is not None and tuple(theirs) != tuple(ours):
        return "classifier of other classes"
    return ""


def refusal(
    network: nn.Module, file: WeightFile, transfer: WeightTransfer, needed: float
) -> InputError:
    """Return the error about a file of which too little fits: which names, which shapes.

    Args:
        network: the network.
        file: the weights.
        transfer: from `fit`.
        needed: share of the parameters that must fit.
    """
    absent = [one.name for one in transfer.left_out if one.reason == _ABSENT]
    other = [one for one in transfer.left_out if one.reason != _ABSENT]
    details = []
    if other:
        details.append(f"do not fit: {_first(other)}")
    if absent:
        details.append(f"not in the file: {_first(absent)}")
    if transfer.unused:
        shapes = [f"{name} {_size(file.tensors[name])}" for name in transfer.unused]
        details.append(f"not taken from the file: {_first(shapes)}")
    message = (
        f"is of another architecture: {transfer.share:.1%} of the parameters of "
        f"{type(network).__name__} fit, and at least {needed:.0%} must; {'; '.join(details)}; "
        "write weights of the same architecture, or set it to null"
    )
    return InputError.of(KEY, file.source, message)


def _joined(module: str, name: str) -> str:
    return f"{module}.{name}" if module else name


def _size(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a scalar"


def _names(tensors: Mapping[str, Tensor]) -> str:
    return "+".join(sorted(tensors))


def _first(items: Sequence[object]) -> str:
    shown = ", ".join(map(str, items[:_SHOWN]))
    rest = len(items) - _SHOWN
    return f"{shown} and {rest} more" if rest > 0 else shown
