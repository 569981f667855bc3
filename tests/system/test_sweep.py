"""Sweeps: `sweep:` of a step. Many tasks, each with parameters, output, metrics and outcome of its own."""
import collections
import json
import pathlib
import random
import time

import pytest

from nodes import kill, node_processes, wait_for

NOTE = """
import json, os, sys, time
import loam
p = loam.params()
task, attempt = os.environ["LOAM_TASK"], os.environ["LOAM_ATTEMPT"]

def note(word):
    "One line of the project's own log, which outlives attempts and nodes."
    fd = os.open("/loam/home/notes", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(fd, (word + " " + task + " " + attempt + "\\n").encode())
    os.close(fd)
"""


def sweep(node, script, sweep="{lr: [0.1, 0.2], seed: 1..2}", more="", name="sweep"):
    text = (f"name: {name}\nsteps:\n  train:\n    run: [python3, train.py]\n    params: {{lr: 7, hidden: 64}}\n    sweep: {sweep}\n"
            f"    resources: {{cpus: 0.1, memory: 32MiB}}\n{more}")
    return node.project({"loam.yaml": text, "train.py": NOTE + script})


def run_of(node, project, *arguments, status=0):
    done = node.run("train", *arguments, cwd=project, check=False)
    assert done.returncode == status, (done.stdout, done.stderr, node.log()[-2000:])
    return node.json("ps", str(node.json("ps", "-a")["jobs"][0]["run"])), done.stdout


def start(node, project):
    return node.json("train", "--detach", cwd=project)["run"]


def step_of(document, name="train"):
    return next(job for job in document["jobs"] if job["name"] == name)


def look(node, run):
    return step_of(node.json("ps", str(run)))


def await_step(node, run, condition, what):
    def there():
        step = look(node, run)
        return condition(step) and step
    return wait_for(there, seconds=120, what=what)


def counts(step):
    """None before its tasks are there."""
    return collections.defaultdict(int, step.get("task_counts", {}))


def ended(step):
    return step["state"] in ("succeeded", "failed", "cancelled")


def notes(node, name="sweep"):
    found = [path for path in pathlib.Path(node.state, "homes").glob(f"*/{name}/notes")]
    return [line.split() for path in found for line in path.read_text().splitlines()]


def test_each_task_has_its_parameters_output_metrics_and_outcome(node):
    script = """
print("mine", json.dumps(p, sort_keys=True), os.environ["LOAM_STEP"])
loam.log(loss=p.lr * p.seed)
open(loam.output() + "/weights", "w").write(task)
"""
    document, printed = run_of(node, sweep(node, script, more="    output: model\n", name="outputs"))
    step = step_of(document)
    assert step["state"] == "succeeded" and step["attempts"] == []
    assert step["task_counts"] == {"done": 4, "running": 0, "waiting": 0, "failed": 0, "cancelled": 0}
    run = document["id"]
    wanted = [(0.1, 1), (0.1, 2), (0.2, 1), (0.2, 2)]
    assert [(t["params"]["lr"], t["params"]["seed"]) for t in step["tasks"]] == wanted
    assert [t["metrics"]["loss"]["last"] for t in step["tasks"]] == [lr * seed for lr, seed in wanted]
    assert len({t["model_version"] for t in step["tasks"]}) == 4
    for number, (lr, seed) in enumerate(wanted, 1):
        mine = json.dumps({"hidden": 64, "lr": lr, "seed": seed}, sort_keys=True)
        for target in (f"{run}/train[{number}]", f"{run}/train.{number}/1"):
            assert node.run("logs", target).stdout == f"mine {mine} train\n"
    table = [line.split() for line in printed.splitlines() if line.startswith(f"{run}/train.")]
    assert [row[:4] for row in table] == [[f"{run}/train.{i}", "succeeded", str(lr), str(seed)]
                                          for i, (lr, seed) in enumerate(wanted, 1)]
    rows = node.json("ps", "-a")["jobs"]
    assert [job["target"] for job in rows if job["run"] == run] == [f"{run}/train"]  # one job, not five
    traced = node.run("trace", step["tasks"][2]["model_version"]).stdout
    assert f"{run}/train.3" in traced


