"""NVIDIA GPUs end to end, over recordings of real drivers (tests/nvml): no GPU is there, and none is asked.

The library that the node loads answers from a recording; the device nodes have NVIDIA's real numbers, but no driver
behind them: opening one that a job was given is ENXIO, one that it was not given EPERM or ENOENT.
"""
import contextlib
import fcntl
import json
import os
import pathlib
import shutil
import signal
import stat
import subprocess
import textwrap

import pytest

from nodes import BIN, SOURCE, kill, make_node, node_processes, wait_for
from test_devices import await_state, await_why, detached, device, job

MAJOR, CONTROL, CAPS_MAJOR = 195, 255, 511  # of the driver; the others' majors are given at run time
UVM = (510, 0)


def make_device(path, major, minor):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    os.mknod(path, 0o666 | stat.S_IFCHR, os.makedev(major, minor))
    os.chmod(path, 0o666)


@pytest.fixture(scope="module", autouse=True)
def nodes():
    """/dev/nvidia* as a machine with eight GPUs has them. Runs of these tests take turns: locks are the machine's."""
    turn = open("/run/lock/loam-test-gpus", "w")
    fcntl.flock(turn, fcntl.LOCK_EX)
    if os.path.exists("/proc/driver/nvidia/version"):
        pytest.skip("this machine has a driver of NVIDIA's: its nodes are not ours to make")
    wanted = {f"/dev/nvidia{i}": (MAJOR, i) for i in range(8)}
    wanted.update({"/dev/nvidiactl": (MAJOR, CONTROL), "/dev/nvidia-uvm": UVM,
                   **{f"/dev/nvidia-caps/nvidia-cap{i}": (CAPS_MAJOR, i) for i in (21, 22, 84, 85)}})
    for path in wanted:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)  # of a run that was killed
    for path, numbers in wanted.items():
        make_device(path, *numbers)
    yield
    for path in wanted:
        os.unlink(path)
    os.rmdir("/dev/nvidia-caps")
    turn.close()


class Driver:
    """A driver's folder with its libraries; what it says can be changed while a node runs."""

    def __init__(self, node, recording):
        self.folder = pathlib.Path(os.path.realpath(node.folder)) / "driver"
        self.folder.mkdir()
        self.recorded = (SOURCE / "tests/nvml/recordings" / recording).read_text()
        version = next(line.split()[1] for line in self.recorded.splitlines() if line.startswith("driver "))
        shutil.copy(BIN.parent / "tests/fake-nvml.so", self.folder / f"libnvidia-ml.so.{version}")
        (self.folder / f"libcuda.so.{version}").write_text("not a library")
        for name in ("libnvidia-ml.so.1", "libcuda.so.1"):
            (self.folder / name).symlink_to(f"{name.removesuffix('.1')}.{version}")
        self.library = self.folder / "libnvidia-ml.so.1"
        self.says()

    def says(self, *lines):
        """The recording, with these keys in front: the first of a key counts."""
        new = self.folder / "recording.new"
        new.write_text("".join(line + "\n" for line in lines) + self.recorded)
        new.chmod(0o644)
        new.rename(self.folder / "recording")

    def befalls(self, *event):
        with open(self.folder / "events", "a") as events:
            events.write(" ".join(map(str, event)) + "\n")


def with_driver(node, recording, more=""):
    node.driver = Driver(node, recording)
    node.configure(f"gpus: {{library: {node.driver.library}, ignore: [loam-exporter]}}\n{more}")
    return node


@pytest.fixture
def machine(fresh_node):
    yield with_driver(fresh_node, "v100x8")


@pytest.fixture(scope="module", params=["root", "rootless"])
def shared(prefix, request):
    node = with_driver(make_node(prefix, request.param), "v100x8")
    yield node
    node.close()


