"""Declared devices, pinned CPUs and huge pages end to end: given, fenced, shared between nodes, kept through crashes.

The devices are real ones of this machine under other names: what matters is that they open, and who may open them.
"""
import contextlib
import fcntl
import json
import os
import pathlib
import signal
import stat
import subprocess
import textwrap
import threading

import pytest

from nodes import USER, kill, make_node, node_processes, wait_for

# name → minor of the kernel's misc devices (10): they open without an effect.
NODES = {"fuse": 229, "loop": 237, "kvm": 232}
HUGE_POOL = pathlib.Path("/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages")


def path_of(name):
    return f"/dev/loam-test-{name}"


@pytest.fixture(scope="module", autouse=True)
def nodes():
    """Locks are the machine's, by device number: two runs of these tests would keep each other out. They take turns."""
    turn = open("/run/lock/loam-test-devices", "w")
    fcntl.flock(turn, fcntl.LOCK_EX)
    made = []
    for name, minor in NODES.items():
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path_of(name))  # of a run that was killed
        os.mknod(path_of(name), 0o666 | stat.S_IFCHR, os.makedev(10, minor))
        os.chmod(path_of(name), 0o666)
        made.append(path_of(name))
    yield
    for path in made:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
    turn.close()


CONFIG = f"""
devices:
  fuse: [{path_of("fuse")}]
  loop: {{units: [{path_of("loop")}], model: Loop 9000, memory: 8GiB}}
  seat: 2
"""


def configure(node, text=CONFIG):
    node.configure(text)
    return node


@pytest.fixture
def machine(fresh_node):
    yield configure(fresh_node)


@pytest.fixture(scope="module", params=["root", "rootless"])
def shared(prefix, request):
    node = configure(make_node(prefix, request.param))
    yield node
    node.close()


def detached(node, *options, command=("sleep", "1000"), cwd=None):
    done = node.run("run", "--detach", *options, "--", *command, cwd=cwd or node.project({}))
    return int(done.stdout)


def job(node, run):
    return next(j for j in node.json("ps", "-a")["jobs"] if j["target"].startswith(f"{run}/"))


def await_state(node, run, state):
    return wait_for(lambda: (found := job(node, run))["state"] == state and found, what=node.log)


def await_why(node, run, words):
    """Until it waits for that reason: between the queue's grant and the look at the device it has none."""
    return wait_for(lambda: (found := job(node, run))["state"] == "queued" and words in (found["why"] or "") and found["why"], what=node.log)


def device(node, name):
    return next(d for d in node.json("devices")["devices"] if d["id"] == name)


OPENS = textwrap.dedent("""
    import errno, json, os, sys
    def opens(path):
        try:
            os.close(os.open(path, os.O_RDWR)); return "opens"
        except OSError as error: return errno.errorcode[error.errno]
    print(json.dumps({"opens": {p: opens(p) for p in sys.argv[1:]},
                      "dev": sorted(n for n in os.listdir("/dev") if "loam" in n),
                      "given": json.loads(os.environ.get("LOAM_DEVICES", "{}"))}))
""")


def test_a_job_has_what_it_asked_for_and_nothing_else(shared):
    folder = shared.project({"opens.py": OPENS})
    done = shared.run("run", "--device", "fuse", "--device", "seat=2", "--", "python3", "opens.py",
                      path_of("fuse"), path_of("loop"), "/dev/fuse", cwd=folder)
    said = json.loads(done.stdout)
    assert said["opens"] == {path_of("fuse"): "opens", path_of("loop"): "ENOENT", "/dev/fuse": "ENOENT"}
    assert said["dev"] == ["loam-test-fuse"]
    assert said["given"] == {"fuse": [{"id": "fuse-0", "nodes": [path_of("fuse")]}],
                             "seat": [{"id": "seat-0", "nodes": []}, {"id": "seat-1", "nodes": []}]}
    none = json.loads(shared.run("run", "--", "python3", "opens.py", path_of("fuse"), cwd=folder).stdout)
    assert none == {"opens": {path_of("fuse"): "ENOENT"}, "dev": [], "given": {}}


def test_a_step_of_loam_yaml_has_them_too(shared):
    folder = shared.project({"opens.py": OPENS, "loam.yaml": textwrap.dedent(f"""
        name: p
        train:
          run: [python3, opens.py, {path_of("loop")}]
          resources: {{devices: {{loop: {{model: 9000, memory: 4GiB}}, seat: 1}}}}
        """)})
    done = shared.run("up", "-f", "loam.yaml", cwd=folder)
    assert f'"{path_of("loop")}": "opens"' in done.stdout
    record = shared.json("trace", shared.json("ps", "-a")["jobs"][0]["target"].split("/")[0])
    assert "loop-0" in json.dumps(record)


