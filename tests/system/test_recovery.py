"""Invariants 1 to 5 under kill -9: at each named crash point, at random moments, of the node and of everything.

Each job appends to a log of its own that no crash of Loam can undo; what the log says is held against what the
restarted node says."""
import fcntl
import json
import os
import random
import re
import signal
import struct
import subprocess
import time
import urllib.error
import urllib.request

import pytest

from nodes import SOURCE, free_port, holders, kill, memory_files, node_processes, shims, wait_for

# Appends "start", sleeps a little, appends "end": to a folder outside the project, by a single write each.
JOB = """name: recovery
mounts:
  - {{from: {out}, to: /out, mode: rw}}
steps:
  a:
    run: me=$LOAM_RUN/$LOAM_ATTEMPT; echo "start $me" >> /out/log; sleep {seconds}; echo "end $me" >> /out/log
    resources: {{cpus: 0.1, memory: 64MiB}}
"""


def job(node, seconds=0.3):
    out = node.project({"log": ""}, name="out")
    (out / "log").chmod(0o666)
    return node.project({"loam.yaml": JOB.format(out=out, seconds=seconds)}), out / "log"


def settled(node, project="recovery"):
    """All jobs of the project have ended; their documents."""
    done = node.run("ps", "-a", "--json", check=False)
    if done.returncode != 0:
        return None
    jobs = [entry for entry in json.loads(done.stdout)["jobs"] if entry["project"] == project]
    open_states = ("blocked", "preparing", "queued", "running")
    return jobs if jobs and all(entry["state"] not in open_states for entry in jobs) else None


def hold_invariants(node, log, jobs):
    lines = log.read_text().split("\n")[:-1]
    starts = [line for line in lines if line.startswith("start")]
    assert len(starts) == len(set(starts)), f"an attempt started twice: {lines}"
    for entry in jobs:
        numbers = [attempt["number"] for attempt in entry["attempts"]]
        assert numbers == sorted(set(numbers)), numbers
        for attempt in entry["attempts"]:
            assert attempt["state"] == "ended" and attempt["exit"]["outcome"], attempt
        succeeded = [attempt for attempt in entry["attempts"] if attempt["exit"]["outcome"] == "exited" and attempt["exit"]["code"] == 0]
        if entry["state"] == "succeeded":
            assert len(succeeded) == 1 and f"end {entry['run']}/{succeeded[0]['number']}" in lines
    # At most one at a time: between an attempt's start and its end no other attempt of the same job starts.
    for run in {line.split()[1].split("/")[0] for line in lines}:
        of_run = [line for line in lines if line.split()[1].startswith(run + "/")]
        for before, after in zip(of_run, of_run[1:]):
            if before.startswith("start") and after.startswith("end"):
                assert before.split()[1] == after.split()[1], lines


def test_node_killed_while_a_job_runs(fresh_node):
    folder, log = job(fresh_node, seconds=3)
    fresh_node.run("up", "--detach", cwd=folder)
    wait_for(lambda: "start 1/1" in log.read_text(), what="the job's start")
    kill(node_processes(fresh_node))
    assert fresh_node.run("node", "start").returncode == 0
    jobs = wait_for(lambda: settled(fresh_node), what="the job's end")
    assert log.read_text() == "start 1/1\nend 1/1\n"
    assert jobs[0]["state"] == "succeeded" and len(jobs[0]["attempts"]) == 1
    hold_invariants(fresh_node, log, jobs)


def test_everything_killed_says_what_was_lost_and_tries_again(fresh_node):
    folder, log = job(fresh_node, seconds=2)
    fresh_node.run("up", "--detach", cwd=folder)
    wait_for(lambda: "start 1/1" in log.read_text(), what="the job's start")
    fresh_node.kill_all()
    wait_for(lambda: not fresh_node.job_processes(), seconds=10, what="the end of the job's processes")
    next_up = fresh_node.run("up", cwd=folder)
    assert "lost" in next_up.stdout + next_up.stderr, next_up
    jobs = wait_for(lambda: settled(fresh_node), what="the job's end")
    first = [entry for entry in jobs if entry["run"] == 1][0]
    assert [attempt["exit"]["outcome"] for attempt in first["attempts"]] == ["lost", "exited"], jobs
    assert first["state"] == "succeeded"
    hold_invariants(fresh_node, log, jobs)


