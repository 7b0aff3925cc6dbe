"""Which packages the image installs.

`python choose.py wanted PYPROJECT` prints what the project asks for, developers' tools left out;
`python choose.py chosen REPORT DEVICE` the pins of pip's installation report without what no step
uses: dependencies that PyTorch names, and that it does without.
"""

import json
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

# triton: torch asks whether it is installed (torch/_native, torch/utils/_triton.py) and has its own
# kernels where it is not, as on Windows. torch.compile, which needs it, is not used.
# NVIDIA's libraries in the CPU variant: images/stand_ins.py takes their place, except for cudart,
# which torch calls when it starts, and which finds no GPU.
LEFT_OUT = {"cuda": r"triton", "cpu": r"triton|cuda-.+|nvidia-(?!cuda-runtime$).+"}


def wanted(pyproject: str) -> Iterator[str]:
    """Requirements of the pipelines, and of building the project itself."""
    parsed = tomllib.loads(pyproject)
    yield from parsed["build-system"]["requires"]
    yield from parsed["project"]["dependencies"]
    yield from parsed["project"]["optional-dependencies"]["full"]


def chosen(report: str, device: str) -> Iterator[str]:
    """Pins of what pip would install, for a device."""
    left_out = re.compile(LEFT_OUT[device])
    for one in json.loads(report)["install"]:
        name, version = one["metadata"]["name"], one["metadata"]["version"]
        if not left_out.fullmatch(name.lower().replace("_", "-")):
            yield f"{name}=={version}"


def main() -> None:
    """Print one of the lists."""
    match sys.argv[1:]:
        case ["wanted", path]:
            lines = wanted(Path(path).read_text())
        case ["chosen", path, device] if device in LEFT_OUT:
            lines = chosen(Path(path).read_text(), device)
        case _:
            sys.exit(f"choose.py: DEVICE is one of {', '.join(LEFT_OUT)}; got {sys.argv[1:]}")
    print(*lines, sep="\n")


if __name__ == "__main__":
    main()
