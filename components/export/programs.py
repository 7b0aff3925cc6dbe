"""Exports a network as programs of `torch.export`, which need no class of this project.

`programs.json` describes them; the kind of network (`nascore.training.network_kinds`) determines
its content. The input of each program is any number of images, float pixels (B, C, H, W) of 0..255.
"""

import json
from pathlib import Path

import torch

from components.export.manifest import PROGRAMS
from nascore.data.prepared import DatasetInfo
from nascore.training.final_model import FinalModel
from nascore.training.network_kinds import kind_of


def write_programs(folder: Path, final: FinalModel, info: DatasetInfo) -> dict[str, Path]:
    """Write the programs of a network.

    Args:
        folder: folder of the files.
        final: the trained network.
        info: data of the run; the normalisation is part of the programs.

    Returns:
        Paths by file name; empty for kinds of networks without programs.
    """
    programs = kind_of(final.network).programs(final, info)
    if not programs.by_file:
        return {}
    folder.mkdir(parents=True, exist_ok=True)
    for name, program in programs.by_file.items():
        torch.export.save(program, folder / name)
    (folder / PROGRAMS).write_text(json.dumps(programs.description, indent=2))
    return {name: folder / name for name in (*programs.by_file, PROGRAMS)}
