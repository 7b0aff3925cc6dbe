"""Addresses of pages of the MLflow UI."""

from typing import Any

from components.tracking.links import Links, links_of

OF: dict[str, Any] = {
    "run_id": "abc",
    "experiment_id": "7",
    "model": "flowers & trees",
    "version": "3",
}


def test_a_server_has_its_pages_at_its_address() -> None:
    found = links_of("https://me:hunter2@mlflow.example.org/ml/", **OF)
    assert "hunter2" not in str(found)
    assert str(found.run).endswith("mlflow.example.org/ml/#/experiments/7/runs/abc")
    assert str(found.model).endswith("/ml/#/models/flowers%20%26%20trees/versions/3")


def test_a_file_has_no_pages() -> None:
    assert links_of("sqlite:///runs/mlflow.db", **OF) == Links(None, None)


def test_a_run_of_an_unknown_experiment_has_no_address() -> None:
    found = links_of("http://host:5000", **{**OF, "experiment_id": None})
    assert (found.run, found.model) == (
        None,
        "http://host:5000/#/models/flowers%20%26%20trees/versions/3",
    )
