"""Tracking behind a write-ahead spool: training never waits for, or dies with, a server.

Steps append events to files (`spool`); a process of its own (`launch`) replays them to MLflow
(`follow` the loop, `replay` the lines of a spool, which it reads with `reading` and sends with
`sender`; `runs` finds and makes the runs, `tags` names what is written on them). `flush` sends what
ended steps have left. `stores` judges the address of a store, `patience` its answers. mlflow takes
seconds to import: nothing that a step loads does it but the promotion.
"""

from components.tracking.launch import follower
from components.tracking.reading import wait_for_run
from components.tracking.spool import TrackedRun, Tracker
from components.tracking.store_checks import check_store

__all__ = ["TrackedRun", "Tracker", "check_store", "follower", "wait_for_run"]
