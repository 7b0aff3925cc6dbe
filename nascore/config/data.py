"""Settings of the images."""

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from nascore.config.addresses import check_files, check_folder, check_source
from nascore.section import Fraction, Positive, Section

FOLDERS = "folders"
_COLOURS = {"white": "#ffffff", "black": "#000000", "grey": "#808080", "gray": "#808080"}
_CODE = re.compile(r"#[0-9a-fA-F]{6}")


def _check_colour(text: str) -> str:
    if text not in _COLOURS and not _CODE.fullmatch(text):
        raise ValueError("is not a colour; write white, black, grey, or a code such as '#ff8000'")
    return text


class DataConfig(Section):
    """Source, checks and splits of the images."""

    source: Annotated[str, AfterValidator(check_source)] = "digits"
    """`digits`, `cifar10`, `cifar100`, `omniglot`, or KIND:PATH with the kind `imagefolder`, `npz`,
    `npy`, `safetensors` or `parquet`. The path is local or s3://; an image folder may be a zip or
    tar file."""
    root: Annotated[Path, BeforeValidator(check_folder)] | None = None
    """Folder of torchvision's files of cifar10, cifar100 or omniglot; missing files are downloaded
    there."""
    labels: Annotated[str, AfterValidator(check_files)] | None = None
    """Table of the labels (.csv, .tsv, .jsonl, .parquet), in the source or on this machine;
    `folders` ignores tables and takes the folders as classes. By default a table in the source is
    found by its content."""
    file_column: str | None = None
    """Column of the table with the image files; by default found by its name or content."""
    label_column: str | None = None
    """Column of the table with the labels; by default found by its name."""
    split_column: str | None = None
    """Column of the table with train, valid or test; by default found by its name."""
    group: str | None = None
    """Column of the table, such as a patient or a video; all images with the same value are in
    the same split."""
    valid_fraction: Fraction = 0.15
    """Fraction of the training images that selects architectures; the test split is never used for
    that."""
    test_fraction: Fraction = 0.2
    """Fraction of the images that is the test split, where the source has none."""
    split_by: Literal["image", "class"] | None = None
    """`image`: all splits have the same classes. `class`: the splits have different classes, or
    groups of classes (alphabets) where the source has groups; then `data.valid_fraction` and
    `data.test_fraction` are fractions of the number of classes or groups. By default as the method
    needs."""
    image_size: Annotated[int, Field(ge=4, le=1024)] | None = None
    """Height and width to which images are resized; required when images differ in size."""
    channels: Literal[1, 3] | None = None
    """Convert image files to grey (1) or colour (3); by default grey if all files are grey."""
    background: Annotated[str, AfterValidator(_check_colour)] = "white"
    """Colour behind transparent pixels: white, black, grey or #rrggbb."""
    axes: Literal["NHWC", "NCHW"] | None = None
    """Order of the axes of arrays; required where their shape is ambiguous."""
    allow_skipped: bool = False
    """Skip files that cannot be read as images, and images without a label, even if they are more
    than 1 % of a class."""
    strict: bool = False
    """Refuse a run for every problem of `nas check-data`, such as duplicates; otherwise they are
    warnings in the result."""
    max_train: Positive | None = None
    """Largest number of images of train and valid together, a stratified sample."""
    max_unpacked_mb: Positive = 65_536
    """Size of an unpacked archive above which it is refused."""
    memory_limit_mb: Positive = 4096
    """Size of decoded images above which an image folder is not part of the prepared data. It is
    then decoded once on each machine, or in each training if the cache has no room."""
    decoded_cache_mb: Annotated[int, Field(ge=0)] = 10_240
    """Disk space for decoded images of folders above `data.memory_limit_mb`, shared by all runs on
    a machine; the least recently used are deleted first."""
    cache_mb: Annotated[int, Field(ge=0)] = 10_240
    """Disk space for copies of images that are streamed from S3; the least recently used are
    deleted first."""

    @property
    def background_rgb(self) -> tuple[int, int, int]:
        """Return the background as red, green and blue in 0..255."""
        text = _COLOURS.get(self.background, self.background)
        return int(text[1:3], 16), int(text[3:5], 16), int(text[5:7], 16)
