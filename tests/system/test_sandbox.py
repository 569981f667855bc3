"""What a job sees and may do, through the whole road: node, shim, sandbox; on a root and on a rootless node."""
import json
import signal
import subprocess
import textwrap
import time

import pytest

PROBE = textwrap.dedent("""
    import ctypes, errno, json, os, socket
    libc = ctypes.CDLL(None, use_errno=True)
    def call(number, *arguments):
        ctypes.set_errno(0)
        result = libc.syscall(number, *arguments)
        return 0 if result >= 0 else ctypes.get_errno()
    def opens(path, flags=os.O_RDONLY):
        try:
            os.close(os.open(path, flags))
            return True
        except OSError as error:
            return error.errno
    status = dict(line.split(":\\t", 1) for line in open("/proc/self/status").read().splitlines() if ":\\t" in line)
    facts = {
        "uid": os.getresuid(), "gid": os.getresgid(), "groups": os.getgroups(),
        "capabilities": [status[name].strip() for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")],
        "no_new_privs": status["NoNewPrivs"].strip(), "seccomp": status["Seccomp"].strip(),
        "pids": sorted(int(name) for name in os.listdir("/proc") if name.isdigit()),
        "descriptors": sorted(os.listdir("/proc/self/fd"), key=int),
        "environment": sorted(os.environ), "cwd": os.getcwd(), "hostname": os.uname().nodename,
        "mount": call(165, b"none", b"/tmp", b"tmpfs", 0, None), "unshare": call(272, 0x10000000),
        "setns": call(308, 0, 0), "bpf": call(321, 0, 0, 0), "keyctl": call(250, 0, 0, 0, 0, 0),
        "io_uring": call(425, 1, 0), "perf": call(298, 0, 0, -1, -1, 0), "userfaultfd": call(323, 0),
        "clone3": call(435, 0, 0), "ptrace_init": call(101, 16, 1, 0, 0), "open_tree": call(428, -100, b"/", 0),
        "mknod": call(133, b"/tmp/null", 0o20666, 0x103), "unknown": call(999),
        "core_pattern": opens("/proc/sys/kernel/core_pattern", os.O_WRONLY),
        "sysrq": opens("/proc/sysrq-trigger", os.O_WRONLY), "kcore": opens("/proc/kcore"),
        "sys": opens("/sys/kernel/profiling", os.O_WRONLY), "init_environ": opens("/proc/1/environ"),
        "init_mem": opens("/proc/1/mem"), "kmsg": opens("/dev/kmsg"), "mem": opens("/dev/mem"),
        "devices": sorted(os.listdir("/dev")), "etc": opens("/etc/passwd", os.O_WRONLY),
        "interfaces": sorted(name for _, name in socket.if_nameindex()),
    }
    try:
        socket.socket(38, socket.SOCK_SEQPACKET)
        facts["af_alg"] = 0
    except OSError as error:
        facts["af_alg"] = error.errno
    print(json.dumps(facts))
""")
EPERM, ENOSYS = 1, 38


@pytest.fixture(scope="module")
def facts(node):
    folder = node.project({"probe.py": PROBE})
    return json.loads(node.run("run", "--", "python3", "probe.py", cwd=folder).stdout)


def test_identity(facts, node):
    assert 0 not in facts["uid"] and len(set(facts["uid"])) == 1
    assert 0 not in facts["gid"] and 0 not in facts["groups"]
    assert set(facts["capabilities"]) == {"0" * 16}
    assert facts["no_new_privs"] == "1" and facts["seccomp"] == "2"


def test_sees_only_itself(facts):
    assert facts["pids"][0] == 1 and len(facts["pids"]) <= 4
    assert facts["descriptors"] in (["0", "1", "2"], ["0", "1", "2", "3"])  # 3: the listing itself
    assert facts["cwd"] == "/project"
    assert "LOAM_STATE_DIR" not in facts["environment"] and "LOAM_RUNTIME_DIR" not in facts["environment"]