def job_with_a_stopped_shim(node):
    folder, log = job(node, seconds=2)
    node.run("up", "--detach", cwd=folder)
    wait_for(lambda: "start 1/1" in log.read_text(), what="the job's start")
    stopped = shims(node)
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    return folder, log, stopped


def test_a_shim_that_is_still_dying_counts_as_lost_for_the_next_up(fresh_node):
    """A shim that was killed a moment ago still holds its lock: here it is stopped first, so that the moment lasts."""
    folder, log, stopped = job_with_a_stopped_shim(fresh_node)
    fresh_node.kill_all(b"node\0run")  # waits for its end: a node that is dying still takes connections
    up = fresh_node.start("up", cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    wait_for(lambda: node_processes(fresh_node), what="the next node")
    time.sleep(0.3)
    kill(stopped)  # and not what the next node has started meanwhile
    said = up.communicate(timeout=120)[0]
    assert "lost" in said, said
    jobs = wait_for(lambda: settled(fresh_node), what="the job's end")
    assert [attempt["exit"]["outcome"] for attempt in jobs[-1]["attempts"]] == ["lost", "exited"], jobs
    hold_invariants(fresh_node, log, jobs)


def test_a_node_starts_while_the_one_before_it_is_still_ending(fresh_node):
    """Stopped or killed a moment ago, it listens no longer and has its lock still: here the test has it."""
    fresh_node.run("node", "start")
    fresh_node.run("node", "stop")
    with open(fresh_node.state / "node.lock", "r+") as lock:
        whole = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        wait_for(lambda: locked(lock, whole), what="the lock")
        run = fresh_node.start("run", "--", "echo", "goes on", stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                               cwd=fresh_node.project({}))
        wait_for(lambda: node_processes(fresh_node), what="the next node")
        time.sleep(0.3)
    said = run.communicate(timeout=60)[0]
    assert run.returncode == 0 and "goes on" in said, said


def locked(file, whole):
    try:
        fcntl.fcntl(file, fcntl.F_OFD_SETLK, whole)
        return True
    except BlockingIOError:
        return False


def test_a_stopped_shim_holds_no_node(fresh_node):
    folder, log, stopped = job_with_a_stopped_shim(fresh_node)
    kill(node_processes(fresh_node))
    fresh_node.run("node", "start")
    assert fresh_node.run("run", "--", "echo", "goes on", cwd=fresh_node.project({})).stdout == "goes on\n"
    for pid in stopped:
        os.kill(pid, signal.SIGCONT)
    jobs = wait_for(lambda: settled(fresh_node), what="the job's end")
    assert jobs[0]["state"] == "succeeded" and len(jobs[0]["attempts"]) == 1
    hold_invariants(fresh_node, log, jobs)


def crash_points():
    names = set()
    for path in (SOURCE / "src").rglob("*.cc"):
        if not path.name.endswith("_test.cc"):
            names.update(re.findall(r'LOAM_CRASH_POINT\("([^"]+)"\)', path.read_text()))
    return sorted(names)


def test_there_are_crash_points_at_each_durable_step():
    points = crash_points()
    for wanted in ("node.submission_stored", "node.submission_committed", "node.attempt_committed", "node.folder_made",
                   "node.cgroup_made", "node.shim_started", "node.running_committed", "node.exit_seen", "node.exit_committed",
                   "shim.start", "shim.running", "shim.before_exit_record", "shim.after_exit_record"):
        assert wanted in points, points


@pytest.mark.parametrize("point", crash_points())
def test_killed_at_a_crash_point(fresh_node, point):
    folder, log = job(fresh_node)
    fresh_node.run("node", "start", environment={"LOAM_CRASH_AT": point}, check=False)
    up = fresh_node.run("up", "--detach", "--json", cwd=folder, check=False)
    acknowledged = up.returncode == 0
    time.sleep(1.0)
    kill(node_processes(fresh_node))  # where the point lay in the shim, the node still carries the variable
    fresh_node.run("node", "start")
    if not acknowledged and not settled(fresh_node):
        jobs = fresh_node.json("ps", "-a")["jobs"]
        if not jobs:  # never acknowledged: nothing may be left of it but the wish to try again
            fresh_node.run("up", "--detach", cwd=folder)
    jobs = wait_for(lambda: settled(fresh_node), what=f"the job's end after {point}")
    assert jobs[0]["state"] == "succeeded", jobs
    hold_invariants(fresh_node, log, jobs)


SERVED = """name: served
endpoint: 127.0.0.1:{port}
train: {{run: "echo 2 > model/factor", output: model, resources: {{cpus: 0.1, memory: 64MiB}}}}
serve: {{handler: serve.py:predict, resources: {{cpus: 0.1, memory: 256MiB}}}}
"""
SERVE = """import os, loam
factor = float(open(os.path.join(loam.model(), "factor")).read())

@loam.signature(inputs={"x": ("FP32", [-1])}, outputs={"y": ("FP32", [-1])})
def predict(batch):
    return {"y": batch["x"] * factor}
"""


def answers(port):
    """Whether the service computes: 503 and a closed port are its times of recovery."""
    body = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "data": [21]}]}
    request = urllib.request.Request(f"http://127.0.0.1:{port}/v2/models/served/infer", json.dumps(body).encode())
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)["outputs"][0]["data"] == [42]
    except urllib.error.HTTPError as error:
        assert error.code == 503, error.read()
    except OSError:
        pass
    return False


