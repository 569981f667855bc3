"""The road of DESIGN: one file trains a model and serves it; what is repeated and why; every answer traceable."""
import json
import subprocess
import urllib.error
import urllib.request

import pytest

from nodes import free_port

TRAIN = """
import os, loam
params = loam.params()
print("training with lr", params.lr)
loam.log(loss=0.5)
loam.log(loss=0.25)
open(os.path.join(loam.output(), "weight.txt"), "w").write(str(params.lr * 10))
"""
SERVE = """
import os, loam
weight = float(open(os.path.join(loam.model(), "weight.txt")).read())

@loam.signature(inputs={"x": ("FP32", [-1, 2])}, outputs={"y": ("FP32", [-1, 2])})
def predict(batch):
    if (batch["x"] < 0).any():
        raise ValueError("negative numbers hurt")
    if (batch["x"] == 99).any():
        os._exit(3)
    return {"y": batch["x"] * weight}
"""


def yaml(port, extra="", lr="0.1", train="python3 train.py"):
    return f"""name: road
endpoint: 127.0.0.1:{port}
{extra}
train:
  run: {train}
  params: {{lr: {lr}}}
  code: [train.py]
  resources: {{cpus: 0.5, memory: 256MiB}}
  output: model
serve:
  handler: serve.py:predict
  resources: {{cpus: 0.5, memory: 256MiB}}
"""


def infer(port, rows, model="road", name="x", datatype="FP32", shape=None):
    body = {"inputs": [{"name": name, "datatype": datatype, "shape": shape or [len(rows), 2],
                        "data": [value for row in rows for value in row]}]}
    request = urllib.request.Request(f"http://127.0.0.1:{port}/v2/models/{model}/infer", json.dumps(body).encode())
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.load(answer), answer.headers["loam-request-id"]
    except urllib.error.HTTPError as error:
        return error.code, json.load(error), error.headers["loam-request-id"]


@pytest.fixture(scope="module")
def road(node):
    port = free_port()
    folder = node.project({"loam.yaml": yaml(port), "train.py": TRAIN, "serve.py": SERVE})
    first = node.run("up", cwd=folder)
    yield node, folder, port, first
    node.run("down", cwd=folder)


def test_first_up_trains_and_serves(road):
    _, _, port, first = road
    assert "training with lr 0.1" in first.stdout
    assert f"127.0.0.1:{port}" in first.stdout
    status, answer, request = infer(port, [[1, 2], [3, 4]])
    assert status == 200 and answer["outputs"][0]["data"] == [1, 2, 3, 4]
    assert request.startswith("req-")


def test_second_up_repeats_nothing(road):
    node, folder, _, _ = road
    again = node.run("up", cwd=folder)
    assert "unchanged" in again.stdout and "training with lr" not in again.stdout


def test_trace_of_a_request_down_to_the_kernel(road):
    node, folder, port, _ = road
    _, _, request = infer(port, [[1, 1]])
    text = node.run("trace", request).stdout
    for word in ("request", "replica", "model", "run", "code", "env", "host", "kernel"):
        assert word in text, text
    layers = {layer["kind"]: layer["record"] for layer in node.json("trace", request)["layers"]}
    assert layers["run"]["params"] == {"lr": "0.1"}
    assert layers["run"]["metrics"]["loss"]["last"] in (0.25, "0.25")
    import os
    assert os.uname().release in json.dumps(layers["host"])


def test_wrong_requests(road):
    _, _, port, _ = road
    status, answer, _ = infer(port, [[1, 2]], name="z")
    assert status == 400 and "z" in answer["error"] and "x" in answer["error"]
    status, answer, _ = infer(port, [[1, 2]], datatype="INT32")
    assert status == 400 and "FP32" in answer["error"]
    status, answer, _ = infer(port, [[1, 2]], shape=[1, 3])
    assert status == 400 and "'x'" in answer["error"]
    status, answer, _ = infer(port, [[1, 2]], model="nobody")
    assert status == 404


