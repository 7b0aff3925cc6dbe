"""Settings of all search spaces, selected by `name`.

A space is a folder of `nascore.spaces` and one line here: its module `config` has its settings as
`SECTION`, which names the class of the space.
"""

import importlib
from typing import TYPE_CHECKING, Annotated, Union

from pydantic import Field

from nascore.spaces.section import SpaceSection

PACKAGES = (
    "nascore.spaces.chain",
    "nascore.spaces.nasbench201",
    "nascore.spaces.enas_micro",
    "nascore.spaces.mobilenet",
    "nascore.spaces.superkernel",
    "nascore.spaces.fewshot",
    "nascore.spaces.residual",
)

SPACE_SECTIONS: tuple[type[SpaceSection], ...] = tuple(
    importlib.import_module(f"{package}.config").SECTION for package in PACKAGES
)

if TYPE_CHECKING:
    SpaceConfig = SpaceSection
else:
    SpaceConfig = Annotated[Union[SPACE_SECTIONS], Field(discriminator="name")]  # noqa: UP007
