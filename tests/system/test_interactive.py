"""A shell in a live job: what it is, what it can and cannot do, and what ends it."""
import concurrent.futures
import http.client
import os
import pathlib
import signal
import socket
import subprocess
import time
import urllib.request

from nodes import USER, free_port, kill, node_processes, user_command, wait_for
from test_cli import on_terminal
from test_hostile import OTHER, project_of, shared  # noqa: F401 (shared: a fixture)

STATE = "cat /proc/self/status | grep -E '^(Uid|Gid|Groups|CapPrm|CapEff|CapBnd|NoNewPrivs|Seccomp|Seccomp_filters):'"


def live_job(node, command, *options):
    """A detached job that runs: its number."""
    run = node.run("run", "--detach", *options, "--", "sh", "-c", command, cwd=node.project({})).stdout.strip()
    wait_for(lambda: "running" in node.run("ps").stdout, what="the job's start")
    return run


def test_a_shell_is_a_process_of_the_running_job(node):
    """The same namespaces, ids, rights, filter and cgroup; the job's own files and environment; its command's status."""
    facts = "readlink /proc/self/ns/* ; cat /proc/self/cgroup; pwd; echo $MARK; ls -l /dev | wc -l; " + STATE
    run = live_job(node, f"touch /tmp/made-by-the-job; ({facts}) > facts; touch ready; exec sleep 600", "-e", "MARK=of-the-job",
                   "--network", "none")
    wait_for(lambda: node.run("shell", run, "--", "test", "-e", "ready", check=False).returncode == 0, what="the job's facts")
    theirs = node.run("shell", run, "--", "cat", "facts").stdout
    ours = node.run("shell", run, "--", "sh", "-c", facts).stdout
    assert ours == theirs and "of-the-job" in ours and "Uid:\t0\t" not in ours
    assert node.run("shell", run, "--", "ls", "/tmp/made-by-the-job").returncode == 0
    seen = node.run("shell", run, "--", "sh", "-c", "cat /proc/[0-9]*/comm").stdout
    assert "sleep" in seen and "loam-init" in seen
    assert node.run("shell", run, "--", "sh", "-c", "exit 37", check=False).returncode == 37
    assert node.run("shell", run, "--", "sh", "-c", "kill -TERM $$", check=False).returncode == 128 + 15
    missing = node.run("shell", run, "--", "no-such-program", check=False)
    assert missing.returncode == 127 and "no such program" in missing.stderr
    streams = node.run("shell", run, "--", "sh", "-c", "cat; echo err >&2", input="x" * 200_000)
    assert streams.stdout == "x" * 200_000 and streams.stderr == "err\n"
    assert "err" not in node.run("logs", run).stdout, "a shell's output is none of the job's"
    node.run("cancel", run)


def test_a_shell_holds_nothing_that_the_job_has_not(node):
    """No descriptor but its streams, and none of init's: a job may look into a shell as into itself."""
    run = live_job(node, "exec sleep 600")
    assert node.run("shell", run, "--", "sh", "-c", "ls /proc/$$/fd; true").stdout.split() == ["0", "1", "2"]
    refused = node.run("shell", run, "--", "sh", "-c", "ls /proc/1/fd; cat /proc/1/environ; readlink /proc/1/exe", check=False)
    assert refused.returncode != 0 and not refused.stdout.strip(), refused
    node.run("cancel", run)


def test_a_terminal_in_a_live_job(node):
    run = live_job(node, "exec sleep 600")
    text, status = on_terminal(node, ["shell", run, "--", "sh"], node.project({}), [
        (b"$ ", b"stty size; tty; sleep 60\n"), (b"/dev/pts/", lambda master: (time.sleep(0.5), os.write(master, b"\x03"))),
        (b"^C", b"echo in''terrupted; exit 5\n")], b"")
    assert status == 5 and "interrupted" in text, text
    assert "running" in node.run("ps").stdout, "the job went with its shell"
    node.run("cancel", run)


