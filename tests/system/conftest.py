"""Fixtures: the installed programs, a node that tests share, a node of a test's own (nodes.py)."""
import os
import pathlib
import pwd
import shutil
import signal
import subprocess
import tempfile

import pytest

from nodes import BIN, SINGLE_ID_USER, USER, ensure_single_id_user, ensure_user, make_node

TEST_SECONDS_MAX = 400  # against hangs; no test is about time


def pytest_configure(config):
    # In the background of a script, or under nohup, these are ignored; what the tests start would inherit that.
    for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL), (signal.SIGQUIT, signal.SIG_DFL)):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, handler)
    config.addinivalue_line("markers", "seconds_max(n): a bound of this test's own, against hangs")


@pytest.fixture(autouse=True)
def no_hang(request):
    own = request.node.get_closest_marker("seconds_max")
    seconds = own.args[0] if own else TEST_SECONDS_MAX

    def give_up(*_):
        raise TimeoutError(f"the test took more than {seconds} s")
    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(seconds)
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


@pytest.fixture
def shared(fresh_node):
    """A system's node, not yet started, and a function that calls `loam` as one of two ordinary users of it."""
    if fresh_node.rootless:
        pytest.skip("a user's own node serves nobody else")
    ensure_user()
    ensure_single_id_user()
    homes = {user: fresh_node.project({"empty": ""}, name=user) for user in (USER, SINGLE_ID_USER)}
    for user, home in homes.items():
        os.chown(home, pwd.getpwnam(user).pw_uid, pwd.getpwnam(user).pw_gid)

    def as_user(user, *arguments, cwd=None, check=True):
        return fresh_node.run_as(user, *arguments, cwd=cwd or homes[user], check=check)
    fresh_node.as_user = as_user
    fresh_node.configure("{}\n")
    return fresh_node
