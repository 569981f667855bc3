"""What the programs cost: the shim's private memory, the system calls from its fork to the user's first instruction."""
import pathlib
import subprocess
import time

import pytest

from nodes import make_node, wait_for

PRIVATE_BYTES_MAX = 500 * 1024  # a shim waiting for its job
# Shim and init together, before the user's execve; 619 seen with 16 folders and files in the host's / (4 calls each:
# only so can a job have top folders that the host lacks). 46 mounts take 4 to 6 calls each, the bounding set 42.
CALLS_MAX = 660


@pytest.fixture(scope="module")
def root_node(prefix):
    node = make_node(prefix, "root")
    yield node
    node.close()


def is_shim(pid):
    try:
        return b"loam-shim" in pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()
    except FileNotFoundError:  # it has just ended
        return False


def shims(node):
    return [pid for pid in node.processes() if is_shim(pid)]


def private_bytes(pid):
    """What this process alone costs: anonymous pages that it shares with nobody. Pages of the program's file count as private
    as long as no other process happens to have touched them; they are one copy for all."""
    total, here = 0, {}
    for line in pathlib.Path(f"/proc/{pid}/smaps").read_text().splitlines():
        name, _, rest = line.partition(":")
        if name in ("Private_Clean", "Private_Dirty", "Anonymous"):
            here[name] = int(rest.split()[0])
        elif name == "VmFlags":  # the last line of a mapping
            total += min(here["Anonymous"], here["Private_Clean"] + here["Private_Dirty"])
    return total * 1024


def test_private_memory_of_a_shim(root_node):
    run = int(root_node.run("run", "--detach", "--", "sh", "-c", "echo ready; exec sleep 1000", cwd=root_node.project({})).stdout)
    wait_for(lambda: "ready" in root_node.run("logs", run).stdout)
    sizes = [private_bytes(pid) for pid in shims(root_node)]
    root_node.run("cancel", run)
    assert len(sizes) >= 3 and max(sizes) < PRIVATE_BYTES_MAX, sizes  # server, shim, init


def test_system_calls_before_the_users_first_instruction(root_node, tmp_path):
    folder = root_node.project({})
    root_node.run("run", "--", "true", cwd=folder)  # what is made once is made
    trace = tmp_path / "calls"
    server, = [pid for pid in shims(root_node) if b"/attempts/" not in pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()]
    strace = subprocess.Popen(["strace", "-f", "-q", "-o", str(trace), "-p", str(server)], stderr=subprocess.PIPE)
    try:
        time.sleep(0.5)
        root_node.run("run", "--", "true", cwd=folder)
    finally:
        strace.terminate()
        strace.wait()
    # The shim's family: everybody but the server (numbers of clone's answers are those of the inner namespace).
    calls, done = 0, False
    for line in trace.read_text(errors="replace").splitlines():
        pid, _, call = line.partition(" ")
        call = call.strip()
        if pid == str(server) or "resumed>" in call or call.startswith(("---", "+++")):
            continue
        if call.startswith("execve("):
            done = True
            break
        calls += 1
    assert done, trace.read_text()[-2000:]
    print(f"{calls} system calls")
    assert 50 < calls < CALLS_MAX, calls