def test_unchanged_is_not_done_again_and_a_changed_value_is(node):
    project = sweep(node, "print(p.seed)", "{seed: 1..2}", name="unchanged")
    run_of(node, project)
    document, printed = run_of(node, project)
    assert step_of(document)["state"] == "unchanged" and step_of(document)["task_counts"]["done"] == 2
    text = (project / "loam.yaml").read_text()
    (project / "loam.yaml").write_text(text.replace("1..2", "1..3"))
    document, printed = run_of(node, project)
    assert step_of(document)["task_counts"]["done"] == 3 and "sweep.seed" in printed, printed


def test_a_failed_task_fails_the_step_and_spares_the_others(node):
    script = """
note("ran")
if p.seed == 2:
    raise ValueError("seed two is bad")
"""
    document, _ = run_of(node, sweep(node, script, "{seed: 1..4}", "    retries: 1\n", name="failing"), status=1)
    step = step_of(document)
    assert step["error"] == "1 of 4 tasks failed; train.2: exit status 1: ValueError: seed two is bad"
    assert [t["state"] for t in step["tasks"]] == ["succeeded", "failed", "succeeded", "succeeded"]
    assert [len(t["attempts"]) for t in step["tasks"]] == [1, 2, 1, 1]  # retries are a task's own
    assert "seed two is bad" in node.run("logs", f"{document['id']}/train").stdout


def test_what_comes_after_sees_each_tasks_output(node):
    more = """    output: model
  choose:
    run: cat model/1/weights model/2/weights; mkdir -p best; cp model/2/weights best
    after: [train]
    output: {model: chosen, path: best}
    resources: {cpus: 0.1, memory: 32MiB}
"""
    script = "open(loam.output() + '/weights', 'w').write('weights of ' + task + '\\n')"
    document, _ = run_of(node, sweep(node, script, "{seed: 1..2}", more, name="choosing"))
    assert node.run("logs", f"{document['id']}/choose").stdout == "weights of 1\nweights of 2\n"
    made = [task["model_version"] for task in step_of(document)["tasks"]]
    traced = node.run("trace", f"{document['id']}/choose").stdout
    assert all(version in traced for version in made), (made, traced)


def test_cancel_ends_all_and_one_alone(node):
    script = "print('up', flush=True)\ntime.sleep(1000)"
    run = start(node, sweep(node, script, "{seed: 1..30}", name="cancelling"))
    step = await_step(node, run, lambda step: counts(step)["running"] >= 2, "two that run")
    assert step["task_counts"]["waiting"] > 0, step["task_counts"]
    node.run("cancel", f"{run}/train[1]")
    step = await_step(node, run, lambda step: counts(step)["cancelled"] == 1, "one that is cancelled")
    assert step["state"] == "running" and step["tasks"][0]["state"] == "cancelled"
    node.run("cancel", f"{run}/train")
    step = await_step(node, run, ended, "the step's end")
    assert step["state"] == "cancelled" and step["task_counts"]["cancelled"] == 30
    assert not any(task["state"] == "running" for task in step["tasks"])


def test_preempted_tasks_resume_each_from_its_own(node):
    script = """
import signal
asked = []
signal.signal(signal.SIGUSR1, lambda *_: asked.append(1))
last = os.environ.get("LOAM_CHECKPOINT")
print("from", open(last + "/task").read() if last else None, flush=True)
while not asked and not last:
    time.sleep(0.02)
if not last:
    os.makedirs("ck/checkpoint-1")
    open("ck/checkpoint-1/task", "w").write(task)
    sys.exit("asked")
"""
    run = start(node, sweep(node, script, "{seed: 1..2}", "    checkpoint: ck\n", name="preempting"))
    for number in (1, 2):
        wait_for(lambda: "from None" in node.run("logs", f"{run}/train.{number}", check=False).stdout, what="both")
    node.run("preempt", f"{run}/train")
    step = await_step(node, run, ended, "the step's end")
    assert step["state"] == "succeeded", step
    assert [task["preemptions"] for task in step["tasks"]] == [1, 1]
    for number in (1, 2):
        assert node.run("logs", f"{run}/train.{number}").stdout == f"from {number}\n"


