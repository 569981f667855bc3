"""Known escapes from containers, tried by real jobs: on the host's files and in an environment, on a root and on a
rootless node. What the sandbox's own unit tests try with a call each (src/sandbox/guard_test.cc) is tried here as
an attacker would, through the whole road."""
import json
import os
import pathlib
import re
import socket
import subprocess
import textwrap

import pytest

from nodes import make_node, wait_for

ENVIRONMENT = """name: escapes
env:
  base: debian:bookworm
  apt: [python3]
"""
PRELUDE = textwrap.dedent("""
    import ctypes, errno, json, os, signal, socket, stat, struct, subprocess, sys, time
    libc = ctypes.CDLL(None, use_errno=True)
    def call(number, *arguments):
        ctypes.set_errno(0)
        words = [a if isinstance(a, bytes) or a is None else ctypes.c_long(a) for a in arguments]
        result = libc.syscall(ctypes.c_long(number), *words)
        return "done" if result >= 0 else errno.errorcode[ctypes.get_errno()]
    def attempt(act, *arguments):
        try:
            act(*arguments)
            return "done"
        except OSError as error:
            return errno.errorcode[error.errno]
    def writes(path):
        return attempt(lambda: os.close(os.open(path, os.O_WRONLY)))
    found = {}
""")


LOCKS = {}  # of the environment, by node: resolved once


@pytest.fixture(params=["host", "environment"])
def attack(node, request):
    """Runs the attacker's Python as a job of base: host or of an environment; what it put into `found`."""
    def run(script, *options):
        project = {"attack.py": PRELUDE + textwrap.dedent(script) + "\nprint(json.dumps(found))\n"}
        if request.param == "environment":
            if node not in LOCKS:
                folder = node.project({"loam.yaml": ENVIRONMENT})
                node.run("lock", cwd=folder)
                LOCKS[node] = (folder / "loam.lock").read_text()
            project.update({"loam.yaml": ENVIRONMENT, "loam.lock": LOCKS[node]})
        done = node.run("run", *options, "--", "python3", "attack.py", cwd=node.project(project))
        return json.loads(done.stdout.splitlines()[-1])
    return run


def test_the_keepers_program_is_out_of_reach(attack, node):
    """CVE-2019-5736: runc was overwritten through /proc/self/exe of a process that had entered the container."""
    found = attack("""
        found["init"] = [attempt(os.readlink, "/proc/1/exe"), writes("/proc/1/exe")]
        seen = set()
        for _ in range(2000):  # whatever else shows up
            for pid in filter(str.isdigit, os.listdir("/proc")):
                if int(pid) != os.getpid() and writes(f"/proc/{pid}/exe") == "done":
                    seen.add(pid)
        found["others"] = sorted(seen)
        """)
    assert found == {"init": ["EACCES", "EACCES"], "others": []}
    assert (node.prefix / "bin/loam-shim").read_bytes()[:4] == b"\x7fELF"


def test_no_descriptor_leads_out(attack):
    """CVE-2024-21626: a leaked descriptor of the host's, reached as /proc/self/fd/N or as working directory."""
    found = attack("""
        root = os.stat("/")
        found["descriptors"] = []
        for pid in ("self", str(os.getppid())):
            for number in range(256):
                try:
                    link = os.readlink(f"/proc/{pid}/fd/{number}")
                    if not link.startswith(("pipe:", "/dev/null")): found["descriptors"].append(link)
                except OSError: pass
        found["cwd"] = os.getcwd()
        top = "/proc/self/cwd" + "/.." * 30
        found["top is the root"] = os.path.samestat(os.stat(top), root)
        """)
    assert found == {"descriptors": [], "cwd": "/project", "top is the root": True}


@pytest.mark.parametrize("place", ["/proc", "/proc/self/fd/7", "/proc/1/root", "/sys/fs/cgroup", "/dev/null", "/dev/pts",
                                   "/loam/run", "/project/../etc", "/"])
def test_mounts_come_to_no_place_of_the_kernels_or_loams(node, place):
    """CVE-2019-19921, CVE-2023-27561: volumes mounted over or through /proc."""
    folder = node.project({"x/a": ""})
    (folder / "loam.yaml").write_text(f"name: m\nmounts: [{{from: {folder}/x, to: '{place}'}}]\nsteps: {{a: {{run: 'true'}}}}\n")
    assert node.run("up", cwd=folder, check=False).returncode == 2


