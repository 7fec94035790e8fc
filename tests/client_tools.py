"""A server for the tests of its clients."""

import numpy as np
import pytest
from ipc_tools import server

X = np.arange(16, dtype=np.float32)


@pytest.fixture(scope="module")
def name():
    with server() as it:
        yield it
