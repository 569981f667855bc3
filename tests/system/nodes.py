"""Real nodes for the system tests: one as root, one as an ordinary user, each with folders of its own.

The programs are installed into a temporary prefix that every user can read; nothing of a test's node stays:
processes, mounts, cgroups and folders are checked and gone at the end.
"""
import glob
import hashlib
import json
import os
import pathlib
import pwd
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time

import pytest

SOURCE = pathlib.Path(__file__).resolve().parents[2]
BIN = pathlib.Path(os.environ.get("LOAM_BIN", SOURCE / "build/release/bin"))
USER = "loamtest"
SINGLE_ID_USER = "loamnoids"
# What programs that were built with sanitizers say of themselves; it fails the test, whatever else went well.
SANITIZER_REPORT = re.compile(r"(ERROR|WARNING): \w+Sanitizer|: runtime error: ")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def holds_files(pid):
    """Whether a process that was killed may still have its sockets and locks: until it, with all its threads, is a zombie."""
    try:
        state = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        return state not in "ZX" or len(os.listdir(f"/proc/{pid}/task")) > 1
    except OSError:
        return False


def ensure_user():
    """An ordinary user with subordinate ids, as adduser makes them."""
    try:
        pwd.getpwnam(USER)
    except KeyError:
        subprocess.run(["useradd", "--create-home", USER], check=True)
    for table in ("/etc/subuid", "/etc/subgid"):
        lines = pathlib.Path(table).read_text().splitlines() if os.path.exists(table) else []
        if not any(line.startswith(USER + ":") for line in lines):
            first = max([int(line.split(":")[1]) + int(line.split(":")[2]) for line in lines] + [100000])
            with open(table, "a") as out:
                out.write(f"{USER}:{first}:65536\n")


def memory_files(pids):
    """(device, inode) of each memfd that these processes hold."""
    found = set()
    for pid in pids:
        for descriptor in glob.glob(f"/proc/{pid}/fd/*"):
            try:
                if os.readlink(descriptor).startswith("/memfd:"):
                    status = os.stat(descriptor)
                    found.add((status.st_dev, status.st_ino))
            except OSError:
                pass
    return found


