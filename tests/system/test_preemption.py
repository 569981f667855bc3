"""Preempted jobs save, make room, go back into the queue and end as if nothing had been: code that knows nothing of
Loam, code that uses its SDK, and everything that can go wrong in between."""
import json
import os
import signal
import subprocess
import time

import pytest

from nodes import SOURCE, USER, ensure_user, kill, make_node, node_processes, shims, wait_for

# No line of Loam: plain Python that trains, saves at a signal, and takes an argument to go on from.
TRAINER = '''
import argparse, json, os, random, signal, sys, time
arguments = argparse.ArgumentParser()
arguments.add_argument("--resume_from_checkpoint")
arguments.add_argument("--steps", type=int, default=120)
arguments.add_argument("--every", type=int, default=10)
arguments = arguments.parse_args()

asked = False
def save_and_end(number, frame):
    global asked
    asked = True
signal.signal(signal.SIGUSR1, save_and_end)

weights, step, dice = [0.0] * 8, 0, random.Random(7)
truth = [dice.random() for _ in weights]
if arguments.resume_from_checkpoint:
    with open(os.path.join(arguments.resume_from_checkpoint, "state.json")) as file:
        state = json.load(file)
    weights, step = state["weights"], state["step"]
    dice.setstate((state["dice"][0], tuple(state["dice"][1]), state["dice"][2]))

def save():
    folder = "checkpoints/checkpoint-%d" % step
    os.makedirs(folder, exist_ok=True)
    with open(folder + "/state.json", "w") as file:
        json.dump({"weights": weights, "step": step, "dice": dice.getstate()}, file)

print("begins at", step, flush=True)
while step < arguments.steps:
    row = [dice.gauss(0, 1) for _ in weights]
    error = sum((w - t) * x for w, t, x in zip(weights, truth, row))
    weights = [w - 0.05 * error * x for w, x in zip(weights, row)]
    step += 1
    time.sleep(0.02)
    if step % arguments.every == 0:
        save()
        print("step", step, flush=True)
    if asked:
        save()
        print("saved", step, flush=True)
        sys.exit(75)
print("loss %.17g" % sum((w - t) ** 2 for w, t in zip(weights, truth)), flush=True)
'''

# The same with the SDK.
WITH_SDK = '''
import json, os, random, sys, time
import loam
weights, step, dice = [0.0] * 8, 0, random.Random(7)
truth = [dice.random() for _ in weights]
loam.preempted()
last = loam.resume()
if last:
    with open(os.path.join(last, "state.json")) as file:
        state = json.load(file)
    weights, step = state["weights"], state["step"]
    assert last.step == step
    dice.setstate((state["dice"][0], tuple(state["dice"][1]), state["dice"][2]))
print("begins at", step, flush=True)
while step < 120:
    row = [dice.gauss(0, 1) for _ in weights]
    error = sum((w - t) * x for w, t, x in zip(weights, truth, row))
    weights = [w - 0.05 * error * x for w, x in zip(weights, row)]
    step += 1
    time.sleep(0.02)
    if step % 10 == 0 or loam.preempted():
        with loam.checkpoint(step) as path:
            with open(os.path.join(path, "state.json"), "w") as file:
                json.dump({"weights": weights, "step": step, "dice": dice.getstate()}, file)
        print("step", step, flush=True)
    if loam.preempted():
        sys.exit("preempted")
print("loss %.17g" % sum((w - t) ** 2 for w, t in zip(weights, truth)), flush=True)
'''

FILE = """name: {name}
train:
  run: {run}
  resources: {{cpus: 0.1, memory: 128MiB}}
  checkpoint: {checkpoint}
"""
RESUMES = '{path: checkpoints, resume: "--resume_from_checkpoint {path}"}'
LOOP = "while :; do sleep 0.01; done"


def project(node, run, checkpoint="checkpoints", name="preemption", more="", files=None):
    text = FILE.format(name=name, run=json.dumps(run), checkpoint=checkpoint) + more
    return node.project({"loam.yaml": text, "train.py": TRAINER, "sdk.py": WITH_SDK, **(files or {})}, name=name)


def submit(node, folder, *arguments):
    return json.loads(node.run("train", "--detach", "--json", "--force", *arguments, cwd=folder).stdout)["run"]


