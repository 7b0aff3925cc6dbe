"""MLflow runs of a run on the cluster, in a real MLflow server."""

import time
from datetime import UTC, datetime

from mlflow_server import MlflowServer

EXPERIMENT = "nas"


class Tracked:
    """Runs in MLflow as steps leave them, and what has become of them."""

    def __init__(self, server: MlflowServer) -> None:
        self._server = server
        self.uri = server.uri
        self._experiment = self._make_experiment()

    def _make_experiment(self) -> str:
        """Its id; modules that share the server share it."""
        body = {"filter": f"name = '{EXPERIMENT}'", "max_results": 1}
        found = self._server.ask("POST", "/api/2.0/mlflow/experiments/search", body)
        if found.get("experiments"):
            return str(found["experiments"][0]["experiment_id"])
        made = self._server.ask("POST", "/api/2.0/mlflow/experiments/create", {"name": EXPERIMENT})
        return str(made["experiment_id"])

    def begin(self, key: str, *, ago_s: float = 0) -> str:
        """A run that is RUNNING, and began so long ago; its id."""
        body = {
            "experiment_id": self._experiment,
            "start_time": int((time.time() - ago_s) * 1000),
            "tags": [{"key": "nas.run_key", "value": key}],
        }
        made = self._server.ask("POST", "/api/2.0/mlflow/runs/create", body)
        return str(made["run"]["info"]["run_id"])

    def begin_all(self, run_id: str) -> list[str]:
        """The pipeline's, a step's and a child's of a run on the cluster."""
        key = run_id.replace("-", "")
        return [self.begin(each) for each in (key, f"{key}.search", f"{key}.search.child-1")]

    def end(self, run_id: str, status: str, *, ago_s: float = 0) -> None:
        """A run has ended so long ago."""
        body = {
            "run_id": run_id,
            "status": status,
            "end_time": int((time.time() - ago_s) * 1000),
        }
        self._server.ask("POST", "/api/2.0/mlflow/runs/update", body)

    def tag(self, run_id: str, key: str, value: str) -> None:
        body = {"run_id": run_id, "key": key, "value": value}
        self._server.ask("POST", "/api/2.0/mlflow/runs/set-tag", body)

    def end_of(self, run_id: str) -> tuple[str, str | None, str | None]:
        """Status, reason and kind."""
        run = self._server.ask("GET", f"/api/2.0/mlflow/runs/get?run_id={run_id}")["run"]
        tags = {tag["key"]: tag["value"] for tag in run["data"].get("tags", [])}
        return run["info"]["status"], tags.get("nas.end_reason"), tags.get("nas.end_kind")

    def alive(self, run_id: str) -> None:
        """The process of a step gives a sign of life, as it does once a minute."""
        self.tag(run_id, "nas.alive", datetime.now(UTC).isoformat())
