"""Tracking behind a write-ahead spool: training never waits for, or dies with, a server.

Steps append events to files (`spool`); a process of its own (`launch`) replays them to MLflow
(`follow`, which reads with `reading` and sends with `sender`). `stores` judges the address of a
store. Nothing here imports mlflow but the follower.
"""

from components.tracking.launch import follower
from components.tracking.reading import wait_for_run
from components.tracking.spool import TrackedRun, Tracker
from components.tracking.stores import check_store

__all__ = ["TrackedRun", "Tracker", "check_store", "follower", "wait_for_run"]