class Followed:
    """A run that `loam train` follows: its number, and at the end what was said."""

    def __init__(self, node, folder):
        before = {entry["run"] for entry in node.json("ps", "-a")["jobs"]}
        self.up = node.start("train", "--force", cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.run = wait_for(lambda: next((entry["run"] for entry in node.json("ps", "-a")["jobs"]
                                          if entry["run"] not in before), None), what="the run")

    def said(self, status=0):
        said = self.up.communicate(timeout=120)[0]
        assert self.up.returncode == status, said
        return said


def job_of(node, run):
    return [entry for entry in node.json("ps", "-a")["jobs"] if entry["run"] == run][0]


def output(node, run, attempt):
    done = node.run("logs", f"{run}/train/{attempt}", check=False)
    return done.stdout if done.returncode == 0 else ""


def wait_output(node, run, attempt, text):
    return wait_for(lambda: text in output(node, run, attempt), what=f"'{text}' of attempt {attempt}")


def wait_state(node, run, *states):
    return wait_for(lambda: (lambda job: job if job["state"] in states else None)(job_of(node, run)),
                    what=f"one of {states}")


def loss_of(node, run, attempt):
    return [line for line in output(node, run, attempt).splitlines() if line.startswith("loss")]


def outcomes(job):
    return [attempt["exit"]["outcome"] for attempt in job["attempts"]]


@pytest.mark.parametrize("run, checkpoint", [
    ("python3 train.py", RESUMES),
    (["python3", "train.py"], RESUMES),
    ("python3 train.py ${LOAM_CHECKPOINT:+--resume_from_checkpoint $LOAM_CHECKPOINT}", "checkpoints"),
    ("exec python3 sdk.py", "{path: saved, match: 'step_*', keep: 2}"),
], ids=["text", "list", "variable", "sdk"])
def test_preempted_twice_it_ends_with_the_loss_of_the_undisturbed_run(node, run, checkpoint):
    folder = project(node, run, checkpoint)
    undisturbed = submit(node, folder)
    disturbed = submit(node, folder)
    for attempt in (1, 2):
        wait_output(node, disturbed, attempt, f"step {30 * attempt}")
        assert node.run("preempt", f"{disturbed}/train", "--why", "a test").stdout.startswith(f"{disturbed}/train ")
    job = wait_state(node, disturbed, "succeeded", "failed")
    assert job["state"] == "succeeded" and job["preemptions"] == 2, job
    assert outcomes(job) == ["preempted", "preempted", "exited"], job
    begun = [int(output(node, disturbed, attempt).split()[2]) for attempt in (1, 2, 3)]
    assert begun[0] == 0 and 30 <= begun[1] < begun[2] < 120, begun
    assert wait_state(node, undisturbed, "succeeded")["preemptions"] == 0
    assert loss_of(node, disturbed, 3) == loss_of(node, undisturbed, 1) != []
    kept = {entry["path"].split("/")[1] for entry in node.json("files", f"{disturbed}/train")["files"]}
    assert len(kept) == (2 if "keep: 2" in checkpoint else 3), kept
    layers = [layer["record"] for layer in node.json("trace", str(disturbed))["layers"] if layer["kind"] == "run"]
    assert [(layer["attempt"], layer["outcome"]) for layer in layers] == \
        [(3, "exited"), (2, "preempted"), (1, "preempted")], layers
    assert layers[0]["checkpoint"] == job["checkpoint"] and layers[2]["checkpoint"] is None


def test_what_up_and_ps_say(node):
    followed = Followed(node, project(node, "python3 train.py --steps 80", RESUMES))
    wait_output(node, followed.run, 1, "step 20")
    node.run("preempt", str(followed.run), "--why", "the demo")
    said = followed.said()
    assert "the demo" in said and "train: preempted (asked by " in said, said
    resumed = [line for line in said.splitlines() if "attempt 2, from checkpoint-" in line]
    job = job_of(node, followed.run)
    assert len(resumed) == 1 and resumed[0].endswith(job["checkpoint"]), (said, job)


def test_where_nobody_catches_the_signal_the_last_settled_checkpoint_counts(node):
    # TERM ends it at once, in the middle of its fourth checkpoint.
    script = ('for n in 1 2 3; do mkdir -p checkpoints/checkpoint-$n; echo $n > checkpoints/checkpoint-$n/model; done; '
              'echo "from ${LOAM_CHECKPOINT:-nothing}"; [ $LOAM_ATTEMPT = 2 ] && exit 0; '
              'mkdir checkpoints/checkpoint-4; echo half > checkpoints/checkpoint-4/model; echo ready; sleep 1000')
    followed = Followed(node, project(node, script))
    run = followed.run
    wait_output(node, run, 1, "ready")
    node.run("preempt", str(run))
    assert "checkpoint-4 was not finished when attempt 1 ended" in followed.said()
    job = job_of(node, run)
    assert outcomes(job) == ["preempted", "exited"] and job["attempts"][0]["exit"]["signal"] == signal.SIGTERM, job
    assert "from /project/checkpoints/checkpoint-3\n" in output(node, run, 2)
    files = {entry["path"]: entry["change"] for entry in node.json("files", f"{run}/train")["files"]}
    assert files["checkpoints/checkpoint-4/model"] == "torn", files
    assert files["checkpoints/checkpoint-3/model"] == "checkpoint", files
    assert node.run("files", f"{run}/train", "checkpoints/checkpoint-3/model").stdout == "3\n"


def test_the_word_between_grant_and_end(node):
    """Exit 0 in the grace has succeeded; asked twice is asked once; what has ended or waits is not preempted."""
    script = f"trap 'echo caught; while [ ! -e checkpoints/go ]; do sleep 0.01; done; exit 0' USR1; echo ready; {LOOP}"
    script = script.replace("[ ! -e checkpoints/go ]", "[ $n -lt 100 ] && n=$((n+1))").replace("trap", "n=0; trap", 1)
    run = submit(node, project(node, script, more="  retries: 1\n"))
    wait_output(node, run, 1, "ready")
    node.run("preempt", f"{run}/train")
    wait_output(node, run, 1, "caught")
    assert "makes room" in job_of(node, run)["why"]
    node.run("preempt", f"{run}/train")
    job = wait_state(node, run, "succeeded", "failed", "preempted")
    assert job["state"] == "succeeded" and outcomes(job) == ["exited"] and not job["why"], job
    ended = node.run("preempt", f"{run}/train", check=False)
    assert ended.returncode == 1 and "has ended: succeeded" in ended.stderr, ended
    assert node.run("preempt", "99999", check=False).returncode == 1


def test_cancelled_in_the_grace(node):
    run = submit(node, project(node, f"trap 'echo caught' USR1; echo ready; {LOOP}"))
    wait_output(node, run, 1, "ready")
    node.run("preempt", f"{run}/train")
    wait_output(node, run, 1, "caught")
    node.run("cancel", str(run))
    job = wait_state(node, run, "cancelled", "failed", "preempted", "succeeded")
    assert job["state"] == "cancelled" and outcomes(job) == ["cancelled"], job


def test_who_does_not_end_is_killed_after_the_grace_and_costs_no_retry(node):
    script = ("trap 'echo caught' USR1; trap '' TERM; echo ready; [ $LOAM_ATTEMPT = 2 ] && exit 0; " + LOOP)
    run = submit(node, project(node, script, "{path: checkpoints, grace: 1s}"))
    wait_output(node, run, 1, "ready")
    node.run("preempt", f"{run}/train")
    job = wait_state(node, run, "succeeded", "failed")
    assert outcomes(job) == ["preempted", "exited"] and job["attempts"][0]["exit"]["signal"] == signal.SIGKILL, job


def test_without_a_checkpoint_it_begins_anew(node):
    text = """name: preemption
train:
  run: "echo begins; [ $LOAM_ATTEMPT = 2 ] && exit 0; exec sleep 1000"
  preemptible: true
  resources: {cpus: 0.1, memory: 64MiB}
"""
    followed = Followed(node, node.project({"loam.yaml": text}))
    wait_output(node, followed.run, 1, "begins")
    node.run("preempt", str(followed.run))
    assert "; begins anew" in followed.said()
    assert outcomes(job_of(node, followed.run)) == ["preempted", "exited"]


def test_a_command_that_somebody_sits_at_cannot_be_queued_again(node):
    others = {entry["run"] for entry in node.json("ps", "-a")["jobs"]}
    command = node.start("run", "--", "sleep", "1000", cwd=node.project({}), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    job = wait_for(lambda: next((entry for entry in node.json("ps")["jobs"]
                                 if entry["run"] not in others and entry["state"] == "running"), None))
    node.run("preempt", str(job["run"]), "--why", "a test")
    said = command.communicate(timeout=60)
    assert command.returncode == 75 and "preempted" in said[1], said
    ended = wait_state(node, job["run"], "failed", "succeeded", "preempted", "cancelled")
    assert ended["state"] == "failed" and "a test" in ended["error"], ended


def test_node_killed_in_the_grace(fresh_node):
    script = ("trap 'echo caught; sleep 1; exit 75' USR1; echo ready; "
              "mkdir -p checkpoints/checkpoint-1; [ $LOAM_ATTEMPT = 2 ] && exit 0; echo x > checkpoints/checkpoint-1/x; " + LOOP)
    run = submit(fresh_node, project(fresh_node, script))
    wait_output(fresh_node, run, 1, "ready")
    fresh_node.run("preempt", f"{run}/train")
    wait_output(fresh_node, run, 1, "caught")
    kill(node_processes(fresh_node))
    time.sleep(1.5)  # the attempt ends without a node
    fresh_node.run("node", "start")
    job = wait_state(fresh_node, run, "succeeded", "failed")
    assert outcomes(job) == ["preempted", "exited"] and job["preemptions"] == 1, job
    assert job["checkpoint"] == "checkpoint-1", job


@pytest.mark.parametrize("point", ["node.preemption_committed", "node.checkpoint_decided", "shim.before_exit_record",
                                   "shim.after_exit_record", "node.exit_seen", "node.output_stored"])
def test_killed_at_each_step_of_a_preemption(fresh_node, point):
    """What was asked for happens, the job resumes from its checkpoint, and no attempt starts twice."""
    script = ("echo \"from ${LOAM_CHECKPOINT:-nothing}\"; [ $LOAM_CHECKPOINT ] && exit 0; "
              "trap 'mkdir checkpoints/checkpoint-1; echo x > checkpoints/checkpoint-1/x; sleep 6; echo saved; exit 75' USR1; "
              "echo ready; " + LOOP)
    fresh_node.run("node", "start", environment={"LOAM_CRASH_AT": point})
    run = submit(fresh_node, project(fresh_node, script))
    wait_output(fresh_node, run, 1, "ready")
    fresh_node.run("preempt", f"{run}/train", check=False)
    time.sleep(7.5)
    kill(node_processes(fresh_node))
    fresh_node.run("node", "start")
    job = wait_state(fresh_node, run, "succeeded", "failed")
    assert job["state"] == "succeeded", job
    if not point.startswith("shim.before"):
        assert outcomes(job) == ["preempted", "exited"], job
    assert "from /project/checkpoints/checkpoint-1\n" in output(fresh_node, run, len(job["attempts"])), job


def test_shim_killed_in_the_grace(fresh_node):
    script = ("echo \"from ${LOAM_CHECKPOINT:-nothing}\"; [ $LOAM_ATTEMPT = 1 ] || exit 0; "
              "for n in 1 2; do mkdir checkpoints/checkpoint-$n; echo $n > checkpoints/checkpoint-$n/x; done; "
              "trap 'echo caught' USR1; echo ready; " + LOOP)
    run = submit(fresh_node, project(fresh_node, script))
    wait_output(fresh_node, run, 1, "ready")
    fresh_node.run("preempt", f"{run}/train")
    wait_output(fresh_node, run, 1, "caught")
    kill(shims(fresh_node))
    job = wait_state(fresh_node, run, "succeeded", "failed")
    assert outcomes(job) == ["lost", "exited"], job
    # Nobody saw its end: the newest was as young as its last word.
    assert "from /project/checkpoints/checkpoint-1\n" in output(fresh_node, run, 2)


RETRIES = """name: retries
train:
  run: {run}
  resources: {{cpus: 0.1, memory: 64MiB}}
  retries: 3
{more}"""


@pytest.mark.parametrize("run, named, ends", [
    ("exit 75", "", ["exited"] * 4),
    ("exit 75", "[\"exit:75\"]", ["exited"] * 4),
    ("exit 74", "[node, oom, \"exit:75\"]", ["exited"]),
    ("[ $LOAM_ATTEMPT = 2 ] && exit 3; exit 75", "[\"exit:75\"]", ["exited"] * 2),
    ("kill -SEGV $$", "[\"signal:SEGV\"]", ["signaled"] * 4),
    ("exec python3 -c 'x = bytearray(200 << 20)'", "[oom]", ["out_of_memory"] * 4),
], ids=["all", "named", "other", "then-other", "signal", "oom"])
def test_which_failures_are_tried_again(node, run, named, ends):
    if "bytearray" in run and node.rootless:
        pytest.skip("no memory limit without a writable cgroup")
    more = f"  retry_on: {named}\n" if named else ""
    followed = Followed(node, node.project({"loam.yaml": RETRIES.format(run=json.dumps(run), more=more)}))
    said = followed.said(status=1)
    job = job_of(node, followed.run)
    assert job["state"] == "failed" and outcomes(job) == ends, job
    for number in range(1, len(ends)):
        assert f"retry {number} of 3 in {2 ** (number - 1)}.0 s" in said, said
    assert ("retry_on does not name this failure" in said) == (len(ends) < 4), said
    if "bytearray" in run:
        assert "out of memory: charged peak" in said and "largest process" in said, said


def test_where_output_and_checkpoints_are_one_folder(node):
    """As a Hugging Face script has it: checkpoints in the output folder are no part of the model."""
    script = ("mkdir out/checkpoint-1; echo x > out/checkpoint-1/model; mkdir out/tokenizer; "
              "echo words > out/tokenizer/vocabulary; echo final > out/model")
    run = submit(node, project(node, script, "out", more="  output: out\n"))
    assert wait_state(node, run, "succeeded", "failed")["state"] == "succeeded"
    model = node.json("models", "show", "preemption")
    assert sorted(entry["path"] for entry in model["files"]) == \
        ["model", "tokenizer/vocabulary"], model
    files = {entry["path"]: entry["change"] for entry in node.json("files", f"{run}/train")["files"]}
    assert files == {"out/checkpoint-1/model": "checkpoint"}, files


def test_checkpoints_of_scripts_run_by_hand_are_no_part_of_the_snapshot(node):
    folder = project(node, "ls checkpoints | wc -l; cat checkpoints/* 2> /dev/null | wc -c",
                     files={"checkpoints/checkpoint-9/model": "x" * 100})
    first = node.json("train", cwd=folder)
    assert output(node, first["run"], 1) == "0\n0\n"
    (folder / "checkpoints/checkpoint-9/model").write_text("changed")
    assert node.json("train", cwd=folder)["jobs"][0]["state"] == "unchanged"


def test_what_is_kept_of_checkpoints(fresh_node):
    """Gone with its run; while the job may still resume, nothing is collected."""
    keep = "keep: {runs: 1, attempts: 1m}\n"
    done = submit(fresh_node, project(fresh_node, "mkdir checkpoints/checkpoint-1; echo x > checkpoints/checkpoint-1/x",
                                      name="one", more=keep))
    wait_state(fresh_node, done, "succeeded")
    folder = project(fresh_node, "mkdir checkpoints/checkpoint-1; echo x > checkpoints/checkpoint-1/x; echo ready; sleep 1000",
                     name="two", more=keep)
    running = submit(fresh_node, folder)
    wait_output(fresh_node, running, 1, "ready")
    held = fresh_node.state / "checkpoints"
    assert len(os.listdir(held)) == 2
    again = project(fresh_node, "true", name="one", more=keep)
    os.rename(again / "loam.yaml", again / "other.yaml")
    for _ in range(2):
        wait_state(fresh_node, json.loads(fresh_node.run("train", "-f", "other.yaml", "--detach", "--json", "--force",
                                                         cwd=again).stdout)["run"], "succeeded")
    fresh_node.run("store", "gc")
    jobs = {entry["run"]: entry for entry in fresh_node.json("ps", "-a")["jobs"]}
    assert running in jobs
    assert (held / [name for name in os.listdir(held)][0] / "files").is_dir()
    fresh_node.run("cancel", str(running))
    wait_state(fresh_node, running, "cancelled")


def test_a_shell_sees_the_checkpoints(node):
    run = submit(node, project(node, "mkdir checkpoints/checkpoint-1; echo seen > checkpoints/checkpoint-1/x; exit 1"))
    wait_state(node, run, "failed")
    shell = node.run("shell", f"{run}/train", "--", "sh", "-c", "cat checkpoints/checkpoint-1/x; touch checkpoints/y",
                     check=False)
    assert "seen" in shell.stdout and "ead-only" in shell.stderr, shell


def whole_machine(node):
    node.run("node", "start")
    return node.json("node", "status")["capacity"]["cpus"]


URGENT = """name: urgent
train:
  run: echo urgent
  priority: {priority}
  resources: {{cpus: {cpus}, memory: 64MiB}}
"""


def test_the_urgent_preempts_what_may_be_preempted_on_a_full_machine(fresh_node):
    """The low job saves, makes room, keeps its place before others of its kind, resumes and ends as if nothing had been."""
    cpus = whole_machine(fresh_node)
    full = FILE.replace("cpus: 0.1", f"cpus: {cpus}") + "  priority: -10\n"

    def low(name, run):
        text = full.format(name=name, run=json.dumps(run), checkpoint=RESUMES)
        return submit(fresh_node, fresh_node.project({"loam.yaml": text, "train.py": TRAINER}, name=name))
    undisturbed = low("undisturbed", "python3 train.py")
    wait_state(fresh_node, undisturbed, "succeeded")
    first = low("first", "python3 train.py")
    wait_output(fresh_node, first, 1, "step 30")
    behind = low("behind", "date +%s%N")
    assert wait_state(fresh_node, behind, "queued")["why"]
    urgent = submit(fresh_node, fresh_node.project({"loam.yaml": URGENT.format(priority=0, cpus=cpus)}))
    assert wait_state(fresh_node, urgent, "succeeded", "failed")["state"] == "succeeded"
    job = wait_state(fresh_node, first, "succeeded", "failed")
    assert outcomes(job) == ["preempted", "exited"] and job["preemptions"] == 1, job
    assert loss_of(fresh_node, first, 2) == loss_of(fresh_node, undisturbed, 1) != []
    last = wait_state(fresh_node, behind, "succeeded")
    assert last["attempts"][0]["started_ms"] >= job["attempts"][1]["started_ms"], "it lost its place"
    ended = job_of(fresh_node, urgent)["attempts"][0]
    assert job["attempts"][0]["ended_ms"] <= ended["started_ms"], "both held the machine"


def test_what_may_not_be_preempted_is_waited_for(fresh_node):
    cpus = whole_machine(fresh_node)
    held = URGENT.format(priority=-10, cpus=cpus).replace("echo urgent", "echo holds; sleep 3; echo done")
    holds = submit(fresh_node, fresh_node.project({"loam.yaml": held}))
    wait_output(fresh_node, holds, 1, "holds")
    urgent = submit(fresh_node, fresh_node.project({"loam.yaml": URGENT.format(priority=0, cpus=cpus)}))
    wait_state(fresh_node, urgent, "succeeded")
    assert outcomes(wait_state(fresh_node, holds, "succeeded")) == ["exited"]


def test_only_root_goes_before_others_on_a_shared_node(fresh_node):
    folder = fresh_node.project({"loam.yaml": URGENT.format(priority=1, cpus=0.1)})
    if fresh_node.rootless:
        assert fresh_node.run("train", cwd=folder).returncode == 0
        return
    ensure_user()
    fresh_node.run("node", "start")
    shared = fresh_node.run_as(USER, "train", cwd=folder, check=False)
    assert shared.returncode == 2 and "only root and the admins may go before others" in shared.stderr, shared


@pytest.mark.skipif(not os.environ.get("LOAM_SLOW_TESTS"), reason="the environment takes minutes and 1.2 GB: make check-full")
def test_the_example_with_pytorch_ends_with_the_loss_of_the_undisturbed_run(prefix):
    """examples/preempt as it is: PyTorch from Debian, no line of Loam in it."""
    signal.alarm(1800)
    node = make_node(prefix, "root")
    try:
        folder = node.project({path.name: path.read_bytes() for path in (SOURCE / "examples/preempt").iterdir()})
        undisturbed = node.run("train", cwd=folder, timeout=1500).stdout
        losses = [line for line in undisturbed.splitlines() if line.startswith("final loss")]
        run = submit(node, folder)
        for attempt in (1, 2):
            wait_output(node, run, attempt, f"step {600 * attempt}")
            node.run("preempt", str(run))
        job = wait_state(node, run, "succeeded", "failed")
        assert outcomes(job) == ["preempted", "preempted", "exited"], job
        assert [line for line in output(node, run, 3).splitlines() if line.startswith("final loss")] == losses != []
    finally:
        node.close()
