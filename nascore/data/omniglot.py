"""Omniglot (Lake et al., Science 2015): 1,623 handwritten characters of 50 alphabets, 20 of each.

Read from the folders that torchvision makes, `omniglot-py/images_background` and
`images_evaluation`, or one of them; they have a folder for each alphabet and in it a folder for
each character. A class is a character, its group the alphabet. The published division into
background and evaluation is not used: whole alphabets are drawn for the splits.
"""

from pathlib import Path

from nascore.config import DataConfig
from nascore.data.endings import is_image
from nascore.data.file_access import FileEntry, LocalFiles
from nascore.data.findings import Findings
from nascore.data.image_folders import read_listed
from nascore.data.listing import Listing, check_names
from nascore.data.raw_dataset import Raw
from nascore.errors import InputError

_FOLDER = "omniglot-py"
_PARTS = ("images_background", "images_evaluation")


def read_omniglot(config: DataConfig, path: str, findings: Findings) -> Raw:
    """Read Omniglot; images are 105 x 105 unless `data.image_size` is set, usually to 28.

    Raises:
        InputError: The files are missing and cannot be downloaded, or are damaged.
    """
    root = config.root or Path.home() / ".cache" / "nas" / config.source
    folder = root / _FOLDER
    if not any((folder / part).is_dir() for part in _PARTS):
        _download(root)
    files = LocalFiles(folder.resolve())
    found = sorted(entry for entry in files.entries() if _is_drawing(entry))
    findings.problems = check_names(found, findings.problems, config)
    names = ["/".join(entry.name.split("/")[1:3]) for entry in found]
    listing = Listing.of(found, names)
    groups = tuple(name.partition("/")[0] for name in listing.classes)
    listing = Listing(listing.entries, listing.labels, listing.classes, groups=groups)
    return read_listed(config, files, listing, findings)


def _is_drawing(entry: FileEntry) -> bool:
    """Return whether a file is like `images_background/Greek/character01/0394_01.png`."""
    parts = entry.name.split("/")
    return len(parts) == 4 and parts[0] in _PARTS and is_image(parts[-1])


def _download(root: Path) -> None:
    from torchvision import datasets  # brings torch

    try:
        for background in (True, False):
            datasets.Omniglot(str(root), background=background, download=True)
    except (OSError, RuntimeError) as error:
        raise InputError.of(
            "data.root",
            root,
            f"omniglot is not there and cannot be downloaded ({error}); put torchvision's files "
            f"({_FOLDER}/{_PARTS[0]}/ALPHABET/CHARACTER/) into this folder, or use "
            "data.source=imagefolder:PATH with a folder an alphabet and in it a folder a character",
        ) from error