KILLS = int(os.environ.get("LOAM_KILLS", "12"))


@pytest.mark.seconds_max(300 + 10 * KILLS)
def test_random_kills(fresh_node):
    """Kills the node, a shim, or everything at random moments, beside a service; the seed is printed."""
    seed = int(os.environ.get("LOAM_SEED", "0")) or random.randrange(1 << 30)
    print(f"LOAM_SEED={seed}")
    dice = random.Random(seed)
    folder, log = job(fresh_node, seconds=0.2)
    port = free_port()
    served = fresh_node.project({"loam.yaml": SERVED.format(port=port), "serve.py": SERVE})
    fresh_node.run("up", cwd=served)
    channels = set()
    acknowledged = 0
    for _ in range(KILLS):
        channels |= memory_files(fresh_node.all_processes())
        # A sanitizer looks for leaks from a process of its own, without which its parent waits for ever: none to be killed.
        up = fresh_node.start("up", "--detach", "--force", cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              environment={"ASAN_OPTIONS": "detect_leaks=0"})
        time.sleep(dice.random() * 0.6)
        victim = dice.choice(["node", "all", "shim"])
        if victim == "node":
            kill(node_processes(fresh_node))
        elif victim == "all":
            kill([pid for pid in fresh_node.processes() if pid != up.pid])
        else:
            kill(shims(fresh_node))
        up.communicate(timeout=120)
        acknowledged += up.returncode == 0
        fresh_node.run("node", "start", check=False)
    jobs = wait_for(lambda: settled(fresh_node), seconds=120, what="the end of all jobs")
    assert len({entry["run"] for entry in jobs}) >= acknowledged, "an acknowledged submission was lost"
    for entry in jobs:
        assert entry["state"] in ("succeeded", "failed"), entry  # failed: lost three times in a row
        for attempt in entry["attempts"]:
            assert attempt["state"] == "ended", entry
    hold_invariants(fresh_node, log, jobs)
    wait_for(lambda: answers(port), seconds=120, what="the service's answer")
    channels |= memory_files(fresh_node.all_processes())
    fresh_node.run("down", cwd=served)
    wait_for(lambda: not fresh_node.job_processes(), seconds=10, what="the end of the jobs' processes")
    assert channels
    wait_for(lambda: not holders(channels), seconds=10, what="the end of the channels' memory")
    groups = [group for parent in fresh_node.cgroups() for group in parent.iterdir() if group.name.isdigit()]
    assert groups == []
