"""Another user of the machine, a hostile job, a hostile project: what a system node does not let them do."""
import json
import os
import pathlib
import pwd
import signal
import subprocess

import pytest

from nodes import USER, Node, ensure_user, user_command, wait_for

OTHER = "loamtest2"


def ensure_users():
    ensure_user()
    try:
        pwd.getpwnam(OTHER)
    except KeyError:
        subprocess.run(["useradd", "--create-home", OTHER], check=True)


@pytest.fixture(scope="module")
def shared(prefix):
    """A system node that ordinary users work with."""
    ensure_users()
    node = Node(prefix, None)
    node.run("node", "start")
    yield node
    node.close()


def as_user(node, user, *command, cwd=None, check=False):
    """Runs a program as an ordinary user against the system node."""
    return node.run_as(user, *command[1:], cwd=cwd, check=check, program=command[0])


def loam(node, user, *arguments, **options):
    return as_user(node, user, node.prefix / "bin/loam", *arguments, **options)


def project_of(node, user, files):
    folder = node.project(files)
    subprocess.run(["chown", "-R", f"{user}:{user}", str(folder)], check=True)
    return folder


def test_a_root_owned_folder_is_not_writable_for_an_ordinary_user(shared, tmp_path_factory):
    target = pathlib.Path(shared.folder / "roots-own")
    target.mkdir(mode=0o755, exist_ok=True)
    folder = project_of(shared, USER, {"loam.yaml": f"""
name: writes-as-root
mounts: [{{from: {target}, to: /data, mode: rw}}]
steps:
  a:
    run: sh -c 'echo taken > /data/taken; exit 0'
"""})
    loam(shared, USER, "train", cwd=folder, check=True)
    assert list(target.iterdir()) == []


def test_names_of_upper_layers_are_the_nodes(shared):
    """A link in the place of an upper layer would be followed by the kernel with the node's rights."""
    folder = project_of(shared, USER, {"a": "x"})
    loam(shared, USER, "run", "--", "sh", "-c", "echo y > b", cwd=folder, check=True)
    work = max((shared.state / "outputs").iterdir(), key=lambda entry: entry.stat().st_ctime_ns)
    assert (work / "project/upper/b").read_text() == "y\n"
    for name in ("project", "scratch"):
        assert as_user(shared, USER, "ln", "-s", "/etc", work / name / "planted").returncode != 0
        assert as_user(shared, USER, "mv", work / name, work / "away").returncode != 0
    assert as_user(shared, USER, "mv", work / "project/upper", work / "project/away").returncode != 0


@pytest.mark.parametrize("link_to", ["/", "/proc", "state"])
def test_mounts_bring_nothing_of_the_kernel_nor_of_loam(shared, link_to):
    folder = project_of(shared, USER, {"loam.yaml": ""})
    target = shared.state / "outputs" if link_to == "state" else link_to
    (folder / "way").symlink_to(target)
    (folder / "loam.yaml").write_text(f"""
name: looks-around
mounts: [{{from: {folder}/way, to: /host}}]
steps:
  a:
    run: sh -c 'for place in proc sys dev {str(shared.state)[1:]}; do ls -A /host/$place || exit 7; done; ls /host/etc/passwd'
""")
    done = loam(shared, USER, "train", cwd=folder)
    said = done.stdout + done.stderr
    if link_to == "/":
        assert done.returncode == 0 and [line for line in said.splitlines() if line.startswith("/host/etc/passwd")], said
        log = [line for line in said.splitlines() if line and not line.startswith(("a:", "run ", "next:"))]
        assert not [line for line in log if line.strip() in ("self", "version", "kernel", "null", "node.db")], said
    else:
        assert done.returncode != 0
        assert ("belongs to the kernel" if link_to == "/proc" else "Loam's own state") in said


def test_runs_secrets_and_files_are_their_users(shared):
    folder = project_of(shared, USER, {"a": "x"})
    loam(shared, USER, "run", "--", "sh", "-c", "echo private words; echo kept > kept", cwd=folder, check=True)
    run = str(max(job["run"] for job in shared.json("ps", "--all")["jobs"]))
    for verb in (["logs", run], ["files", run], ["files", run, "kept"], ["cancel", run], ["trace", run], ["shell", run]):
        assert loam(shared, OTHER, *verb).returncode != 0, verb
        assert "private words" not in loam(shared, OTHER, *verb).stdout
    assert "private words" in loam(shared, USER, "logs", run, check=True).stdout
    work = max((shared.state / "outputs").iterdir(), key=lambda entry: entry.stat().st_ctime_ns)
    assert as_user(shared, OTHER, "ls", work / "run").returncode != 0
    assert as_user(shared, OTHER, "ls", shared.state / "homes" / str(pwd.getpwnam(USER).pw_uid)).returncode != 0


def test_no_command_is_without_limits(shared):
    """Whatever a submission leaves out: neither a client of one's own nor a shell takes the whole memory."""
    folder = project_of(shared, USER, {"a": "x"})
    socket = shared.runtime / "node.sock"

    def post(path, body):
        done = as_user(shared, USER, "curl", "-sS", "--unix-socket", socket, "-H", "Content-Type: application/json", "-d", json.dumps(body),
                       f"http://node{path}", check=True)
        return json.loads(done.stdout)

    run = post("/v1/runs", {"verb": "run", "project": str(folder), "command": {"argv": ["true"], "cpu_milli": 0}})["run"]
    ended = {"attempts": []}
    while not ended["attempts"] or ended["attempts"][0]["state"] != "ended":
        jobs = json.loads(as_user(shared, USER, "curl", "-sS", "--unix-socket", socket,
                                  f"http://node/v1/runs/{run}", check=True).stdout)["jobs"]
        ended = jobs[0]
    assert ended["memory_bytes"] == 1 << 30 and ended["cpu_milli"] == 1000
    shell = post("/v1/shell", {"target": str(run), "argv": ["true"]})["run"]
    jobs = json.loads(as_user(shared, USER, "curl", "-sS", "--unix-socket", socket,
                              f"http://node/v1/runs/{shell}", check=True).stdout)["jobs"]
    assert jobs[0]["memory_bytes"] == 1 << 30


