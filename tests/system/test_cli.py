"""The command line as its users meet it: exit codes, terminals, interrupts, machine-readable output, help."""
import json
import os
import pty
import select
import signal
import subprocess
import time

import pytest


def test_run_returns_the_commands_own_status(node):
    folder = node.project({})
    assert node.run("run", "--", "sh", "-c", "exit 37", cwd=folder, check=False).returncode == 37
    assert node.run("run", "--", "sh", "-c", "kill -TERM $$", cwd=folder, check=False).returncode == 128 + 15
    assert node.run("run", "--", "/no/such/program", cwd=folder, check=False).returncode in (126, 127)


def test_run_keeps_the_streams_apart_and_whole(node):
    done = node.run("run", "--", "sh", "-c", "echo out; echo err >&2; seq 1 20000", cwd=node.project({}))
    assert done.stdout == "out\n" + "".join(f"{i}\n" for i in range(1, 20001))
    assert "err\n" in done.stderr


def test_standard_input_passes_through(node):
    done = node.run("run", "-i", "--", "sh", "-c", "wc -c", cwd=node.project({}), input="x" * 300_000)
    assert done.stdout.strip() == "300000"
    assert node.run("run", "--", "cat", cwd=node.project({}), input="ignored").stdout == ""


def on_terminal(node, arguments, cwd, keys, until, seconds=30):
    """Runs `loam …` on a pseudo-terminal, types `keys`, reads until the end; (text, exit status)."""
    pid, master = pty.fork()
    if pid == 0:
        os.chdir(cwd)
        command = node.command(*arguments)
        os.execvpe(command[0], command, {**node.environment, "TERM": "xterm"})
    text, typed, deadline, status = b"", 0, time.monotonic() + seconds, None
    while time.monotonic() < deadline:
        ready, _, _ = select.select([master], [], [], 0.2)
        if ready:
            try:
                text += os.read(master, 65536)
            except OSError:
                break
        if typed < len(keys) and keys[typed][0] in text:
            action = keys[typed][1]
            typed += 1
            action(master) if callable(action) else os.write(master, action)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            break
        time.sleep(0.05)
    else:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        pytest.fail(f"still running: {text!r}")
    os.close(master)
    return text.decode(errors="replace"), os.waitstatus_to_exitcode(status)


def test_terminal_with_its_size_and_interrupts(node):
    import fcntl
    import struct
    import termios

    def resize(master):
        fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 111, 0, 0))
        time.sleep(0.5)
        os.write(master, b"stty size; echo resi''zed\n")

    def interrupt(master):
        time.sleep(0.5)  # a shell that has not yet started its command survives, and then waits for it
        os.write(master, b"\x03")

    text, status = on_terminal(node, ["run", "-it", "--", "sh"], node.project({}), [
        (b"$ ", b"tty; echo rea''dy\n"), (b"ready", resize), (b"resized", b"echo slee''ping; sleep 30\n"), (b"sleeping", interrupt),
        # Typed before the shell has its terminal back, a line is thrown away with the interrupt.
        (b"^C\r\n$ ", b"exit 5\n")], None)
    assert "/dev/pts/" in text and "33 111" in text and status == 5, text


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGHUP])
def test_a_terminal_ends_with_its_client(node, number):
    """Nobody could rejoin its shell, which would hold its share of the machine for ever."""
    mark = f"7{os.getpid()}{int(number)}"
    pid, master = pty.fork()
    if pid == 0:
        os.chdir(node.project({}))
        command = node.command("run", "-it", "--", "sh", "-c", f"echo rea''dy; sleep {mark}; exec sleep {mark}")
        os.execvpe(command[0], command, {**node.environment, "TERM": "xterm"})
    text = b""
    while b"ready" not in text:
        text += os.read(master, 65536)
    os.kill(pid, number)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == (-9 if number == signal.SIGKILL else 129)
    deadline = time.monotonic() + 30
    while node.json("node", "status")["jobs"]["running"] > 0:
        assert time.monotonic() < deadline, "the terminal's command goes on"
        time.sleep(0.05)
    os.close(master)
    assert subprocess.run(["pgrep", "-f", f"^sleep {mark}"], stdout=subprocess.PIPE).returncode != 0
    assert node.json("ps", "-a")["jobs"][0]["state"] == "cancelled"


