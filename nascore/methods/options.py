"""What a person may set about each method (`search.options` in a configuration)."""

from nascore.config import Section


class NasesOptions(Section):
    """Settings of NASES; the defaults are those that hold on every space tried."""


class NasesPaperOptions(NasesOptions):
    """NASES as released."""


class RandomOptions(Section):
    """Random search has nothing to set."""
