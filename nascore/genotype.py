"""The genotype: a discrete architecture as a value, independent of any network built from it."""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from nascore.errors import GenotypeNotInSpace

VERSION = 1


@dataclass(frozen=True, slots=True)
class Genotype:
    """One architecture of one search space.

    Attributes:
        space: identifier of the space, such as `chain-5x4-v8`; equal identifiers mean equal
            length, vocabularies and meaning of the tokens.
        tokens: one integer a decision, `0 <= tokens[i] < space.cardinalities[i]`.
    """

    space: str
    tokens: tuple[int, ...]

    def __post_init__(self) -> None:
        # numpy integers would make two equal genotypes print and hash as different JSON.
        object.__setattr__(self, "tokens", tuple(map(int, self.tokens)))

    def to_dict(self) -> dict[str, Any]:
        """Return JSON."""
        return {"version": VERSION, "space": self.space, "tokens": list(self.tokens)}

    def to_json(self) -> str:
        """Return canonical JSON, which is equal for equal genotypes."""
        return json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "Genotype":
        """Read what `to_dict` returned.

        Raises:
            GenotypeNotInSpace: the version is unknown, or a field is missing.
        """
        if data.get("version") != VERSION:
            raise GenotypeNotInSpace(
                f"genotype version must be {VERSION}, got {data.get('version')!r}"
            )
        try:
            # kfp returns whole numbers as floats; a fraction is refused.
            tokens = tuple(int(token) for token in data["tokens"])
            if any(token != raw for token, raw in zip(tokens, data["tokens"], strict=True)):
                raise GenotypeNotInSpace(f"tokens must be whole numbers, got {data['tokens']}")
            return cls(space=str(data["space"]), tokens=tokens)
        except (KeyError, TypeError, ValueError) as error:
            raise GenotypeNotInSpace(f"not a genotype: {data!r} ({error!r})") from error

    @classmethod
    def from_json(cls, text: str) -> "Genotype":
        return cls.from_dict(json.loads(text))

    @property
    def hash(self) -> str:
        """SHA-256 of the canonical JSON, 64 hexadecimal digits."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    @property
    def short_hash(self) -> str:
        return self.hash[:10]
