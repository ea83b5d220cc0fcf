"""Captures that begin in the middle of a run, and what their reports say."""

import time

import pytest
from processes import COMMAND, TIMEOUT_S


@pytest.fixture
def captured(driver):
    """The one capture in the driver's folder, or the one of that name: its summary and its timeline."""

    def read(name="*.hk"):
        files = list(driver.folder.glob(name))
        assert len(files) == 1, [file.name for file in driver.folder.iterdir()]
        assert files[0].stat().st_mode & 0o777 == 0o600
        views = [driver.call([COMMAND, "report", *view, files[0].name]) for view in ([], ["--timeline"])]
        assert [(view.status, view.stderr) for view in views] == [(0, "")] * 2
        return "\n".join(view.stdout for view in views)

    return read


@pytest.fixture
def wait_for():
    """Waits until a condition holds."""

    def wait(condition):
        deadline = time.monotonic() + TIMEOUT_S
        while not condition():
            assert time.monotonic() < deadline
            time.sleep(0.01)

    return wait
