"""Real data set without pictures: the kind of a file, recognised from 256 of its bytes.

The samples are windows of the files of this Python and of scikit-learn, as signals of two channels:
the bytes, and their differences to the preceding byte, folded into 16 x 16. Train and test windows
are from different files. Images of malware are made in this way (Nataraj et al., VizSec 2011, cited
by NASIB).
"""

import argparse
import sysconfig
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import sklearn
from numpy.typing import NDArray

KINDS = ("source", "bytecode", "machine code", "compressed")
WINDOW, SIDE = 256, 16


def files_of(kind: str) -> list[Path]:
    """Return the files of a kind in a fixed order."""
    library, data = Path(sysconfig.get_path("stdlib")), Path(sklearn.__file__).parent
    found = {
        "source": library.glob("*.py"),
        "bytecode": library.glob("__pycache__/*.pyc"),
        "machine code": data.glob("**/*.so"),
        "compressed": [*data.glob("datasets/data/*.gz"), *data.glob("datasets/images/*.jpg")],
    }[kind]
    return sorted(found, key=lambda path: path.as_posix())


def windows(files: Sequence[Path], number: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return windows (N, 16, 16, 2) at random places, in proportion to the lengths of the files."""
    contents = [np.frombuffer(path.read_bytes(), np.uint8) for path in files]
    long = [content for content in contents if len(content) > WINDOW]
    lengths = np.array([len(content) - WINDOW for content in long])
    chosen = rng.choice(len(long), number, p=lengths / lengths.sum())
    starts = [int(rng.integers(1, lengths[file] + 1)) for file in chosen]
    bytes_NW = np.stack([long[f][at : at + WINDOW] for f, at in zip(chosen, starts, strict=True)])
    before_NW = np.stack(
        [long[f][at - 1 : at - 1 + WINDOW] for f, at in zip(chosen, starts, strict=True)]
    )
    both_NWC = np.stack([bytes_NW, bytes_NW - before_NW], axis=2)  # modulo 256
    return both_NWC.reshape(number, SIDE, SIDE, 2)


def write(path: Path, *, num_train: int = 2000, num_test: int = 400, seed: int = 0) -> None:
    """Write an archive for `data.source=npz:PATH` with equal numbers of windows of each kind."""
    rng = np.random.default_rng(seed)
    arrays: dict[str, list[NDArray[np.uint8]]] = {"x_train": [], "x_test": []}
    for kind in KINDS:
        files = files_of(kind)
        held_out = files[::4]
        seen = [file for file in files if file not in held_out]
        arrays["x_train"].append(windows(seen, num_train // len(KINDS), rng))
        arrays["x_test"].append(windows(held_out, num_test // len(KINDS), rng))
    labels = {
        name.replace("x", "y"): np.repeat(np.arange(len(KINDS)), [len(part) for part in parts])
        for name, parts in arrays.items()
    }
    images = {name: np.concatenate(parts) for name, parts in arrays.items()}
    np.savez(path, classes=np.array(KINDS), **images, **labels)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("path", type=Path, help="the archive to write, .npz")
    write(parser.parse_args().path)
