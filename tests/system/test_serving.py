"""Serving through the node: no request is lost while replicas are replaced, those that die are waited for, and a taken
port is named with who has it."""
import contextlib
import pwd
import subprocess
import threading
import urllib.request

from nodes import USER, ensure_user, free_port, user_command, wait_for
from test_road import SERVE, infer
from test_two_at_once import serving, start_up

SLOW = SERVE.replace("import os, loam", "import os, loam, time").replace(
    '    return {"y"', '    time.sleep(0.2)\n    return {"y"')
LISTEN = """
import socket, sys
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
print("listens", flush=True)
sys.stdin.read()
"""


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


class Holder:
    """A process of root's or of the user's that listens."""

    def __init__(self, user=None):
        self.port = free_port()
        command = ["/usr/bin/python3", "-c", LISTEN, str(self.port)]
        self.process = subprocess.Popen(user_command(user, *command) if user else command, stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True)

    def __enter__(self):
        assert self.process.stdout.readline() == "listens\n"
        return self

    def __exit__(self, *_):
        self.process.communicate()


def refused(done):
    """What `loam up` said of an endpoint that could not be had."""
    assert done.returncode == 1, done
    return done.stdout + done.stderr


def at_port(folder, old, new):
    file = folder / "loam.yaml"
    file.write_text(file.read_text().replace(f"127.0.0.1:{old}", f"127.0.0.1:{new}"))


def test_a_taken_port_is_named_with_its_holder(node):
    folder, port = serving(node, "taken")
    with Holder(node.user) as holder:
        at_port(folder, port, holder.port)
        told = refused(node.run("up", cwd=folder, check=False))
        assert "end it before the services start" in told, "a word while there is time"
        uid = pwd.getpwnam(node.user or "root").pw_uid
        # From its user namespace a user's own node cannot look into processes outside.
        who = f"a process of user {node.user} (uid {uid}), which `ss -ltnp` names" if node.rootless else \
            f"python3 (pid {holder.process.pid})"
        assert f"loam.yaml:2:11: endpoint: port {holder.port} is in use by {who}; end it or choose another `endpoint:`" in told
    try:
        node.run("up", cwd=folder)
        assert infer(holder.port, [[1, 1]], model="taken")[0] == 200
        other, port = serving(node, "second")
        at_port(other, port, holder.port)
        told = refused(node.run("up", cwd=other, check=False))
        assert f"port {holder.port} is in use by project 'taken' (run " in told and "which `loam down taken` ends)" in told
    finally:
        node.run("down", cwd=folder)


def test_of_another_users_process_only_its_user_is_told(node):
    folder, port = serving(node, "strange")
    if not node.rootless:
        ensure_user()
        entry = pwd.getpwnam(USER)
        for path in (folder, *folder.iterdir()):
            subprocess.run(["chown", f"{entry.pw_uid}:{entry.pw_gid}", str(path)], check=True)
    with Holder() as holder:
        at_port(folder, port, holder.port)
        up = node.run("up", cwd=folder, check=False) if node.rootless else node.run_as(USER, "up", cwd=folder, check=False)
        told = refused(up)
        who = "a process of another user" if node.rootless else "a process of user root (uid 0)"
        assert f"endpoint: port {holder.port} is in use by {who}" in told
        assert f"pid {holder.process.pid}" not in told