def test_several_shells_end_with_the_job(node):
    run = live_job(node, "exec sleep 600")
    shells = [node.start("shell", run, "--", "sh", "-c", "echo here; exec sleep 600", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
              for _ in range(3)]
    assert [shell.stdout.readline() for shell in shells] == ["here\n"] * 3
    shells[0].kill()  # its client: what it ran goes, the job and the others stay
    shells[0].communicate()
    count = "ls -d /proc/[0-9]* | while read p; do tr '\\0' ' ' < $p/cmdline; echo; done | grep -c '^sleep 600'"
    wait_for(lambda: node.run("shell", run, "--", "sh", "-c", count).stdout.strip() == "3", what="the end of the first shell's command")
    assert shells[1].poll() is None and shells[2].poll() is None
    node.run("cancel", run)
    for shell in shells[1:]:
        _, error = shell.communicate(timeout=60)
        # TERM reaches them too: whoever is reaped before the job's own process has ended by it.
        assert shell.returncode == 143 or (shell.returncode == 137 and "the job has ended" in error), error


def test_the_jobs_own_end_is_that_of_its_shells(node):
    run = live_job(node, "while [ ! -e /tmp/enough ]; do sleep 0.05; done; exit 3")
    shell = node.start("shell", run, "--", "sh", "-c", "trap '' TERM HUP; echo here; while :; do sleep 1; done",
                       stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert shell.stdout.readline() == "here\n"
    node.run("shell", run, "--", "touch", "/tmp/enough", check=False)
    _, error = shell.communicate(timeout=60)
    assert shell.returncode == 137 and "the job has ended" in error


def test_what_is_typed_before_the_job_runs_is_not_lost(node):
    """Whoever joins an attempt that is still being started waits for it; so do his input and its end."""
    for _ in range(5):
        run = node.run("run", "--detach", "--", "sleep", "600", cwd=node.project({})).stdout.strip()
        joined = []

        def join():
            joined.append(node.run("shell", run, "--", "cat", input="typed early\n", check=False))
            return "has not been started" not in joined[-1].stderr

        wait_for(join, what="an attempt to join")
        assert (joined[-1].stdout, joined[-1].returncode) == ("typed early\n", 0), joined[-1]
        node.run("cancel", run)


def test_a_shell_survives_the_nodes_death(fresh_node):
    node = fresh_node
    run = live_job(node, "exec sleep 600")
    shell = subprocess.Popen(node.command("shell", run, "--", "cat"), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                             text=True, cwd=node.folder, env=node.environment)
    shell.stdin.write("before\n")
    shell.stdin.flush()
    assert shell.stdout.readline() == "before\n"
    kill(node_processes(node))
    shell.stdin.write("after\n")
    shell.stdin.flush()
    assert shell.stdout.readline() == "after\n"
    node.run("node", "start")
    assert node.run("shell", run, "--", "echo", "joined again").stdout == "joined again\n"
    shell.stdin.close()
    assert shell.wait(timeout=60) == 0
    node.run("cancel", run)


def test_a_shell_over_an_ended_attempt_is_still_a_run_of_its_own(node):
    run = live_job(node, "echo kept > kept; echo made; exec sleep 600")
    wait_for(lambda: node.run("logs", run).stdout == "made\n", what="the job's file")
    node.run("cancel", run)
    wait_for(lambda: "running" not in node.run("ps").stdout, what="the job's end")
    assert node.run("shell", run, "--", "cat", "kept").stdout == "kept\n"


def test_nobody_joins_another_users_job(shared):  # noqa: F811
    folder = project_of(shared, USER, {})
    run = shared.run_as(USER, "run", "--detach", "--", "sleep", "600", cwd=folder).stdout.strip()
    wait_for(lambda: "running" in shared.run_as(USER, "ps").stdout, what="the job's start")
    refused = shared.run_as(OTHER, "shell", run, "--", "id", check=False)
    assert refused.returncode != 0 and not refused.stdout
    direct = subprocess.run(user_command(OTHER, "curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "-XPOST", "-H", "Connection: Upgrade",
                                         "-H", "Upgrade: loam-attach", "--unix-socket", shared.runtime / "node.sock",
                                         f"http://node/v1/join/{run}"), capture_output=True, text=True, timeout=60)
    assert direct.stdout in ("403", "404"), direct
    assert shared.run_as(USER, "shell", run, "--", "id", "-un").stdout == f"{USER}\n"
    as_root = shared.run("shell", run, "--", "id", "-u").stdout.strip()
    assert as_root != "0", "root joins with the job's ids, not with its own"
    shared.run_as(USER, "cancel", run)


def test_a_hostile_job_cannot_stop_its_own_end_by_its_shells(node):
    """Stopped, killed or too many: init goes on, and the job ends when it is told to."""
    run = live_job(node, "trap '' TERM; while :; do for p in /proc/[0-9]*; do p=${p#/proc/}; [ $p = 1 ] || [ $p = $$ ] || kill -STOP $p; "
                         "done 2>/dev/null; sleep 0.05; done")
    shells = [node.start("shell", run, "--", "sleep", "600", stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(40)]
    wait_for(lambda: sum(shell.poll() is not None for shell in shells) >= 8, what="the refusal of those over the limit")
    node.run("cancel", run)
    for shell in shells:
        shell.communicate(timeout=90)
        assert shell.returncode != 0
    assert not [pid for pid in node.job_processes() if b"sleep\x00600" in pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()]


# --- a job's ports ---------------------------------------------------------------------------------

SERVER = """import http.server, os, sys
class Server(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[::-1])
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Server).serve_forever()
"""


def serving_job(node, port, *options):
    folder = node.project({"server.py": SERVER, "file.txt": "from within the job"})
    return node.run("run", "--detach", *options, "--", "python3", "server.py", port, cwd=folder).stdout.strip()


def forwarding(node, *arguments):
    """A client that forwards, and the ports on which it listens."""
    client = node.start("forward", *arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    lines = [client.stdout.readline() for _ in arguments[1:]]
    return client, [int(line.split()[0].rpartition(":")[2]) for line in lines]


def fetched(port, body=None, path="/file.txt"):
    """The answer's bytes, None where there is none."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", data=body, timeout=30) as answer:
            return answer.read()
    except OSError:
        return None


def test_a_port_of_a_job_without_a_network_is_reached_by_forward_alone(fresh_node):
    node = fresh_node
    run = serving_job(node, 6006, "--network", "none")
    client, (port,) = forwarding(node, run, f"{free_port()}:6006")
    try:
        wait_for(lambda: fetched(port) == b"from within the job", what="the job's server")
        # Both directions, more than any buffer on the way, several at once.
        bodies = [bytes([i]) * 3_000_000 + b"end" for i in range(6)]
        with concurrent.futures.ThreadPoolExecutor(6) as pool:
            assert list(pool.map(lambda body: fetched(port, body), bodies)) == [body[::-1] for body in bodies]
        # Another job's port is not this one's.
        other = live_job(node, "exec sleep 600", "--network", "none")
        second, (closed,) = forwarding(node, other, f"{free_port()}:6006")
        assert fetched(closed) is None
        second.send_signal(signal.SIGINT)
        assert second.wait(timeout=60) == 0
        assert "port 6006 of the job: Connection refused" in second.communicate()[1]
        # The node's end changes nothing for who is connected.
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        for _ in range(2):
            connection.request("GET", "/file.txt")
            assert connection.getresponse().read() == b"from within the job"
            kill(node_processes(node))
        connection.close()
        node.run("cancel", run, other)
        assert client.wait(timeout=60) == 0 and f"{run} has ended" in client.communicate()[1]
    finally:
        client.kill()
        client.communicate()


def test_run_forwards_its_port_as_long_as_it_runs(node):
    local = free_port()
    folder = node.project({"server.py": SERVER, "file.txt": "from within the job"})
    client = node.start("run", "--network", "none", "--port", f"{local}:7007", "--", "python3", "server.py", "7007", cwd=folder,
                        stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    wait_for(lambda: fetched(local) == b"from within the job", what="the command's server")
    client.send_signal(signal.SIGINT)
    assert client.wait(timeout=60) == 130
    out, said = client.communicate()
    assert out == "", out  # the command's, which says all on standard error
    assert f"127.0.0.1:{local} is port 7007 of" in said
    assert fetched(local) is None


def test_with_the_machines_network_a_port_is_the_machines_own(node):
    taken = socket.create_server(("127.0.0.1", 0))
    port = taken.getsockname()[1]
    done = node.run("run", "--port", port, "--", "true", check=False)
    assert done.returncode != 0 and f"127.0.0.1:{port}" in done.stderr and "--network none" in done.stderr
    taken.close()
    done = node.run("run", "--port", port, "--", "python3", "-c", f"import socket; socket.create_server(('127.0.0.1', {port}))",
                    cwd=node.project({}))
    assert f"port {port} of the command is 127.0.0.1:{port}" in done.stderr


def test_forward_says_what_it_cannot(node):
    ended = node.run("run", "--detach", "--", "true", cwd=node.project({})).stdout.strip()
    wait_for(lambda: node.run("forward", ended, "6006", check=False).returncode == 1, what="the job's end")
    assert "has ended" in node.run("forward", ended, "6006", check=False).stderr
    for wrong in ("0", "65536", "x", "1:", ":1", "1:2:3"):
        done = node.run("forward", ended, wrong, check=False)
        assert done.returncode == 2 and "such as 6006" in done.stderr, (wrong, done)
    assert node.run("forward", "999999", "6006", check=False).returncode == 1


def test_another_users_job_is_not_forwarded(shared):  # noqa: F811
    run = serving_job(shared, 6006, "--network", "none")
    wait_for(lambda: "running" in shared.run("ps").stdout, what="the job's start")
    done = shared.run_as(OTHER, "forward", run, "6006", check=False)
    assert done.returncode != 0, done
    shared.run("cancel", run)
