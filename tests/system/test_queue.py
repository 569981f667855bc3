"""The queue as its users see it: holds, why a job waits, priorities."""
import os
import time

from nodes import SINGLE_ID_USER, USER, kill, node_processes, wait_for
from queueing import cpus_of, job_of, project, submit, wait_state


def test_a_held_job_waits_until_it_is_released(node):
    run = submit(node, project(node), "--hold")
    held = wait_state(node, run, "held", "succeeded")
    user = node.user or "root"
    assert held["state"] == "held" and held["held_by"] == user, held
    why = wait_for(lambda: (lambda job: job if job["why"] and "held by" in job["why"] else None)(job_of(node, run)))["why"]
    assert why == f"held by {user}; loam release {run}/train lets it go"
    assert f"{run}/train" in node.run("ps").stdout
    time.sleep(0.5)
    assert job_of(node, run)["attempts"] == []
    assert node.run("release", run).stdout == f"released {run}/train\n"
    assert wait_state(node, run, "succeeded", "failed")["state"] == "succeeded"
    again = node.run("release", f"{run}/train", check=False)
    assert again.returncode == 1 and "has ended: succeeded" in again.stderr, again
    assert node.run("hold", run, check=False).returncode == 1


def test_a_command_and_a_step_behind_another_are_held(node):
    command = node.run("run", "--hold", "--detach", "--", "true", cwd=node.project({})).stdout.strip()
    assert wait_state(node, int(command), "held")["kind"] == "command"
    text = """name: two
steps:
  first: {run: "sleep 1", resources: {cpus: 0.1, memory: 64MiB}}
  second: {run: "true", after: [first], resources: {cpus: 0.1, memory: 64MiB}}
"""
    run = submit(node, node.project({"loam.yaml": text}))
    assert node.run("hold", f"{run}/second").stdout == f"held {run}/second\n"

    def jobs():
        return {job["name"]: job["state"] for job in node.json("ps", "-a")["jobs"] if job["run"] == run}
    wait_for(lambda: jobs()["first"] == "succeeded")
    time.sleep(0.5)
    assert jobs()["second"] == "held"
    node.run("release", f"{run}/second", command)
    wait_for(lambda: jobs()["second"] == "succeeded")
    assert wait_state(node, int(command), "succeeded", "failed")["state"] == "succeeded"


def test_what_runs_is_held_once_it_waits_again(node):
    run = submit(node, project(node, "[ $LOAM_ATTEMPT = 2 ] && exit 0; exec sleep 1000", more="  preemptible: true\n"))
    wait_state(node, run, "running")
    said = node.run("hold", run).stdout
    assert said == f"held {run}/train: it runs on, and stays held once it waits again\n"
    assert job_of(node, run)["state"] == "running"
    node.run("preempt", run)
    job = wait_state(node, run, "held", "succeeded")
    assert job["state"] == "held" and job["preemptions"] == 1, job
    node.run("release", run)
    assert wait_state(node, run, "succeeded", "failed")["state"] == "succeeded"


def test_a_hold_survives_the_node(fresh_node):
    run = submit(fresh_node, project(fresh_node), "--hold")
    free = submit(fresh_node, project(fresh_node, "sleep 2"))
    wait_state(fresh_node, run, "held")
    kill(node_processes(fresh_node))
    fresh_node.run("node", "start")
    wait_state(fresh_node, free, "succeeded")
    job = job_of(fresh_node, run)
    assert job["state"] == "held" and job["attempts"] == [], job
    fresh_node.run("release", run)
    wait_state(fresh_node, run, "succeeded")


def test_only_its_owner_and_root_hold_and_release_a_job(shared):
    shared.run("node", "start")
    run = int(shared.as_user(USER, "run", "--hold", "--detach", "--", "true").stdout)
    for verb in ("hold", "release"):
        refused = shared.as_user(SINGLE_ID_USER, verb, run, check=False)
        assert refused.returncode == 1 and f"no such run or job: {run}" in refused.stderr, refused
    assert shared.as_user(SINGLE_ID_USER, "ps", "--why", run, check=False).returncode == 1
    assert job_of(shared, run)["held_by"] == USER
    shared.run("hold", run)
    refused = shared.as_user(USER, "release", run, check=False)
    assert refused.returncode == 1 and "is held by root, who alone lets it go" in refused.stderr, refused
    shared.run("release", run)
    assert wait_state(shared, run, "succeeded", "failed")["state"] == "succeeded"