@pytest.mark.parametrize("call", ["mount", "unshare", "setns", "bpf", "keyctl", "io_uring", "perf", "userfaultfd",
                                  "open_tree", "mknod", "ptrace_init"])
def test_refused_calls(facts, call):
    assert facts[call] == EPERM


def test_calls_that_do_not_exist(facts):
    assert facts["clone3"] == ENOSYS and facts["unknown"] == ENOSYS
    assert facts["af_alg"] in (EPERM, 97)


@pytest.mark.parametrize("path", ["core_pattern", "sysrq", "kcore", "sys", "init_environ", "init_mem", "kmsg", "mem", "etc"])
def test_closed_paths(facts, path):
    assert facts[path] is not True


def test_devices(facts):
    assert set(facts["devices"]) <= {"null", "zero", "full", "random", "urandom", "tty", "ptmx", "pts", "shm", "fd",
                                     "stdin", "stdout", "stderr", "console", "mqueue", "core"}
    assert {"null", "zero", "urandom", "shm"} <= set(facts["devices"])


def test_network_none(node):
    done = node.run("run", "--network", "none", "--", "python3", "-c",
                    "import socket; print([n for _, n in socket.if_nameindex()]); s = socket.socket(); "
                    "s.bind(('127.0.0.1', 0)); s.listen(); socket.create_connection(s.getsockname()); print('loopback works')",
                    cwd=node.project({}))
    assert done.stdout.splitlines() == ["['lo']", "loopback works"]


def test_project_is_a_writable_snapshot_and_the_folder_stays(node):
    folder = node.project({"a.txt": "one\n"})
    done = node.run("run", "--", "sh", "-c", "cat a.txt; echo two > a.txt; echo new > b.txt; cat a.txt; ls", cwd=folder)
    assert done.stdout.split() == ["one", "two", "a.txt", "b.txt"]
    assert (folder / "a.txt").read_text() == "one\n" and not (folder / "b.txt").exists()


def test_symlink_in_the_project_leads_nowhere(node):
    folder = node.project({"a.txt": "one"})
    (folder / "leak").symlink_to("/etc/shadow")
    (folder / "up").symlink_to("..")
    done = node.run("run", "--", "sh", "-c", "cat leak || echo closed; ls up/", cwd=folder)
    assert "root:" not in done.stdout and "closed" in done.stdout


def test_memory_limit_is_an_out_of_memory_end(node):
    if node.rootless:
        pytest.xfail("an ordinary user's node has no cgroup; test_missing_guards_are_said holds what it says")
    done = node.run("run", "--memory", "64MiB", "--", "python3", "-c", "x = bytearray(512 << 20); print(len(x))",
                    cwd=node.project({}), check=False)
    assert done.returncode == 137, done
    assert "memory" in done.stderr


def test_missing_guards_are_said(node):
    guards = {guard["name"]: guard for guard in node.json("doctor")["guards"]}
    for name in ("namespaces", "seccomp", "no_new_privs", "overlay", "network"):
        assert guards[name]["present"], guards[name]
    for name in ("memory", "processes", "cpu", "kill", "devices"):
        assert guards[name]["present"] == (not node.rootless), guards[name]
        if node.rootless:
            assert guards[name]["mend"], guards[name]
    done = node.run("run", "--", "true", cwd=node.project({}))
    assert ("memory" in done.stderr) == node.rootless


def test_required_guard_refuses(node):
    folder = node.project({"loam.yaml": "name: strict\nsteps:\n  a:\n    run: echo ran\n    sandbox: {require: [memory]}\n"})
    done = node.run("up", cwd=folder, check=False)
    if node.rootless:
        assert done.returncode == 1 and "memory" in done.stdout + done.stderr
        assert "\nran\n" not in done.stdout
    else:
        assert done.returncode == 0, done


