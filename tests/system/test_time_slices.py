"""GPUs shared by turns: only for who asks, told what that is, and no more slices than there are, over recordings of real drivers."""
import shutil
import subprocess

import pytest

from nodes import make_node, wait_for
from test_devices import await_state, await_why, detached, device, job
from test_gpus import Driver, await_free, indexes, look, nodes, shared  # noqa: F401 (fixtures)

SLICE = ("--gpus", "1,share=time-slice")


def with_time_slices(node, count):
    node.driver = Driver(node, "v100x8")
    node.driver.says("gpus 1")
    node.configure(f"gpus: {{library: {node.driver.library}, time_slices: {count}}}\n")
    return node


@pytest.fixture
def turns(fresh_node):
    """One GPU that two jobs may share."""
    yield with_time_slices(fresh_node, 2)


def process_of(name):
    found = subprocess.run(["pgrep", "-x", name], capture_output=True, text=True).stdout.split()
    return int(found[0]) if found else None


def test_who_asks_for_a_time_slice_shares_a_gpu_and_is_told_what_that_is(turns):
    assert device(turns, "GPU-2b5fbbe0")["time_slices"] == 2
    said = turns.run("devices").stdout
    assert "2 time slices, not enforced" in said, said
    folder = turns.project({})
    shutil.copy("/bin/sleep", folder / "loam-trainer")
    first = detached(turns, *SLICE, command=("./loam-trainer", "1000"), cwd=folder)
    await_state(turns, first, "running")
    wait_for(lambda: process_of("loam-trainer"), what=turns.log)
    turns.driver.says("gpus 1", f"0.processes {process_of('loam-trainer')}")  # the other job's is no stranger's
    said = look(turns, *SLICE)
    assert said["given"]["gpu"][0]["time_slice"] == {"parts": 1, "of": 2} and indexes(said) == [0]
    second = detached(turns, *SLICE)
    await_state(turns, second, "running")
    assert [(h["parts"], h["of"]) for h in device(turns, "GPU-2b5fbbe0")["holders"]] == [(1, 2), (1, 2)]
    waits = [detached(turns, *SLICE, command=("true",)), detached(turns, "--gpus", "1", command=("true",))]
    for run in waits:
        await_state(turns, run, "queued")
    turns.run("cancel", second)
    await_state(turns, waits[0], "succeeded")
    assert job(turns, waits[1])["state"] == "queued", "a whole GPU is one that nobody shares"
    turns.driver.says("gpus 1")
    turns.run("cancel", first)
    await_state(turns, waits[1], "succeeded")
    guards = {m["guard"]: m["reason"] for m in job(turns, first)["attempts"][0]["exit"]["missing"]}
    assert guards["gpu-share"] == ("GPU-2b5fbbe0 is shared in 2 time slices, not enforced: each job can fill its "
                                   "memory and take its time")
    assert "gpu-share" not in {m["guard"] for m in job(turns, waits[1])["attempts"][0]["exit"]["missing"]}
    await_free(turns)


def test_a_stranger_keeps_time_slices_too(turns):
    outsider = subprocess.Popen(["sleep", "1000"])
    try:
        turns.driver.says("gpus 1", f"0.processes {outsider.pid}")
        waits = detached(turns, *SLICE, command=("true",))
        assert f"process {outsider.pid} (sleep), which is none of Loam's" in await_why(turns, waits, "GPU-2b5fbbe0 busy")
        turns.driver.says("gpus 1")
    finally:
        outsider.kill()
        outsider.wait()
    await_state(turns, waits, "succeeded")
    await_free(turns)


def test_time_slices_are_had_only_where_they_are_asked_for_and_configured(shared):
    refused = shared.run("run", *SLICE, "--", "true", cwd=shared.project({}), check=False)
    assert refused.returncode == 2 and "asks for time slices of 1 GPU; this machine has 8 GPUs" in refused.stderr
    refused = shared.run("run", "--gpus", "1,share=half", "--", "true", cwd=shared.project({}), check=False)
    assert refused.returncode == 2 and "share: expected time-slice, found 'half'" in refused.stderr


def test_slices_of_more_gpus_than_there_are_can_never_be(turns):
    refused = turns.run("run", "--gpus", "2,share=time-slice", "--", "true", cwd=turns.project({}), check=False)
    assert "asks for time slices of 2 GPUs; this machine has 1 GPU (Tesla V100-SXM2-32GB, 32.0 GiB, in 2 time slices, not enforced)" in refused.stderr


def test_two_nodes_hand_out_no_more_slices_than_there_are(prefix):
    both = [with_time_slices(make_node(prefix, kind), 2) for kind in ("root", "rootless")]
    try:
        runs = [detached(node, *SLICE) for node in both]
        for node, run in zip(both, runs):
            await_state(node, run, "running")
        waits = detached(both[1], *SLICE, command=("true",))
        await_why(both[1], waits, "GPU-2b5fbbe0 busy (held by attempt")
        both[0].run("cancel", runs[0])
        await_state(both[1], waits, "succeeded")
        whole = detached(both[0], "--gpus", "1", command=("true",))
        await_why(both[0], whole, "GPU-2b5fbbe0 busy (held by")
        both[1].run("cancel", runs[1])
        await_state(both[0], whole, "succeeded")
    finally:
        for node in both:
            node.close()
