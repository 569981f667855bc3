"""Serving through the node: no request is lost while replicas are replaced, and those that die are waited for."""
import contextlib
import threading
import urllib.request

from nodes import wait_for
from test_road import SERVE, infer
from test_two_at_once import serving, start_up

SLOW = SERVE.replace("import os, loam", "import os, loam, time").replace(
    '    return {"y"', '    time.sleep(0.2)\n    return {"y"')


class Clients:
    """Threads that ask all the time; each answer is (status, version, y) or (status, error)."""

    def __init__(self, port, model):
        self.answers, self.stopping = [], threading.Event()
        self.threads = [threading.Thread(target=self.ask, args=(port, model)) for _ in range(3)]

    def ask(self, port, model):
        while not self.stopping.is_set():
            status, document, _ = infer(port, [[1, 1]], model=model)
            self.answers.append((status, int(document["model_version"]), document["outputs"][0]["data"][0])
                                if status == 200 else (status, document["error"]))

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        self.more(3)
        return self

    def __exit__(self, *_):
        self.stopping.set()
        for thread in self.threads:
            thread.join()

    def more(self, count):
        seen = len(self.answers)
        wait_for(lambda: len(self.answers) >= seen + count, what="more answers")


def test_no_request_fails_while_replicas_are_replaced(node):
    """First by another handler of the same version, then by another version: whoever answers says which it is."""
    folder, port = serving(node, "rolls", serve=SLOW)
    node.run("up", cwd=folder)
    try:
        with Clients(port, "rolls") as clients:
            (folder / "serve.py").write_text(SLOW.replace("* weight", "* weight * 10"))
            node.run("up", cwd=folder)
            clients.more(6)
            same = {answer for answer in clients.answers}
            assert same == {(200, 1, 1.0), (200, 1, 10.0)}
            (folder / "loam.yaml").write_text((folder / "loam.yaml").read_text().replace("lr: 0.1", "lr: 0.3"))
            node.run("up", cwd=folder)
            clients.more(6)
        assert set(clients.answers) == same | {(200, 2, 30.0)}
        assert clients.answers[-1] == (200, 2, 30.0)
    finally:
        node.run("down", cwd=folder)


def test_a_service_that_leaves_the_project_answers_until_the_others_are_ready(node):
    folder, port = serving(node, "leaves", serve=SLOW)
    node.run("up", cwd=folder)
    text = (folder / "loam.yaml").read_text()
    (folder / "loam.yaml").write_text(text.replace("serve:\n", "services:\n other:\n  model: leaves\n"))
    try:
        with Clients(port, "leaves") as clients:
            up = start_up(node, folder)
            wait_for(lambda: clients.answers[-1][0] != 200, what="the end of what is no longer served")
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/models/other/ready", timeout=30) as ready:
                assert ready.status == 200
            told = up.communicate(timeout=120)[0]
            assert up.returncode == 0, told
        assert {answer[0] for answer in clients.answers} <= {200, 404, 503}, clients.answers
        assert all("no longer served" in answer[1] for answer in clients.answers if answer[0] == 503), clients.answers
        assert infer(port, [[1, 1]], model="other")[0] == 200
    finally:
        node.run("down", cwd=folder)


def test_a_request_waits_for_a_replica_that_died(node):
    """Where it comes back within the 10 s that a request waits; a machine under load may take longer."""
    folder, port = serving(node, "dies")
    node.run("up", cwd=folder)
    try:
        for _ in range(3):
            status, document, _ = infer(port, [[99, 99]], model="dies")
            assert status == 503 and "ended" in document["error"]
            status, document, _ = infer(port, [[1, 1]], model="dies")
            while status != 200:
                assert "ready" in document["error"], document
                status, document, _ = infer(port, [[1, 1]], model="dies")
    finally:
        node.run("down", cwd=folder)


def test_a_replica_that_fails_again_and_again_is_waited_for_no_more(node):
    """When its pauses are longer than a request would wait."""
    folder, port = serving(node, "fails", serve="raise SystemExit('broken')\npredict = None\n")
    node.run("up", "--detach", cwd=folder)

    def is_told():
        with contextlib.suppress(OSError):  # before the gateway listens
            return "none is about to start" in infer(port, [[1, 1]], model="fails")[1]["error"]
    try:
        wait_for(is_told, seconds=200, what="the word that nothing is to come")
    finally:
        node.run("down", cwd=folder)