def holders(files):
    """Ids of all processes of the machine that have one of these memfds open or mapped."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        mapped = set()
        try:
            for line in pathlib.Path(f"/proc/{pid}/maps").read_text().splitlines():
                fields = line.split(maxsplit=5)
                if len(fields) == 6 and fields[5].startswith("/memfd:"):
                    major, minor = (int(part, 16) for part in fields[3].split(":"))
                    mapped.add((os.makedev(major, minor), int(fields[4])))
        except OSError:
            pass
        if files & (mapped | memory_files([pid])):
            found.append(int(pid))
    return found


def command_line(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def node_processes(node):
    return [pid for pid in node.processes() if b"node\0run" in command_line(pid)]


def shims(node):
    return [pid for pid in node.processes() if b"loam-shim" in command_line(pid)]


def kill(pids):
    """And waits until they are gone: a client that comes sooner may still reach a dying node, and hears of its death."""
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    deadline = time.monotonic() + 20
    while any(map(holds_files, pids)) and time.monotonic() < deadline:
        time.sleep(0.01)


def wait_for(condition, seconds=60, what="the condition"):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        result = condition()
        if result:
            return result
        time.sleep(0.05)
    pytest.fail(f"{what() if callable(what) else what} did not come within {seconds} s")


def user_command(user, *command):
    """The command line that runs this one as an ordinary user."""
    return ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups", *map(str, command)]


class Node:
    """One node of its own: state and socket in a temporary folder, as root or as an ordinary user."""

    def __init__(self, prefix, user):
        self.prefix = prefix
        self.user = user  # None: root
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="loam-node-"))
        self.state = self.folder / "state"
        self.runtime = self.folder / "run"
        self.own(self.folder)
        self.folder.chmod(0o755)
        self.environment = {
            "PATH": f"{prefix}/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "LOAM_STATE_DIR": str(self.state), "LOAM_RUNTIME_DIR": str(self.runtime),
            "HOME": pwd.getpwnam(user).pw_dir if user else "/root", "LANG": "C.UTF-8",
        }
        for name, value in os.environ.items():  # the host's own way to its package registries
            if name.lower().endswith("_proxy") or name.startswith("PIP_") or name == "SSL_CERT_FILE":
                self.environment[name] = value

    @property
    def rootless(self):
        return self.user is not None

    def own(self, path):
        """Gives a file, or a folder that nothing else changes meanwhile, to the node's user."""
        if not self.user:
            return
        entry = pwd.getpwnam(self.user)
        os.chown(path, entry.pw_uid, entry.pw_gid)
        for folder, folders, files in os.walk(path):
            for name in folders + files:
                os.chown(os.path.join(folder, name), entry.pw_uid, entry.pw_gid, follow_symlinks=False)

    def configure(self, text):
        """Writes the node's configuration, which its next start or reload reads; returns the file."""
        path = self.folder / "node.yaml"
        path.write_text(text)
        self.own(path)
        self.environment["LOAM_NODE_CONFIG"] = str(path)
        return path

    def project(self, files, name="project"):
        """A project folder with these files (path → text or bytes), owned by the node's user."""
        folder = pathlib.Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self.folder))
        folder.chmod(0o755)
        for path, content in files.items():
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content if isinstance(content, bytes) else content.encode())
        self.own(folder)
        return folder

    def command(self, *arguments):
        command = [str(self.prefix / "bin/loam"), *map(str, arguments)]
        return user_command(self.user, *command) if self.user else command

    def run_as(self, user, *arguments, cwd=None, check=True, program=None):
        """`loam …`, or another program, as an ordinary user of this system node."""
        command = user_command(user, program or self.prefix / "bin/loam", *arguments)
        done = subprocess.run(command, cwd=cwd or self.folder, env={**self.environment, "HOME": pwd.getpwnam(user).pw_dir},
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120)
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done

    def run(self, *arguments, cwd=None, check=True, input=None, environment=None, timeout=600):
        """Runs `loam …`; stdin is /dev/null unless given."""
        done = subprocess.run(self.command(*arguments), cwd=cwd or self.folder, text=True, input=input,
                              stdin=None if input is not None else subprocess.DEVNULL, capture_output=True,
                              env={**self.environment, **(environment or {})}, timeout=timeout)
        assert not SANITIZER_REPORT.search(done.stderr), done.stderr
        if check and done.returncode != 0:
            pytest.fail(f"loam {' '.join(map(str, arguments))}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
                        f"\n--- node.log\n{self.log()[-3000:]}")
        return done

    def start(self, *arguments, cwd=None, environment=None, **options):
        return subprocess.Popen(self.command(*arguments), cwd=cwd or self.folder, text=True, stdin=subprocess.DEVNULL,
                                env={**self.environment, **(environment or {})}, **options)

    def json(self, *arguments, **options):
        return json.loads(self.run(*arguments, "--json", **options).stdout)

    def log(self):
        path = self.state / "node.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def sanitizer_reports(self):
        """Logs of the node, of its shims and of the attempts (the gateway among them) that hold a report."""
        logs = [self.state / "node.log", *(self.state / "attempts").rglob("*.log")]
        texts = {path: path.read_text(errors="replace") for path in logs if path.is_file()}
        return [f"{path}:\n{text[-10000:]}" for path, text in texts.items() if SANITIZER_REPORT.search(text)]

    def pid(self):
        return self.json("node", "status")["pid"] if not self.rootless else None

    def processes(self, files=("environ", "cmdline")):
        """Ids of all processes that carry this node's folder in their environment or command line: Loam's own."""
        found = []
        for entry in os.listdir("/proc"):
            if not entry.isdigit() or int(entry) == os.getpid():
                continue
            try:
                text = b"".join(pathlib.Path(f"/proc/{entry}/{name}").read_bytes() for name in files)
            except OSError:
                continue
            if self.folder.name.encode() in text:  # where /tmp is a file system of its own, mounts lack that part of the path
                found.append(int(entry))
        return found

    def all_processes(self):
        """With those of its jobs: their environment tells nothing, their mounts do."""
        return self.processes(("environ", "cmdline", "mountinfo"))

    def job_processes(self):
        own = self.processes()
        return [pid for pid in self.all_processes() if pid not in own]

    def kill_all(self, word=b""):
        """As if all (with `word` in their command line) died at once: stopped before the first is killed, so that no
        shim records its job's end by our hand."""
        victims = [pid for pid in self.processes() if word in command_line(pid)]
        for pid in victims:
            try:
                os.kill(pid, signal.SIGSTOP)
            except OSError:
                pass
        kill(victims)

    def mounts(self):
        return [line for line in pathlib.Path("/proc/self/mountinfo").read_text().splitlines()
                if str(self.folder) in line]

    def cgroups(self):
        """The parents of this node's groups, as its state folder names them (root nodes)."""
        name = "loam-" + hashlib.sha256(str(self.state).encode()).hexdigest()[:12]
        if self.rootless:
            return []
        # os.walk, for other nodes' groups vanish meanwhile.
        return sorted(pathlib.Path(folder, name) for folder, names, _ in os.walk("/sys/fs/cgroup") if name in names)

    def close(self):
        self.run("node", "stop", "--jobs", check=False)
        deadline = time.monotonic() + 20
        while self.all_processes() and time.monotonic() < deadline:
            time.sleep(0.05)
        left = self.all_processes()
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        mounts, cgroups, reports = self.mounts(), self.cgroups(), self.sanitizer_reports()
        shutil.rmtree(self.folder, ignore_errors=True)
        assert not reports, "\n".join(reports)
        assert not left, f"processes left after the node's end: {left}"
        assert not cgroups, f"cgroups left after the node's end: {cgroups}"
        assert not mounts, f"mounts left after the node's end: {mounts}"


def ensure_single_id_user():
    """An ordinary user without subordinate ids, as some directories of users make them."""
    try:
        pwd.getpwnam(SINGLE_ID_USER)
    except KeyError:
        subprocess.run(["useradd", "--create-home", SINGLE_ID_USER], check=True)
    for table in (pathlib.Path("/etc/subuid"), pathlib.Path("/etc/subgid")):
        if table.exists():
            lines = table.read_text().splitlines(keepends=True)
            table.write_text("".join(line for line in lines if not line.startswith(SINGLE_ID_USER + ":")))


def make_node(prefix, kind):
    if kind == "single_id":
        ensure_single_id_user()
        return Node(prefix, SINGLE_ID_USER)
    if kind == "rootless":
        ensure_user()
    return Node(prefix, USER if kind == "rootless" else None)
