import pathlib
import sys
import tempfile

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import serving  # noqa: E402


@pytest.fixture
def endpoint():
    """An endpoint with one model, batches of 8; not started."""
    made = serving.Endpoint(tempfile.mkdtemp(prefix="loam-gateway-"))
    made.add_model()
    yield made
    made.close()


@pytest.fixture
def identity(endpoint):
    """The same, started, with a worker that gives back what it takes."""
    endpoint.start()
    endpoint.start_worker("identity.py:predict")
    return endpoint
