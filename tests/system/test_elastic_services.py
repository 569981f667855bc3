"""`replicas: {min, max}`: a service's replicas take devices from preemptible jobs while requests wait, and give them
back; no accepted request is lost by it, and whoever is killed meanwhile, it comes to the same."""
import contextlib
import threading

import pytest

from nodes import command_line, free_port, kill, make_node, node_processes, wait_for
from queueing import cpus_of, job_of, wait_state
from test_preemption import LOOP
from test_road import SERVE, infer
from test_service_claims import answers, restart_machine, step

CPUS = 0.5  # of a replica
SERVICE = """name: served
endpoint: 127.0.0.1:{port}
serve:
  handler: serve.py:predict
  resources: {{cpus: 0.5, memory: 256MiB}}
  batch: {{max: 1}}
  replicas: {{min: 1, max: 2}}
"""
SLOW = SERVE.replace("import os, loam", "import os, loam, time").replace(
    '    return {"y"', '    time.sleep(0.5)\n    return {"y"')
# Ends well once it has been preempted: it goes on from what it saved then.
SAVES = ("[ $LOAM_CHECKPOINT ] && exit 0; "
         "trap 'mkdir checkpoints/checkpoint-1; echo x > checkpoints/checkpoint-1/x; exit 75' USR1; " + LOOP)
PREEMPTIBLE = "  priority: -10\n  checkpoint: {path: checkpoints, grace: 10s}\n"


class Load:
    """More clients than one replica can serve at once; each asks again when it has its answer."""

    def __init__(self, port):
        self.statuses, self.stopping = [], threading.Event()
        self.threads = [threading.Thread(target=self.ask, args=(port,)) for _ in range(6)]

    def ask(self, port):
        while not self.stopping.is_set():
            status, document, _ = infer(port, [[1, 2]], model="served")
            self.statuses.append(status if status == 200 else (status, document))

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stopping.set()
        for thread in self.threads:
            thread.join()


def replicas(node):
    """By target, of those that are not parked: their state."""
    return {job["target"]: job["state"] for job in node.json("ps")["jobs"] if job["kind"] == "replica"}


def attempts(node):
    return {job["target"]: len(job["attempts"]) for job in node.json("ps")["jobs"] if job["kind"] == "replica"}


def two_run(node):
    return list(replicas(node).values()) == ["running", "running"]


def one_is_left(node):
    wait_for(lambda: list(replicas(node).values()) == ["running"], seconds=120, what="the least number of replicas")


def serve(node):
    """The service's folder, port and run."""
    node.run("models", "import", node.project({"weight.txt": "2"}), "--name", "served")
    port = free_port()
    folder = node.project({"loam.yaml": SERVICE.format(port=port), "serve.py": SLOW})
    node.run("serve", cwd=folder)
    run = max(job["run"] for job in node.json("ps")["jobs"])
    return folder, port, run


def preemptible_job(node):
    """A job that has all that the first replica leaves."""
    run = step(node, "low", SAVES, cpus_of(node) - CPUS, PREEMPTIBLE)
    wait_state(node, run, "running")
    return run


def test_replicas_take_from_a_preemptible_job_while_requests_wait_and_give_it_back(fresh_node):
    node = fresh_node
    folder, port, run = serve(node)
    assert "1 to 2 replicas" in node.run("plan", cwd=folder).stdout
    low = preemptible_job(node)
    parked = node.run("ps", "--why", f"{run}/served.2").stdout
    assert "parked" in parked and "starts when requests wait for it" in parked, parked
    with Load(port) as load:
        wait_for(lambda: two_run(node), what="the second replica")
        job = job_of(node, low)
        assert job["state"] == "preempted" and job["attempts"][0]["exit"]["outcome"] == "preempted", job
        why = node.run("ps", "--why", f"{low}/train").stdout
        assert "short of" in why and f"{run}/served.2" in why, why
        node.run("serve", cwd=folder)  # nothing has changed: another run has the same two
        run = max(job["run"] for job in node.json("ps")["jobs"])
        assert attempts(node) == {f"{run}/served": 1, f"{run}/served.2": 1}
        seen = len(load.statuses)
        wait_for(lambda: len(load.statuses) > seen + 10, what="answers of both")
    assert set(load.statuses) == {200}, load.statuses
    job = wait_for(lambda: (lambda job: job if job["state"] == "succeeded" else None)(job_of(node, low)), seconds=120,
                   what="the end of the job that went on")
    assert job["preemptions"] == 1 and job["checkpoint"] == "checkpoint-1", job
    one_is_left(node)
    assert answers(port)
    node.run("down", cwd=folder)
    assert not [entry for entry in node.json("ps", str(run))["jobs"] if entry["state"] in ("parked", "queued", "running")]