LOOK = textwrap.dedent("""
    import errno, json, os, sys
    def opens(path):
        try:
            os.close(os.open(path, os.O_RDWR)); return "opens"
        except OSError as error: return errno.errorcode[error.errno]
    visible = {name: os.environ.get(name) for name in ("CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES", "LD_LIBRARY_PATH")}
    folder = "/loam/nvidia"
    print(json.dumps({"dev": sorted(os.path.join(at, n)[5:] for at, _, names in os.walk("/dev") for n in names if "nvidia" in n),
                      "opens": {p: opens(p) for p in sys.argv[1:]}, "environment": visible,
                      "libraries": sorted(os.listdir(folder)) if os.path.isdir(folder) else None,
                      "given": json.loads(os.environ.get("LOAM_DEVICES", "{}"))}))
""")


def look(node, *options, paths=()):
    done = node.run("run", *options, "--", "python3", "look.py", *paths, cwd=node.project({"look.py": LOOK}))
    return json.loads(done.stdout)


def await_free(node):
    """Until the shims of ended jobs are gone, which hold the GPUs."""
    wait_for(lambda: all(d["state"] in ("free", "sliced") for d in node.json("devices")["devices"]), what=node.log)


def indexes(said):
    return sorted(int(name.removeprefix("nvidia")) for name in said["dev"] if name.removeprefix("nvidia").isdigit())


def test_what_the_driver_says_is_listed(shared):
    listed = shared.json("devices")
    assert listed["driver"] == {"version": "580.173.02", "cuda": "13.0"}
    assert [d["id"] for d in listed["devices"]][:2] == ["GPU-2b5fbbe0", "GPU-14f80677"]
    first = listed["devices"][0]
    assert (first["kind"], first["model"], first["memory_bytes"], first["state"]) == ("gpu", "Tesla V100-SXM2-32GB", 32 << 30, "free")
    assert first["uuid"] == "GPU-2b5fbbe0-802e-d2fd-c501-69ec52b11bb7" and first["nodes"] == ["/dev/nvidia0"]
    assert first["gpu"]["power_limit_mw"] == 275000 and "temperature_c" not in first["gpu"]  # not recorded
    text = shared.run("devices").stdout
    assert "NVIDIA driver 580.173.02, CUDA 13.0" in text and "275 W" in text
    assert "NVIDIA driver: 580.173.02, CUDA 13.0, 8 GPUs" in shared.run("doctor").stdout
    assert len(shared.json("doctor")["facts"]["accelerators"]) == 8


def test_a_job_has_its_gpu_and_the_drivers_libraries(shared):
    said = look(shared, "--gpus", "1", paths=["/dev/nvidia0", "/dev/nvidia1", "/dev/nvidiactl", "/dev/nvidia-uvm"])
    assert len(indexes(said)) == 1 and {"nvidia-uvm", "nvidiactl"} < set(said["dev"]) and len(said["dev"]) == 3
    mine = said["given"]["gpu"][0]
    uuid = device(shared, mine["id"])["uuid"]
    assert said["environment"]["CUDA_VISIBLE_DEVICES"] == said["environment"]["NVIDIA_VISIBLE_DEVICES"] == mine["uuid"] == uuid
    assert said["environment"]["LD_LIBRARY_PATH"] == "/loam/nvidia"
    assert said["libraries"] == ["libcuda.so.1", "libcuda.so.580.173.02", "libnvidia-ml.so.1", "libnvidia-ml.so.580.173.02"]
    assert said["opens"]["/dev/nvidiactl"] == said["opens"]["/dev/nvidia-uvm"] == "ENXIO"  # given; no driver behind it
    other = 1 if indexes(said) == [0] else 0
    assert said["opens"][f"/dev/nvidia{other}"] == "ENOENT"


def test_a_job_without_gpus_has_nothing_of_them(shared):
    said = look(shared, paths=["/dev/nvidia0", "/dev/nvidiactl"])
    assert said["dev"] == [] and said["libraries"] is None and said["given"] == {}
    assert set(said["environment"].values()) == {None}


