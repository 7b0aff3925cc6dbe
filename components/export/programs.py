"""Programs of `torch.export` that a run exports besides its weights; they need no class of ours.

`programs.json` describes them; its content is that of the kind of network
(`nascore.training.network_kinds`). All take pixels as they are stored, float (B, C, H, W) of
0..255, and any number of images.
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

    Returns:
        The files by their names; none where the network's kind has no programs.
    """
    programs = kind_of(final.network).programs(final, info)
    if not programs.by_file:
        return {}
    folder.mkdir(parents=True, exist_ok=True)
    for name, program in programs.by_file.items():
        torch.export.save(program, folder / name)
    (folder / PROGRAMS).write_text(json.dumps(programs.description, indent=2))
    return {name: folder / name for name in (*programs.by_file, PROGRAMS)}
