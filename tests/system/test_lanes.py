"""Tasks of a sweep that share sandboxes (`tasks: {share: sandbox}`): what is shared, what stays each task's own, and that no
death of a node, a shim or everything loses one or has one counted twice."""
import collections
import os
import random
import signal
import time

import pytest

from nodes import kill, node_processes, wait_for
from test_sweep import NOTE, await_step, counts, ended, notes, run_of, start, step_of


def shared(node, script, sweep="{seed: 1..4}", more="", name="sweep", cpus=None, time_limit=""):
    """All of the machine's CPUs for each: one lane."""
    text = (f"name: {name}\nsteps:\n  train:\n    run: [python3, train.py]\n    sweep: {sweep}\n    tasks: {{share: sandbox}}\n"
            f"    resources: {{cpus: {cpus or len(os.sched_getaffinity(0))}, memory: 256MiB{time_limit}}}\n{more}")
    return node.project({"loam.yaml": text, "train.py": NOTE + script})


def test_each_has_its_own_parameters_log_metrics_output_and_exit(node):
    script = """
print("mine", p.seed, os.environ["LOAM_TASK"], os.environ["LOAM_ATTEMPT"])
loam.log(loss=p.seed)
assert os.listdir(loam.output()) == [], "an output of the task before"
os.makedirs(loam.output() + "/deep")
open(loam.output() + "/deep/weights", "w").write(task)
sys.exit(9 if p.seed == 3 else 0)
"""
    document, _ = run_of(node, shared(node, script, more="    output: model\n", name="lanes"), status=1)
    step, run = step_of(document), document["id"]
    assert [t["state"] for t in step["tasks"]] == ["succeeded", "succeeded", "failed", "succeeded"]
    assert [t["attempts"][0]["exit"]["code"] for t in step["tasks"]] == [0, 0, 9, 0]
    assert [t["metrics"]["loss"]["last"] for t in step["tasks"]] == [1, 2, 3, 4]
    assert len({t["model_version"] for t in step["tasks"] if t["state"] == "succeeded"}) == 3
    for number in range(1, 5):
        assert node.run("logs", f"{run}/train[{number}]").stdout == f"mine {number} {number} 1\n"
    assert f"{run}/train.2" in node.run("trace", step["tasks"][1]["model_version"]).stdout
    assert [job["target"] for job in node.json("ps", "-a")["jobs"] if job["run"] == run] == [f"{run}/train"]


def test_files_are_shared_and_processes_are_not(node):
    """What a task leaves in /tmp the next one finds; a daemon that it leaves ends with it."""
    script = """
import subprocess
seen = sorted(os.listdir("/tmp"))
others = [pid for pid in os.listdir("/proc") if pid.isdigit() and pid not in ("1", str(os.getpid()))]
print("tmp", seen, "others", others)
open("/tmp/" + task, "w").close()
subprocess.Popen(["setsid", "sh", "-c", "trap '' TERM; sleep 1000 & sleep 1000"])
"""
    document, _ = run_of(node, shared(node, script, name="sharing"))
    run = document["id"]
    for number in range(1, 5):
        seen = [str(before) for before in range(1, number)]
        assert node.run("logs", f"{run}/train.{number}").stdout == f"tmp {seen} others []\n"
    wait_for(lambda: not node.job_processes(), seconds=20, what="the end of the lane's processes")


