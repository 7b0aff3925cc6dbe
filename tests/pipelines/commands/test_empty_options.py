"""Empty names on the command line, as a script gives them whose variable is not set."""

import pytest
from click.testing import CliRunner
from kfp_commands import IMAGE, SCHEDULE, SEARCH, TRACKED, nas
from kfp_server import KfpServer

from pipelines.cli import main


@pytest.mark.parametrize("empty", ["", "  "])
@pytest.mark.parametrize(
    ("arguments", "option"),
    [
        (("submit", "--image={}"), "--image"),
        ((*SEARCH, "--experiment={}"), "--experiment"),
        ((*SEARCH, "--run-name={}"), "--run-name"),
        ((*SEARCH, "--namespace={}"), "--namespace"),
        ((*SEARCH, "--pipeline={}"), "--pipeline"),
        ((*SEARCH, "--service-account={}"), "--service-account"),
        ((*SCHEDULE, "--name={}"), "--name"),
        (("status", "{}"), "RUN"),
        (("logs", "{}"), "RUN"),
        (("cancel", "{}"), "RUN"),
        (("retry", "{}"), "RUN"),
        (("schedule", "pause", "{}"), "NAME_OR_ID"),
        (("schedule", "delete", "{}"), "NAME_OR_ID"),
        (("doctor", "--cluster", "--image={}"), "--image"),
    ],
)
def test_an_empty_name_is_refused(arguments: tuple[str, ...], option: str, empty: str) -> None:
    given = [argument.format(empty) for argument in arguments]
    result = CliRunner().invoke(main, given, env={"KF_PIPELINES_ENDPOINT": "http://127.0.0.1:9"})
    assert result.exit_code == 2, result.output
    assert f"  {option}: is empty; give a value, or omit it" in result.output


def test_pods_without_an_image_of_ones_own_are_warned_of(kfp: KfpServer) -> None:
    warned = nas("submit", TRACKED, "--no-check").stderr
    assert "warning: --image is not given, so pods use ghcr.io/nas-pipelines/nas-python:" in warned
    assert "warning" not in nas("submit", IMAGE, TRACKED, "--no-check").stderr


def test_only_commands_that_start_something_say_that_nothing_was_started(kfp: KfpServer) -> None:
    for command, starts in (("submit", True), ("plan", False), ("doctor", False)):
        said = nas(command, "--set=seed=x").stderr
        assert said.startswith("The input is wrong")
        assert ("nothing was started" in said) == starts, command
