"""Kinds of networks: how each one is rebuilt, deployed, measured, tested and exported.

A kind is one module with an instance of `NetworkKind` called `KIND`, and one line in
`NETWORK_KINDS`. A network of a kind other than `static` describes itself by a method `blueprint`,
a JSON mapping whose key `kind` names its kind.
"""

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray
from torch import nn
from torch.export import ExportedProgram

from nascore.config import LatencyConfig, Section, SpaceSection
from nascore.data.batches import Splits
from nascore.data.prepared import DatasetInfo
from nascore.errors import CheckpointError
from nascore.genotype import Genotype
from nascore.latency.benchmark import LatencyResult, measure
from nascore.seeding import Seeds
from nascore.spaces.base import ArchitectureGraph, ImageShape, SearchSpace
from nascore.training.child import build_network

if TYPE_CHECKING:
    from nascore.latency.space_profile import Check
    from nascore.latency.table import OperationTable
    from nascore.training.final_model import DeployedModel, FinalModel

NETWORK_KINDS: Mapping[str, str] = {
    "static": "nascore.training.network_kinds",
    "flip-averaged": "nascore.training.flip_averaging",
    "routed": "nascore.methods.instanas.network_kind",
    "few-shot": "nascore.meta_learning.network_kind",
    "reference": "nascore.reference.network_kind",
}
"""Module of each kind, imported when it is needed."""

FewShotTask = dict[str, NDArray[np.generic]]
"""`support_x`, `support_y`, `query_x`, `query_y`; pixels as they are stored."""


@dataclass(frozen=True, slots=True)
class Programs:
    """Programs of `torch.export` that a network can be exported as.

    Attributes:
        by_file: by file name; each maps pixels as they are stored, float (B, C, H, W) of 0..255,
            to the outputs of the network.
        description: content of `programs.json`.
    """

    by_file: Mapping[str, ExportedProgram] = field(default_factory=dict)
    description: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Examples:
    """Data of a run, with which its networks are measured and tested.

    Attributes:
        options: of the method of the run.
    """

    splits: Splits
    options: Section
    seeds: Seeds


class NetworkKind:
    """A kind of network. The methods of this class are those of static networks."""

    def rebuild(
        self,
        spec: Mapping[str, Any],
        space: SearchSpace,
        genotype: Genotype,
        shape: ImageShape,
    ) -> nn.Module:
        """Return a network whose weights are to be loaded.

        Args:
            spec: what `blueprint` of the network returned.
            space: search space of the genotype.
            genotype: the architecture.
            shape: of the images and classes.

        Raises:
            CheckpointError: the space has no such networks.
        """
        return build_network(space, genotype, shape, seed=0, final=True)

    def describe(self, spec: Mapping[str, Any], space: SearchSpace, genotype: Genotype) -> str:
        """Return the architecture as one line of text; see `rebuild` for the arguments."""
        return space.describe(genotype)

    def graph(
        self,
        spec: Mapping[str, Any],
        space: SearchSpace,
        genotype: Genotype,
        shape: ImageShape,
    ) -> ArchitectureGraph:
        """Return the architecture as a graph to draw; see `rebuild` for the arguments."""
        return space.graph(genotype, shape)

    def deployed(self, network: nn.Module) -> nn.Module:
        """Return the network as it is deployed: normalised images to logits, or more."""
        return network

    def adapter(self, model: "DeployedModel") -> Any:
        """Return the adapter that learns the classes of a few-shot task.

        Raises:
            TypeError: networks of this kind learn no classes after their training.
        """
        raise TypeError("networks with fixed classes learn no others")

    def tasks(self, examples: Examples, split: str, number: int) -> Sequence[FewShotTask]:
        """Return few-shot tasks of a split; empty for kinds that are tested on single images."""
        return ()

    def profile(
        self,
        final: "FinalModel",
        config: LatencyConfig,
        examples: Callable[[], Examples],
    ) -> tuple[LatencyResult, dict[str, Any]]:
        """Measure the latency of a network.

        Args:
            final: the network.
            config: protocol of the measurement.
            examples: reads real data, for kinds whose latency depends on the images.

        Returns:
            The latency, and further measurements of this kind of networks as JSON.

        Raises:
            InputError: `latency.device` is cuda and there is none.
        """
        return measure(final.network, final.shape, config), {}

    def profile_space(
        self,
        section: SpaceSection,
        shape: ImageShape,
        config: LatencyConfig,
        *,
        options: Section,
        num_checked: int,
        seed: int,
    ) -> "tuple[OperationTable, Check, list[str]]":
        """Measure a latency table of the operations of a search space, and check it.

        Args:
            section: search space.
            shape: shape of the images and number of classes.
            config: measurement protocol.
            options: options of the method that will read the table.
            num_checked: random networks whose measured latency is compared with the table's sum.
            seed: seed of the random networks.

        Returns:
            The table, its check, and further lines about the table for the user.

        Raises:
            InputError: a setting of `latency` does not suit the networks or this machine.
        """
        from nascore.latency.space_profile import profile_space  # imports scipy

        table, check = profile_space(section, shape, config, num_checked=num_checked, seed=seed)
        return table, check, []

    def programs(self, final: "FinalModel", info: DatasetInfo) -> Programs:
        """Return the programs that such a network is exported as besides its weights."""
        return Programs()


KIND = NetworkKind()


def kind_named(name: str) -> NetworkKind:
    """Return a kind by its name.

    Raises:
        CheckpointError: no kind has this name.
    """
    module = NETWORK_KINDS.get(name)
    if module is None:
        known = ", ".join(NETWORK_KINDS)
        raise CheckpointError(f"the network is of the kind {name!r}; this version knows {known}")
    return cast(NetworkKind, importlib.import_module(module).KIND)


def kind_of(network: nn.Module) -> NetworkKind:
    """Return the kind of a trained network."""
    return kind_named(str(spec_of(network)["kind"]))


def spec_of(network: nn.Module) -> dict[str, Any]:
    """Return the JSON from which a network is built, besides its genotype."""
    described = getattr(network, "blueprint", None)
    return {"kind": "static"} if described is None else dict(described())


def describe(final: "FinalModel", space: SearchSpace) -> str:
    """Return the architecture of a trained network as one line of text."""
    spec = spec_of(final.network)
    return kind_named(spec["kind"]).describe(spec, space, final.genotype)


def graph_of(final: "FinalModel", space: SearchSpace) -> ArchitectureGraph:
    """Return the architecture of a trained network as a graph to draw."""
    spec = spec_of(final.network)
    return kind_named(spec["kind"]).graph(spec, space, final.genotype, final.shape)