def test_a_hostile_task_reaches_no_other_ones_exit_output_or_log(node):
    """It removes what it finds, writes journals of exits where it may, fills its output, signals pid 1, and dies."""
    script = """
import subprocess
if p.seed == 2 and attempt == "1":
    subprocess.run("rm -rf /project/model/* /loam/run/* /tmp/* 2>/dev/null", shell=True)
    forged = '{"attempt":"%d","outcome":"exited","code":0,"signal":0,"error":"","device":"","started_ms":1,"ended_ms":2}'
    for folder in ["/project", "/loam/run", "/loam/run/..", "/proc/1/cwd", "/proc/1/root/tmp", "/tmp"]:
        try:
            open(folder + "/exits", "w").write("00000000 " + forged % 1 + "\\n")
        except OSError:
            pass
    assert not os.access("/proc/1/fd", os.R_OK)
    sys.stdout.write("x" * (80 << 20))
    sys.stdout.flush()
    os.kill(1, 9)  # of this namespace: the kernel lets it not hear
    os.kill(os.getpid(), 9)
open(loam.output() + "/weights", "w").write("weights of " + task + "\\n")
sys.exit(5 if p.seed == 3 and attempt == "1" else 0)
"""
    more = """    output: model
    retries: 1
  check:
    run: cat model/1/weights model/2/weights model/3/weights model/4/weights
    after: [train]
    resources: {cpus: 0.1, memory: 32MiB}
"""
    document, _ = run_of(node, shared(node, script, more=more, name="hostile"))
    step, run = step_of(document), document["id"]
    exits = [[(a["exit"]["code"], a["exit"]["signal"]) for a in t["attempts"]] for t in step["tasks"]]
    assert exits == [[(0, 0)], [(0, signal.SIGKILL), (0, 0)], [(5, 0), (0, 0)], [(0, 0)]], exits
    assert node.run("logs", f"{run}/check").stdout == "".join(f"weights of {number}\n" for number in range(1, 5))
    assert len(node.run("logs", f"{run}/train.2/1").stdout) <= 64 << 20
    assert node.run("logs", f"{run}/train.1").stdout == ""


def test_limits_retries_and_cancellation_are_a_tasks_own(node):
    script = """
note("ran")
if p.seed == 2:
    time.sleep(1000)
if p.seed == 3 and attempt == "1":
    sys.exit(3)
"""
    project = shared(node, script, more="    retries: 1\n    retry_on: [exit:3]\n", name="limits", time_limit=", time: 2s")
    document, _ = run_of(node, project, status=1)
    outcomes = [[a["exit"]["outcome"] for a in t["attempts"]] for t in step_of(document)["tasks"]]
    assert outcomes == [["exited"], ["timed_out"], ["exited", "exited"], ["exited"]], outcomes


def test_cancel_one_that_runs_one_that_waits_and_all(node):
    script = "print('up', flush=True)\ntime.sleep(1000 if p.seed < 3 else 0)"
    run = start(node, shared(node, script, "{seed: 1..200}", name="cancelling"))
    await_step(node, run, lambda step: counts(step)["running"] == 1, "the first")
    node.run("cancel", f"{run}/train.7")
    node.run("cancel", f"{run}/train.1")
    step = await_step(node, run, lambda step: counts(step)["cancelled"] == 2 and counts(step)["running"] == 1, "the second")
    assert step["tasks"][6]["state"] == "cancelled" and step["tasks"][6]["attempts"] == []
    assert step["tasks"][1]["state"] == "running"
    assert "its turn" in node.run("ps", "--why", f"{run}/train.9").stdout
    node.run("cancel", f"{run}/train")
    step = await_step(node, run, ended, "the step's end")
    assert step["state"] == "cancelled" and step["task_counts"]["cancelled"] == 200
    wait_for(lambda: not node.job_processes(), seconds=20, what="the end of the lane's processes")


def test_out_of_memory_ends_the_task_and_not_the_lane(node):
    if node.rootless:
        pytest.skip("a user's node limits no memory here")
    script = """
note("ran")
if p.seed == 2:
    hoard = bytearray(1 << 30)
"""
    document, _ = run_of(node, shared(node, script, name="memory"), status=1)
    outcomes = [t["attempts"][-1]["exit"]["outcome"] for t in step_of(document)["tasks"]]
    assert outcomes == ["exited", "out_of_memory", "exited", "exited"], outcomes


POINTS = ["node.sweep_begun", "node.attempt_committed", "node.tasks_committed", "node.tasks_handed", "node.task_exits_seen",
          "node.task_exits_committed", "node.output_stored", "shim.task_begun", "shim.task_ended", "shim.task_output_moved",
          "shim.before_exits_synced", "shim.exits_synced"]


