"""Calls that are tried again while a tracking store is unreachable."""

import time

import pytest
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST

from components.tracking.mlflow_errors import call_mlflow
from nascore.errors import ResourceUnavailable


class Store:
    """Raises its errors one after the other, and then answers."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.num_calls = 0

    def __call__(self) -> str:
        self.num_calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return "answer"


def test_a_store_that_comes_back_is_waited_for_and_reported_once():
    store, notes = Store(ConnectionError("refused"), MlflowException("too many 500")), []
    assert call_mlflow(store, timeout_s=30, on_outage=notes.append) == "answer"
    assert store.num_calls == 3
    assert notes == [
        "the tracking store is unreachable (ConnectionError: refused); trying again for 30 s"
    ]


def test_a_refusal_is_not_tried_again():
    refusal = MlflowException("no such model", error_code=RESOURCE_DOES_NOT_EXIST)
    store = Store(refusal)
    with pytest.raises(MlflowException, match="no such model"):
        call_mlflow(store, timeout_s=30, on_outage=pytest.fail)
    assert store.num_calls == 1


def test_a_bug_is_not_taken_for_an_outage():
    with pytest.raises(KeyError):
        call_mlflow(Store(KeyError("x")), timeout_s=30, on_outage=pytest.fail)


def test_patience_ends():
    store = Store(*[ConnectionError("http://me:secret@host refused")] * 9)
    start = time.monotonic()
    with pytest.raises(TimeoutError, match="no answer for 2 s") as caught:
        call_mlflow(store, timeout_s=2, on_outage=lambda text: None)
    assert time.monotonic() - start < 10
    assert "secret" not in str(caught.value)


def test_an_s3_store_in_place_of_mlflow_is_no_outage():
    """MLflow's client calls an answer without one of its codes an internal error."""
    answer = MlflowException(
        "API request to endpoint /api/2.0/mlflow/experiments/search failed with error code 405 "
        '!= 200. Response body: \'<?xml version="1.0" encoding="UTF-8"?>\''
    )
    store = Store(answer)
    with pytest.raises(ResourceUnavailable, match="this is no MLflow server"):
        call_mlflow(store, timeout_s=30, on_outage=pytest.fail)