def test_handler_raises_and_dies(road):
    _, _, port, _ = road
    status, answer, _ = infer(port, [[-1, 2]])
    assert status == 500 and "negative numbers hurt" in answer["error"]
    assert infer(port, [[1, 2]])[0] == 200
    status, answer, _ = infer(port, [[99, 2]])
    assert status == 503
    for _ in range(200):  # restarted with backoff: the next requests work
        status, _, _ = infer(port, [[1, 2]])
        if status == 200:
            break
        import time
        time.sleep(0.1)
    assert status == 200


def test_a_changed_parameter_trains_again_and_serves_the_new_version(road):
    node, folder, port, _ = road
    (folder / "loam.yaml").write_text(yaml(port, lr="0.3"))
    changed = node.run("up", cwd=folder)
    assert "params.lr" in changed.stdout
    assert infer(port, [[1, 1]])[1]["outputs"][0]["data"] == [3, 3]
    versions = node.json("models", "show", "road")["versions"]
    assert [version["version"] for version in versions][-2:] == [1, 2] or [v["version"] for v in versions][:2] == [2, 1]


def test_models_import_and_remove(road, tmp_path):
    node, folder, _, _ = road
    given = node.project({"weight.txt": "7"})
    imported = node.json("models", "import", given, "--name", "given")
    assert imported["version"] == 1
    assert "given" in node.run("models", "ls").stdout
    layers = node.json("trace", "given@1")["layers"]
    assert layers[0]["record"]["imported_from"] == str(given)
    node.run("models", "rm", "given@1")
    assert "given" not in node.run("models", "ls").stdout
    serving = node.run("models", "rm", "road@2", check=False)
    assert serving.returncode != 0 and "serve" in serving.stderr


def test_failed_step_names_the_line_and_stops_dependents(node):
    folder = node.project({"loam.yaml": """name: failing
steps:
  first:
    run: |
      echo fine so far
      echo 'ValueError: the learning rate is a banana' >&2
      exit 7
  second: {run: echo never, after: [first]}
"""})
    done = node.run("up", cwd=folder, check=False)
    assert done.returncode == 1
    output = done.stdout + done.stderr
    assert "ValueError: the learning rate is a banana" in output and "never\n" not in done.stdout
    states = {job["name"]: job["state"] for job in node.json("ps", "-a")["jobs"] if job["project"] == "failing"}
    assert states == {"first": "failed", "second": "skipped"}


def test_outputs_flow_to_later_steps_and_retries(node):
    folder = node.project({"loam.yaml": """name: chain
steps:
  make:
    run: sh -c 'mkdir -p out && echo 42 > out/n'
    output: {model: chain, path: out}
  use:
    run: cat out/n
    after: [make]
  flaky:
    run: test $LOAM_ATTEMPT -ge 3
    retries: 3
"""})
    done = node.run("up", cwd=folder)
    assert "42" in done.stdout
    flaky = [job for job in node.json("ps", "-a")["jobs"] if job["project"] == "chain" and job["name"] == "flaky"][0]
    assert flaky["state"] == "succeeded" and len(flaky["attempts"]) == 3


def test_files_logs_and_shell_of_an_attempt(node):
    folder = node.project({"loam.yaml": "name: keeping\nsteps:\n  a:\n    run: echo made > made.txt; echo to the log; exit 4\n",
                           "b.txt": "b"})
    node.run("up", cwd=folder, check=False)
    run = node.json("ps", "-a")["jobs"]
    target = [job["target"] for job in run if job["project"] == "keeping"][0]
    assert node.run("logs", target).stdout == "to the log\n"
    assert "made.txt" in node.run("files", target).stdout
    assert node.run("files", target, "made.txt").stdout == "made\n"
    shell = subprocess.run(node.command("shell", target), input="cat made.txt b.txt; exit 3\n", text=True,
                           capture_output=True, env=node.environment, cwd=folder, timeout=60)
    assert "made\nb" in shell.stdout.replace("\r", "") and shell.returncode == 3, shell