def test_a_held_sweep_waits_and_is_let_go(node):
    project = sweep(node, "pass", "{seed: 1..3}", name="holding")
    run = node.json("train", "--detach", "--hold", cwd=project)["run"]
    step = await_step(node, run, lambda step: counts(step)["waiting"] == 3, "three that wait")
    assert {task["state"] for task in step["tasks"]} == {"held"}
    for target in (run, f"{run}/train"):  # one for all
        waits = node.json("ps", "--why", str(target))["jobs"]
        assert [(job["target"], job["more_tasks"]) for job in waits] == [(f"{run}/train.1", 2)]
        assert "2 more tasks of its sweep" in node.run("ps", "--why", str(target)).stdout
    assert "more_tasks" not in node.json("ps", "--why", f"{run}/train.2")["jobs"][0]
    node.run("release", f"{run}/train")
    assert await_step(node, run, ended, "its end")["state"] == "succeeded"


def test_secrets_reach_every_task(node):
    project = sweep(node, "print(os.environ['TOKEN'])", "{seed: 1..3}", "secrets: [TOKEN]\n", name="secrets")
    done = node.run("train", cwd=project, environment={"TOKEN": "hush"})
    assert sum("| hush" in line for line in done.stdout.splitlines()) == 3, done.stdout


@pytest.mark.parametrize("point", ["node.sweep_begun", "node.output_stored", "node.result_committed"])
def test_killed_at_each_step(fresh_node, point):
    node = fresh_node
    script = "note('ran')\nopen(loam.output() + '/weights', 'w').write(task)"
    project = sweep(node, script, "{seed: 1..6}", "    output: model\n")
    node.run("node", "start", environment={"LOAM_CRASH_AT": point})
    run = start(node, project)
    wait_for(lambda: f"crash point {point}" in node.log() or not node_processes(node), what=f"the crash at {point}")
    step = await_step(node, run, ended, "the sweep's end")
    assert step["state"] == "succeeded" and step["task_counts"]["done"] == 6, step
    assert sorted(int(task) for _, task, _ in notes(node)) == list(range(1, 7))
    assert len({task["model_version"] for task in step["tasks"]}) == 6


def test_killed_at_random_no_task_is_lost_or_runs_twice(fresh_node):
    node, random_times = fresh_node, random.Random(11)
    tasks = 40
    script = "note('began')\ntime.sleep(0.2)\nloam.log(loss=p.seed)\nnote('ended')"
    run = start(node, sweep(node, script, f"{{seed: 1..{tasks}}}"))
    for _ in range(5):
        time.sleep(random_times.uniform(0.2, 1.0))
        kill(node_processes(node))
        wait_for(lambda: not node_processes(node), what="the node's end")
        node.json("ps")  # starts the next
    step = await_step(node, run, ended, "the sweep's end")
    assert step["state"] == "succeeded" and step["task_counts"]["done"] == tasks, step
    count = collections.Counter((word, int(task)) for word, task, _ in notes(node))
    assert count == {(word, task): 1 for word in ("began", "ended") for task in range(1, tasks + 1)}
    for number, task in enumerate(step["tasks"], 1):
        # A node that died before the shim was there leaves an attempt that is lost and never began.
        assert [a["exit"]["outcome"] for a in task["attempts"] if a["exit"]["outcome"] != "lost"] == ["exited"], task
        assert task["metrics"]["loss"] == {"count": 1, "last": number}
