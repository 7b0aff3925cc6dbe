"""What steps need around them, on loopback: PostgreSQL, MLflow, S3; each can be taken away."""

import io
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
import s3
from mlflow_server import MlflowServer
from postgres import Postgres

from cluster.kubeflow import Cluster
from cluster.runs import Run
from cluster.spec import Pipeline
from cluster.store import Gate
from pipelines.definitions.kinds import Kind

ARTIFACTS, DATA, STATE = "nas-mlflow", "nas-data", "nas-state"  # buckets
STEPS = (
    *("prepare_data", "review", "reuse", "pretrain_controller", "search", "search_worker"),
    *("train_final", "profile_latency", "train_references", "promote"),
)
SMALL: dict[str, Any] = {
    "method": "random",
    "data.source": f"npz:s3://{DATA}/digits.npz",
    "search.storage": "env:NAS_STUDY_URL",
    "search.space.num_stages": 1,
    "search.budget.children": 2,
    "search.child.epochs": 1,
    "search.child.max_steps": 10,
    "search.worker_timeout_s": 6,
    "train.epochs": 2,
    "train.max_steps": 40,
    "latency.runs": 20,
    "latency.warmup_runs": 2,
    "cluster.restart_pause_s": 0.1,
}
"""The cheapest search: a run of it takes about a minute, nearly all of it for starting Python."""


class Surroundings:
    """Services of a session; each test has its own study database, experiment and model.

    Attributes:
        mlflow_gate: shut it, and MLflow is away.
        relay: what steps take for S3; see `s3.Relay`.
    """

    def __init__(self, folder: Path, postgres: Postgres, store: s3.S3Server) -> None:
        self.postgres, self.store = postgres, store
        for bucket in (ARTIFACTS, DATA, STATE):
            store.client().create_bucket(Bucket=bucket)
        self.relay = s3.Relay(store.port)
        self.mlflow = MlflowServer(
            folder,
            store=postgres.new_database(),
            artifacts=f"s3://{ARTIFACTS}/artifacts",
            environment={
                "MLFLOW_S3_ENDPOINT_URL": store.url,
                # Its queue of jobs, which is of no use here, takes seven processes.
                "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
                **_keys(),
            },
        )
        self.put_digits("digits.npz")

    def start(self) -> None:
        self.mlflow.start()
        self.mlflow_gate = Gate(self.mlflow.port)

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.mlflow_gate.port}"

    def put_digits(self, key: str, *, num_train: int = 240, wrong: bool = False) -> str:
        """Put digits into S3, with other grey values if `wrong`; returns the data source."""
        from sklearn.datasets import load_digits

        bunch = load_digits()
        order = np.random.default_rng(0).permutation(len(bunch.target))
        images = np.rint(bunch.images[order] * (255 / 16)).astype(np.uint8)
        images = 255 - images if wrong else images
        labels = bunch.target[order].astype(np.int64)
        file = io.BytesIO()
        test = slice(1400, 1600)
        arrays = {"x_train": images[:num_train], "y_train": labels[:num_train]}
        np.savez(file, **arrays, x_test=images[test], y_test=labels[test])
        self.store.client().put_object(Bucket=DATA, Key=key, Body=file.getvalue())
        return f"npz:s3://{DATA}/{key}"

    def furnish(self, cluster: Cluster) -> str:
        """Put the Secrets and ConfigMaps of docs/operators.md into the namespace, with an empty
        database for studies; returns that database's URL."""
        url = self.postgres.new_database()
        cluster.namespace.secrets["nas-study"] = {"url": url}
        cluster.namespace.secrets["nas-s3"] = {
            "access-key-id": s3.ACCESS_KEY,
            "secret-access-key": s3.SECRET_KEY,
        }
        cluster.namespace.config_maps["nas-settings"] = {
            "AWS_ENDPOINT_URL": self.relay.url,
            "AWS_DEFAULT_REGION": s3.REGION,
        }
        return url

    def settings(self, name: str, changed: Mapping[str, Any] | None = None) -> list[str]:
        """Settings as `--set` takes them.

        Args:
            name: of experiment and model.
        """
        secrets = {
            "NAS_STUDY_URL": "nas-study/url",
            "AWS_ACCESS_KEY_ID": "nas-s3/access-key-id",
            "AWS_SECRET_ACCESS_KEY": "nas-s3/secret-access-key",
        }
        maps = {one: f"nas-settings/{one}" for one in ("AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION")}
        all_ = {
            "tracking.uri": self.uri,
            "tracking.experiment": name,
            "registry.model": name,
            **{f"cluster.steps.{step}.gpus": 0 for step in STEPS},
            **{f"cluster.steps.{step}.cpu": "1000m" for step in STEPS},
            **{f"cluster.steps.{step}.memory": "4G" for step in STEPS},
            **{f"cluster.secrets.{variable}": value for variable, value in secrets.items()},
            **{f"cluster.config_maps.{variable}": value for variable, value in maps.items()},
            **SMALL,
            **(changed or {}),
        }
        return [f"{key}={value}" for key, value in all_.items() if value != ""]

    def compile(
        self, kind: Kind, image: str, name: str, changed: Mapping[str, Any] | None = None
    ) -> Pipeline:
        """Compile as `nas compile` does, with short pauses between the retries of a lost pod."""
        from pipelines.config import resolve
        from pipelines.definitions import resources
        from pipelines.definitions.kinds import compile_pipeline

        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "pipeline.yaml"
            config = resolve(None, None, self.settings(name, changed))
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(resources, "POD_RETRY_PAUSE_S", 1)
                compile_pipeline(kind, config, path, image=image)
            return Pipeline.load(path)

    # --- what is left of a run --------------------------------------------------------------

    def tracked(self, name: str) -> list[Any]:
        """All MLflow runs of an experiment, the oldest first."""
        client = self.client()
        experiment = client.get_experiment_by_name(name)
        if experiment is None:
            return []
        return list(
            client.search_runs(
                [experiment.experiment_id], max_results=1000, order_by=["attributes.start_time"]
            )
        )

    def client(self) -> Any:
        import mlflow

        return mlflow.MlflowClient(self.mlflow.uri, self.mlflow.uri)

    def models(self, name: str) -> list[Any]:
        """The versions of the registered model, the oldest first."""
        found = self.client().search_model_versions(f"name = '{name}'")
        return sorted(found, key=lambda one: int(one.version))

    def champion(self, name: str) -> str | None:
        from mlflow.exceptions import MlflowException

        try:
            return str(self.client().get_model_version_by_alias(name, "champion").version)
        except MlflowException:
            return None

    @staticmethod
    def trials(url: str) -> list[tuple[str, int, str]]:
        """Study, number and state of each trial."""
        query = (
            "SELECT s.study_name, t.number, t.state FROM trials t JOIN studies s "
            "ON s.study_id = t.study_id ORDER BY s.study_name, t.number"
        )
        with psycopg.connect(url.replace("+psycopg", "")) as connection:
            try:
                return [(one[0], one[1], str(one[2])) for one in connection.execute(query)]
            except psycopg.errors.UndefinedTable:  # no search has begun
                return []


def _keys() -> dict[str, str]:
    return {
        "AWS_ACCESS_KEY_ID": s3.ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": s3.SECRET_KEY,
        "AWS_DEFAULT_REGION": s3.REGION,
    }


def steps(run: Run) -> list[str]:
    """The tasks whose pods were started, in order."""
    return [pod.task for pod in run.pods]
