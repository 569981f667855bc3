"""The disk of the node's state is full: the node lives on, ends are recorded, others' jobs go on once there is room."""
import json
import os
import signal
import subprocess

import pytest

from nodes import command_line, kill, make_node, node_processes, wait_for

DISK_MIB = 256
BOUND_MIB = 16  # below which nothing starts: a sixteenth


@pytest.fixture(params=["root", "rootless"])
def small(prefix, request):
    """A node whose state lies on a small disk of its own."""
    node = make_node(prefix, request.param)
    image = node.folder / "image"
    with open(image, "wb") as file:
        file.truncate(DISK_MIB << 20)
    subprocess.run(["mkfs.ext4", "-q", "-F", "-m", "0", image], check=True)
    node.state.mkdir()
    subprocess.run(["mount", "-o", "loop", image, node.state], check=True)
    (node.state / "lost+found").rmdir()
    node.own(node.state)
    node.empty = node.project({})
    try:
        yield node
        node.run("node", "stop", "--jobs", check=False)
        wait_for(lambda: not node.processes(), what="the end of all processes")
    finally:
        subprocess.run(["umount", "--lazy", node.state], check=True)
        node.close()


def free_bytes(node):
    status = os.statvfs(node.state)
    return status.f_bavail * status.f_frsize


def fill(node, name="filler"):
    """To the last byte, as root."""
    with open(node.state / name, "ab", buffering=0) as file:
        block = 1 << 20
        while block >= 512:
            try:
                file.write(b"x" * block)
            except OSError:
                block //= 2
    assert free_bytes(node) < 64 << 10
    return node.state / name


def submit(node, *arguments):
    return int(node.run("run", "--detach", *arguments, cwd=node.empty).stdout)


def job(node, run):
    return node.json("ps", "-a", str(run))["jobs"][0]


def wait_state(node, run, state):
    return wait_for(lambda: (lambda one: one if one["state"] == state else None)(job(node, run)), what=f"{state} of {run}")


def exit_of(node, run):
    return job(node, run)["attempts"][-1]["exit"]


def waiting(node):
    """A job's command that ends with 7 at SIGUSR1; the node's folder in it is what its processes are found by."""
    return ["--", "sh", "-c", f"trap 'exit 7' USR1; echo ready; while :; do sleep 0.1; done; {node.folder.name}"]


def waiting_shells(node):
    return [pid for pid in node.processes(("cmdline",)) if command_line(pid).startswith(b"sh\0")]


def test_an_end_is_recorded_and_the_node_starts_on_a_full_disk(small):
    node = small
    run = submit(node, *waiting(node))
    other = submit(node, *waiting(node))
    held = submit(node, "--hold", "--", "true")
    for one in (run, other):
        wait_for(lambda: "ready" in node.run("logs", str(one), check=False).stdout, what="the job's trap")
    kill(node_processes(node))
    filler = fill(node)
    os.kill(waiting_shells(node)[0], signal.SIGUSR1)
    # No node is there: the file alone can say how it ended.
    records = lambda: list((node.state / "attempts").glob("*/exit.json"))
    wait_for(lambda: len(records()) == 1, what="the exit record")
    assert json.loads(records()[0].read_text())["code"] == 7
    ended, lives = (run, other) if records()[0].parent.name == "1" else (other, run)

    wait_state(node, ended, "failed")  # this starts the node
    assert exit_of(node, ended)["code"] == 7
    assert not (node.state / "spare").exists()
    fill(node, "more")
    pid = node.json("node", "status")["pid"]

    refused = node.run("run", "--", "true", cwd=node.empty, check=False)
    assert refused.returncode != 0 and "left; snapshots and starts need" in refused.stderr, refused.stderr
    assert "loam store gc" in refused.stderr
    node.run("release", str(held))
    why = node.run("ps", "--why", str(held)).stdout
    assert "left; snapshots and starts need" in why, why
    for _ in range(20):
        node.run("hold", str(held))
        node.run("release", str(held))
    node.run("cancel", str(lives))
    wait_state(node, lives, "cancelled")
    node.run("store", "gc")
    assert job(node, held)["state"] == "queued"
    assert node.json("node", "status")["pid"] == pid

    filler.unlink()
    wait_state(node, held, "succeeded")
    assert node.json("node", "status")["pid"] == pid
    assert node.run("run", "--", "echo", "again", cwd=node.empty).stdout == "again\n"


def test_the_attempt_that_fills_the_disk_is_ended(small):
    node = small
    other = submit(node, *waiting(node))
    held = submit(node, "--hold", "--", "true")
    wait_state(node, other, "running")
    pid = node.json("node", "status")["pid"]
    run = submit(node, "--", "sh", "-c", "cat /dev/zero > big; exec sleep 1000")
    wait_state(node, run, "failed")
    ended = exit_of(node, run)
    assert ended["outcome"] == "disk_full", ended
    assert "this job had written most to it" in ended["error"], ended
    assert "this job had written most to it" in node.run("ps", "-a", str(run)).stdout
    wait_for(lambda: free_bytes(node) > BOUND_MIB << 20, what="its files' end")
    assert job(node, other)["state"] == "running"
    node.run("release", str(held))
    wait_state(node, held, "succeeded")
    assert node.json("node", "status")["pid"] == pid


def test_a_job_that_failed_for_want_of_room_does_not_keep_it(small):
    node = small
    run = submit(node, "--", "sh", "-c", "cat /dev/zero > big")
    wait_state(node, run, "failed")
    wait_for(lambda: free_bytes(node) > BOUND_MIB << 20, what="its files' end")
    assert node.run("run", "--", "echo", "again", cwd=node.empty).stdout == "again\n"


def test_nobody_is_ended_for_what_others_wrote(small):
    node = small
    run = submit(node, *waiting(node))
    wait_state(node, run, "running")
    held = submit(node, "--hold", "--", "true")
    filler = fill(node)
    node.run("release", str(held))
    wait_for(lambda: "snapshots and starts need" in node.run("ps", "--why", str(held)).stdout, what="the reason")
    assert job(node, run)["state"] == "running"
    filler.unlink()
    wait_state(node, held, "succeeded")
    assert job(node, run)["state"] == "running"


def test_garbage_is_collected_on_a_full_disk(small):
    node = small
    folder = node.project({"loam.yaml": "name: full\ntrain: {run: 'true'}\nkeep: {runs: 1}\n"})
    for _ in range(3):
        (folder / "noise").write_bytes(os.urandom(8 << 20))
        node.own(folder)
        node.run("up", cwd=folder)
    fill(node)
    collected = node.json("store", "gc")
    assert collected["removed_runs"] == 2 and collected["freed_bytes"] >= 16 << 20, collected
    assert free_bytes(node) >= 16 << 20
