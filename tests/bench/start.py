#!/usr/bin/env python3
"""From submit to exit: `loam run -- true` beside the tools that isolate a process on Linux.

Each command is run in turn (A B C A B C …), so that a drifting machine hurts all alike; medians and the ratio to
plain fork+exec are printed as a Markdown table with versions, machine and date. Needs root (all peers do, for
the same namespaces)."""
import argparse
import datetime
import fcntl
import json
import os
import pathlib
import platform
import shutil
import socket
import statistics
import struct
import subprocess
import tempfile
import time


def version(*command):
    done = subprocess.run(command, capture_output=True, text=True)
    return (done.stdout + done.stderr).strip().splitlines()[0]


F_OFD_SETLK = 37  # fcntl.h
MADE_FOLDERS = ("proc", "sys", "dev", "tmp", "run")  # a container's own


def runc_bundle(folder):
    """The host's files read-only, as the others see them. They are bound folder by folder into a rootfs of its own:
    with the host's / as the root, pivot_root has nowhere to pivot to and answers EBUSY."""
    bundle = folder / "bundle"
    rootfs = bundle / "rootfs"
    rootfs.mkdir(parents=True)
    subprocess.run(["runc", "spec"], cwd=bundle, check=True)
    config = json.loads((bundle / "config.json").read_text())
    config["process"]["args"] = ["true"]
    config["process"]["terminal"] = False
    for entry in sorted(pathlib.Path("/").iterdir()):
        if entry.is_symlink():
            (rootfs / entry.name).symlink_to(entry.readlink())
        elif entry.is_dir():
            (rootfs / entry.name).mkdir()
            if entry.name not in MADE_FOLDERS:
                config["mounts"].append({"destination": str(entry), "type": "bind", "source": str(entry),
                                         "options": ["rbind", "ro"]})
    (bundle / "config.json").write_text(json.dumps(config))
    return bundle


def measure(command, cwd):
    begin = time.perf_counter()
    done = subprocess.run(command, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True)
    seconds = time.perf_counter() - begin
    if done.returncode != 0:
        raise SystemExit(f"{command}: exit {done.returncode}: {done.stderr.decode()}")
    return seconds * 1000


def kept_plan(loam, project, state):
    """The plan of a job that runs, and how to end it."""
    run = subprocess.run([loam, "run", "--detach", "--", "sleep", "600"], cwd=project, check=True, capture_output=True, text=True).stdout.strip()
    path = state / "attempts" / run / "plan.json"
    while not path.exists():
        time.sleep(0.01)
    return json.loads(path.read_text()), run


def measure_shim(shim, plan, folder):
    """From the start of loam-shim, a program of its own here, to its word that the user's process runs; without a cgroup."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)
    plan = {**plan, "folder": str(folder), "argv": ["sleep", "600"], "cgroup": {"v1": [], "v2": ""}}
    (folder / "plan.json").write_text(json.dumps(plan))
    lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.fcntl(lock, F_OFD_SETLK, struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    begin = time.perf_counter()
    process = subprocess.Popen([shim, f"--lock={lock}", f"--node={theirs.fileno()}", str(folder)], pass_fds=(lock, theirs.fileno()))
    os.close(lock)
    theirs.close()
    packet = json.loads(ours.recv(1 << 16))
    seconds = time.perf_counter() - begin
    if packet["type"] != "running":
        raise SystemExit(f"loam-shim: {packet}")
    for word in ("kill", "committed"):
        ours.send(json.dumps({"type": word}).encode())
        while word == "kill" and json.loads(ours.recv(1 << 16))["type"] != "exited":
            pass
    process.wait()
    return seconds * 1000


def private_bytes(pid):
    total = 0
    for line in pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith(("Private_Clean", "Private_Dirty")):
            total += int(line.split()[1])
    return total * 1024


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bin", default="build/release/bin")
    parser.add_argument("-n", type=int, default=30)
    options = parser.parse_args()
    loam = str(pathlib.Path(options.bin).resolve() / "loam")
    folder = pathlib.Path(tempfile.mkdtemp(prefix="loam-bench-"))
    os.environ["LOAM_STATE_DIR"], os.environ["LOAM_RUNTIME_DIR"] = str(folder / "state"), str(folder / "run")
    project = folder / "project"
    project.mkdir()
    commands = {"fork+exec": ["/bin/true"], "loam run -- true": [loam, "run", "--", "true"],
                "loam version (start of the program)": [loam, "version"],
                "unshare -mpf true": ["unshare", "-mpf", "true"]}
    if shutil.which("bwrap"):
        commands["bubblewrap"] = ["bwrap", "--unshare-all", "--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev", "true"]
    if shutil.which("runc"):
        commands["runc run"] = ["runc", "run", "--bundle", str(runc_bundle(folder)), "loam-bench"]
    subprocess.run([loam, "node", "start"], check=True, stdout=subprocess.DEVNULL)
    times = {name: [] for name in commands}
    usable = dict(commands)
    shim = "loam-shim (start to running)"
    try:
        plan, run = kept_plan(loam, project, folder / "state")
        times[shim] = []
        for name, command in commands.items():
            try:
                measure(command, project)
            except SystemExit as error:
                print(f"left out: {error}")
                usable.pop(name)
        for _ in range(options.n):
            for name, command in usable.items():
                times[name].append(measure(command, project))
            times[shim].append(measure_shim(str(pathlib.Path(loam).with_name("loam-shim")), plan, folder / "shim"))
        subprocess.run([loam, "cancel", run], check=True, stdout=subprocess.DEVNULL)
        node = json.loads(subprocess.run([loam, "node", "status", "--json"], capture_output=True, check=True).stdout)
        node_private = private_bytes(node["pid"])
    finally:
        subprocess.run([loam, "node", "stop", "--jobs"], stdout=subprocess.DEVNULL)
        shutil.rmtree(folder, ignore_errors=True)
    base = statistics.median(times["fork+exec"])
    print(f"{datetime.date.today()}, {os.cpu_count()} cores, Linux {platform.release()}, {options.n} runs each, in turn")
    print(f"loam: {version(loam, 'version')}; {version('unshare', '--version')}; "
          + "; ".join(version(tool, "--version") for tool in ("bwrap", "runc") if shutil.which(tool)) + "\n")
    print("| command | median ms | min | max | over fork+exec, ms |\n| --- | --- | --- | --- | --- |")
    for name in [*usable, shim]:
        median = statistics.median(times[name])
        print(f"| {name} | {median:.1f} | {min(times[name]):.1f} | {max(times[name]):.1f} | {median - base:.1f} |")
    print(f"\nnode at rest: {node_private / 1048576:.1f} MiB private")


if __name__ == "__main__":
    main()
