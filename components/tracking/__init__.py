"""Tracking behind a write-ahead spool: training never waits for, or dies with, a server.

Steps append events to files (`spool`); a process of its own replays them to MLflow (`follow`).
Nothing here imports mlflow but the follower.
"""

from components.tracking.spool import TrackedRun, Tracker, follower
from components.tracking.stores import check_store, redact

__all__ = ["TrackedRun", "Tracker", "check_store", "follower", "redact"]
