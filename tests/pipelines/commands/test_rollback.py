"""`nas rollback`: which model it is about."""

from pathlib import Path

from click.testing import CliRunner

from pipelines.cli import main


def test_without_a_name_it_says_where_the_name_is(tmp_path: Path) -> None:
    store = f"tracking.uri=sqlite:///{tmp_path}/mlflow.db"
    done = CliRunner().invoke(main, ["rollback", "--set", store])
    assert done.exit_code == 2
    assert "registry.model = null" in done.output
    assert "name the model with --model" in done.output
    assert "model_uri" in done.output
    assert not (tmp_path / "mlflow.db").exists()


def test_a_name_that_an_address_cannot_have_is_refused() -> None:
    for name in ("a/b", "a:b", "/", ":"):
        done = CliRunner().invoke(main, ["rollback", "--model", name])
        assert done.exit_code == 2
        assert "is not a name of a model" in done.output
