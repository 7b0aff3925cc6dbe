"""The kind of routed networks, which choose the operations of each image.

The programs are the policy network and the stand-alone networks of the policies that most
validation images have. `programs.json` describes them:

| key | content |
| --- | --- |
| `version` | version of this format |
| `controller` | `file`: pixels -> probabilities (B, L, O); an operation is taken from 0.5 on |
| `experts` | most used first: `file`, pixels -> logits (B, K); `policy` (L, O); `num_images` |
| `num_images` | in the validation split; of an expert, those that have its policy |

B images, L blocks, O operations, K classes.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from nascore.config import LatencyConfig, Section, SpaceSection
from nascore.data.prepared import DatasetInfo
from nascore.errors import CheckpointError, InputError
from nascore.genotype import Genotype
from nascore.latency.benchmark import LatencyResult
from nascore.methods.instanas.export import export, folded
from nascore.methods.instanas.options import InstanasOptions
from nascore.methods.instanas.routed_network import Routed, rebuild
from nascore.spaces.base import ImageShape, SearchSpace
from nascore.spaces.mobilenet.config import MobileSpaceConfig
from nascore.spaces.mobilenet.space import MobileSpace
from nascore.training.final_model import DeployedModel, FinalModel
from nascore.training.network_kinds import Examples, NetworkKind, Programs

if TYPE_CHECKING:
    from nascore.latency.space_profile import Check
    from nascore.latency.table import OperationTable

VERSION = 1
MAX_EXPERTS = 3
CONTROLLER = "controller.pt2"


class RoutedKind(NetworkKind):
    """Kind of `nascore.methods.instanas.routed_network.Routed`."""

    def rebuild(
        self,
        spec: Mapping[str, Any],
        space: SearchSpace,
        genotype: Genotype,
        shape: ImageShape,
    ) -> nn.Module:
        if not isinstance(space, MobileSpace):
            raise CheckpointError(f"{space.identifier} has no networks of the kind 'routed'")
        return rebuild(dict(spec), space, shape)

    def deployed(self, network: nn.Module) -> nn.Module:
        return _routed(network).deployed()

    def profile(
        self,
        final: FinalModel,
        config: LatencyConfig,
        examples: Callable[[], Examples],
    ) -> tuple[LatencyResult, dict[str, Any]]:
        """Measure on as many validation images as are timed, and a batch."""
        # Loads scipy's statistics, a second that other networks need not wait for.
        from nascore.methods.instanas.latency_per_image import BATCH, measure

        x_BCHW, _ = next(examples().splits.valid.eval_batches(max(config.runs, BATCH)))
        unit = final.details["instanas"]["unit"]
        result, per_image = measure(_routed(final.network), x_BCHW, config, unit=unit)
        return result, {"per_image": per_image.to_dict()}

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
        """Measure one image at a time, with the policy network of the method if it has one."""
        # Loads scipy's statistics, a second that other networks need not wait for.
        from nascore.methods.instanas.cost_measurement import by_block, profile_policies

        if not isinstance(section, MobileSpaceConfig):
            raise InputError.of(
                "search.space.name", section.name, "has no networks whose path is chosen by image"
            )
        table, check, latencies = profile_policies(
            section,
            shape,
            config,
            num_checked=num_checked,
            seed=seed,
            policy=options.controller if isinstance(options, InstanasOptions) else None,
        )
        return table, check, by_block(latencies)

    def programs(self, final: FinalModel, info: DatasetInfo) -> Programs:
        network = _routed(final.network)
        policies = final.details["instanas"]["policies"]
        parts: dict[str, nn.Module] = {CONTROLLER: network.controller}
        experts: list[dict[str, Any]] = []
        for number, (policy, num_images) in enumerate(policies["most_used"][:MAX_EXPERTS], start=1):
            name = f"expert-{number}.pt2"
            parts[name] = network.meta_graph.static(torch.tensor(policy))
            experts.append({"file": name, "policy": policy, "num_images": num_images})
        return Programs(
            # The normalisation of the training data is inside, as in every deployed model.
            {
                name: export(DeployedModel(folded(part), info).eval(), final.shape)
                for name, part in parts.items()
            },
            {
                "version": VERSION,
                "controller": {"file": CONTROLLER},
                "experts": experts,
                "num_images": policies["num_images"],
            },
        )


def _routed(network: nn.Module) -> Routed:
    assert isinstance(network, Routed), "only these are of this kind"
    return network


KIND = RoutedKind()