@pytest.mark.parametrize("point", POINTS)
def test_killed_at_each_step(fresh_node, point):
    """Where the point lies in the node each task runs once; a shim that dies costs the task that ran in it an attempt."""
    node = fresh_node
    script = "note('ran')\nopen(loam.output() + '/weights', 'w').write(task)"
    project = shared(node, script, "{seed: 1..6}", "    output: model\n")
    node.run("node", "start", environment={"LOAM_CRASH_AT": point})
    run = start(node, project)
    if point.startswith("node."):
        wait_for(lambda: f"crash point {point}" in node.log() or not node_processes(node), what=f"the crash at {point}")
    else:
        time.sleep(2)
        kill(node_processes(node))  # else it hands the variable to the next shim too
        wait_for(lambda: not node_processes(node), what="the node's end")
    step = await_step(node, run, ended, "the sweep's end")
    assert step["state"] == "succeeded" and step["task_counts"]["done"] == 6, step
    assert len({task["model_version"] for task in step["tasks"]}) == 6
    ran = [int(task) for _, task, _ in notes(node)]
    assert set(ran) == set(range(1, 7))
    if point.startswith("node."):
        assert len(ran) == 6, ran
    for task in step["tasks"]:
        assert [a["exit"]["outcome"] for a in task["attempts"]][-1] == "exited"


def test_everything_killed_keeps_the_exits_that_were_recorded(fresh_node):
    node = fresh_node
    script = "note('began')\ntime.sleep(1000 if p.seed == 5 and attempt == '1' else 0)\nnote('ended')"
    run = start(node, shared(node, script, "{seed: 1..9}"))
    await_step(node, run, lambda step: counts(step)["done"] == 4 and counts(step)["running"] == 1, "four and a fifth")
    wait_for(lambda: ["began", "5", "1"] in notes(node), what="the fifth's own word")  # it is told before its program says so
    kill(node.processes())
    node.run("node", "start")
    step = await_step(node, run, ended, "the step's end")
    outcomes = [[a["exit"]["outcome"] for a in t["attempts"]] for t in step["tasks"]]
    assert outcomes == [["exited"]] * 4 + [["lost", "exited"]] + [["exited"]] * 4, outcomes
    began = collections.Counter(int(task) for word, task, _ in notes(node) if word == "began")
    assert began == {task: 2 if task == 5 else 1 for task in range(1, 10)}


TASKS = 1000


@pytest.mark.seconds_max(900)
def test_two_thousand_tasks_with_a_node_that_is_killed_again_and_again(fresh_node):
    """Two sweeps side by side, a thousand tasks each, several lanes: each task runs once and is recorded once."""
    node, dice = fresh_node, random.Random(5)
    text = "name: sweep\nsteps:\n" + "".join(
        f"  {name}:\n    run: 'echo {name} $LOAM_TASK >> /loam/home/notes; echo $LOAM_TASK'\n    sweep: {{seed: 1..{TASKS}}}\n"
        f"    tasks: {{share: sandbox}}\n    resources: {{cpus: 1, memory: 64MiB}}\n" for name in ("one", "two"))
    run = node.json("up", "--detach", cwd=node.project({"loam.yaml": text}))["run"]
    for _ in range(8):
        time.sleep(dice.uniform(0.5, 2.0))
        kill(node_processes(node))
        wait_for(lambda: not node_processes(node), what="the node's end")
        node.run("node", "start")
    wait_for(lambda: all(ended(job) for job in node.json("ps", str(run))["jobs"]), seconds=600, what="the end of both")
    jobs = node.json("ps", str(run))["jobs"]
    assert [job["task_counts"]["done"] for job in jobs] == [TASKS, TASKS], [job["task_counts"] for job in jobs]
    assert collections.Counter(tuple(entry) for entry in notes(node)) == {
        (name, str(task)): 1 for name in ("one", "two") for task in range(1, TASKS + 1)}
    for job in jobs:
        assert all([a["exit"]["outcome"] for a in task["attempts"]] == ["exited"] for task in job["tasks"])
    assert node.run("logs", f"{run}/two.{TASKS}").stdout == f"{TASKS}\n"
    wait_for(lambda: not node.job_processes(), seconds=30, what="the end of the lanes")
