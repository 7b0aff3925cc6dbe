"""A trained network as a file that holds numbers and nothing that could be run."""

import json
from dataclasses import asdict
from pathlib import Path

from safetensors.torch import save_file

from components.config import Config
from components.deliverables import GENOTYPE, WEIGHTS
from nascore.data.store import DatasetInfo
from nascore.final import FinalModel, Predictor

VERSION = 1


def write_model(folder: Path, final: FinalModel, info: DatasetInfo, settings: Config) -> None:
    """Writes the weights of `nascore.final.Predictor`, and what its network is built from."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = Predictor(final.network, info).state_dict()
    save_file({name: value.contiguous() for name, value in weights.items()}, folder / WEIGHTS)
    described = {
        "version": VERSION,
        "genotype": final.genotype.to_dict(),
        "space": settings.search.space.model_dump(mode="json"),
        "shape": asdict(final.shape),
        "classes": info.classes,
    }
    (folder / GENOTYPE).write_text(json.dumps(described, indent=2))