@pytest.mark.parametrize("options, words", [
    (["--device", "fsue"], "asks for 'fsue', which this machine does not declare; did you mean 'fuse'?"),
    (["--device", "seat=3"], "asks for 3 seats; this machine has 2 seats"),
    (["--device", "loop,model=H100"], "asks for 1 H100 loop; this machine has 1 loop (Loop 9000, 8.0 GiB)"),
    (["--device", "loop,memory=9GiB"], "with 9.0 GiB or more; this machine has 1 loop"),
    (["--gpus", "1"], "asks for 1 GPU; this machine has no GPUs"),
    (["--gpus", "many"], "--gpus: expected a number from 0 to 1024, found 'many'"),
    (["--hugepages", "900TiB"], "huge pages; this machine has"),
    (["--pin", "--cpus", "0.5"], "pinned CPUs are whole ones"),
])
def test_what_can_never_be_is_refused_at_once(shared, options, words):
    done = shared.run("run", *options, "--", "true", cwd=shared.project({}), check=False)
    assert done.returncode == 2 and words in done.stderr


def test_a_file_that_asks_for_too_much_names_the_place(shared):
    folder = shared.project({"loam.yaml": "name: p\ntrain:\n  run: x\n  resources: {gpus: 1}\n"})
    done = shared.run("up", cwd=folder, check=False)
    assert done.returncode == 2
    assert "loam.yaml:4:3: train.resources: asks for 1 GPU; this machine has no GPUs" in done.stderr


def test_who_holds_a_device_and_who_waits_for_it(machine):
    first = detached(machine, "--device", "fuse")
    await_state(machine, first, "running")
    held = device(machine, "fuse-0")
    assert held["state"] == "in use" and held["holders"][0]["target"] == f"{first}/command"
    second = detached(machine, "--device", "fuse", command=("true",))
    await_why(machine, second, "0 of 1 fuse free")
    table = machine.run("devices").stdout
    assert "fuse-0" in table and f"{first}/command" in table and "Loop 9000" in table
    machine.run("cancel", first)
    await_state(machine, second, "succeeded")
    wait_for(lambda: device(machine, "fuse-0")["state"] == "free", what=machine.log)  # once the shim is gone


def test_what_a_job_finds_of_others_devices_stays_closed(machine):
    """A node of an unassigned device in a writable mount of the user's, and one that the job makes itself."""
    data = machine.folder / "data"
    data.mkdir()
    os.mknod(data / "loop", 0o666 | stat.S_IFCHR, os.makedev(10, NODES["loop"]))
    machine.own(data)
    os.chmod(data / "loop", 0o666)
    folder = machine.project({"opens.py": OPENS, "loam.yaml": textwrap.dedent(f"""
        name: p
        mounts: [{{from: {data}, to: /data, mode: rw}}]
        """)})
    script = ("import os, runpy, sys\n"
              "for path in ('/tmp/made', '/data/made', '/dev/made'):\n"
              "    try: os.mknod(path, 0o20666, os.makedev(10, 237)); print(path, 'made')\n"
              "    except OSError as error: print(path, error.strerror)\n"
              "sys.argv = ['opens.py', '/data/loop']; runpy.run_path('opens.py')\n")
    lines = machine.run("run", "--device", "fuse", "--", "python3", "-c", script, cwd=folder).stdout.splitlines()
    assert lines[0] == "/tmp/made Operation not permitted"
    assert lines[1] == "/data/made Operation not permitted"
    assert not lines[2].endswith("made")
    assert json.loads(lines[3])["opens"] in ({"/data/loop": "EACCES"}, {"/data/loop": "EPERM"})


def test_a_lock_whose_holder_nobody_can_see_is_looked_at_again(machine):
    """The kernel names the process that took a lock; here it has gone, and its child has the lock without a name."""
    machine.run("run", "--device", "fuse", "--", "true", cwd=machine.project({}))  # the file is there
    hold = ("import fcntl, os, time\n"
            "file = open('/run/lock/loam/char-10-229', 'r+'); fcntl.flock(file, fcntl.LOCK_EX)\n"
            "child = os.fork()\n"
            "if child: print(child, flush=True); os._exit(0)\n"
            "os.close(1); time.sleep(1000)\n")
    holder = int(subprocess.run(["python3", "-c", hold], stdout=subprocess.PIPE, text=True, check=True).stdout)
    try:
        waits = detached(machine, "--device", "fuse", command=("true",))
        await_why(machine, waits, "fuse-0 busy (held by")
    finally:
        os.kill(holder, signal.SIGKILL)
    await_state(machine, waits, "succeeded")