def test_time_limit(node):
    folder = node.project({"loam.yaml": "name: slow\nsteps:\n  a:\n    run: sleep 60\n    resources: {time: 1s}\n"})
    done = node.run("up", cwd=folder, check=False)
    assert done.returncode == 1 and "timed" in done.stdout + done.stderr


def test_impossible_requests_are_refused_at_once(node):
    for resources, word in (("{cpus: 4000}", "CPU"), ("{memory: 900TiB}", "memory"), ("{gpus: 1}", "GPU")):
        folder = node.project({"loam.yaml": f"name: big\nsteps:\n  a:\n    run: 'true'\n    resources: {resources}\n"})
        done = node.run("up", cwd=folder, check=False)
        assert done.returncode == 2 and word in done.stderr and "loam.yaml:5:" in done.stderr, done


def test_jobs_wait_in_order(fresh_node):
    fresh_node.run("node", "start")
    capacity = fresh_node.json("node", "status")["capacity"]
    folder = fresh_node.project({"loam.yaml": "name: queue\nsteps:\n" + "".join(
        f"  s{i}: {{run: sleep 0.2, resources: {{cpus: {capacity['cpus']}, memory: 64MiB}}}}\n" for i in range(3))})
    fresh_node.run("up", cwd=folder)
    jobs = sorted((job for job in fresh_node.json("ps", "-a")["jobs"] if job["project"] == "queue"), key=lambda job: job["name"])
    ends = [job["attempts"][0]["ended_ms"] for job in jobs]
    starts = [job["attempts"][0]["started_ms"] for job in jobs]
    assert starts[1] >= ends[0] and starts[2] >= ends[1]


def test_port_taken_names_its_holder(node):
    import socket
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        folder = node.project({"loam.yaml": yaml(taken.getsockname()[1]).replace("name: road", "name: taken"),
                               "train.py": TRAIN, "serve.py": SERVE})
        done = node.run("up", cwd=folder, check=False)
        assert done.returncode == 1 and str(taken.getsockname()[1]) in done.stdout + done.stderr
        node.run("down", cwd=folder)


def test_data_is_bound_read_only_and_fingerprinted(node):
    folder = node.project({"loam.yaml": """name: data
data:
  d: {files: "data/*.csv", fingerprint: full}
steps:
  a: {run: "cat data/a.csv; ls; echo x > data/a.csv || echo read-only"}
""", "data/a.csv": "1,2\n"})
    done = node.run("up", cwd=folder)
    assert "1,2" in done.stdout and "read-only" in done.stdout
    assert "unchanged" in node.run("up", cwd=folder).stdout
    (folder / "data/a.csv").write_text("1,3\n")
    assert "1,3" in node.run("up", cwd=folder).stdout


def test_mounts(node):
    outside = node.project({"in.txt": "inside"})
    folder = node.project({"loam.yaml": f"""name: mounts
mounts:
  - {{from: {outside}, to: /data}}
  - {{from: {outside}, to: /out, mode: rw}}
steps:
  a: {{run: "cat /data/in.txt; touch /data/x || echo closed; echo kept > /out/kept.txt"}}
"""})
    done = node.run("up", cwd=folder)
    assert "inside" in done.stdout and "closed" in done.stdout
    assert (outside / "kept.txt").read_text() == "kept\n"


def test_the_host_is_the_same_after_a_restart_of_the_node(fresh_node):
    """Its record named a probe's process, and a memory size that hot-plugging changes: another host at each start."""
    folder = fresh_node.project({"loam.yaml": "name: same\nsteps: {a: {run: 'true'}}\n"})
    hosts = []
    for run in ("1", "2"):
        fresh_node.run("up", "--force", cwd=folder)
        hosts += [layer["digest"] for layer in fresh_node.json("trace", run)["layers"] if layer["kind"] == "host"]
        fresh_node.run("node", "stop", "--jobs")
    assert len(hosts) == 2 and hosts[0] == hosts[1]
