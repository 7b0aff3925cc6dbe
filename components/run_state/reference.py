"""Where the state of runs lies, as the setting `cluster.state` names it."""

import re
from dataclasses import dataclass
from typing import Literal, Self

from nascore.data.file_access import S3, parse_prefix

KEY = "cluster.state"
PVC = "pvc:"
MOUNT = "/var/lib/nas"
"""Folder in the containers at which the volume of a claim is mounted."""
# KFP takes the name of the claim as the name of a volume, which may hold no dots.
_CLAIM = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class StateReference:
    """A place for the state of runs.

    Attributes:
        kind: `pvc` for a PersistentVolumeClaim, `s3` for an object store.
        name: name of the claim, or `s3://BUCKET/PREFIX` without a slash at the end.
    """

    kind: Literal["pvc", "s3"]
    name: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `pvc:NAME` or `s3://BUCKET/PREFIX`.

        Raises:
            ValueError: what is wrong with it, without what may be a secret.
        """
        if text.startswith(S3):
            root = text.rstrip("/")
            parse_prefix(root)
            return cls("s3", root)
        if not text.startswith(PVC):
            raise ValueError(
                "is neither s3://BUCKET/PREFIX nor pvc:NAME of a PersistentVolumeClaim"
                + (f"; write pvc:{text}" if _CLAIM.fullmatch(text) else "")
            )
        claim = text.removeprefix(PVC)
        bare = claim.strip(" ")
        if claim != bare and _CLAIM.fullmatch(bare):
            raise ValueError(f"has a space; write {PVC}{bare}")
        if not _CLAIM.fullmatch(claim):
            raise ValueError(
                "names no PersistentVolumeClaim that Kubeflow can mount: the name is also that of "
                "a volume, so it has at most 63 lower-case letters, digits and hyphens, and no "
                "dots; rename the claim, or use s3://BUCKET/PREFIX"
            )
        return cls("pvc", claim)

    @property
    def root(self) -> str:
        """The value of `NAS_STATE_ROOT` in a step."""
        return self.name if self.kind == "s3" else MOUNT

    def __str__(self) -> str:
        return self.name if self.kind == "s3" else PVC + self.name


def check_reference(text: str) -> str:
    """Return the reference in its usual form. Raises ValueError."""
    return str(StateReference.parse(text))


def claim_of(text: str | None) -> str | None:
    """Return the name of the PersistentVolumeClaim; None when the state is no claim's."""
    if text is None:
        return None
    reference = StateReference.parse(text)
    return reference.name if reference.kind == "pvc" else None