def test_interrupt_cancels_a_run_and_leaves_nothing(node):
    folder = node.project({})
    running = node.start("run", "--", "sleep", "54321", cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 20
    while subprocess.run(["pgrep", "-f", "^sleep 54321"], stdout=subprocess.PIPE).returncode != 0:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    running.send_signal(signal.SIGINT)
    running.communicate(timeout=30)
    assert running.returncode == 130
    assert subprocess.run(["pgrep", "-f", "^sleep 54321"], stdout=subprocess.PIPE).returncode != 0


def test_hang_up_detaches(node):
    folder = node.project({"loam.yaml": "name: hup\nsteps:\n  a: {run: 'sleep 1; echo survived'}\n"})
    up = node.start("up", cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 20
    target = None
    while target is None and time.monotonic() < deadline:
        jobs = [job for job in node.json("ps")["jobs"] if job["project"] == "hup" and job["state"] == "running"]
        target = jobs[0]["target"] if jobs else None
    up.send_signal(signal.SIGHUP)
    up.communicate(timeout=20)
    assert node.run("logs", "-f", target).stdout == "survived\n"


def test_cancel(node):
    folder = node.project({"loam.yaml": "name: cancelme\nsteps:\n  a: {run: sleep 600}\n"})
    up = node.json("up", "--detach", cwd=folder)
    run = up["run"]
    node.run("cancel", run)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        state = [job["state"] for job in node.json("ps", "-a")["jobs"] if job["run"] == run]
        if state == ["cancelled"]:
            return
        time.sleep(0.1)
    pytest.fail(f"{state}")


@pytest.mark.parametrize("verb", ["ps", "models", "store", "doctor", "version", "node", "secret"])
def test_json_is_json(node, verb):
    arguments = {"models": ["models", "ls"], "store": ["store", "ls"], "node": ["node", "status"], "secret": ["secret", "ls"]}
    json.loads(node.run(*arguments.get(verb, [verb]), "--json").stdout)


def test_no_colour_and_no_control_bytes_without_a_terminal(node):
    for arguments in (["ps", "-a"], ["doctor"], ["store", "ls"], ["node", "status"]):
        assert "\x1b" not in node.run(*arguments).stdout


def test_a_wrong_file_is_exit_2_with_every_problem_in_order(node):
    folder = node.project({"loam.yaml": "name: wrong\ntrain:\n  run: true\n  resources: {memroy: 2GiB, cpus: many}\n"})
    for verb in (["check"], ["up"]):
        done = node.run(*verb, cwd=folder, check=False)
        assert done.returncode == 2
        lines = [line for line in done.stderr.splitlines() if line.startswith("loam.yaml:")]
        assert lines[0].startswith("loam.yaml:3:") and "train.resources.memroy: unknown key; did you mean 'memory'?" in done.stderr
        assert lines == sorted(lines, key=lambda line: [int(part) for part in line.split(":")[1:3]])


def test_check_names_a_model_that_nothing_provides(node):
    text = "name: nobody\nservices:\n  s: {model: nobodys, handler: serve.py:predict}\n"
    folder = node.project({"loam.yaml": text, "serve.py": "predict = None\n", "w": "1"})
    done = node.run("check", cwd=folder, check=False)
    assert done.returncode == 2 and "loam.yaml:3:" in done.stderr and "nobodys" in done.stderr
    node.run("models", "import", folder, "--name", "nobodys")
    assert node.run("check", cwd=folder).returncode == 0
    node.run("models", "rm", "nobodys@1")


def test_a_misspelt_handler_is_named_before_anything_runs(node):
    text = "name: misspelt\ntrain: {run: 'true', output: {path: model, model: m}}\nservices:\n  s: {model: m, handler: serve.py:predit}\n"
    folder = node.project({"loam.yaml": text, "serve.py": "def predict(batch):\n    return {}\n"})
    for verb in ("check", "up", "serve"):
        done = node.run(verb, cwd=folder, check=False)
        assert done.returncode == 2, done
        assert "loam.yaml:4:26: services.s.handler: 'serve.py' defines no 'predit' at its top level; did you mean 'predict'?" in done.stderr
    (folder / "serve.py").rename(folder / "server.py")
    for verb in ("check", "up"):
        done = node.run(verb, cwd=folder, check=False)
        assert done.returncode == 2, done
        assert "loam.yaml:4:26: services.s.handler: 'serve.py': no such file in the project; did you mean 'server.py'?" in done.stderr


def test_usage(node):
    assert node.run("upp", check=False).returncode == 2
    assert "loam run" in node.run("help", "run").stdout
    assert "complete" in node.run("completion", "bash").stdout
    assert node.run("version").stdout.startswith("loam ")
    missing = node.run("up", cwd=node.project({}), check=False)
    assert missing.returncode == 2 and "loam.yaml" in missing.stderr


def test_secrets_by_name_only(node):
    node.run("secret", "set", "CLI_SECRET", input="tell-nobody")
    listing = node.run("secret", "ls").stdout
    assert "CLI_SECRET" in listing and "tell-nobody" not in listing
    folder = node.project({"loam.yaml": "name: s2\nsecrets: [CLI_SECRET]\nsteps:\n  a: {run: 'test $CLI_SECRET = tell-nobody'}\n"})
    node.run("up", cwd=folder)
    node.run("secret", "rm", "CLI_SECRET")
    assert "CLI_SECRET" not in node.run("secret", "ls").stdout


def test_store_verify_and_gc(node):
    assert node.json("store", "verify")["damage"] == []
    report = node.json("store", "gc", "--dry-run")
    assert report["removed_trees"] >= 0
    node.run("store", "gc")
    assert node.json("store", "verify")["damage"] == []