def test_a_node_of_anothers_gpu_does_not_open(machine):
    if machine.rootless:
        pytest.skip("a user makes no device nodes")
    data = machine.folder / "data"
    data.mkdir()
    for i in (0, 7):
        make_device(str(data / f"nvidia{i}"), MAJOR, i)
    folder = machine.project({"look.py": LOOK, "loam.yaml": f"name: p\nmounts: [{{from: {data}, to: /data, mode: rw}}]\n"})
    done = machine.run("run", "--gpus", "1", "--", "python3", "look.py", "/data/nvidia0", "/data/nvidia7", cwd=folder)
    assert set(json.loads(done.stdout)["opens"].values()) <= {"EACCES", "EPERM"}


@pytest.mark.parametrize("options, words", [
    (["--gpus", "9"], "asks for 9 GPUs; this machine has 8 GPUs (Tesla V100-SXM2-32GB, 32.0 GiB)"),
    (["--gpus", "1,model=H100"], "asks for 1 H100 GPU; this machine has 8 GPUs (Tesla V100"),
    (["--gpus", "2,memory=40GiB"], "with 40.0 GiB or more; this machine has 8 GPUs"),
])
def test_what_can_never_be_is_refused_at_once(shared, options, words):
    done = shared.run("run", *options, "--", "true", cwd=shared.project({}), check=False)
    assert done.returncode == 2 and words in done.stderr


def test_a_file_asks_by_model_and_memory(shared):
    folder = shared.project({"look.py": LOOK, "loam.yaml": textwrap.dedent("""
        name: p
        train:
          run: [python3, look.py]
          resources: {gpus: {count: 2, model: V100, memory: 32GiB}}
        """)})
    done = shared.run("up", cwd=folder)
    said = json.loads(done.stdout[done.stdout.index('{"dev"'):].splitlines()[0])
    assert len(said["given"]["gpu"]) == 2


# GPUs 0 to 3 are linked all with all, 4 to 7 likewise; of each four the outer pairs by two NVLinks; i and its mirror in the
# other four by one or two; all others through the processors.
PAIRS_OF_TWO = [{0, 3}, {0, 4}, {1, 2}, {1, 5}, {2, 3}, {4, 7}, {5, 6}, {6, 7}]


def test_several_gpus_are_those_linked_best(shared):
    await_free(shared)
    assert set(indexes(look(shared, "--gpus", "2"))) in PAIRS_OF_TWO
    await_free(shared)
    assert indexes(look(shared, "--gpus", "4")) in ([0, 1, 2, 3], [4, 5, 6, 7])
    assert indexes(look(shared, "--gpus", "8")) == list(range(8))


def test_ranks_have_a_gpu_each(shared):
    script = "echo $CUDA_VISIBLE_DEVICES"
    done = shared.run("run", "--ranks", "2", "--gpus", "1", "--", "sh", "-c", script, cwd=shared.project({}))
    seen = [word for word in done.stdout.split() if word.startswith("GPU-")]
    assert len(set(seen)) == 2 and all("," not in word for word in seen)


def test_a_process_outside_loam_keeps_a_gpu_until_it_ends(machine):
    machine.driver.says("gpus 1")
    outsider = subprocess.Popen(["sleep", "1000"])
    try:
        machine.driver.says("gpus 1", f"0.processes {outsider.pid}")
        waits = detached(machine, "--gpus", "1", command=("true",))
        why = await_why(machine, waits, "GPU-2b5fbbe0 busy")
        whose = "" if machine.rootless else "root's "  # a user's own node does not see who strangers are
        assert f"used by {whose}process {outsider.pid} (sleep), which is none of Loam's" in why
        assert device(machine, "GPU-2b5fbbe0")["state"] == "busy"
        machine.driver.says("gpus 1")  # as the driver does, when it has
    finally:
        outsider.kill()
        outsider.wait()
    await_state(machine, waits, "succeeded")
    await_free(machine)


def test_programs_can_be_named_whose_use_does_not_matter(machine):
    program = machine.folder / "loam-exporter"
    shutil.copy("/bin/sleep", program)
    program.chmod(0o755)
    exporter = subprocess.Popen([program, "1000"])
    try:
        machine.driver.says("gpus 1", f"0.graphics {exporter.pid}")
        machine.run("run", "--gpus", "1", "--", "true", cwd=machine.project({}))
        await_free(machine)
    finally:
        exporter.kill()
        exporter.wait()


