"""The configuration that we ship, and a copy of it to break."""

import shutil

import pytest

from paella.config import Config
from paella.errors import PaellaError

SHIPPED = Config()


@pytest.fixture
def config(tmp_path):
    """A copy of the configuration, to break."""
    shutil.copytree(SHIPPED.folder, tmp_path / "config", ignore=shutil.ignore_patterns("_*"))
    return Config(tmp_path / "config")


def refused(act):
    with pytest.raises(PaellaError) as caught:
        act()
    message = str(caught.value)
    assert "\n" not in message
    return message
