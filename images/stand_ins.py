"""Makes PyTorch's CUDA build start without NVIDIA's libraries, for the CPU variant of the image.

The package index has no CPU build of PyTorch for Linux on x86-64. The CUDA build computes on CPUs
just as well, but links to 3 GB of NVIDIA's libraries and does not start without them. For each one
that is missing, this puts a stand-in beside torch's own libraries. It has the functions that torch
names, and each of them returns 1, which is an error in all of these libraries. None is called,
since torch finds no GPU.

Run while the image is built: `python stand_ins.py SITE_PACKAGES`, with what tools-cpu.txt names.
Where no library is missing, as in the official CPU build, nothing is made.
"""

import os
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from elftools.elf.elffile import ELFFile
from elftools.elf.gnuversions import GNUVerNeedSection, GNUVerSymSection

# Names of functions in C, by library; all that torch links to.
_FUNCTIONS = re.compile(
    r"(cublas|cudnn|cufft|cuFile|cupti|curand|cusolver|cusparse|nccl|nvrtc|nvshmem)\w+"
)
_LIBRARIES = re.compile(
    r"lib(cublas|cublasLt|cudnn|cufft|cufile|cupti|curand|cusolver|cusparse|cusparseLt|nccl|nvrtc|"
    r"nvshmem_host)\.so\.\d+"
)
_NAME = "libnvidia_stand_in.so"


@dataclass(frozen=True, slots=True)
class Need:
    """What a library wants of others.

    Attributes:
        libraries: sonames.
        functions: name and version of each; the version is empty where it asks for none.
    """

    libraries: frozenset[str]
    functions: frozenset[tuple[str, str]]


def read(path: Path) -> Need:
    """Read the dynamic section, the undefined symbols and their versions."""
    with open(path, "rb") as file:
        elf = ELFFile(file)
        dynamic = elf.get_section_by_name(".dynamic")
        tags = dynamic.iter_tags("DT_NEEDED") if dynamic else ()
        libraries = frozenset(str(tag.needed) for tag in tags)
        return Need(libraries, frozenset(_functions(elf)))


def _functions(elf: ELFFile) -> Iterator[tuple[str, str]]:
    versions = {0: "", 1: ""}  # of no version: local, global
    index: GNUVerSymSection | None = None
    for section in elf.iter_sections():
        if isinstance(section, GNUVerNeedSection):
            for _, entries in section.iter_versions():
                versions |= {one["vna_other"]: str(one.name) for one in entries}
        elif isinstance(section, GNUVerSymSection):
            index = section
    symbols = elf.get_section_by_name(".dynsym")
    for number, symbol in enumerate(symbols.iter_symbols() if symbols else ()):
        if symbol["st_shndx"] == "SHN_UNDEF" and _FUNCTIONS.fullmatch(symbol.name):
            version = index.get_symbol(number)["ndx"] if index else 0
            yield symbol.name, versions[0 if isinstance(version, str) else version & 0x7FFF]


def sources(functions: frozenset[tuple[str, str]]) -> tuple[str, str]:
    """The stand-in in C, and the linker's script that gives functions their versions."""
    names = sorted({name for name, _ in functions})
    code = "".join(f"int {name}(void) {{ return 1; }}\n" for name in names)
    by_version = defaultdict(list)
    for name, version in sorted(functions):
        if version:
            by_version[version].append(name)
    nodes = (f"{one} {{ global: {'; '.join(by_version[one])}; }};\n" for one in sorted(by_version))
    return code, "".join(nodes)


def make(site: Path) -> list[str]:
    """Make what is missing; return the names of the libraries that were stood in for."""
    torch = site / "torch" / "lib"
    needs = [read(path) for path in sorted(torch.glob("*.so"))]
    there = {path.name for path in site.rglob("*.so*")}
    missing = {name for need in needs for name in need.libraries if _LIBRARIES.fullmatch(name)}
    missing -= there
    if not missing:
        return []
    code, script = sources(frozenset().union(*(need.functions for need in needs)))
    with TemporaryDirectory() as folder:
        (Path(folder) / "stand_in.c").write_text(code)
        (Path(folder) / "versions").write_text(script)
        command = [sys.executable, "-m", "ziglang", "cc", "-mcpu=baseline", "-O1", "-shared"]
        command += ["-fPIC", "-nostdlib", "-Wl,--version-script=versions", "stand_in.c"]
        command += ["-o", str(torch.resolve() / _NAME)]
        environment = {**os.environ, "ZIG_GLOBAL_CACHE_DIR": folder}
        subprocess.run(command, cwd=folder, env=environment, check=True)
    for name in missing:
        (torch / name).symlink_to(_NAME)
    return sorted(missing)


def main() -> None:
    """Make stand-ins in the folder that is named on the command line."""
    (folder,) = sys.argv[1:]
    made = make(Path(folder))
    print(f"stand-ins for {', '.join(made)}" if made else "no library is missing")


if __name__ == "__main__":
    main()