def test_a_gpu_with_an_xid_error_is_drained(machine):
    run = detached(machine, "--gpus", "8")
    await_state(machine, run, "running")
    machine.driver.befalls(2, 13)  # a program's own fault: no reason to drain
    machine.driver.befalls(5, 79)
    found = wait_for(lambda: (d := device(machine, "GPU-72ed3bc4"))["state"] == "drained" and d, what=machine.log)
    assert found["reason"] == "Xid 79: GPU has fallen off the bus" and found["drained"]["by"] == "loam"
    assert job(machine, run)["state"] == "running"  # who has it keeps it
    assert device(machine, "GPU-a1583f16")["state"] == "in use"
    waits = detached(machine, "--gpus", "8", command=("true",))
    machine.run("cancel", run)
    await_why(machine, waits, "GPU-72ed3bc4 drained (Xid 79: GPU has fallen off the bus)")
    kill(node_processes(machine))
    assert device(machine, "GPU-72ed3bc4")["state"] == "drained"  # to the next node too
    machine.run("devices", "resume", "GPU-72ed3bc4")
    await_state(machine, waits, "succeeded")


def test_a_gpu_that_is_lost_is_drained(machine):
    machine.run("node", "start")
    machine.driver.says("3.lost 1")
    machine.json("devices")  # somebody looks
    found = wait_for(lambda: (d := device(machine, "GPU-4c7a4f3c"))["state"] == "drained" and d, what=machine.log)
    assert found["reason"] == "GPU is lost"
    assert 3 not in indexes(look(machine, "--gpus", "7"))


def test_a_driver_that_hangs_holds_up_nobody_else(machine):
    machine.run("node", "start")
    machine.driver.says("hang 1")
    waits = detached(machine, "--gpus", "1", command=("true",))
    assert machine.run("run", "--", "true", cwd=machine.project({})).returncode == 0
    await_why(machine, waits, "NVIDIA's driver does not answer")
    machine.driver.says()
    await_state(machine, waits, "succeeded")


def test_the_process_that_asks_the_driver_may_die(machine):
    machine.run("node", "start")
    asking = [pid for pid in machine.processes() if b"__gpus" in pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()]
    assert len(asking) == 1
    os.kill(asking[0], signal.SIGKILL)
    assert machine.run("run", "--gpus", "1", "--", "true", cwd=machine.project({})).returncode == 0  # by the next one
    machine.driver.befalls(0, 48)
    wait_for(lambda: device(machine, "GPU-2b5fbbe0")["state"] == "drained", what=machine.log)


def test_a_driver_that_comes_later_is_found_by_a_reload(machine):
    recording = machine.driver.folder / "recording"
    recording.unlink()
    machine.run("node", "start")
    assert machine.json("devices")["devices"] == []
    assert "NVML: Driver Not Loaded" in machine.run("doctor").stdout
    machine.driver.says()
    machine.run("node", "reload")
    wait_for(lambda: len(machine.json("devices")["devices"]) == 8, what=machine.log)
    assert machine.run("run", "--gpus", "1", "--", "true", cwd=machine.project({})).returncode == 0


def test_files_of_the_container_device_interface_add_nodes_and_libraries(fresh_node):
    folder = fresh_node.folder / "cdi"
    folder.mkdir()
    library = folder / "libnvidia-more.so.580.173.02"
    library.write_text("not a library")
    (folder / "nvidia.yaml").write_text(textwrap.dedent(f"""
        cdiVersion: 0.5.0
        kind: nvidia.com/gpu
        devices:
        - {{name: "0", containerEdits: {{deviceNodes: [{{path: /dev/nvidia0}}, {{path: /dev/nvidia-caps/nvidia-cap21}}]}}}}
        - {{name: "1", containerEdits: {{deviceNodes: [{{path: /dev/nvidia1}}, {{path: /dev/nvidia-caps/nvidia-cap22}}]}}}}
        containerEdits:
          mounts: [{{hostPath: {library}, containerPath: /usr/lib/{library.name}}}]
        """))
    fresh_node.own(folder)
    node = with_driver(fresh_node, "v100x8")
    node.configure(f"gpus: {{library: {node.driver.library}, cdi: [{folder}]}}\n")
    node.driver.says("gpus 2")
    said = look(node, "--gpus", "1", paths=["/dev/nvidia-caps/nvidia-cap21", "/dev/nvidia-caps/nvidia-cap22"])
    mine, other = (21, 22) if indexes(said) == [0] else (22, 21)
    assert said["opens"] == {f"/dev/nvidia-caps/nvidia-cap{mine}": "ENXIO", f"/dev/nvidia-caps/nvidia-cap{other}": "ENOENT"}
    assert library.name in said["libraries"]