def test_who_only_looks_keeps_nobody_waiting(machine):
    """A look at a lock takes it for a moment; a job that is granted the device just then is not kept from it."""
    machine.run("node", "start")
    looking = True

    def look():
        while looking:
            machine.json("devices")
    lookers = [threading.Thread(target=look) for _ in range(3)]
    for looker in lookers:
        looker.start()
    try:
        folder = machine.project({})
        for _ in range(20):
            assert machine.run("run", "--device", "fuse", "--", "true", cwd=folder, timeout=60).returncode == 0
    finally:
        looking = False
        for looker in lookers:
            looker.join()


@pytest.fixture
def pair(prefix):
    """A system node and a user's own on one machine, both with the same device."""
    both = [configure(make_node(prefix, kind)) for kind in ("root", "rootless")]
    yield both
    for node in both:
        node.close()


@pytest.mark.parametrize("first, second", [(0, 1), (1, 0)])
def test_two_nodes_never_hand_out_one_device(pair, first, second):
    has, wants = pair[first], pair[second]
    run = detached(has, "--device", "fuse")
    await_state(has, run, "running")
    assert device(wants, "fuse-0")["state"] == "busy"
    waits = detached(wants, "--device", "fuse", command=("true",))
    why = await_why(wants, waits, "fuse-0 busy (held by attempt")
    assert str(has.state) in why, why
    assert (f"{USER}'s node" if has.rootless else "the system's node") in why
    # Another unit is not in the way.
    assert wants.run("run", "--device", "seat", "--", "true", cwd=wants.project({})).returncode == 0
    has.run("cancel", run)
    await_state(wants, waits, "succeeded")
    assert device(has, "fuse-0")["state"] == "free"


def test_a_killed_nodes_job_keeps_its_device_and_the_next_node_knows(machine):
    run = detached(machine, "--device", "fuse", "--pin")
    await_state(machine, run, "running")
    kill(node_processes(machine))
    waits = detached(machine, "--device", "fuse", command=("true",))  # starts the next node
    await_why(machine, waits, "fuse")
    assert device(machine, "fuse-0")["holders"][0]["target"] == f"{run}/command"
    assert machine.json("devices")["cpus"]["pinned"] != ""
    machine.run("cancel", run)
    await_state(machine, waits, "succeeded")
    assert machine.json("devices")["cpus"]["pinned"] == ""


def test_a_killed_shims_device_is_used_again_once_nothing_is_left(machine):
    folder = machine.project({"loam.yaml": textwrap.dedent("""
        name: p
        train:
          run: "[ -e /loam/home/second ] && exit 0; touch /loam/home/second; exec sleep 1000"
          resources: {devices: {fuse: 1}}
        """)})
    run = machine.json("up", "--detach", cwd=folder)["run"]
    await_state(machine, run, "running")
    homes = machine.state / "homes"
    wait_for(lambda: list(homes.glob("*/p/second")), what=machine.log)
    machine.kill_all(b"loam-shim")
    done = await_state(machine, run, "succeeded")
    assert len(done["attempts"]) == 2 and done["attempts"][0]["exit"]["outcome"] == "lost"
    assert device(machine, "fuse-0")["state"] == "free"


def test_a_drained_device_is_kept_by_who_has_it_and_given_to_nobody(machine):
    run = detached(machine, "--device", "fuse")
    await_state(machine, run, "running")
    machine.run("devices", "drain", "fuse-0", "--reason", "lens broken")
    assert job(machine, run)["state"] == "running"
    waits = detached(machine, "--device", "fuse", command=("true",))
    machine.run("cancel", run)
    await_state(machine, run, "cancelled")
    await_why(machine, waits, "fuse-0 drained (lens broken)")
    kill(node_processes(machine))
    found = device(machine, "fuse-0")  # by the next node
    assert found["state"] == "drained" and found["reason"] == "lens broken"
    assert "lens broken" in machine.run("devices").stdout
    machine.run("devices", "resume", "fuse-0")
    await_state(machine, waits, "succeeded")
    wrong = machine.run("devices", "drain", "fuse-1", check=False)
    assert wrong.returncode != 0 and "did you mean 'fuse-0'?" in wrong.stderr


