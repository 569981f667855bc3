"""Fixtures: the installed programs, a node that tests share, a node of a test's own (nodes.py)."""
import pathlib
import shutil
import signal
import subprocess
import tempfile

import pytest

from nodes import BIN, make_node

TEST_SECONDS_MAX = 400  # against hangs; no test is about time


@pytest.fixture(autouse=True)
def no_hang():
    def give_up(*_):
        raise TimeoutError(f"the test took more than {TEST_SECONDS_MAX} s")
    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(TEST_SECONDS_MAX)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(scope="session")
def prefix():
    """The programs as `make install` lays them out, where every user can read them."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="loam-prefix-"))
    folder.chmod(0o755)
    subprocess.run(["cmake", "--install", str(BIN.parent), "--prefix", str(folder)], check=True,
                   stdout=subprocess.DEVNULL)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(params=["root", "rootless"])
def fresh_node(prefix, request):
    """A node that only this test uses (and may kill)."""
    node = make_node(prefix, request.param)
    yield node
    node.close()


@pytest.fixture(scope="session", params=["root", "rootless"])
def node(prefix, request):
    """A node shared by the tests of one kind, so that an environment is built once."""
    shared = make_node(prefix, request.param)
    yield shared
    shared.close()