def test_two_nodes_never_hand_out_one_gpu(prefix):
    both = [with_driver(make_node(prefix, kind), "a100") for kind in ("root", "rootless")]
    try:
        run = detached(both[0], "--gpus", "1")
        await_state(both[0], run, "running")
        waits = detached(both[1], "--gpus", "1", command=("true",))
        assert str(both[0].state) in await_why(both[1], waits, "GPU-00000000 busy (held by attempt")
        both[0].run("cancel", run)
        await_state(both[1], waits, "succeeded")
    finally:
        for node in both:
            node.close()


@pytest.fixture
def sliced(fresh_node):
    """An A100 in two slices; the driver in the kernel would name their nodes below /proc."""
    capabilities = fresh_node.folder / "capabilities"
    for path, minor in (("gi2", 21), ("gi2/ci0", 22), ("gi9", 84), ("gi9/ci0", 85)):
        folder = capabilities / "gpu0/mig" / path
        folder.mkdir(parents=True)
        (folder / "access").write_text(f"DeviceFileMinor: {minor}\nDeviceFileMode: 292\n")
    fresh_node.environment["LOAM_NVIDIA_CAPABILITIES"] = str(capabilities)
    yield with_driver(fresh_node, "a100-mig")


def test_slices_are_handed_out_and_not_their_gpu(sliced):
    states = {d["id"]: (d["state"], d["model"], d.get("parent")) for d in sliced.json("devices")["devices"]}
    assert states == {"GPU-00000000": ("sliced", "NVIDIA A100-SXM4-40GB", None),
                      "MIG-3a1b6b3e": ("free", "NVIDIA A100-SXM4-40GB MIG 3g.20gb", "GPU-00000000"),
                      "MIG-7c0d5e21": ("free", "NVIDIA A100-SXM4-40GB MIG 1g.5gb", "GPU-00000000")}
    said = look(sliced, "--gpus", "1,model=3g.20gb")
    assert said["environment"]["CUDA_VISIBLE_DEVICES"] == "MIG-3a1b6b3e-0001-5c1e-8f54-000000000001"
    assert said["dev"] == ["nvidia-caps/nvidia-cap21", "nvidia-caps/nvidia-cap22", "nvidia-uvm", "nvidia0", "nvidiactl"]
    first = detached(sliced, "--gpus", "1,memory=10GiB")
    await_state(sliced, first, "running")
    assert device(sliced, "MIG-3a1b6b3e")["state"] == "in use" and device(sliced, "MIG-7c0d5e21")["state"] == "free"
    assert "nvidia-caps/nvidia-cap84" in look(sliced, "--gpus", "1")["dev"]  # beside it
    refused = sliced.run("run", "--gpus", "3", "--", "true", cwd=sliced.project({}), check=False)
    assert refused.returncode == 2 and "slices" in refused.stderr


def test_an_error_of_one_slice_drains_it_alone(sliced):
    sliced.run("node", "start")
    sliced.driver.befalls(0, 94, 9)
    wait_for(lambda: device(sliced, "MIG-7c0d5e21")["state"] == "drained", what=sliced.log)
    assert device(sliced, "MIG-3a1b6b3e")["state"] == "free"
    sliced.driver.befalls(0, 95)
    wait_for(lambda: device(sliced, "MIG-3a1b6b3e")["state"] == "drained", what=sliced.log)
