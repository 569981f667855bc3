"""Other boxes over ssh (docs/boxes.md): a real sshd, two nodes behind it, and clients that come and go."""
import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time

import pytest

from nodes import SOURCE, free_port, wait_for
from ssh_boxes import SshBoxes

TRAIN = """name: digits
env: {base: host}
data: {points: "data/*.csv"}
train:
  run: sh train.sh
  resources: {cpus: 0.1, memory: 64MiB}
"""
FILES = {"loam.yaml": TRAIN, "train.sh": "cat data/points.csv; cat note.txt; echo made >result.txt\n", "note.txt": "first\n",
         "data/points.csv": "1,2\n", "data/other.txt": "no data\n", ".gitignore": "/data/\n/private.txt\n", "private.txt": "stays here\n"}


@pytest.fixture(scope="module")
def boxes(prefix):
    shared = SshBoxes(prefix, ["one", "two"])
    yield shared
    shared.close()


def run_number(text):
    return int(re.search(r"\"run\": (\d+)", text)[1])


def test_up_on_a_box_pushes_runs_and_brings_back(boxes):
    folder = boxes.project(FILES)
    done = boxes.run("up", "--on", "ssh:one", cwd=folder)
    assert "1,2\nfirst\n" in done.stdout and "train: done" in done.stdout
    assert "pushed 5 of 5 files to ssh:one" in done.stderr and "loam.lock is what ssh:one has made" in done.stderr
    pushed = boxes.pushed("one")
    assert (pushed / "data/points.csv").read_text() == "1,2\n"
    assert (folder / "loam.lock").read_bytes() == (pushed / "loam.lock").read_bytes()
    assert not (pushed / "private.txt").exists() and not (pushed / "data/other.txt").exists()
    # Nothing changed: nothing is sent, and nothing runs.
    again = boxes.run("up", "--on", "ssh:one", cwd=folder)
    assert "pushed" not in again.stderr and "train: unchanged" in again.stdout
    # What changed is sent alone; what is gone here goes there.
    (folder / "note.txt").write_text("second\n")
    (folder / "train.sh").write_text("cat note.txt; ls; echo made >result.txt\n")
    (folder / "link").symlink_to("note.txt")
    os.remove(folder / ".gitignore")
    os.remove(folder / "private.txt")
    os.remove(folder / "data/other.txt")
    third = boxes.run("up", "--on", "ssh:one", cwd=folder)
    assert "pushed 2 of 5 files" in third.stderr and "second" in third.stdout
    assert os.readlink(pushed / "link") == "note.txt" and not (pushed / ".gitignore").exists()
    # Results come back to the client.
    jobs = json.loads(boxes.run("ps", "-a", "--json", "--on", "ssh:one").stdout)["jobs"]
    target = next(job["target"] for job in jobs if job["state"] == "succeeded")
    boxes.run("files", target, "result.txt", "-o", folder / "here.txt", "--on", "ssh:one")
    assert (folder / "here.txt").read_text() == "made\n"
    assert "second" in boxes.run("logs", target, "--on", "ssh:one").stdout
    assert not boxes.relays()


def test_a_lock_made_on_a_box_comes_back(boxes):
    folder = boxes.project({"loam.yaml": "name: locked\nenv: {base: host}\ntrain: {run: 'true'}\n"}, "locked")
    boxes.run("up", "--on", "ssh:one", cwd=folder)
    pushed = boxes.pushed("one", "locked")
    boxes.run("plan", "--on", "ssh:one", cwd=folder)
    # As a node writes it there, once environments are resolved.
    (pushed / "loam.lock").write_text("made on the box\n")
    done = boxes.run("plan", "--on", "ssh:one", cwd=folder, check=False)
    assert (folder / "loam.lock").read_text() == "made on the box\n", done.stderr
    # One that was changed here since the last push is the one that counts.
    (folder / "loam.lock").write_text("changed here\n")
    (pushed / "loam.lock").write_text("changed there too\n")
    boxes.run("plan", "--on", "ssh:one", cwd=folder, check=False)
    assert (folder / "loam.lock").read_text() == (pushed / "loam.lock").read_text() == "changed here\n"


