"""A trained network as files that contain numbers and no code.

`model.safetensors` has the weights of the network under `network.`, and the normalisation of its
data as `scale_C11` and `shift_C11`. `genotype.json` has what the network is built from:

| key | content |
| --- | --- |
| `version` | version of this format |
| `genotype` | genotype of the network; for routed networks, of the path of most images |
| `space`, `shape` | settings of the search space; channels, size and classes of the images |
| `classes` | names, in the order of the logits |
| `class_splits` | for few-shot networks instead of `classes`: names by split |
| `network` | for networks other than static ones: what `read_network` needs in addition |
"""

import json
from dataclasses import asdict
from pathlib import Path

from pydantic import TypeAdapter
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from components.config.schema import Config
from components.export.manifest import GENOTYPE, WEIGHTS
from nascore.config import SpaceConfig
from nascore.data.class_splits import SPLITS
from nascore.data.prepared import DatasetInfo
from nascore.genotype import Genotype
from nascore.spaces.base import ImageShape, make_space
from nascore.training.final_model import DeployedModel, FinalModel
from nascore.training.network_kinds import kind_named, spec_of

VERSION = 1
_PREFIX = "network."


def write_model(folder: Path, final: FinalModel, info: DatasetInfo, settings: Config) -> None:
    """Write the weights of the network with its normalisation, and what it is built from.

    Args:
        folder: folder of the two files.
        final: the trained network.
        info: data of the run.
        settings: configuration of the run.
    """
    folder.mkdir(parents=True, exist_ok=True)
    save_file(_weights(final.network, info), folder / WEIGHTS)
    described = {
        "version": VERSION,
        "genotype": final.genotype.to_dict(),
        "space": settings.search.space.model_dump(mode="json"),
        "shape": asdict(final.shape),
    }
    if info.class_splits is None:
        described["classes"] = info.classes
    else:
        described["class_splits"] = {split: info.names_of(split) for split in SPLITS}
    spec = spec_of(final.network)
    if spec["kind"] != "static":
        described["network"] = spec
    (folder / GENOTYPE).write_text(json.dumps(described, indent=2))


def read_network(folder: Path) -> nn.Module:
    """Return the network that `write_model` wrote, in evaluation mode, for normalised images."""
    described = json.loads((folder / GENOTYPE).read_text())
    spec = described.get("network", {"kind": "static"})
    network = kind_named(spec["kind"]).rebuild(
        spec,
        make_space(TypeAdapter(SpaceConfig).validate_python(described["space"])),
        Genotype.from_dict(described["genotype"]),
        ImageShape(**described["shape"]),
    )
    weights = load_file(folder / WEIGHTS)
    network.load_state_dict(
        {name.removeprefix(_PREFIX): w for name, w in weights.items() if name.startswith(_PREFIX)}
    )
    return network.eval()


def _weights(network: nn.Module, info: DatasetInfo) -> dict[str, Tensor]:
    """Return the weights as they were trained, with the normalisation of `DeployedModel`.

    The weights of `DeployedModel` itself may have another layout than those of the training.
    """
    own = {f"{_PREFIX}{name}": value for name, value in network.state_dict().items()}
    buffers = {
        name: value
        for name, value in DeployedModel(network, info).state_dict().items()
        if not name.startswith(_PREFIX)
    }
    return {name: value.contiguous() for name, value in (own | buffers).items()}
