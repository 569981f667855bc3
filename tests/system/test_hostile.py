"""Another user of the machine, a hostile job, a hostile project: what a system node does not let them do."""
import json
import os
import pathlib
import pwd
import subprocess

import pytest

from nodes import USER, Node, ensure_user

OTHER = "loamtest2"


@pytest.fixture(scope="module")
def shared(prefix):
    """A system node that ordinary users work with."""
    ensure_user()
    try:
        pwd.getpwnam(OTHER)
    except KeyError:
        subprocess.run(["useradd", "--create-home", OTHER], check=True)
    node = Node(prefix, None)
    node.run("node", "start")
    yield node
    node.close()


def as_user(node, user, *command, cwd=None, check=False):
    """Runs a program as an ordinary user against the system node."""
    done = subprocess.run(["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups", *map(str, command)],
                          cwd=cwd or node.folder, env={**node.environment, "HOME": pwd.getpwnam(user).pw_dir},
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120)
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


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
        done = as_user(shared, USER, "curl", "-sS", "--unix-socket", socket, "-d", json.dumps(body),
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


def test_a_stopped_walk_does_not_hold_the_node(prefix):
    """The walk has its user's id, so its user can stop it: the node gives it up and goes on."""
    import os
    import signal
    import subprocess
    import time
    node = Node(prefix, None)
    try:
        node.run("node", "start")
        folder = node.project({f"d{i}/{k}": "x" * 4096 for i in range(40) for k in range(100)})
        for _ in range(20):
            up = node.start("run", "-i", "--", "true", cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            stopped = None
            while stopped is None and up.poll() is None:
                for pid in filter(str.isdigit, os.listdir("/proc")):
                    try:
                        if b"__walk" in open(f"/proc/{pid}/cmdline", "rb").read():
                            os.kill(int(pid), signal.SIGSTOP)
                            stopped = int(pid)
                    except OSError:
                        pass
            if stopped is not None:
                break
            up.communicate()
        assert stopped is not None, "no walk was caught"
        done = node.run("run", "--", "echo", "others go on", cwd=node.project({}))
        assert done.stdout == "others go on\n"
        _, error = up.communicate(timeout=120)
        assert up.returncode != 0 and "no progress" in error
        assert not os.path.exists(f"/proc/{stopped}")
    finally:
        node.close()
