"""Services are claims in the queue of the jobs: they take what a preemptible job holds, give it back, and return with
those who wait when the machine was restarted."""
import contextlib
import sqlite3
import urllib.request

from nodes import free_port, wait_for
from queueing import cpus_of, job_of, submit, wait_state
from test_road import SERVE, infer

SERVICE = """name: served
endpoint: 127.0.0.1:{port}
serve:
  handler: serve.py:predict
  priority: 0
  resources: {{cpus: 0.5, memory: 256MiB}}
"""
STEP = """name: {name}
train:
  run: "{run}"
  resources: {{cpus: {cpus}, memory: 64MiB}}
{more}"""


def service(node):
    """Its folder and port."""
    node.run("models", "import", node.project({"weight.txt": "2"}), "--name", "served")
    port = free_port()
    return node.project({"loam.yaml": SERVICE.format(port=port), "serve.py": SERVE}), port


def listens(port):
    with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/v2", timeout=30):
        return True
    return False


def step(node, name, run, cpus, more=""):
    return submit(node, node.project({"loam.yaml": STEP.format(name=name, run=run, cpus=cpus, more=more)}, name=name))


def answers(port):
    with contextlib.suppress(OSError):
        return infer(port, [[1, 2]], model="served")[0] == 200
    return False


def restart_machine(node):
    """As after a power cut: nothing of it lives, and what it knows of was started under another boot id."""
    node.kill_all()
    wait_for(lambda: not node.all_processes(), what="the end of all processes")
    path = node.state / "node.db"
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        assert database.execute("UPDATE attempts SET boot='earlier' WHERE state<>'ended'").rowcount > 0
    for file in node.state.glob("node.db*"):
        node.own(file)


def test_a_service_takes_what_a_preemptible_job_holds_and_gives_it_back(fresh_node):
    node = fresh_node
    folder, port = service(node)
    low = step(node, "low", "exec sleep 1000", cpus_of(node), "  priority: -10\n  preemptible: true\n")
    wait_state(node, low, "running")
    node.run("serve", cwd=folder)
    assert answers(port)
    job = job_of(node, low)
    assert job["preemptions"] == 1 and job["attempts"][0]["exit"]["outcome"] == "preempted", job
    why = node.run("ps", "--why", f"{low}/train").stdout
    assert "short of" in why and "/served of" in why, why
    node.run("down", cwd=folder)
    assert len(wait_state(node, low, "running")["attempts"]) == 2


def test_a_replica_that_has_no_room_waits_and_says_for_what(fresh_node):
    node = fresh_node
    folder, port = service(node)
    holds = step(node, "holds", "exec sleep 1000", cpus_of(node), "  priority: -10\n")
    wait_state(node, holds, "running")
    node.run("serve", "--detach", cwd=folder)
    why = wait_for(lambda: [job["why"] for job in node.json("ps")["jobs"] if job["kind"] == "replica" and job["why"]],
                   what="the replica's word on what it waits for")[0]
    assert "CPU" in why and f"{holds}/train" in why, why
    assert job_of(node, holds)["state"] == "running"
    wait_for(lambda: listens(port), what="the gateway")
    status, document, _ = infer(port, [[1, 2]], model="served")
    assert status == 503 and "none is about to start" in document["error"]
    node.run("cancel", str(holds))
    wait_for(lambda: answers(port), what="the service's answer")


def test_services_and_queued_jobs_return_after_a_restart_of_the_machine(fresh_node):
    node = fresh_node
    folder, port = service(node)
    node.run("serve", cwd=folder)
    rest = cpus_of(node) - 0.5
    holds = step(node, "holds", "exec sleep 1000", rest)
    wait_state(node, holds, "running")
    waits = step(node, "waits", "true", rest)
    wait_state(node, waits, "queued")
    restart_machine(node)
    wait_for(lambda: node.run("ps", check=False).returncode == 0, what="the next node")
    wait_for(lambda: answers(port), what="the service's return")
    wait_for(lambda: len(job_of(node, holds)["attempts"]) == 2, what="the running job's next attempt")
    job = wait_state(node, holds, "running")
    assert job["attempts"][0]["exit"]["outcome"] == "lost", job
    assert job_of(node, waits)["state"] == "queued"
    node.run("cancel", str(holds))
    wait_state(node, waits, "succeeded")
