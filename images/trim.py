"""Removes from an environment what no step needs at run time, and prints how much each rule freed.

Run while the image is built: `python trim.py SITE_PACKAGES`. Only files that nothing at run time
opens are named here: sources for compilers, tests, and libraries that no other library refers to
(`tests/image` loads all that remain). What PyTorch's CUDA libraries link to stays, used or not.
"""

import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Rule:
    """Files and folders whose path below site-packages matches.

    Attributes:
        paths: regular expression over the whole path, with `/` between names.
    """

    reason: str
    paths: str


RULES = (
    Rule(
        "a second cuSOLVER for several GPUs and a second NVRTC, which nothing links to",
        r"nvidia/cu\d+/lib/lib(cusolverMg|nvrtc(-builtins)?\.alt)\.so[\d.]*",
    ),
    Rule(
        "NVIDIA's performance counters and process checkpoints, for profilers",
        r"nvidia/cu\d+/lib/lib(nvperf_host|nvperf_target|pcsamplingutil|checkpoint)\.so[\d.]*",
    ),
    Rule(
        "headers and build files, for compilers",
        r"(torch|nvidia/\w+|pyarrow|numpy/_core|numpy/f2py/src)/include"
        r"|torch/share/cmake|torch/bin/protoc[^/]*|.*\.(a|bc|cuh|h|hpp|pxd|pyx)",
    ),
    # A folder of tests is a package of its own; `testing`, which packages import, is not meant.
    Rule("tests of packages", r"[^/]+(/[^/]+)*/tests|onnx/backend/test"),
)


def matching(root: Path, pattern: str) -> Iterator[Path]:
    """Outermost files and folders whose path matches."""
    for path in sorted(root.iterdir()):
        yield from _matching(path, root, re.compile(pattern))


def _matching(path: Path, root: Path, pattern: re.Pattern[str]) -> Iterator[Path]:
    if pattern.fullmatch(path.relative_to(root).as_posix()):
        yield path
    elif path.is_dir() and not path.is_symlink():
        for one in sorted(path.iterdir()):
            yield from _matching(one, root, pattern)


def size(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    files = [path] if not path.is_dir() else [one for one in path.rglob("*") if one.is_file()]
    return sum(one.lstat().st_size for one in files)


def trim(root: Path) -> dict[str, int]:
    """Remove what the rules name; return the bytes that each freed."""
    freed = dict.fromkeys((rule.reason for rule in RULES), 0)
    for rule in RULES:
        for path in list(matching(root, rule.paths)):
            freed[rule.reason] += size(path)
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
    return freed


def main() -> None:
    """Trim the folder that is named on the command line."""
    (folder,) = sys.argv[1:]
    root = Path(folder)
    before = size(root)
    for reason, freed in trim(root).items():
        print(f"{freed / 1e6:8.1f} MB  {reason}")
    print(f"{before / 1e6:8.1f} MB before, {size(root) / 1e6:.1f} MB left in {root}")


if __name__ == "__main__":
    main()