def test_a_place_that_a_link_of_the_mounted_folder_names_stays_inside(node):
    """CVE-2021-30465: a mount below a mount whose names the attacker swaps for links to the host's."""
    outside = node.project({"victim": "whole"}, name="outside")
    volume = node.project({"a": ""}, name="volume")
    payload = node.project({"planted": ""}, name="payload")
    for name, target in (("way", outside), ("proc", "/proc/1"), ("up", "../../../../../../" + str(outside))):
        (volume / name).symlink_to(target)
        folder = node.project({"loam.yaml": f"""
name: swap
mounts: [{{from: {volume}, to: /data, mode: rw}}, {{from: {payload}, to: /data/{name}}}, {{from: {payload}, to: /data/{name}/made}}]
steps: {{a: {{run: ls /data/{name}/}}}}
"""})
        node.run("up", cwd=folder, check=False)
        assert sorted(os.listdir(outside)) == ["victim"] and sorted(os.listdir(volume))[0] == "a"


def test_proc_of_an_environment_that_is_a_link_hides_nothing_less(attack):
    """CVE-2019-19921: a rootfs whose /proc is a link moved runc's masks elsewhere. Here /proc is checked as it is seen."""
    found = attack("""
        mounts = {line.split()[4]: line.split(" - ")[0].split()[5] for line in open("/proc/self/mountinfo")}
        found["proc is one"] = not os.path.islink("/proc") and "/proc" in mounts
        found["open"] = [p for p in ("/proc/sys", "/proc/irq", "/proc/bus", "/proc/fs") if "ro" not in mounts[p].split(",")]
        """)
    assert found == {"proc is one": True, "open": []}


def test_masks_are_no_links_of_the_jobs(attack):
    """CVE-2025-31133, -52565, -52881: /dev/null or /dev/console, replaced by a link, was mounted over the masked
    paths or opened for writing. Masks are made of files that no job sees, before it starts."""
    found = attack("""
        for name in ("null", "zero", "tty", "ptmx", "console", "fd"):
            path = "/dev/" + name
            found[name] = [attempt(os.unlink, path), attempt(os.rename, path, "/dev/x"), attempt(os.symlink, "/proc/sys", path + "x")]
        found["null"].append(stat.S_ISCHR(os.stat("/dev/null").st_mode) and os.stat("/dev/null").st_rdev == os.makedev(1, 3))
        sources = [line.split()[3] for line in open("/proc/self/mountinfo") if line.split()[4].startswith("/proc/")]
        found["masked by"] = sorted({s for s in sources if s.startswith(("/empty", "/null", "/dev"))})
        """)
    assert found.pop("masked by") == ["/empty", "/empty_file"]
    assert found["null"].pop() is True
    assert all(result in ("EACCES", "EPERM", "ENOENT", "EROFS") for results in found.values() for result in results), found


def test_no_release_agent(attack):
    """CVE-2022-0492: a cgroup's release_agent is run by the kernel as the host's root."""
    found = attack("""
        found["unshare"] = call(272, 0x10000000 | 0x02000000)
        found["mount"] = call(165, b"none", b"/tmp", b"cgroup", 0, b"rdma")
        found["writable"] = []
        for folder, _, names in os.walk("/sys/fs/cgroup"):
            for name in names:
                path = os.path.join(folder, name)
                if os.access(path, os.W_OK) or (name in ("release_agent", "notify_on_release", "cgroup.procs", "tasks", "devices.allow")
                                                and writes(path) == "done"):
                    found["writable"].append(path)
        found["mkdir"] = [attempt(os.mkdir, os.path.join("/sys/fs/cgroup", name, "x")) for name in os.listdir("/sys/fs/cgroup")]
        """)
    assert found["unshare"] == "EPERM" and found["mount"] == "EPERM" and found["writable"] == []
    assert set(found["mkdir"]) <= {"EROFS", "EACCES", "EPERM"} | {"ENOTDIR"}


def test_no_new_filesystem_nor_namespace(attack):
    """CVE-2022-0185 (fsconfig), and the namespaces that open such calls: by each way that makes one."""
    found = attack("""
        found["fsopen"] = call(430, b"ext4", 0)
        found["fsconfig"] = call(431, 3, 1, b"key", b"value", 0)
        found["open_tree"] = call(428, -100, b"/", 1)
        found["move_mount"] = call(429, -100, b"/proc", -100, b"/tmp", 0)
        found["mount"] = [call(165, b"/", b"/tmp", None, 4096, None), call(165, b"x", b"/tmp", b"tmpfs", 0, None),
                          call(165, b"x", b"/tmp", b"overlay", 0, None), call(165, None, b"/sys", None, 32, None)]
        found["umount"] = [call(166, p, 2) for p in (b"/proc/sys", b"/sys", b"/proc/keys", b"/project")]
        found["unshare"] = [call(272, flag) for flag in (0x10000000, 0x20000, 0x02000000, 0x40000000, 0x20000000)]
        found["clone"] = [call(56, flag | 17, 0, 0, 0, 0) for flag in (0x10000000, 0x20000, 0x02000000, 0x40000000)]
        found["setns"] = call(308, os.open("/proc/self/ns/mnt", os.O_RDONLY), 0)
        """)
    said = {result for results in found.values() for result in (results if isinstance(results, list) else [results])}
    assert said == {"EPERM"}, found