def test_the_client_may_go_away(boxes):
    folder = boxes.project({"loam.yaml": TRAIN.replace('data: {points: "data/*.csv"}\n', ""),
                            "train.sh": "echo begun; while [ ! -e /tmp/never ]; do sleep 0.1; n=$((n+1)); [ $n -gt 60 ] && break; done; echo ended\n"},
                           "long")
    client = boxes.start("up", "--on", "ssh:one", cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    said = ""
    while "begun" not in said:
        line = client.stdout.readline()
        assert line, said
        said += line
    client.kill()
    client.wait()
    number = json.loads(boxes.run("ps", "--json", "--on", "ssh:one").stdout)["jobs"][0]["run"]
    # Follows the rest; the connection is lost meanwhile, and nothing is lost or said twice.
    follower = boxes.start("logs", "-f", str(number), "--on", "ssh:one", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert follower.stdout.readline() == "begun\n"
    boxes.cut()
    rest, errors = follower.communicate(timeout=120)
    assert (follower.returncode, rest) == (0, "ended\n"), errors
    assert "lost the node" in errors
    wait_for(lambda: not boxes.relays(), what="the relays' end")


def test_an_interrupt_cancels_on_the_box(boxes):
    folder = boxes.project({"loam.yaml": TRAIN.replace('data: {points: "data/*.csv"}\n', ""), "train.sh": "echo begun; sleep 300\n"}, "cut")
    client = boxes.start("up", "--on", "ssh:one", cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    wait_for(lambda: client.stdout.readline() == "begun\n", what="its output")
    client.send_signal(signal.SIGINT)
    out, errors = client.communicate(timeout=120)
    assert client.returncode == 130 and "cancelling run" in errors, out + errors


def test_verbs_of_a_box(boxes):
    on = ("--on", "ssh:two")
    assert boxes.run("run", *on, "--", "sh", "-c", "echo out; echo err >&2; exit 7", check=False).returncode == 7
    folder = boxes.project({"in.txt": "x"}, "bare")
    assert boxes.run("run", "-i", *on, "--", "cat", "in.txt", "-", cwd=folder, input="typed").stdout == "xtyped"
    boxes.run("secret", "set", "HF_TOKEN", *on, input="hidden\n")
    assert boxes.run("secret", "ls", *on).stdout == "HF_TOKEN\n"
    assert json.loads(boxes.run("node", "status", "--json", *on).stdout)["socket"] == f"{boxes.nodes['two'].runtime}/node.sock"
    model = boxes.project({"weights.bin": b"\0" * 300_000}, "resnet")
    assert boxes.run("models", "import", model, *on).stdout == "imported resnet@1\n"
    assert "weights.bin" in boxes.run("models", "show", "resnet@1", *on).stdout
    assert boxes.pushed("two", "resnet") is None  # the store has it
    assert "resnet" in boxes.run("trace", "resnet@1", *on).stdout


def test_much_output_and_a_slow_reader(boxes):
    """Over a window of one channel, while another is not read at all."""
    command = boxes.command("run", "--on", "ssh:two", "--", "sh", "-c", "head -c 3000000 /dev/zero | tr '\\0' x")
    slow = subprocess.Popen(command, env=boxes.environment, cwd=boxes.client, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
    time.sleep(0.5)
    assert boxes.run("run", "--on", "ssh:two", "--", "echo", "quick").stdout == "quick\n"
    assert slow.communicate(timeout=120)[0] == b"x" * 3_000_000


def test_a_terminal_on_a_box(boxes):
    main, side = pty.openpty()
    client = subprocess.Popen(boxes.command("run", "-it", "--on", "ssh:two", "--", "sh"), cwd=boxes.client, stdin=side, stdout=side,
                              stderr=side, env={**boxes.environment, "TERM": "dumb"}, start_new_session=True)
    os.close(side)
    fcntl.ioctl(main, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 77, 0, 0))
    os.kill(client.pid, signal.SIGWINCH)
    seen = b""

    def read_until(wanted):
        nonlocal seen
        while wanted not in seen:
            assert select.select([main], [], [], 60)[0], seen
            seen += os.read(main, 4096)
    read_until(b"$ ")
    os.write(main, b"stty size; tty; exit 3\n")
    read_until(b"/dev/pts/")
    assert b"33 77" in seen
    assert client.wait(timeout=60) == 3
    os.close(main)


def test_ports_of_a_job_on_a_box(boxes):
    port = free_port()
    server = boxes.start("run", "--network", "none", "--port", f"{port}:8000", "--on", "ssh:two", "--", "python3", "-m", "http.server",
                         "8000", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=boxes.project({"hello.txt": "over ssh"}, "web"))
    try:
        def answer():
            done = subprocess.run(["curl", "-s", "-m", "5", f"http://127.0.0.1:{port}/hello.txt"], capture_output=True, text=True)
            return done.stdout == "over ssh"
        wait_for(answer, what="an answer through the forwarded port")
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(timeout=60)


def test_a_served_model_is_reached_as_the_last_line_says(boxes):
    port, here = free_port(), free_port()
    digits = SOURCE / "examples/digits"
    files = {str(path.relative_to(digits)): path.read_bytes() for path in digits.rglob("*") if path.is_file()}
    text = files["loam.yaml"].decode().replace("base: debian:bookworm\n  apt: [python3, python3-numpy]", "base: host")
    folder = boxes.project({**files, "loam.yaml": f"{text}endpoint: 127.0.0.1:{port}\n"}, "served")
    done = boxes.run("up", "--on", "ssh:two", cwd=folder)
    command = re.search(r"from here: (ssh -N -L .*), then", done.stdout)[1].replace(f"-L {port}:", f"-L {here}:")
    tunnel = subprocess.Popen(command.split(), env=boxes.environment, stdin=subprocess.DEVNULL)
    try:
        def answer():
            asked = subprocess.run(["curl", "-s", f"http://127.0.0.1:{here}/v2/models/digits"], capture_output=True, text=True)
            return '"name":"digits"' in asked.stdout
        wait_for(answer, what="the model's answer through ssh")
    finally:
        tunnel.kill()
        tunnel.wait()
    assert "stopped" in boxes.run("down", "--on", "ssh:two", cwd=folder).stdout


def test_all_boxes(boxes):
    boxes.configure("boxes:\n  one: {}\n  away: gone\n  two: {ssh: two}\n")
    held = json.loads(boxes.run("up", "--detach", "--hold", "--json", "--on", "two", cwd=boxes.project(FILES)).stdout)["run"]
    done = boxes.run("ps", "--on", "all", check=False)
    assert done.returncode == 3
    lines = [line.split() for line in done.stdout.splitlines()]
    assert lines[0][:2] == ["BOX", "TARGET"] and ["two", f"{held}/train", "held"] == next(line[:3] for line in lines if f"{held}/train" in line)
    assert re.fullmatch(r"loam: box away: .*Connection refused\n", done.stderr), done.stderr
    document = json.loads(boxes.run("ps", "-a", "--json", "--on", "all", check=False).stdout)["boxes"]
    assert "error" in document["away"] and document["one"]["jobs"] and document["two"]["jobs"]
    boxes.run("cancel", str(held), "--on", "two")


def test_any_box_that_fits_now(boxes):
    boxes.configure("boxes:\n  away: gone\n  one: {}\n  two: {}\n")
    cpus = json.loads(boxes.run("node", "status", "--json", "--on", "one").stdout)["capacity"]["cpus"]
    blocker = boxes.run("run", "--detach", "--cpus", cpus, "--on", "one", "--", "sleep", "600").stdout.strip()
    wait_for(lambda: json.loads(boxes.run("ps", "--json", "--on", "one").stdout)["jobs"][0]["state"] == "running", what="the blocker")
    folder = boxes.project({**FILES, "note.txt": "any\n"}, "anywhere")
    done = boxes.run("up", "--on", "any", cwd=folder)
    assert "any\n" in done.stdout
    assert re.search(r"box away: .*refused\nloam: one: train would wait: .*\nloam: two takes it\n", done.stderr), done.stderr
    # Where none fits, each says why.
    boxes.configure("boxes:\n  away: gone\n  one: {}\n")
    none = boxes.run("up", "--on", "any", "--force", cwd=folder, check=False)
    assert none.returncode == 75 and "one: train would wait" in none.stderr and "no box fits digits now" in none.stderr
    boxes.run("cancel", blocker, "--on", "one")
    # What a box can never fulfil, its plan refuses.
    (folder / "loam.yaml").write_text(TRAIN.replace("cpus: 0.1", "cpus: 0.1, devices: {licence-x: 1}"))
    never = boxes.run("up", "--on", "any", cwd=folder, check=False)
    assert never.returncode == 75 and re.search(r"loam: one: .*licence-x", never.stderr), never.stderr


def test_a_push_that_breaks_off_submits_nothing(boxes):
    big = {**FILES, "big.bin": os.urandom(30 << 20)}
    folder = boxes.project(big, "broken")
    before = json.loads(boxes.run("ps", "-a", "--json", "--on", "ssh:one").stdout)["jobs"]
    client = boxes.start("up", "--on", "ssh:stalls", cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    incoming = boxes.nodes["one"].folder / "cache/loam/pushes"
    wait_for(lambda: any(path.stat().st_size > 0 for path in incoming.glob("*/incoming/*") if path.exists()), what="a file under way")
    boxes.cut()
    out = client.communicate(timeout=120)[0]
    assert client.returncode == 3 and "nothing was submitted" in out, out
    assert json.loads(boxes.run("ps", "-a", "--json", "--on", "ssh:one").stdout)["jobs"] == before
    pushed = boxes.pushed("one", "broken")
    assert not (pushed / "note.txt").exists()  # nothing of it before all of it
    boxes.run("up", "--on", "ssh:one", cwd=folder)
    assert (boxes.pushed("one", "broken") / "big.bin").read_bytes() == big["big.bin"]


def test_two_pushes_of_one_folder_wait_for_each_other(boxes):
    folder = boxes.project({"loam.yaml": "name: twice\nenv: {base: host}\ntrain: {run: 'true'}\n"}, "twice")
    boxes.run("plan", "--on", "ssh:one", cwd=folder)
    key = boxes.pushed("one", "twice").parent.name
    with open(boxes.nodes["one"].folder / "cache/loam/pushes" / key / "lock") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        (folder / "more.txt").write_text("more\n")
        second = boxes.start("plan", "--on", "ssh:one", cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert "another push of" in second.stderr.readline()
        assert not (boxes.pushed("one", "twice") / "more.txt").exists()
    out, errors = second.communicate(timeout=120)
    assert second.returncode == 0 and "pushed 1 of" in errors, out + errors
    assert (boxes.pushed("one", "twice") / "more.txt").read_text() == "more\n"


def test_a_live_job_on_a_box_is_joined_and_its_ports_forwarded(boxes):
    run = boxes.run("run", "--detach", "--network", "none", "--on", "ssh:two", "--", "python3", "-m", "http.server", "8000",
                    cwd=boxes.project({"hello.txt": "live"}, "live")).stdout.strip()
    wait_for(lambda: json.loads(boxes.run("ps", "--json", "--on", "ssh:two").stdout)["jobs"][0]["state"] == "running", what="the job")
    assert boxes.run("shell", run, "--on", "ssh:two", "--", "cat", "hello.txt").stdout == "live"
    port = free_port()
    forward = boxes.start("forward", run, f"{port}:8000", "--on", "ssh:two", stdout=subprocess.PIPE)
    assert f"127.0.0.1:{port} is port 8000" in forward.stdout.readline()

    def answer():
        return subprocess.run(["curl", "-s", f"http://127.0.0.1:{port}/hello.txt"], capture_output=True, text=True).stdout == "live"
    wait_for(answer, what="an answer")
    boxes.run("cancel", run, "--on", "ssh:two")
    assert forward.wait(timeout=60) == 0


def test_an_ordinary_users_own_node(prefix):
    own = SshBoxes(prefix, ["mine"], "rootless")
    try:
        folder = own.project(FILES)
        done = own.run("up", "--on", "ssh:mine", cwd=folder)
        assert "started a node at" in done.stderr and "1,2\nfirst\n" in done.stdout
        own.run("files", "1/train", "result.txt", "-o", folder / "here.txt", "--on", "ssh:mine")
        assert (folder / "here.txt").read_text() == "made\n"
        assert own.pushed("mine").stat().st_uid != 0
    finally:
        own.close()


@pytest.mark.parametrize("name", ["ssh:-oProxyCommand=touch x", "ssh:a b", "ssh:a;b", "ssh:$(touch x)", "ssh:-v@host", "ssh:", "ssh:a@-b"])
def test_names_that_are_none(boxes, name):
    done = boxes.run("ps", "--on", name, check=False)
    assert done.returncode == 2 and "is no [USER@]HOST" in done.stderr, done.stderr


def test_errors_of_boxes_say_what_to_do(boxes):
    path = boxes.configure("boxes:\n  one: {sssh: one}\n  all: two\n  three: -oProxyCommand=x\n")
    done = boxes.run("ps", "--on", "all", check=False)
    assert done.returncode == 2
    assert f"{path}:2:9: boxes.one.sssh" in done.stderr and f"{path}:3:" in done.stderr and f"{path}:4:10: boxes.three" in done.stderr, done.stderr
    boxes.configure("boxes: {one: {}}\n")
    assert "did you mean 'one'?" in boxes.run("ps", "--on", "onee", check=False).stderr
    assert "loam node stop is about the machine" in boxes.run("node", "stop", "--on", "one", check=False).stderr
    assert "only loam ps" in boxes.run("logs", "1", "--on", "all", check=False).stderr
    gone = boxes.run("ps", "--on", "ssh:gone", check=False)
    assert gone.returncode == 3 and "box ssh:gone: " in gone.stderr and "refused" in gone.stderr


def test_a_box_with_no_loam_or_another(boxes):
    other = boxes.folder / "other"
    other.mkdir(exist_ok=True)
    try:
        boxes.write_authorized_keys(one={"PATH": "/usr/bin:/bin"}, two={"PATH": f"{other}:/usr/bin:/bin"})
        none = boxes.run("ps", "--on", "ssh:one", check=False)
        assert none.returncode == 3 and "there is no loam on it" in none.stderr and "program:" in none.stderr
        for script, said in [('echo noise; echo \'loam-bridge 1 {"version":"0.0.9"}\'; cat', "it has Loam 0.0.9"),
                             ("echo 'loam-bridge 2 {}'; cat", "version 2 of the bridge"),
                             ("echo \"loam: 'loam' knows no '$1'\" >&2; exit 2", "its loam is older"),
                             ("exit 9", "exit status 9")]:
            (other / "loam").write_text(f"#!/bin/sh\n{script}\n")
            (other / "loam").chmod(0o755)
            done = boxes.run("ps", "--on", "ssh:two", check=False)
            assert done.returncode == 3 and said in done.stderr and "box ssh:two: " in done.stderr, done.stderr
    finally:
        boxes.write_authorized_keys()
