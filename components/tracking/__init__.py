"""Tracking behind a write-ahead spool: training never waits for, or dies with, a server.

Steps append events to files (`spool`); a process of its own (`launch`) replays them to MLflow:
`replayer` is its loop, `reading` reads the lines of a spool, `replay` sends them in order through
`mlflow_writer`; `runs` finds and makes the runs, `tags` names the tags on them. `flush` sends what
ended steps have left. `store_checks` checks a store before a run, `mlflow_errors` says which errors
are worth a retry. mlflow takes seconds to import: no module that a step loads imports it, except
for the promotion.
"""

from components.tracking.launch import follower
from components.tracking.reading import wait_for_run
from components.tracking.spool import Tracker
from components.tracking.store_checks import check_store
from components.tracking.tracked_run import TrackedRun

__all__ = ["TrackedRun", "Tracker", "check_store", "follower", "wait_for_run"]