def test_the_kernels_own_helpers_are_not_the_jobs(attack):
    """core_pattern, modprobe, sysrq, uevent_helper, binfmt_misc: files whose writer runs something as the host's root."""
    found = attack("""
        paths = ["/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe", "/proc/sys/kernel/hotplug", "/proc/sysrq-trigger",
                 "/proc/sys/fs/binfmt_misc/register", "/sys/kernel/uevent_helper", "/sys/kernel/mm/transparent_hugepage/enabled",
                 "/sys/power/state", "/proc/sys/vm/panic_on_oom", "/proc/kcore", "/proc/kmem", "/proc/mtrr", "/dev/mem",
                 "/proc/sys/user/max_user_namespaces", "/sys/module/kernel/parameters/panic", "/proc/1/oom_score_adj"]
        for path in paths: found[path] = writes(path)
        found["read only"] = attempt(os.mkdir, "/proc/sys/x")
        """)
    assert not {path: result for path, result in found.items() if result not in ("EACCES", "EROFS", "EPERM", "ENOENT")}


def test_init_is_out_of_the_jobs_hands(attack):
    """ptrace, memory, descriptors and signals of pid 1; the job goes on and ends as it should."""
    found = attack("""
        found["attach"] = [call(101, request, 1, 0, 0) for request in (16, 0x4206)]
        buffer = ctypes.create_string_buffer(8)
        here, there = struct.pack("QQ", ctypes.addressof(buffer), 8), struct.pack("QQ", 0x400000, 8)
        found["memory"] = [writes("/proc/1/mem"), attempt(open, "/proc/1/maps"), attempt(open, "/proc/1/environ"),
                           call(310, 1, here, 1, there, 1, 0), call(311, 1, here, 1, there, 1, 0)]
        found["descriptors"] = [attempt(os.listdir, "/proc/1/fd"), call(438, os.pidfd_open(1) if hasattr(os, "pidfd_open") else -1, 0, 0)]
        for number in (signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM, signal.SIGUSR1, signal.SIGCHLD): os.kill(1, number)
        """)
    assert found["attach"] == ["EPERM", "EPERM"] and found["descriptors"] == ["EACCES", "EPERM"]
    assert set(found["memory"]) == {"EACCES", "EPERM"}


def test_processes_of_the_host_are_not_there(attack):
    victim = subprocess.Popen(["sleep", "1000"], start_new_session=True)
    try:
        found = attack(f"""
            found["kill"] = attempt(os.kill, {victim.pid}, 0)
            found["broadcast"] = attempt(os.kill, -1, signal.SIGTERM)
            found["proc"] = os.path.exists("/proc/{victim.pid}")
            found["limits"] = call(302, {victim.pid}, 7, 0, 0)
            """)
        assert victim.poll() is None
        assert found == {"kill": "ESRCH", "broadcast": "ESRCH", "proc": False, "limits": "ESRCH"}
    finally:
        victim.kill()
        victim.wait()


def test_what_is_called_by_name_is_the_jobs_own(attack):
    """Names in /dev/shm, /tmp, POSIX queues and System V memory: the host's are not seen, the job's do not get out."""
    name = f"loam-test-{os.getpid()}"
    host = [pathlib.Path("/dev/shm") / name, pathlib.Path("/tmp") / name]
    key = os.getpid() & 0x7fffffff
    shared = subprocess.run(["ipcmk", "-M", "4096", "-p", "0666"], capture_output=True, text=True, check=True).stdout.split()[-1]
    try:
        for path in host:
            path.write_text("host")
            path.chmod(0o666)
        found = attack(f"""
            found["seen"] = [os.path.exists(p) for p in ("/dev/shm/{name}", "/tmp/{name}")]
            for p in ("/dev/shm/{name}-job", "/tmp/{name}-job", "/var/tmp/{name}-job", "/run/{name}-job"): open(p, "w").write("job")
            found["memory"] = call(30, {shared}, 0, 0)
            found["made"] = call(29, {key}, 4096, 0o1666)
            """)
        assert found == {"seen": [False, False], "memory": "EINVAL", "made": "done"}
        for folder in ("/dev/shm", "/tmp", "/var/tmp", "/run"):
            assert not os.path.exists(f"{folder}/{name}-job")
        assert f"{key:#x}".lower() not in subprocess.run(["ipcs", "-m"], capture_output=True, text=True, check=True).stdout
    finally:
        subprocess.run(["ipcrm", "-m", shared], check=True)
        for path in host:
            path.unlink()


