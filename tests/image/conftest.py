"""The image that is tested; see tests/support/built_image.py.

These tests need an image and an engine: they run with NAS_TEST_CLUSTER=1 (`make image-test`). With
CI_REQUIRE_CLUSTER=1 what is missing fails instead of being skipped.
"""

import os
from pathlib import Path

import pytest
from built_image import Image, engine_command, missing

CHOSEN = "tests/image runs with NAS_TEST_CLUSTER=1 (make image-test)"


def pytest_report_header() -> list[str]:
    return [] if os.environ.get("NAS_TEST_CLUSTER") else [CHOSEN]


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Leaves these tests out of `make test`."""
    return None if os.environ.get("NAS_TEST_CLUSTER") else True


@pytest.fixture(scope="session")
def image() -> Image:
    """Skips, or fails where it is required, without engine or image."""
    name = os.environ.get("NAS_TEST_IMAGE", "localhost/nas-python:test")
    found = Image(name, engine_command())
    reason = missing(found)
    if reason is None:
        return found
    if os.environ.get("CI_REQUIRE_CLUSTER"):
        pytest.fail(reason)
    pytest.skip(reason)
