"""Settings of the images."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from nascore.config.section import Fraction, Positive, Section


class DataConfig(Section):
    """Where the images come from and how they are split."""

    source: str = "digits"
    """`digits`, `cifar10`, `cifar100`, `omniglot`, `npz:PATH` or `imagefolder:PATH`, local or
    s3://."""
    root: Path | None = None
    """Folder with torchvision's own files of cifar10, cifar100 or omniglot; downloaded there when
    missing."""
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
    max_train: Positive | None = None
    """Use at most this many images for train and valid together (a stratified sample)."""
    memory_limit_mb: Positive = 4096
    """An image folder that is larger than this when decoded is streamed from where it is."""
    cache_mb: Annotated[int, Field(ge=0)] = 10_240
    """Disk space for copies of images that are streamed from S3; the least used make room."""
