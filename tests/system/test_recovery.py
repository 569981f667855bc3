"""Invariants 1 to 5 under kill -9: at each named crash point, at random moments, of the node and of everything.

Each job appends to a log of its own that no crash of Loam can undo; what the log says is held against what the
restarted node says."""
import json
import os
import random
import re
import signal
import subprocess
import time

import pytest

from nodes import SOURCE

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


def wait_for(condition, seconds=60, what="the condition"):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        result = condition()
        if result:
            return result
        time.sleep(0.05)
    pytest.fail(f"{what} did not come within {seconds} s")


def settled(node, project="recovery"):
    """All jobs of the project have ended; their documents."""
    done = node.run("ps", "-a", "--json", check=False)
    if done.returncode != 0:
        return None
    jobs = [entry for entry in json.loads(done.stdout)["jobs"] if entry["project"] == project]
    open_states = ("blocked", "preparing", "queued", "running")
    return jobs if jobs and all(entry["state"] not in open_states for entry in jobs) else None


def node_processes(node):
    return [pid for pid in node.processes() if b"node\0run" in read(f"/proc/{pid}/cmdline")]


def read(path):
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""


def kill(pids):
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


def sleepers(node):
    """Processes of jobs: children of an init of this node's shims are those that still hold the job's log."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit() and b"LOAM_ATTEMPT=" in read(f"/proc/{entry}/environ") and b"sleep" in read(f"/proc/{entry}/cmdline"):
            found.append(int(entry))
    return found


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
    wait_for(lambda: not sleepers(fresh_node), seconds=10, what="the end of the job's processes")
    next_up = fresh_node.run("up", cwd=folder)
    assert "lost" in next_up.stdout + next_up.stderr, next_up
    jobs = wait_for(lambda: settled(fresh_node), what="the job's end")
    first = [entry for entry in jobs if entry["run"] == 1][0]
    assert [attempt["exit"]["outcome"] for attempt in first["attempts"]] == ["lost", "exited"], jobs
    assert first["state"] == "succeeded"
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


def test_random_kills(fresh_node):
    """Kills the node, a shim, or everything at random moments; the seed is printed."""
    seed = int(os.environ.get("LOAM_SEED", "0")) or random.randrange(1 << 30)
    print(f"LOAM_SEED={seed}")
    dice = random.Random(seed)
    folder, log = job(fresh_node, seconds=0.2)
    acknowledged = 0
    for _ in range(int(os.environ.get("LOAM_KILLS", "12"))):
        up = fresh_node.start("up", "--detach", "--force", cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        time.sleep(dice.random() * 0.6)
        victim = dice.choice(["node", "all", "shim"])
        if victim == "node":
            kill(node_processes(fresh_node))
        elif victim == "all":
            kill([pid for pid in fresh_node.processes() if pid != up.pid])
        else:
            kill([pid for pid in fresh_node.processes() if b"loam-shim" in read(f"/proc/{pid}/cmdline")])
        up.communicate(timeout=120)
        acknowledged += up.returncode == 0
        fresh_node.run("node", "start", check=False)
    jobs = wait_for(lambda: settled(fresh_node), seconds=120, what="the end of all jobs")
    assert len({entry["run"] for entry in jobs}) >= acknowledged, "an acknowledged submission was lost"
    for entry in jobs:
        assert entry["state"] in ("succeeded", "failed"), entry  # failed: lost three times in a row
        for attempt in entry["attempts"]:
            assert attempt["state"] == "ended", entry
    wait_for(lambda: not sleepers(fresh_node), seconds=10, what="the end of the jobs' processes")
    groups = [group for parent in fresh_node.cgroups() for group in parent.iterdir() if group.is_dir() and group.name != "node"]
    assert groups == []
