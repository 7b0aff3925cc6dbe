"""What an examination of a machine comes to."""

from dataclasses import asdict, dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Finding:
    """One check: its name, how it went, what was seen, and what to do when it is not ok."""

    name: str
    state: Literal["ok", "warning", "problem"]
    seen: str
    advice: str = ""

    def to_dict(self) -> dict[str, str]:
        return asdict(self)
