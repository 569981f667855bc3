"""Two `loam up` of one project at once: a step is run once for both, and of the services the last submitted serve."""
import http.client
import json
import signal
import subprocess

import pytest

from nodes import free_port, kill, node_processes, wait_for
from test_road import SERVE, TRAIN, infer, yaml

GATED = """name: {name}
mounts:
  - {{from: {out}, to: /out, mode: rw}}
steps:
  a:
    run: echo $LOAM_RUN >> /out/log; while [ ! -e /out/go$LOAM_RUN ] && [ ! -e /out/go ]; do sleep 0.05; done; {then}
    params: {params}
    resources: {{cpus: 0.1, memory: 64MiB}}
"""


def restart(node):
    kill(node_processes(node))
    wait_for(lambda: not node_processes(node), what="the node's end")
    wait_for(lambda: node.run("ps", check=False).returncode == 0, what="the next node")


class Gated:
    """A project whose step writes its run's number down and then waits for leave to go on."""

    def __init__(self, node, then="true"):
        self.node = node
        self.out = node.project({"log": ""}, name="out")
        (self.out / "log").chmod(0o666)
        self.name = self.out.name.replace("_", "-").lower()
        self.then = then
        self.folder = node.project({"loam.yaml": self.text({})})

    def text(self, params):
        return GATED.format(name=self.name, out=self.out, then=self.then, params=json.dumps(params))

    def up(self, *arguments):
        return self.node.start("up", *arguments, cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def starts(self):
        return (self.out / "log").read_text().split()

    def go(self, run=""):
        (self.out / f"go{run}").touch()

    def job(self, run):
        jobs = [job for job in self.node.json("ps", "-a")["jobs"] if job["project"] == self.name]
        runs = sorted({job["run"] for job in jobs})
        return next(job for job in jobs if job["run"] == runs[run]) if run < len(runs) else None

    def first_runs_second_waits(self, *arguments):
        first = self.up()
        wait_for(lambda: len(self.starts()) == 1, what="the first run's step")
        second = self.up(*arguments)
        wait_for(lambda: (self.job(1) or {}).get("why"), what="the second run's word on what it waits for")
        return first, second


def test_the_second_waits_for_the_firsts_step_and_finds_it_unchanged(node):
    gated = Gated(node)
    first, second = gated.first_runs_second_waits()
    waiting = gated.job(1)
    assert waiting["state"] == "blocked" and f"waits for {gated.job(0)['target']}" in waiting["why"]
    gated.go()
    told = [run.communicate(timeout=120)[0] for run in (first, second)]
    assert [first.returncode, second.returncode] == [0, 0], told
    assert f"waits for {gated.job(0)['target']}" in told[1], told
    assert f"unchanged since run {gated.job(0)['run']}" in told[1]
    assert len(gated.starts()) == 1


def test_a_third_takes_over_what_the_first_two_left(node):
    gated = Gated(node)
    first, second = gated.first_runs_second_waits()
    third = gated.up()
    wait_for(lambda: (gated.job(2) or {}).get("why"), what="the third")
    first.send_signal(signal.SIGINT)  # the first is cancelled: the second runs the step itself
    assert first.wait(timeout=120) == 130
    wait_for(lambda: len(gated.starts()) == 2, what="the second run's own start")
    assert gated.job(1)["state"] == "running" and gated.job(1)["target"] in gated.job(2)["why"]
    gated.go()
    assert [second.wait(timeout=120), third.wait(timeout=120)] == [0, 0]
    assert gated.job(2)["state"] == "unchanged" and len(gated.starts()) == 2


def test_cancelling_who_waits_harms_nobody(node):
    gated = Gated(node)
    first, second = gated.first_runs_second_waits()
    second.send_signal(signal.SIGINT)
    assert second.wait(timeout=120) == 130
    assert gated.job(0)["state"] == "running" and gated.job(1)["state"] == "cancelled"
    gated.go()
    assert first.wait(timeout=120) == 0 and len(gated.starts()) == 1


def test_what_fails_for_the_first_is_tried_by_the_second(node):
    gated = Gated(node, then="test $LOAM_RUN != $(head -n 1 /out/log)")
    first, second = gated.first_runs_second_waits()
    gated.go()
    assert [first.wait(timeout=120), second.wait(timeout=120)] == [1, 0]
    assert len(gated.starts()) == 2


def test_other_inputs_and_force_do_not_wait(node):
    gated = Gated(node)
    first = gated.up()
    wait_for(lambda: len(gated.starts()) == 1, what="the first run's step")
    forced = gated.up("--force")
    wait_for(lambda: len(gated.starts()) == 2, what="the forced step beside it")
    (gated.folder / "loam.yaml").write_text(gated.text({"lr": 0.3}))
    other = gated.up()
    wait_for(lambda: len(gated.starts()) == 3, what="a step with other inputs beside both")
    gated.go()
    assert [run.wait(timeout=120) for run in (first, forced, other)] == [0, 0, 0]


def test_a_crash_of_the_node_while_one_waits_for_the_other(fresh_node):
    gated = Gated(fresh_node)
    first, second = gated.first_runs_second_waits()
    restart(fresh_node)
    wait_for(lambda: (gated.job(1) or {}).get("why"), what="the second waits again")
    gated.go()
    told = [run.communicate(timeout=120)[0] for run in (first, second)]
    assert [first.returncode, second.returncode] == [0, 0], told
    assert gated.job(1)["state"] == "unchanged" and len(gated.starts()) == 1


# ---- services

def replicas(node, project):
    """Living replicas and their attempts' numbers."""
    return {job["target"]: len(job["attempts"]) for job in node.json("ps")["jobs"]
            if job["project"] == project and job["kind"] == "replica"}


def runs(node, project):
    states = {}
    for job in node.json("ps", "-a")["jobs"]:
        if job["project"] == project:
            states[job["run"]] = None
    return sorted(states)


def notes(node, run):
    """What the run's events say, replayed by its stream."""
    socket = node.runtime / "node.sock"
    done = subprocess.run(["curl", "-sS", "--max-time", "20", "--unix-socket", str(socket),
                           f"http://node/v1/runs/{run}/events"], capture_output=True, text=True, check=True)
    return done.stdout


def serving(node, name, serve=SERVE, train=TRAIN, extra="", lr="0.1"):
    port = free_port()
    folder = node.project({"loam.yaml": yaml(port, extra, lr).replace("name: road", f"name: {name}"),
                           "train.py": train, "serve.py": serve})
    return folder, port


def start_up(node, folder):
    return node.start("up", cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def answer(port, name):
    try:
        status, document, _ = infer(port, [[1, 1]], model=name)
    except OSError:  # nobody listens
        return None
    return document["outputs"][0]["data"][0] if status == 200 else status


def test_two_at_once_share_one_replica(node):
    folder, port = serving(node, "shared")
    both = [start_up(node, folder) for _ in range(2)]
    told = [run.communicate(timeout=200)[0] for run in both]
    try:
        assert [run.returncode for run in both] == [0, 0], told
        assert sum("training with lr" in text for text in told) == 1, told
        serves = [f"127.0.0.1:{port}" in text for text in told]
        assert all(serves) or (any(serves) and any("submitted later and serves the same" in text for text in told)), told
        assert answer(port, "shared") == 1.0
        assert list(replicas(node, "shared").values()) == [1]
    finally:
        node.run("down", cwd=folder)


def test_a_cancelled_newcomer_leaves_what_served(node):
    folder, port = serving(node, "newcomer")
    node.run("up", cwd=folder)
    try:
        first = runs(node, "newcomer")[0]
        (folder / "serve.py").write_text("raise SystemExit('the new handler is broken')\npredict = None\n")
        broken = start_up(node, folder)
        wait_for(lambda: len(replicas(node, "newcomer")) == 2, what="the new replica")
        assert answer(port, "newcomer") == 1.0
        # The old one is kept alive as long as it serves.
        assert infer(port, [[99, 99]], model="newcomer")[0] == 503
        wait_for(lambda: answer(port, "newcomer") == 1.0, what="the old replica's return")
        broken.send_signal(signal.SIGINT)
        told = broken.communicate(timeout=120)[0]
        assert broken.returncode == 130 and f"run {first} serves on" in told, told
        wait_for(lambda: list(replicas(node, "newcomer")) == [f"{first}/newcomer"], what="the end of the new replica")
        assert answer(port, "newcomer") == 1.0
    finally:
        node.run("down", cwd=folder)
    assert replicas(node, "newcomer") == {}


def test_cancelling_the_run_whose_replica_was_adopted_leaves_it_to_the_other(node):
    """The replica starts slowly: the first run is not serving yet when the second adopts what it started."""
    gate = node.project({"x": ""}, name="gate")
    slow = "import os, time\nwhile not os.path.exists('/gate/go'):\n    time.sleep(0.05)\n" + SERVE
    folder, port = serving(node, "adopted", serve=slow, extra=f"mounts:\n  - {{from: {gate}, to: /gate}}")
    first = start_up(node, folder)
    wait_for(lambda: len(replicas(node, "adopted")) == 1, what="the first replica")
    second = start_up(node, folder)
    try:
        wait_for(lambda: len(replicas(node, "adopted")) == 2, what="the second's stand-in")
        first.send_signal(signal.SIGINT)
        assert first.wait(timeout=120) == 130
        (gate / "go").touch()
        told = second.communicate(timeout=120)[0]
        assert second.returncode == 0, told
        assert answer(port, "adopted") == 1.0
        assert list(replicas(node, "adopted").values()) == [1], "the first's own replica, never started again"
    finally:
        node.run("down", cwd=folder)


@pytest.mark.parametrize("crash", [False, True])
def test_cancelling_who_adopted_gives_the_replica_back(fresh_node, crash):
    node = fresh_node
    gate = node.project({"x": ""}, name="gate")
    slow = "import os, time\nwhile not os.path.exists('/gate/go'):\n    time.sleep(0.05)\n" + SERVE
    folder, port = serving(node, "given-back", serve=slow, extra=f"mounts:\n  - {{from: {gate}, to: /gate}}")
    first = start_up(node, folder)
    wait_for(lambda: len(replicas(node, "given-back")) == 1, what="the first replica")
    second = start_up(node, folder)
    wait_for(lambda: len(replicas(node, "given-back")) == 2, what="the second's stand-in")
    if crash:
        restart(node)
        assert len(replicas(node, "given-back")) == 2
    second.send_signal(signal.SIGINT)
    assert second.wait(timeout=120) == 130
    (gate / "go").touch()
    told = first.communicate(timeout=120)[0]
    assert first.returncode == 0 and f"127.0.0.1:{port}" in told, told
    assert answer(port, "given-back") == 1.0
    assert list(replicas(node, "given-back").values()) == [1]


def test_a_replica_that_never_becomes_ready_is_replaced(node):
    folder, port = serving(node, "hangs", serve="import time\ntime.sleep(1000)\npredict = None\n")
    stuck = start_up(node, folder)
    wait_for(lambda: len(replicas(node, "hangs")) == 1, what="the replica that hangs")
    (folder / "serve.py").write_text(SERVE)
    try:
        told = node.run("up", cwd=folder).stdout
        assert f"127.0.0.1:{port}" in told and answer(port, "hangs") == 1.0
        told = stuck.communicate(timeout=120)[0]
        assert stuck.returncode == 0 and f"replaced by run {runs(node, 'hangs')[1]}" in told, told
    finally:
        node.run("down", cwd=folder)


def test_a_new_address_that_is_taken_leaves_the_old_one(node):
    import socket
    folder, port = serving(node, "moves")
    node.run("up", cwd=folder)
    try:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            text = (folder / "loam.yaml").read_text()
            (folder / "loam.yaml").write_text(text.replace(str(port), str(taken.getsockname()[1])))
            done = node.run("up", cwd=folder, check=False)
            assert done.returncode == 1 and "serves on" in done.stdout, done
        wait_for(lambda: answer(port, "moves") == 1.0, what="the old address")
    finally:
        node.run("down", cwd=folder)


def answers_at(port):
    try:
        http.client.HTTPConnection("127.0.0.1", port, timeout=5).request("GET", "/v2")
        return True
    except OSError:
        return False


def test_of_two_the_last_submitted_serves(node):
    """The first trains longer than the second; it does not take the endpoint from it."""
    gate = node.project({"x": ""}, name="gate")
    slow = "import os, time\nwhile 'lr 0.1' in open('lr').read() and not os.path.exists('/gate/go'):\n    time.sleep(0.05)\n"
    folder, port = serving(node, "last", train=slow + TRAIN, extra=f"mounts:\n  - {{from: {gate}, to: /gate}}")
    (folder / "lr").write_text("lr 0.1")
    first = start_up(node, folder)
    wait_for(lambda: [job for job in node.json("ps")["jobs"] if job["project"] == "last" and job["state"] == "running"],
             what="the first run's training")
    (folder / "lr").write_text("lr 0.3")
    (folder / "loam.yaml").write_text((folder / "loam.yaml").read_text().replace("lr: 0.1", "lr: 0.3")
                                      .replace("code: [train.py]", "code: [train.py, lr]"))
    try:
        node.run("up", cwd=folder)
        assert answer(port, "last") == 3.0
        (gate / "go").touch()
        told = first.communicate(timeout=120)[0]
        assert first.returncode == 0, told
        assert f"run {runs(node, 'last')[1]} of this project was submitted later and has the endpoint" in told
        assert answer(port, "last") == 3.0
    finally:
        node.run("down", cwd=folder)


def test_another_signature_replaces_the_old_one(node):
    """Replicas of one model must agree; the new ones win."""
    folder, port = serving(node, "signed")
    node.run("up", cwd=folder)
    (folder / "serve.py").write_text(SERVE.replace('"x"', '"z"'))
    try:
        node.run("up", cwd=folder)
        assert infer(port, [[1, 1]], model="signed", name="z")[0] == 200
    finally:
        node.run("down", cwd=folder)


def test_old_and_new_that_do_not_fit_beside_each_other(fresh_node):
    folder, port = serving(fresh_node, "large")
    fresh_node.run("node", "start")
    cpus = fresh_node.json("node", "status")["capacity"]["cpus"]
    text = (folder / "loam.yaml").read_text()
    (folder / "loam.yaml").write_text(text.replace("handler: serve.py:predict\n  resources: {cpus: 0.5",
                                                   f"handler: serve.py:predict\n  resources: {{cpus: {cpus}"))
    fresh_node.run("up", cwd=folder)
    assert answer(port, "large") == 1.0
    (folder / "serve.py").write_text(SERVE.replace("* weight", "* weight * 10"))
    told = fresh_node.run("up", cwd=folder).stdout
    assert "no room" in told and answer(port, "large") == 10.0


def test_cancelling_a_replica_by_name_ends_what_it_served(node):
    folder, port = serving(node, "by-name")
    node.run("up", cwd=folder)
    run = runs(node, "by-name")[0]
    node.run("cancel", f"{run}/by-name")
    wait_for(lambda: replicas(node, "by-name") == {}, what="the replica's end")
    wait_for(lambda: not answers_at(port), what="the gateway's end")
    states = {job["name"]: job["state"] for job in node.json("ps", "-a")["jobs"] if job["run"] == run}
    assert states["by-name"] == "cancelled"