@pytest.fixture
def root_node(prefix):
    """A rootless node decides alike: what follows takes minutes."""
    node = make_node(prefix, "root")
    yield node
    node.close()


def test_whoever_is_killed_while_there_are_more_it_comes_to_the_same(root_node):
    node = root_node
    folder, port, run = serve(node)
    low = preemptible_job(node)
    with Load(port) as load:
        wait_for(lambda: two_run(node), what="the second replica")
        kill(node_processes(node))
        seen = len(load.statuses)
        wait_for(lambda: len(load.statuses) > seen + 4, what="answers without a node")
        wait_for(lambda: node.run("ps", check=False).returncode == 0, what="the next node")
        assert two_run(node), replicas(node)
    assert set(load.statuses) == {200}, load.statuses
    assert attempts(node) == {f"{run}/served": 1, f"{run}/served.2": 1}, "none was started again"
    kill([pid for pid in node.all_processes() if b"loam-gateway\0--endpoint" in command_line(pid)])
    wait_for(lambda: answers(port), what="the next gateway")
    # The node dies between its decision to give one back and its word to the replica.
    kill(node_processes(node))
    wait_for(lambda: not node_processes(node), what="the node's end")
    node.run("node", "start", environment={"LOAM_CRASH_AT": "node.give_back_committed"})
    wait_for(lambda: not node_processes(node), seconds=120, what="the node's death at the crash point")
    node.run("node", "start")
    one_is_left(node)
    assert wait_state(node, low, "succeeded")["preemptions"] == 1
    assert answers(port)
    node.run("down", cwd=folder)


def test_after_a_restart_of_the_machine_they_come_back_and_give_back(root_node):
    node = root_node
    _, port, _ = serve(node)
    low = preemptible_job(node)
    with contextlib.suppress(OSError), Load(port):
        wait_for(lambda: two_run(node), what="the second replica")
    restart_machine(node)
    wait_for(lambda: node.run("ps", check=False).returncode == 0, what="the next node")
    wait_for(lambda: answers(port), what="the service's return")
    one_is_left(node)
    wait_state(node, low, "succeeded")
    assert answers(port)


def test_one_that_finds_no_room_waits_and_is_withdrawn(root_node):
    node = root_node
    folder, port, run = serve(node)
    holds = step(node, "holds", "exec sleep 1000", cpus_of(node) - CPUS, "  priority: -10\n")
    wait_state(node, holds, "running")
    second = f"{run}/served.2"
    with Load(port) as load:
        wait_for(lambda: replicas(node).get(second) == "queued", what="the second replica's claim")
        why = node.run("ps", "--why", second).stdout
        assert "short of" in why and f"{holds}/train" in why, why
    one_is_left(node)
    assert set(load.statuses) == {200} and job_of(node, holds)["state"] == "running"
    # Once more, and now another version of the code takes its place: from the least number on.
    with Load(port) as load:
        wait_for(lambda: replicas(node).get(second) == "queued", what="the second replica's claim")
        (folder / "serve.py").write_text(SLOW.replace("* weight", "* weight * 10"))
        node.run("cancel", str(holds))
        wait_for(lambda: two_run(node), what="the second replica")
        node.run("serve", cwd=folder)
        after = max(job["run"] for job in node.json("ps")["jobs"])
        wait_for(lambda: replicas(node) == {f"{after}/served": "running", f"{after}/served.2": "running"},
                 what="the new replicas alone")
    assert set(load.statuses) == {200}, load.statuses
    assert infer(port, [[1, 2]], model="served")[1]["outputs"][0]["data"] == [20, 40]
    node.run("down", cwd=folder)
    assert not replicas(node)
    open_jobs = [job for number in (run, after) for job in node.json("ps", str(number))["jobs"]
                 if job["state"] in ("parked", "queued", "running")]
    assert not open_jobs
