"""What every test of the installed package may use."""

import pytest
from processes import Driver


@pytest.fixture
def driver(tmp_path):
    """A Driver in an empty folder."""
    return Driver(tmp_path)