def children_of(parent, word=b"", state=""):
    found = []
    for children in pathlib.Path(f"/proc/{parent}/task").glob("*/children"):
        for pid in children.read_text().split():
            try:
                if word in pathlib.Path(f"/proc/{pid}/cmdline").read_bytes() and \
                        f") {state}" in pathlib.Path(f"/proc/{pid}/stat").read_text():
                    found.append(int(pid))
            except OSError:
                pass
    return found


def client_of_a_stopped_walk(node, keeper):
    """A `loam run` whose reading of the folder was caught and stopped; its process and the reader's id."""
    folder = node.project({f"d{i}/{k}": "x" * 4096 for i in range(40) for k in range(100)})
    servers = children_of(keeper)  # who forks the readers carries their title for a moment, and is the node's own
    for _ in range(20):
        client = node.start("run", "-i", "--", "sleep", "5", cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        while client.poll() is None:
            for pid in children_of(keeper, b"__walk"):
                if pid not in servers:
                    os.kill(pid, signal.SIGSTOP)
                    return client, pid
        client.communicate()
    pytest.fail("no walk was caught")


def test_a_stopped_walk_does_not_hold_the_node(prefix):
    """The walk has its user's id, so its user can stop it: the node gives it up and goes on."""
    node = Node(prefix, None)
    try:
        node.run("node", "start")
        client, stopped = client_of_a_stopped_walk(node, node.pid())
        done = node.run("run", "--", "echo", "others go on", cwd=node.project({}))
        assert done.stdout == "others go on\n"
        _, error = client.communicate(timeout=120)
        assert client.returncode != 0 and "no progress" in error
        assert not os.path.exists(f"/proc/{stopped}")
    finally:
        node.close()


def test_a_submission_whose_folder_is_read_while_all_jobs_are_stopped_starts_none(prefix):
    """It would outlive the node that was asked to end them all."""
    node = Node(prefix, None)
    try:
        node.run("node", "start")
        client, stopped = client_of_a_stopped_walk(node, node.pid())
        # Ignores TERM, so that the stop takes its grace: time for the reading to end within it.
        slow = node.start("run", "--", "sh", "-c", "trap '' TERM; echo deaf; while :; do sleep 1; done",
                          cwd=node.project({}), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert slow.stdout.readline() == "deaf\n"
        stop = node.start("node", "stop", "--jobs", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        wait_for(lambda: "the node stops" in node.run("ps", "-a", "--json").stdout, what="the stop")
        os.kill(stopped, signal.SIGCONT)
        _, error = client.communicate(timeout=60)
        assert client.returncode != 0 and "the node is stopping" in error, error
        assert stop.wait(timeout=60) == 0
        slow.communicate(timeout=60)
        assert not node.all_processes()
    finally:
        node.close()


STOPPER = """
import glob, os, signal, sys
print("ready", flush=True)
while True:
    for children in glob.glob("/proc/" + sys.argv[1] + "/task/*/children"):
        try:
            pids = open(children).read().split()
        except OSError:
            continue
        for pid in pids:
            try:
                os.kill(int(pid), signal.SIGSTOP)
            except OSError:  # not his, or gone
                pass
"""


def test_who_stops_his_own_readers_is_served_last_and_others_at_once(prefix):
    """More stuck readings than the node has workers, all of one user: another user does not notice."""
    ensure_users()
    node = Node(prefix, None)
    stopper = None
    stuck = []
    try:
        node.run("node", "start")
        large = project_of(node, USER, {f"d{i}/{k}": "x" * 4096 for i in range(40) for k in range(100)})
        stopper = subprocess.Popen(user_command(USER, "/usr/bin/python3", "-c", STOPPER, node.pid()),
                                   stdout=subprocess.PIPE)
        stopper.stdout.readline()

        def run_one():
            return subprocess.Popen(user_command(USER, node.prefix / "bin/loam", "run", "--", "true"), cwd=large,
                                    env=node.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                    stderr=subprocess.PIPE)

        def two_are_stopped():
            """A reading may end before it is stopped: another takes its place."""
            stuck[:] = [run for run in stuck if run.poll() is None]
            stuck.extend(run_one() for _ in range(12 - len(stuck)))
            return len(children_of(node.pid(), state="T")) >= 2
        wait_for(two_are_stopped, what="two stopped readings")
        mine = project_of(node, OTHER, {"a": "x"})
        for _ in range(3):
            done = loam(node, OTHER, "run", "--", "echo", "served", cwd=mine, check=True)
            assert done.stdout == "served\n"
        assert [run.poll() for run in stuck].count(None) >= 10, "the stuck ones still wait"
        assert len(children_of(node.pid(), state="T")) == 2
    finally:
        for process in stuck + ([stopper] if stopper else []):
            process.kill()
            process.wait()
        for pid in children_of(node.pid(), state="T"):
            os.kill(pid, signal.SIGKILL)
        node.close()
