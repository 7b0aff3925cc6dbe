"""Clock of the commands about runs on Kubeflow; tests replace it."""

from datetime import UTC, datetime


def now() -> datetime:
    """Return the current time."""
    return datetime.now(UTC)
