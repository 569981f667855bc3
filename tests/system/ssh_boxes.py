"""Boxes over ssh for tests: a real sshd on loopback with keys of its own, which leads each key to a node of its own."""
import os
import pathlib
import shutil
import subprocess
import tempfile

from nodes import free_port, kill, make_node, wait_for


# A network that takes so many bytes of the client's, and then no more.
STALLING = """import os, socket, sys, threading
box = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
def answers():
    while data := box.recv(65536):
        os.write(1, data)
    os._exit(0)
threading.Thread(target=answers).start()
left = int(sys.argv[2])
while left > 0 and (data := os.read(0, min(left, 65536))):
    box.sendall(data)
    left -= len(data)
"""


class SshBoxes:
    """Host aliases (`one`, `two`, …), each with a node of its own, and a client's folder and environment."""

    def __init__(self, prefix, names, kind="root"):
        self.prefix = prefix
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="loam-ssh-"))
        self.folder.chmod(0o755)
        self.port = free_port()
        self.nodes = {name: make_node(prefix, kind) for name in names}
        self.write_keys()
        self.write_client()
        self.server = None
        self.start_server()

    def write_keys(self):
        for name in ["host", *self.nodes]:
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.folder / name], check=True)
        self.write_authorized_keys()

    def write_authorized_keys(self, **environments):
        """What each key's sessions have in their environment: the box that it leads to."""
        lines = []
        for name, node in self.nodes.items():
            environment = {**node.environment, "XDG_CACHE_HOME": str(node.folder / "cache"), **environments.get(name, {})}
            options = ",".join(f'environment="{key}={value}"' for key, value in environment.items())
            lines.append(f"{options} {(self.folder / f'{name}.pub').read_text()}")
        (self.folder / "authorized_keys").write_text("".join(lines))

    def write_client(self):
        self.client = self.folder / "client"
        for name in ("bin", "run"):
            (self.client / name).mkdir(parents=True)
        hosts = "".join(f"Host {name}\n  HostName 127.0.0.1\n  Port {self.port}\n  User {node.user or 'root'}\n"
                        f"  IdentityFile {self.folder}/{name}\n" for name, node in self.nodes.items())
        (self.client / "stalling.py").write_text(STALLING)
        (self.client / "ssh_config").write_text(
            f"{hosts}Host stalls\n  User root\n  IdentityFile {self.folder}/{next(iter(self.nodes))}\n"
            f"  ProxyCommand python3 {self.client}/stalling.py {self.port} 3000000\n"
            f"Host gone\n  HostName 127.0.0.1\n  Port {free_port()}\n"
            f"Host *\n  IdentitiesOnly yes\n  StrictHostKeyChecking no\n  UserKnownHostsFile {self.client}/known_hosts\n")
        # ssh looks for its configuration where the user database says that home is: a test's own is named.
        ssh = self.client / "bin/ssh"
        ssh.write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F {self.client}/ssh_config "$@"\n')
        ssh.chmod(0o755)
        self.environment = {"PATH": f"{self.client}/bin:{self.prefix}/bin:/usr/bin:/bin", "HOME": str(self.client), "LANG": "C.UTF-8",
                            "XDG_CONFIG_HOME": str(self.client / "config"), "LOAM_RUNTIME_DIR": str(self.client / "no-node-here"),
                            "XDG_RUNTIME_DIR": str(self.client / "run")}

    def configure(self, text):
        path = self.client / "config/loam/boxes.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def start_server(self):
        os.makedirs("/run/sshd", exist_ok=True)
        (self.folder / "sshd_config").write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {self.folder}/host\nPidFile none\nUsePAM yes\n"
            f"AuthorizedKeysFile {self.folder}/authorized_keys\nStrictModes no\nPermitUserEnvironment yes\n"
            "PermitRootLogin prohibit-password\nPasswordAuthentication no\n")
        self.server = subprocess.Popen([shutil.which("sshd", path="/usr/sbin:/usr/bin"), "-D", "-e", "-f", self.folder / "sshd_config"],
                                       stderr=open(self.folder / "sshd.log", "a"), stdin=subprocess.DEVNULL)
        wait_for(lambda: "listening" in (self.folder / "sshd.log").read_text(), what="sshd")

    def sessions(self):
        """Processes of sshd that serve a client."""
        found, todo = [], [self.server.pid]
        while todo:
            for task in pathlib.Path(f"/proc/{todo.pop()}/task").glob("*/children"):
                for child in task.read_text().split():
                    if b"sshd" in pathlib.Path(f"/proc/{child}/cmdline").read_bytes():
                        found.append(int(child))
                        todo.append(int(child))
        return found

    def cut(self):
        """Every connection ends, as if the network had gone; new ones are taken."""
        kill(self.sessions())

    def relays(self):
        """Folders of clients' ends of a session."""
        return list((self.client / "run").iterdir())

    def project(self, files, name="digits"):
        folder = self.client / "work" / name
        for path, content in files.items():
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content if isinstance(content, bytes) else content.encode())
        return folder

    def pushed(self, box, name="digits"):
        """The project's folder on a box."""
        found = list((self.nodes[box].folder / "cache/loam/projects").glob(f"*/{name}"))
        return found[0] if found else None

    def command(self, *arguments):
        return [str(self.prefix / "bin/loam"), *map(str, arguments)]

    def run(self, *arguments, cwd=None, check=True, input=None, environment=None):
        done = subprocess.run(self.command(*arguments), cwd=cwd or self.client, text=True, capture_output=True, input=input,
                              stdin=subprocess.DEVNULL if input is None else None, env={**self.environment, **(environment or {})},
                              timeout=300)
        assert not check or done.returncode == 0, (done.returncode, done.stdout, done.stderr, (self.folder / "sshd.log").read_text()[-2000:])
        return done

    def start(self, *arguments, cwd=None, **options):
        return subprocess.Popen(self.command(*arguments), cwd=cwd or self.client, text=True, stdin=subprocess.DEVNULL,
                                env=self.environment, **options)

    def close(self):
        sessions = self.sessions()
        self.server.kill()
        self.server.wait()
        kill(sessions)
        try:
            for node in self.nodes.values():
                node.close()
        finally:
            shutil.rmtree(self.folder)
