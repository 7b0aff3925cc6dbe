"""The key of a run is the same for every try, and for a retry that the user asked for."""

import pytest

from components.run_identity import run_id, run_key

FIRST, SECOND = "0f82d07e-593c-41dd-9dc7-d0dd25be691d", "c02ad709-5ba0-4a44-bca0-c5e216f680f9"


def test_outside_kubeflow_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NAS_RUN_ID", raising=False)
    monkeypatch.delenv("NAS_RETRY_OF", raising=False)
    assert run_id() is None
    assert run_key() is None


def test_the_run_of_kubeflow_names_it_and_a_retry_keeps_the_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NAS_RUN_ID", FIRST)
    assert run_key() == FIRST.replace("-", "")
    monkeypatch.setenv("NAS_RUN_ID", SECOND)
    monkeypatch.setenv("NAS_RETRY_OF", FIRST)
    assert (run_id(), run_key()) == (FIRST, FIRST.replace("-", ""))
