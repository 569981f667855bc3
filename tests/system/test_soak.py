"""Random load with kills: jobs that behave badly, users who change their minds, and kill -9 of node, shims, init and job.

Nothing acknowledged is lost, no attempt runs twice, nothing is left. `make soak` runs it for an hour; LOAM_SOAK_SECONDS and
LOAM_SEED repeat a run (its load; when what dies is the machine's matter)."""
import contextlib
import json
import os
import random
import sqlite3
import subprocess
import threading
import time

import pytest

from nodes import command_line, kill, node_processes, shims, wait_for
from test_recovery import hold_invariants

SECONDS = int(os.environ.get("LOAM_SOAK_SECONDS", "8"))
CLIENTS = 3
WAITING_MAX = 30  # or a fast client ends the test with hours of queue

# What stands between a job's two lines in the log.
BEHAVIOURS = {
    "quick": "true",
    "slow": "sleep 1",
    "fails": "exit 3",
    "deaf": "trap '' TERM INT HUP; sleep 20 & wait; sleep 20",
    "daemons": "setsid sh -c 'sleep 1000 & setsid sleep 1000 &'; (sleep 1000 &) ; sleep 0.2",
    "forks": "python3 fork.py",
    "output": "head -c 20000000 /dev/zero | tr '\\\\0' 'x'",
    "memory": "python3 -c 'x = bytearray(1 << 30)'",
    "disk": "head -c 20000000 /dev/zero > /tmp/file; head -c 20000000 /dev/zero > /project/file",
}
FORKS = """import os
while True:
    try:
        os.fork()
    except OSError:
        break
"""
STEP = """name: soak-{name}
mounts:
  - {{from: {out}, to: /out, mode: rw}}
steps:
  a:
    run: [/bin/bash, job.sh]
    resources: {{cpus: 0.2, memory: 96MiB, time: 4s}}
    retries: 1
"""
SCRIPT = 'me=$LOAM_RUN/$LOAM_ATTEMPT; echo "start $me" >> /out/log\n{body}\nstatus=$?\necho "end $me" >> /out/log\nexit $status\n'
OVER = ("succeeded", "failed", "cancelled")


class Load:
    """Clients that submit and meddle, and one hand that kills, until the time is over."""

    def __init__(self, node, seed):
        self.node, self.dice = node, random.Random(seed)
        out = node.project({"log": ""}, name="out")
        self.log = out / "log"
        self.log.chmod(0o666)
        self.folders = [node.project({"loam.yaml": STEP.format(name=name, out=out), "job.sh": SCRIPT.format(body=body), "fork.py": FORKS})
                        for name, body in BEHAVIOURS.items()
                        if name != "forks" or not node.rootless]  # without cgroups nothing but the machine bounds it
        self.acknowledged, self.submitting = set(), threading.Lock()
        self.until = time.monotonic() + SECONDS
        self.done = {"submitted": 0, "meddled": 0, "killed": 0}

    def jobs(self):
        listed = self.node.run("ps", "-a", "--json", check=False)
        return json.loads(listed.stdout)["jobs"] if listed.returncode == 0 else []

    def submit(self, dice):
        done = self.node.run("up", "--detach", "--force", "--json", cwd=dice.choice(self.folders), check=False)
        if done.returncode == 0:  # else the node died over it, and nothing was promised
            with self.submitting:
                self.acknowledged.add(json.loads(done.stdout)["run"])
                self.done["submitted"] += 1

    def meddle(self, dice):
        live = [job["target"] for job in self.jobs() if job["state"] not in OVER]
        if live:
            verb = dice.choice(["cancel", "preempt", "hold", "release"])
            self.node.run(verb, dice.choice(live), check=False)
            self.done["meddled"] += 1

    def client(self, seed):
        dice = random.Random(seed)
        while time.monotonic() < self.until:
            waiting = sum(job["state"] not in OVER for job in self.jobs())
            self.submit(dice) if waiting < WAITING_MAX and dice.random() < 0.7 else self.meddle(dice)

    def killer(self):
        """Jobs and inits die five times as often as a node: each node's end stops all clients for a moment."""
        while time.monotonic() < self.until:
            time.sleep(self.dice.random() * 0.5)
            what = self.dice.choice(["job"] * 5 + ["shim", "node", "all"])
            victims = {"job": self.node.job_processes, "shim": lambda: shims(self.node),
                       "node": lambda: node_processes(self.node), "all": self.programs}[what]()
            kill([self.dice.choice(victims)] if victims and what in ("job", "shim") else victims)
            self.done["killed"] += bool(victims)
            if what in ("node", "all"):
                self.node.run("node", "start", check=False)

    def programs(self):
        return node_processes(self.node) + shims(self.node)

    def run(self):
        hands = [threading.Thread(target=self.client, args=(self.dice.random(),)) for _ in range(CLIENTS)]
        hands.append(threading.Thread(target=self.killer))
        for hand in hands:
            hand.start()
        for hand in hands:
            hand.join()

    def settled(self):
        jobs = self.jobs()
        for job in jobs:
            if job["held_by"]:
                self.node.run("release", job["target"], check=False)
        return jobs if jobs and all(job["state"] in OVER for job in jobs) else None


def rows(node):
    """All runs, and how many jobs and attempts are not over: `ps` lists the newest only."""
    with contextlib.closing(sqlite3.connect(f"file:{node.state}/node.db?mode=ro", uri=True)) as database:
        return ({run for run, in database.execute("SELECT id FROM runs")},
                database.execute("SELECT count(*) FROM jobs WHERE state NOT IN (?,?,?)", OVER).fetchone()[0],
                database.execute("SELECT count(*) FROM attempts WHERE state <> 'ended'").fetchone()[0])


@pytest.mark.seconds_max(600 + 2 * SECONDS)
def test_random_load_with_kills(fresh_node):
    seed = int(os.environ.get("LOAM_SEED", "0")) or random.randrange(1 << 30)
    print(f"LOAM_SEED={seed}")
    fresh_node.run("node", "start")
    load = Load(fresh_node, seed)
    load.run()
    fresh_node.run("node", "start", check=False)
    jobs = wait_for(load.settled, seconds=500, what="the end of all jobs")
    print(load.done, "outcomes:", sorted({attempt["exit"]["outcome"] for job in jobs for attempt in job["attempts"]}))
    assert load.done["submitted"] and load.done["killed"]
    runs, open_jobs, open_attempts = rows(fresh_node)
    assert load.acknowledged <= runs, "an acknowledged submission was lost"
    assert (open_jobs, open_attempts) == (0, 0)
    hold_invariants(fresh_node, load.log, jobs)
    wait_for(lambda: not fresh_node.job_processes(), seconds=20,
             what=lambda: "the end of " + " ".join(
                 str((pid, command_line(pid))) for pid in fresh_node.job_processes()))
    groups = [group for parent in fresh_node.cgroups() for group in parent.iterdir() if group.name.isdigit()]
    assert groups == [], "groups of attempts that are over"
    node = node_processes(fresh_node)[0]
    assert len(os.listdir(f"/proc/{node}/fd")) < 64, subprocess.run(["ls", "-l", f"/proc/{node}/fd"], capture_output=True).stdout
