"""`loam plan`: what `loam up` would do now, without doing it."""
from nodes import free_port, wait_for
from queueing import configure, cpus_of, job_of, project, submit, wait_state

PLANNED = """name: planned
steps:
  prepare: {{run: "echo {word} > prepared/data", output: {{path: prepared, model: prepared}}, code: [prepare.py], resources: {{cpus: 0.1, memory: 64MiB}}}}
  train:
    run: "cat train.py prepared/data; echo model > model/m"
    after: [prepare]
    params: {{lr: {rate}}}
    output: model
    code: [train.py]
    resources: {{cpus: {cpus}, memory: 64MiB}}
"""


def plan_of(node, folder, *arguments):
    plan = node.json("plan", *arguments, cwd=folder)
    return {step["step"]: step for step in plan["steps"]}


def test_plan_says_what_up_then_does(node):
    def text(word="x", rate=1, cpus=0.1):
        return PLANNED.format(word=word, rate=rate, cpus=cpus)
    folder = node.project({"loam.yaml": text(), "prepare.py": "1", "train.py": "1"})
    runs_before = {job["run"] for job in node.json("ps", "-a")["jobs"]}
    new = plan_of(node, folder)
    assert [new[name]["action"] for name in ("prepare", "train")] == ["runs", "runs"]
    assert new["prepare"]["reason"] == "new" and new["prepare"]["start"] == {"now": True}
    assert new["train"]["after"] == ["prepare"] and not new["train"]["start"]["now"]
    said = node.run("plan", cwd=folder).stdout
    assert said == "prepare: new\n  starts at once\ntrain: new\n  starts after prepare\n", said
    assert {job["run"] for job in node.json("ps", "-a")["jobs"]} == runs_before, "a plan makes no run"
    assert not (folder / "loam.lock").exists()
    run = node.json("train", cwd=folder)["run"]
    done = plan_of(node, folder)
    assert [(done[name]["action"], done[name]["since_run"]) for name in ("prepare", "train")] == [("unchanged", run)] * 2
    assert f"train: unchanged since run {run} (planned@1)" in node.run("plan", cwd=folder).stdout
    # What is said of a change is what `train` then says of it.
    (folder / "train.py").write_text("2")
    (folder / "loam.yaml").write_text(text(rate=2))
    changed = plan_of(node, folder)
    assert changed["prepare"]["action"] == "unchanged" and changed["train"]["start"] == {"now": True}
    assert changed["train"]["changed"] == ["params.lr", "snapshot: train.py"]
    assert "train: runs again, changed: params.lr, snapshot: train.py" in node.run("plan", cwd=folder).stdout
    assert "train: runs again, changed: params.lr, snapshot: train.py" in node.run("train", cwd=folder).stdout
    # A step that runs again may make what it made before.
    (folder / "prepare.py").write_text("2")
    upstream = plan_of(node, folder)
    assert (upstream["prepare"]["action"], upstream["train"]["action"]) == ("runs", "may run")
    assert upstream["train"]["after"] == ["prepare"]
    states = {job["name"]: job["state"] for job in node.json("train", cwd=folder)["jobs"]}
    assert states == {"prepare": "succeeded", "train": "unchanged"}
    forced = plan_of(node, folder, "--force")
    assert {step["reason"] for step in forced.values()} == {"forced"}


def test_plan_says_who_is_in_the_way(fresh_node):
    cpus = cpus_of(fresh_node)
    folder = project(fresh_node, "true", cpus=cpus, name="planned")
    holds = submit(fresh_node, project(fresh_node, "sleep 1000", cpus=cpus, time="2h", name="holds"))
    wait_state(fresh_node, holds, "running")
    started_ms = lambda: fresh_node.json("ps")["jobs"][0]["attempts"][0]["started_ms"]  # none while its shim starts
    wait_for(started_ms, what=fresh_node.log)
    ends = started_ms() + 2 * 3_600_000
    plan = plan_of(fresh_node, folder)
    start = plan["train"]["start"]
    assert not start["now"] and f"behind {holds}/train until about" in start["why"], start
    assert abs(start["expected_start_ms"] - ends) < 300_000, start
    assert "waits: " in fresh_node.run("plan", cwd=folder).stdout
    # The queue is as it was, and then does what was said.
    assert [job["run"] for job in fresh_node.json("ps")["jobs"]] == [holds]
    queued = submit(fresh_node, folder)
    wait_state(fresh_node, queued, "queued")
    same = plan_of(fresh_node, folder)["train"]["start"]
    assert not same["now"] and f"waits for {queued}/train, the same step with the same inputs" == same["why"], same
    for run in (holds, queued):
        fresh_node.run("cancel", run)


def test_plan_names_the_victims_and_the_refusals(shared):
    cpus = cpus_of(shared)
    configure(shared, "accounts: {vision: {quota: {cpus: 0.5}}}\n")
    low = submit(shared, project(shared, "exec sleep 1000", cpus=cpus, more="  preemptible: true\n  priority: -10\n"))
    wait_state(shared, low, "running")
    folder = project(shared, "true", cpus=cpus, name="urgent")
    start = plan_of(shared, folder)["train"]["start"]
    assert start["preempts"] == [f"{low}/train"], start
    assert job_of(shared, low)["state"] == "running" and job_of(shared, low)["preemptions"] == 0
    refused = shared.run("plan", "--account", "vision", cwd=folder, check=False)
    assert refused.returncode == 2 and "account vision may hold 0.5 CPUs at a time" in refused.stderr, refused
    (folder / "loam.yaml").write_text("name: broken\ntrian: {}\n")
    broken = shared.run("plan", cwd=folder, check=False)
    assert broken.returncode == 2 and "did you mean 'train'?" in broken.stderr
    shared.run("cancel", low)


def test_plan_of_services(node):
    folder = node.project({
        "loam.yaml": "name: served\ntrain: {run: 'echo x > model/m', output: model, code: [none], resources: {cpus: 0.1, memory: 64MiB}}\n"
                     "serve: {handler: 'serve.py:predict', resources: {cpus: 0.1, memory: 128MiB}}\n"
                     f"endpoint: 127.0.0.1:{free_port()}\n",
        "none": "", "serve.py": "import loam\n\n@loam.handler(inputs={'x': ('FP32', [1])}, outputs={'y': ('FP32', [1])})\n"
                                "def predict(x):\n    return {'y': x}\n"})
    plan = node.json("plan", cwd=folder)
    assert [(one["service"], one["action"], one["after"]) for one in plan["services"]] == [("served", "starts", "train")]
    node.run("train", cwd=folder)
    (service,) = node.json("plan", cwd=folder)["services"]
    assert (service["action"], service["after"], service["model_version"]) == ("starts", None, "served@1")
    assert "service served: starts with served@1" in node.run("plan", cwd=folder).stdout
