"""Real nodes for the system tests: one as root, one as an ordinary user, each with folders of its own.

The programs are installed into a temporary prefix that every user can read; nothing of a test's node stays:
processes, mounts, cgroups and folders are checked and gone at the end.
"""
import hashlib
import hashlib
import json
import os
import pathlib
import pwd
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


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


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
        if self.user:
            entry = pwd.getpwnam(self.user)
            for folder, _, files in os.walk(path):
                os.chown(folder, entry.pw_uid, entry.pw_gid)
                for name in files:
                    os.chown(os.path.join(folder, name), entry.pw_uid, entry.pw_gid, follow_symlinks=False)

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
        if self.user:
            command = ["setpriv", f"--reuid={self.user}", f"--regid={self.user}", "--init-groups", *command]
        return command

    def run(self, *arguments, cwd=None, check=True, input=None, environment=None, timeout=600):
        """Runs `loam …`; stdin is /dev/null unless given."""
        done = subprocess.run(self.command(*arguments), cwd=cwd or self.folder, text=True, input=input,
                              stdin=None if input is not None else subprocess.DEVNULL, capture_output=True,
                              env={**self.environment, **(environment or {})}, timeout=timeout)
        if check and done.returncode != 0:
            pytest.fail(f"loam {' '.join(map(str, arguments))}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
                        f"\n--- node.log\n{self.log()[-3000:]}")
        return done

    def start(self, *arguments, cwd=None, environment=None, **options):
        def interruptible():  # a shell's background job starts with SIGINT ignored
            for number in (signal.SIGINT, signal.SIGHUP):
                signal.signal(number, signal.SIG_DFL)
        options.setdefault("preexec_fn", interruptible)
        return subprocess.Popen(self.command(*arguments), cwd=cwd or self.folder, text=True, stdin=subprocess.DEVNULL,
                                env={**self.environment, **(environment or {})}, **options)

    def json(self, *arguments, **options):
        return json.loads(self.run(*arguments, "--json", **options).stdout)

    def log(self):
        path = self.state / "node.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def pid(self):
        return self.json("node", "status")["pid"] if not self.rootless else None

    def processes(self):
        """Ids of all processes that carry this node's state folder in their environment or command line."""
        found = []
        for entry in os.listdir("/proc"):
            if not entry.isdigit() or int(entry) == os.getpid():
                continue
            try:
                text = pathlib.Path(f"/proc/{entry}/environ").read_bytes()
                text += pathlib.Path(f"/proc/{entry}/cmdline").read_bytes()
            except OSError:
                continue
            if str(self.folder).encode() in text:
                found.append(int(entry))
        return found

    def kill_all(self, pattern=None, number=9):
        for pid in self.processes():
            try:
                command = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()
                if pattern is None or pattern in command:
                    os.kill(pid, number)
            except OSError:
                pass

    def mounts(self):
        return [line for line in pathlib.Path("/proc/self/mountinfo").read_text().splitlines()
                if str(self.folder) in line]

    def cgroups(self):
        """The parents of this node's groups, as its state folder names them (root nodes)."""
        name = "loam-" + hashlib.sha256(str(self.state).encode()).hexdigest()[:12]
        return sorted(pathlib.Path("/sys/fs/cgroup").glob(f"**/{name}")) if not self.rootless else []

    def close(self):
        self.run("node", "stop", "--jobs", check=False)
        deadline = time.monotonic() + 20
        while self.processes() and time.monotonic() < deadline:
            time.sleep(0.05)
        left = self.processes()
        self.kill_all()
        mounts, cgroups = self.mounts(), self.cgroups()
        shutil.rmtree(self.folder, ignore_errors=True)
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