def test_no_network_has_no_abstract_sockets_of_the_host(attack):
    """CVE-2020-15257: abstract Unix sockets belong to the network namespace, not to the files."""
    name = f"\0loam-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(name)
        listener.listen()
        script = f"""
            s = socket.socket(socket.AF_UNIX)
            found["connect"] = attempt(s.connect, {name!r})
            found["listed"] = {name[1:]!r} in open("/proc/net/unix").read()
            """
        assert attack(script, "--network", "none") == {"connect": "ECONNREFUSED", "listed": False}
        assert attack(script)["connect"] == "done"  # what network: host means, docs/sandbox.md


def test_no_set_id_program_and_no_device_works(attack, node):
    """A set-id bit, a file capability or a device node that a job leaves behind serves nobody."""
    out = node.project({}, name="out")
    out.chmod(0o777)
    script = """
        for place in ("/tmp", "/project", "/loam/home", "/loam/run", "/dev/shm"):
            path = place + "/left"
            found[place] = [call(133, path.encode() + b"b", 0o60666, 0x800), call(133, path.encode() + b"c", 0o20666, 0x101),
                            attempt(os.setxattr, "/proc/self/exe", "security.capability", b"\\1\\0\\0\\2" + b"\\xff" * 16)]
            with open(path, "wb") as file: file.write(b"#!/bin/sh\\n")
            found[place].append(attempt(os.setxattr, path, "security.capability", b"\\1\\0\\0\\2" + b"\\xff" * 16))
        status = open("/proc/self/status").read()
        found["no new privileges"] = "NoNewPrivs:\\t1" in status
        found["set-id"] = []
        for line in open("/proc/self/mountinfo"):
            if "nosuid" not in line.split()[5].split(","): found["set-id"].append(line.split()[4])
        """
    found = attack(script)
    assert found.pop("no new privileges") is True and found.pop("set-id") == []
    for place, results in found.items():
        assert not [result for result in results if result not in ("EPERM", "EACCES", "EROFS", "ENOTSUP", "EOPNOTSUPP")], (place, results)


def test_files_of_loam_are_read_only(attack, node):
    found = attack("""
        found["writable"] = []
        for folder, folders, names in os.walk("/loam"):
            for path in [folder] + [os.path.join(folder, name) for name in names]:
                own = path.startswith(("/loam/home", "/loam/run"))
                if os.access(path, os.W_OK) != own: found["writable"].append(path)
        found["replaced"] = [attempt(os.rename, "/loam/python", "/loam/x"), attempt(os.rename, "/loam/run", "/loam/x"),
                             attempt(os.symlink, "/etc", "/loam/x"), attempt(os.rmdir, "/loam/home")]
        found["traces"] = [name for name in os.environ if "STATE" in name or "RUNTIME" in name]
        """)
    assert found["writable"] == [], found
    assert "done" not in found["replaced"] and found["traces"] == []


def test_terminal_of_a_job_is_its_own(attack):
    """TIOCSTI and TIOCLINUX type into the terminal that the starter sits at."""
    found = attack("""
        import fcntl, pty
        master, slave = pty.openpty()
        found["typed"] = [call(16, fd, request, b"x") for fd in (0, 1, 2, slave) for request in (0x5412, 0x541c)]
        found["tty"] = attempt(open, "/dev/tty")
        found["pts"] = sorted(os.listdir("/dev/pts"))
        """)
    assert set(found["typed"]) == {"EPERM"} and found["tty"] == "ENXIO" and found["pts"] == ["0", "ptmx"]