def test_services_are_not_held(node):
    text = ("name: served\nserve: {handler: 'serve.py:predict', model: 'some', resources: {cpus: 0.1}}\n"
            f"endpoint: 127.0.0.1:{1024 + os.getpid() % 60000}\n")
    folder = node.project({"loam.yaml": text, "serve.py": "def predict(rows): return rows\n"})
    assert "--hold" not in node.run("help", "serve").stdout
    refused = node.run("serve", "--hold", cwd=folder, check=False)
    assert refused.returncode == 2 and "--hold" in refused.stderr, refused


def test_why_a_job_waits(fresh_node):
    cpus = cpus_of(fresh_node)
    holds = submit(fresh_node, project(fresh_node, "sleep 1000", cpus=cpus, time="2h", name="holds"))
    wait_state(fresh_node, holds, "running")
    first = submit(fresh_node, project(fresh_node, "echo 1", cpus=cpus, time="1h", name="first"))
    second = submit(fresh_node, project(fresh_node, "echo 2", cpus=cpus, name="second"))
    wait_state(fresh_node, second, "queued")
    answer = fresh_node.json("ps", "--why", f"{second}/train")
    job = answer["jobs"][0]
    user = fresh_node.user or "root"
    assert [(one["what"], one["needed"], one["free"]) for one in job["short_of"]] == [("CPU", cpus * 1000, 0)], job
    holder = job["holders"][0]
    started = job_of(fresh_node, holds)["attempts"][0]["started_ms"]
    assert (holder["target"], holder["user"]) == (f"{holds}/train", user), job
    assert abs(holder["ends_ms"] - started - 2 * 3_600_000) < 60_000, job
    assert job["ahead"] == 1 and job["first_ahead"]["target"] == f"{first}/train", job
    # Behind the two hours of the one and the hour of the other.
    assert abs(job["expected_start_ms"] - holder["ends_ms"] - 3_600_000) < 300_000, job
    said = fresh_node.run("ps", "--why", second).stdout
    assert f"who has it  {holds}/train of {user}, until " in said and "expected    about " in said, said
    fresh_node.run("cancel", holds)
    assert wait_state(fresh_node, second, "succeeded", "failed")["state"] == "succeeded"
    assert "waits for nothing" in fresh_node.run("ps", "--why", f"{second}/train").stdout
    assert fresh_node.run("ps", "--why", "99999", check=False).returncode == 1


def test_why_a_step_is_not_in_the_queue_yet(node):
    text = """name: two
steps:
  first: {run: "sleep 1000", resources: {cpus: 0.1, memory: 64MiB}}
  second: {run: "true", after: [first], resources: {cpus: 0.1, memory: 64MiB}}
"""
    run = submit(node, node.project({"loam.yaml": text}))
    wait_state(node, run, "running")
    said = node.run("ps", "--why", f"{run}/second").stdout
    assert f"waits for {run}/first" in said, said
    assert [job["target"] for job in node.json("ps", "--why", run)["jobs"]] == [f"{run}/second"]
    node.run("cancel", run)


def test_a_priority_of_one_submission(fresh_node):
    cpus = cpus_of(fresh_node)
    holds = submit(fresh_node, project(fresh_node, "sleep 1000", cpus=cpus, name="holds"))
    wait_state(fresh_node, holds, "running")
    low = submit(fresh_node, project(fresh_node, "true", cpus=cpus, name="low"), "--priority", "-5")
    plain = submit(fresh_node, project(fresh_node, "true", cpus=cpus, name="plain"))
    assert job_of(fresh_node, low)["priority"] == -5
    assert fresh_node.json("ps", "--why", low)["jobs"][0]["first_ahead"]["target"] == f"{plain}/train"
    kill(node_processes(fresh_node))
    fresh_node.run("node", "start")
    assert job_of(fresh_node, low)["priority"] == -5
    for wrong in ("1001", "high"):
        refused = fresh_node.run("run", "--priority", wrong, "--", "true", check=False)
        assert refused.returncode == 2 and "expected a whole number from -1000 to 1000" in refused.stderr, refused
    for run in (holds, low, plain):
        fresh_node.run("cancel", run)


def test_only_root_raises_a_priority_on_a_shared_node(shared):
    shared.run("node", "start")
    refused = shared.as_user(USER, "run", "--priority", "1", "--", "true", check=False)
    assert refused.returncode == 2 and "only root and the admins may go before others" in refused.stderr, refused
    assert shared.run("run", "--priority", "1", "--", "true", cwd=shared.project({})).returncode == 0
