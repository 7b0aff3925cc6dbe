"""Settings of the images."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from nascore.section import Fraction, Positive, Section

FOLDERS = "folders"


class DataConfig(Section):
    """Where the images come from and how they are split."""

    source: str = "digits"
    """`digits`, `cifar10`, `cifar100`, `omniglot`, `npz:PATH` or `imagefolder:PATH`, local or
    s3://; also `npy:`, `safetensors:` and `parquet:PATH`. An image folder may be a zip or tar
    file."""
    root: Path | None = None
    """Folder with torchvision's own files of cifar10, cifar100 or omniglot; downloaded there when
    missing."""
    labels: str | None = None
    """Table of the labels (.csv, .tsv, .jsonl, .parquet) in the source or on this machine;
    `folders`: the folders give the classes, whatever tables lie there. Found by itself when not
    given."""
    file_column: str | None = None
    """Column of that table with the image files; found by its name or content when not given."""
    label_column: str | None = None
    """Column of that table with the labels; found by its name when not given."""
    split_column: str | None = None
    """Column of that table with train, valid or test; found by its name when not given."""
    group: str | None = None
    """Column of that table, such as a patient or a video, whose images must not be divided among
    splits."""
    valid_fraction: Fraction = 0.15
    """Share of the training images that selects architectures; the test split is never used."""
    test_fraction: Fraction = 0.2
    """Share cut off for the final test when the source brings no test split of its own."""
    split_by: Literal["image", "class"] | None = None
    """`class`: the splits have different classes, whole groups of them (alphabets) where the source
    has groups, and the fractions above are shares of the groups. As the method needs when not
    given."""
    image_size: Annotated[int, Field(ge=4, le=1024)] | None = None
    """Resize to this height and width in pixels; needed when images differ in size."""
    channels: Literal[1, 3] | None = None
    """Convert image files to grey (1) or colour (3); when not given, grey where all files are."""
    background: Annotated[str, Field(pattern=r"^(white|black|grey|gray|#[0-9a-fA-F]{6})$")] = (
        "white"
    )
    """Colour behind transparent pixels: white, black, grey or #rrggbb."""
    axes: Literal["NHWC", "NCHW"] | None = None
    """Order of the axes of arrays, where their shape is ambiguous."""
    allow_skipped: bool = False
    """Leave out files that cannot be read as images, and images without a label, even where they
    are more than 1 % of a class."""
    strict: bool = False
    """Refuse a run for everything that `nas check-data` calls a problem, such as duplicates; when
    off, what does not stop a run is a warning in its result."""
    max_train: Positive | None = None
    """Use at most this many images for train and valid together (a stratified sample)."""
    max_unpacked_mb: Positive = 65_536
    """An archive that holds more than this when unpacked is refused."""
    memory_limit_mb: Positive = 4096
    """An image folder that is larger than this when decoded is not part of the prepared data: it is
    decoded once on each machine, or for each training where the cache has no room."""
    decoded_cache_mb: Annotated[int, Field(ge=0)] = 10_240
    """Disk space for decoded images of such folders, which all runs on a machine share; the least
    used make room."""
    cache_mb: Annotated[int, Field(ge=0)] = 10_240
    """Disk space for copies of images that are streamed from S3; the least used make room."""

    @property
    def background_rgb(self) -> tuple[int, int, int]:
        """The background as red, green and blue in 0..255."""
        named = {"white": "#ffffff", "black": "#000000", "grey": "#808080", "gray": "#808080"}
        text = named.get(self.background, self.background)
        return int(text[1:3], 16), int(text[3:5], 16), int(text[5:7], 16)