def test_doors_into_the_kernel_are_shut(attack):
    """io_uring, userfaultfd, bpf, perf, keyrings, modules, AF_ALG, AF_VSOCK: each a source of escapes of its own."""
    found = attack("""
        calls = {"io_uring_setup": (425, 8, 0), "io_uring_enter": (426, 0, 0, 0, 0, 0), "userfaultfd": (323, 0), "userfaultfd user": (323, 1),
                 "bpf": (321, 5, 0, 0), "perf_event_open": (298, 0, 0, -1, -1, 0), "keyctl": (250, 0, -3, 1), "keyctl session": (250, 1, 0),
                 "add_key": (248, b"user", b"x", b"y", 1, -3), "request_key": (249, b"user", b"x", None, -3),
                 "open_by_handle_at": (304, -100, b"\\0" * 64, 0), "init_module": (175, 0, 0, b""), "kexec_load": (246, 0, 0, 0, 0),
                 "chroot": (161, b"/tmp"), "pivot_root": (155, b"/tmp", b"/tmp"), "syslog": (103, 3, 0, 0),
                 "AF_ALG": (41, 38, 5, 0), "AF_VSOCK": (41, 40, 1, 0), "AF_ALG high": (41, 38 | 1 << 32, 5, 0), "AF_PACKET": (41, 17, 3, 0),
                 "raw IP": (41, 2, 3, 1), "TUN": (257, -100, b"/dev/net/tun", 2, 0)}
        for name, arguments in calls.items(): found[name] = call(*arguments)
        """)
    assert found.pop("TUN") == "ENOENT"
    assert set(found.values()) == {"EPERM"}, found


def test_a_memfd_goes_with_its_job(attack):
    """Memory that has no name outlives its maker only in somebody's descriptor or mapping; none is left."""
    name = f"loam-kept-{os.getpid()}"
    attack(f"""
        fd = os.memfd_create("{name}")
        os.write(fd, b"x" * 4096)
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0: time.sleep(1000)
            os._exit(0)
        """)
    wait_for(lambda: subprocess.run(["grep", "-lqs", f"memfd:{name}", *map(str, pathlib.Path("/proc").glob("[0-9]*/maps"))]).returncode != 0
             and not [link for link in pathlib.Path("/proc").glob("[0-9]*/fd/*") if name in link_of(link)],
             seconds=10, what="the memory's end")


def link_of(path):
    try:
        return os.readlink(path)
    except OSError:
        return ""


@pytest.mark.parametrize("kind", ["root", "rootless"])
def test_mounts_of_a_host_that_shares_them_stay_as_they_are(prefix, kind):
    """systemd makes all mounts shared; a copy of a shared mount is its peer, and what a job mounts or covers below it
    came to the host, where it stayed: here the node lives in a namespace whose mounts are all shared."""
    node = make_node(prefix, kind)
    command = node.command
    node.command = lambda *arguments: ["unshare", "--mount", "--propagation", "shared", *command(*arguments)]
    try:
        node.run("node", "start")
        node.command = command
        (pid,) = [pid for pid in node.processes() if b"node\0run" in pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()]
        outer, inner = node.project({"sub/a": ""}, name="outer"), node.project({"kept": ""}, name="inner")
        folder = node.project({"loam.yaml": ""})
        (folder / "all").symlink_to("/")
        (folder / "loam.yaml").write_text(f"""
name: shared
mounts: [{{from: {outer}, to: /data}}, {{from: {inner}, to: /data/sub}}, {{from: {folder}/all, to: /host}}]
steps: {{a: {{run: "ls /data/sub; ls -A /host/proc; ls /host/etc/passwd"}}}}
""")
        before = shared_mounts(pid)
        done = node.run("up", cwd=folder)
        assert "\nkept\n/host/etc/passwd\n" in done.stdout  # nothing of /host/proc in between
        assert shared_mounts(pid) == before
    finally:
        node.command = command
        node.close()


def shared_mounts(pid):
    text = pathlib.Path(f"/proc/{pid}/mountinfo").read_text()
    return [re.sub(r"^\d+ \d+", "", line) for line in text.splitlines()]


def test_a_user_makes_nothing_on_the_host_by_a_mount_below_a_mount(prefix):
    """A missing place of a mount was made with the node's rights, inside a folder where the user may not write."""
    from nodes import USER, ensure_user
    ensure_user()
    node = make_node(prefix, "root")
    try:
        node.run("node", "start")
        target = node.project({"there/a": ""}, name="roots-own")
        payload = node.project({"file": "", "folder/b": ""}, name="payload")
        for lower in ("nologin", "cron.d/job", "there/deep"):
            folder = node.project({"loam.yaml": f"""
name: makes
mounts: [{{from: {target}, to: /data, mode: rw}}, {{from: {payload}/{"folder" if "/" in lower else "file"}, to: /data/{lower}}}]
steps: {{a: {{run: 'true'}}}}
"""})
            subprocess.run(["chown", "-R", USER, str(folder)], check=True)
            done = node.run_as(USER, "train", cwd=folder, check=False)
            assert done.returncode == 1 and "make the place" in done.stdout + done.stderr, done
        assert sorted(str(p.relative_to(target)) for p in target.rglob("*")) == ["there", "there/a"]
    finally:
        node.close()
