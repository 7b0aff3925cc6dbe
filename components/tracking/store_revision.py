"""Whether the tables of an MLflow database are of the revision that the installed MLflow uses.

MLflow's client refuses other revisions, or migrates the tables at its first call, without a backup
and in each process of a run at once. Its migrations are read as text: mlflow takes seconds to
import.
"""

import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from nascore.redaction import redact

QUERY = "SELECT version_num FROM alembic_version"
"""Query for the revision of the tables."""
_REVISION = re.compile(r"^(down_)?revision\b[^=]*= *['\"](\w+)['\"]", re.MULTILINE)


def revision_fault(uri: str, revision: str) -> str | None:
    """Return why the tables of a store cannot be used, with the command that migrates them.

    Args:
        uri: MLflow store.
        revision: of its tables.
    """
    before, newest = _migrations()
    if newest is None or revision == newest:
        return None
    if revision not in before:
        return (
            f"was written by a newer MLflow than the installed one (its tables have the revision "
            f"{revision}); update mlflow, or name another store"
        )
    return (
        f"was written by an older MLflow (its tables have the revision {revision}, and not "
        f"{newest}); make a copy of it, then run `mlflow db upgrade {redact(uri)}`"
    )


@cache
def _migrations() -> tuple[frozenset[str], str | None]:
    """Return the older revisions, and the newest; None where mlflow is not installed."""
    found = find_spec("mlflow")
    if found is None or found.origin is None:
        return frozenset(), None
    folder = Path(found.origin).parent / "store" / "db_migrations" / "versions"
    named = [
        match.groups()
        for file in folder.glob("*.py")
        for match in _REVISION.finditer(file.read_text(encoding="utf-8"))
    ]
    before = frozenset(revision for is_older, revision in named if is_older)
    newest = {revision for is_older, revision in named if not is_older} - before
    return before, newest.pop() if len(newest) == 1 else None
