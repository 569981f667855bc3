"""What the programs cost: the shim's private memory, the system calls from its start to the user's first instruction."""
import os
import pathlib
import re
import subprocess
import time

import pytest

from nodes import make_node

PRIVATE_BYTES_MAX = 700 * 1024   # a shim waiting for its job; the aim is 500 KiB
# Shim and init together, before the user's execve; 619 seen with 16 folders and files in the host's / (4 calls each:
# only so can a job have top folders that the host lacks). 46 mounts take 4 to 6 calls each, the bounding set 42.
CALLS_MAX = 660


@pytest.fixture(scope="module")
def root_node(prefix):
    node = make_node(prefix, "root")
    yield node
    node.close()


def shims(node):
    return [pid for pid in node.processes() if b"loam-shim" in pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()]


def test_private_memory_of_a_shim(root_node):
    folder = root_node.project({})
    run = root_node.start("run", "--", "sleep", "2", cwd=folder)
    deadline = time.monotonic() + 20
    while not shims(root_node) and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.5)
    sizes = []
    for pid in shims(root_node):
        rollup = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
        sizes.append(sum(int(kib) for kib in re.findall(r"^Private_(?:Clean|Dirty): +(\d+)", rollup, re.MULTILINE)) * 1024)
    run.wait(timeout=30)
    assert sizes and max(sizes) < PRIVATE_BYTES_MAX, sizes


def test_system_calls_before_the_users_first_instruction(root_node, tmp_path):
    folder = root_node.project({})
    root_node.run("run", "--", "true", cwd=folder)  # what is made once is made
    trace = tmp_path / "calls"
    strace = subprocess.Popen(["strace", "-f", "-q", "-o", str(trace), "-p", str(root_node.pid())], stderr=subprocess.PIPE)
    try:
        time.sleep(0.5)
        root_node.run("run", "--", "true", cwd=folder)
    finally:
        strace.terminate()
        strace.wait()
    # The shim's family: whoever appears from its execve on (numbers of clone's answers are those of the inner namespace).
    others, started, calls, done = set(), False, 0, False
    for line in trace.read_text(errors="replace").splitlines():
        pid, _, call = line.partition(" ")
        call = call.strip()
        if call.startswith("execve(") and "loam-shim" in call:
            started = True
            others.discard(pid)
        if not started:
            others.add(pid)
        if not started or pid in others or "resumed>" in call or call.startswith(("---", "+++")):
            continue
        if call.startswith("execve(") and "loam-shim" not in call:
            done = True
            break
        calls += 1
    assert done, trace.read_text()[-2000:]
    print(f"{calls} system calls")
    assert 50 < calls < CALLS_MAX, calls