def test_no_process_survives(node):
    folder = node.project({})
    node.run("run", "--", "sh", "-c", "setsid sleep 98765 >/dev/null 2>&1 & sleep 0.1", cwd=folder)
    import subprocess
    assert subprocess.run(["pgrep", "-f", "sleep 98765"], stdout=subprocess.PIPE).returncode != 0


def test_a_stopped_node_leaves_no_cgroup(fresh_node):
    fresh_node.run("run", "--", "true", cwd=fresh_node.project({}))
    parents = fresh_node.cgroups()
    assert bool(parents) != fresh_node.rootless
    fresh_node.run("node", "stop", "--jobs")
    while fresh_node.processes():
        time.sleep(0.05)
    assert fresh_node.cgroups() == []
    # The next one makes them again.
    fresh_node.run("run", "--", "true", cwd=fresh_node.project({}))
    assert fresh_node.cgroups() == parents


def test_secrets_stay_secret(node):
    folder = node.project({"loam.yaml": "name: s\nsecrets: [THE_TOKEN]\nsteps:\n  a:\n    run: test ${#THE_TOKEN} = 12 && echo got it\n"})
    done = node.run("up", cwd=folder, environment={"THE_TOKEN": "hush-hush-42"})
    assert "got it" in done.stdout
    found = subprocess.run(["grep", "-rlaF", "--", "hush-hush-42", str(node.state), str(folder)], capture_output=True, text=True)
    assert found.stdout == "", found.stdout


@pytest.mark.parametrize("end", ["fails", "is cancelled"])
def test_the_file_of_secrets_lives_as_long_as_the_job(node, end):
    """Only the node's own, for the time of the job, however that ends."""
    gate = node.project({"x": ""}, name="gate")
    folder = node.project({"loam.yaml": f"""name: s
secrets: [THE_TOKEN]
mounts:
  - {{from: {gate}, to: /gate}}
steps:
  a: {{run: 'echo it runs; while [ ! -e /gate/go ]; do sleep 0.05; done; exit 3'}}
"""})
    up = node.start("up", cwd=folder, environment={"THE_TOKEN": "hush-hush-43"}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    for line in up.stdout:
        if "it runs" in line:
            break
    kept = [path for path in (node.state / "secrets").iterdir() if "hush-hush-43" in path.read_text()]
    assert [path.name.split("-")[0] for path in kept] == ["job"]
    assert kept[0].stat().st_mode & 0o777 == 0o600 and kept[0].parent.stat().st_mode & 0o777 == 0o700
    up.send_signal(signal.SIGINT) if end == "is cancelled" else (gate / "go").touch()
    assert up.wait(timeout=60) == (130 if end == "is cancelled" else 1)
    up.stdout.close()
    assert not kept[0].exists()


def test_secrets_of_a_run_that_a_crash_undid_are_nobodys(fresh_node):
    """The number of a submission that was never acknowledged goes to the next one."""
    step = "steps:\n  a:\n    run: 'true'\n"
    folder = fresh_node.project({"loam.yaml": "name: s\nsecrets: [THE_TOKEN]\n" + step})
    fresh_node.run("node", "start", environment={"LOAM_CRASH_AT": "node.secrets_kept"})
    assert fresh_node.run("up", "--detach", cwd=folder, environment={"THE_TOKEN": "hush-hush-44"}, check=False).returncode != 0
    left = fresh_node.state / "secrets/run-1"
    assert "hush-hush-44" in left.read_text()
    assert fresh_node.run("up", cwd=fresh_node.project({"loam.yaml": "name: s\n" + step})).returncode == 0
    assert [job["run"] for job in fresh_node.json("ps", "-a")["jobs"]] == [1]
    assert not left.exists()


def test_secret_without_a_value_is_refused(node):
    folder = node.project({"loam.yaml": "name: s\nsecrets: [NOWHERE_SET]\nsteps:\n  a:\n    run: 'true'\n"})
    done = node.run("up", cwd=folder, check=False)
    assert done.returncode != 0 and "NOWHERE_SET" in done.stderr and "loam secret set" in done.stderr