def test_only_the_owner_drains(machine):
    if machine.rootless:
        pytest.skip("a user's node has one user")
    machine.run("node", "start")
    done = machine.run_as(USER, "devices", "drain", "fuse-0", check=False)
    assert done.returncode != 0 and "only root and the admins may take devices" in done.stderr


def test_a_device_that_is_not_there_comes(machine):
    gone = path_of("gone")
    configure(machine, f"devices: {{gone: [{gone}]}}\n")
    waits = detached(machine, "--device", "gone", command=("true",))
    await_why(machine, waits, f"{gone}: No such file")
    os.mknod(gone, 0o666 | stat.S_IFCHR, os.makedev(10, NODES["kvm"]))
    os.chmod(gone, 0o666)
    try:
        await_state(machine, waits, "succeeded")
    finally:
        os.unlink(gone)


def test_reloading_adds_and_removes_devices(machine):
    machine.run("node", "start")
    configure(machine, CONFIG + f"  kvm: [{path_of('kvm')}]\n")
    run = detached(machine, "--device", "seat")
    await_state(machine, run, "running")
    machine.run("node", "reload")
    assert machine.run("run", "--device", "kvm", "--", "test", "-c", path_of("kvm"),
                       cwd=machine.project({})).returncode == 0
    configure(machine, "devices: {seat: 1}\n")
    machine.run("node", "reload")
    assert job(machine, run)["state"] == "running"
    assert [d["id"] for d in machine.json("devices")["devices"]] == ["seat-0"]


ALLOWED = "import time\nwhile True:\n    print(open('/proc/self/status').read().split('Cpus_allowed_list:\\t')[1].split()[0], flush=True); time.sleep(0.1)\n"


def test_pinned_cpus_are_the_jobs_alone(machine):
    if os.cpu_count() < 2:
        pytest.skip("one CPU")
    folder = machine.project({"allowed.py": ALLOWED})
    free = detached(machine, "--cpus", "0.5", command=("python3", "allowed.py"), cwd=folder)
    await_state(machine, free, "running")
    last = lambda run: (machine.run("logs", run).stdout.split() or [""])[-1]
    everything = wait_for(lambda: last(free), what=machine.log)
    pinned = detached(machine, "--pin", command=("python3", "allowed.py"), cwd=folder)
    await_state(machine, pinned, "running")
    own = wait_for(lambda: last(pinned), what=machine.log)
    assert own.isdigit() and machine.json("devices")["cpus"]["pinned"] == own
    if not machine.rootless:
        wait_for(lambda: last(free) != everything, what=machine.log)
        assert own not in last(free).split(",")
    machine.run("cancel", pinned)
    ended = await_state(machine, pinned, "cancelled")["attempts"][-1]
    guards = {m["guard"]: m["reason"] for m in ended["exit"]["missing"]}
    if machine.rootless:
        assert guards["pinning"].endswith("not enforced")
    else:
        assert "pinning" not in guards
        wait_for(lambda: last(free) == everything, what=machine.log)


def test_huge_pages_are_given_and_limited(prefix):
    before = HUGE_POOL.read_text() if HUGE_POOL.exists() else "0"
    HUGE_POOL.write_text(str(int(before) + 8))
    if int(HUGE_POOL.read_text()) < int(before) + 8:
        HUGE_POOL.write_text(before)
        pytest.skip("the kernel has no room for huge pages")
    node = make_node(prefix, "root")
    try:
        script = ("import mmap, os\n"
                  "fd = os.open('/dev/hugepages/x', os.O_CREAT | os.O_RDWR); os.ftruncate(fd, 4 << 20)\n"
                  "m = mmap.mmap(fd, 4 << 20); m[0] = 1; m[2 << 20] = 1; print('both')\n")
        done = node.run("run", "--hugepages", "4MiB", "--", "python3", "-c", script, cwd=node.project({}))
        assert done.stdout == "both\n"
        over = node.run("run", "--hugepages", "2MiB", "--", "python3", "-c", script, cwd=node.project({}), check=False)
        assert over.returncode != 0 and "both" not in over.stdout
        assert node.json("devices")["huge_pages"]["total_bytes"] == (int(before) + 8) << 21
    finally:
        node.close()
        HUGE_POOL.write_text(before)
