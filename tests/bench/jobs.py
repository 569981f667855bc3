#!/usr/bin/env python3
"""Jobs per second: `true`, many times, two at once, from the first submission to the last exit.

Loam beside GNU parallel, nq, task-spooler and a Slurm that is started here, in a temporary folder and on loopback;
what is not installed is left out and named. Then what one more job costs behind 1,000 and 10,000 waiting ones, and
how long a node takes to have its running jobs again after kill -9. Needs root (Slurm's daemons do)."""
import argparse
import concurrent.futures
import datetime
import json
import os
import pathlib
import platform
import shutil
import signal
import socket
import subprocess
import tempfile
import time

AT_ONCE = 2
PATIENCE_S = 600


def version(*command):
    done = subprocess.run(command, capture_output=True, text=True)
    return (done.stdout + done.stderr).strip().splitlines()[0]


def peer_versions():
    asked = subprocess.run(["dpkg-query", "-W", "-f", "${Package} ${Version}\n", "parallel", "nq", "task-spooler", "slurmctld"],
                           capture_output=True, text=True)
    return asked.stdout.splitlines()


def quiet(*command, **options):
    return subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, **options).stdout


def wait_until(condition, what):
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"{what} did not come within {PATIENCE_S} s")
        time.sleep(0.01)


class Loam:
    """A node of this benchmark's own."""

    def __init__(self, binary, folder):
        self.binary = binary
        self.project = folder / "project"
        self.project.mkdir()
        self.environment = {**os.environ, "LOAM_STATE_DIR": str(folder / "state"), "LOAM_RUNTIME_DIR": str(folder / "run")}
        self.run("node", "start")

    def run(self, *arguments):
        return quiet(self.binary, *arguments, cwd=self.project, env=self.environment)

    def submit(self, *arguments):
        self.run("run", "--detach", *arguments)

    def status(self):
        return json.loads(self.run("node", "status", "--json"))

    def jobs(self):
        counted = self.status()["jobs"]
        return counted["running"], counted["waiting"]

    def idle(self):
        return self.jobs() == (0, 0)

    def stop(self):
        self.run("node", "stop", "--jobs")


def loam_rate(loam, count, clients):
    begin = time.perf_counter()
    with concurrent.futures.ThreadPoolExecutor(clients) as pool:
        list(pool.map(lambda _: loam.submit("--", "true"), range(count)))
    wait_until(loam.idle, "the end of Loam's jobs")
    return count / (time.perf_counter() - begin)


def sweep_rate(loam, count, tasks):
    """One sweep of `true`, at most a thousand tasks of it; `tasks`: its line of loam.yaml."""
    (loam.project / "loam.yaml").write_text(
        f"name: bench\nsteps:\n  many:\n    run: [\"true\"]\n    sweep: {{n: 1..{min(count, 1000)}}}\n{tasks}"
        "    resources: {cpus: 1, memory: 64MiB}\n")
    begin = time.perf_counter()
    loam.run("up", "--detach", "--force")
    wait_until(loam.idle, "the end of the sweep")
    rate = min(count, 1000) / (time.perf_counter() - begin)
    (loam.project / "loam.yaml").unlink()
    return rate


def parallel_rate(folder, count):
    begin = time.perf_counter()
    numbers = "\n".join(map(str, range(count)))
    subprocess.run(["parallel", f"-j{AT_ONCE}", "true"], input=numbers, text=True, check=True,
                   env={**os.environ, "PARALLEL_HOME": str(folder)}, stderr=subprocess.DEVNULL)
    return count / (time.perf_counter() - begin)


def nq_rate(folder, count):
    """nq runs one job after the other: its queue is a folder of locked files."""
    environment = {**os.environ, "NQDIR": str(folder / "nq")}
    begin = time.perf_counter()
    for _ in range(count):
        quiet("nq", "-q", "true", env=environment)
    quiet("nq", "-w", env=environment)
    return count / (time.perf_counter() - begin)


def task_spooler_rate(folder, count):
    environment = {**os.environ, "TS_SOCKET": str(folder / "ts.socket"), "TMPDIR": str(folder), "TS_MAXFINISHED": "10"}
    quiet("tsp", "-S", str(AT_ONCE), env=environment)
    try:
        begin = time.perf_counter()
        for _ in range(count):
            quiet("tsp", "-n", "true", env=environment)
        wait_until(lambda: not any(word in quiet("tsp", env=environment) for word in ("queued ", "running ")),
                   "the end of task-spooler's jobs")
        return count / (time.perf_counter() - begin)
    finally:
        quiet("tsp", "-K", env=environment)


def free_ports(count):
    holders = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [holder.getsockname()[1] for holder in holders]
    for holder in holders:
        holder.close()
    return ports


class Slurm:
    """One controller, one node, no accounting: the shortest road that a Slurm has."""

    def __init__(self, folder):
        for name in ("state", "spool"):
            (folder / name).mkdir(parents=True)
        name = socket.gethostname().split(".")[0]
        controller, daemon = free_ports(2)
        (folder / "slurm.conf").write_text(f"""ClusterName=bench
SlurmctldHost={name}(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={daemon}
AuthType=auth/none
CredType=cred/none
SlurmUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MailProg=/bin/true
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
MaxArraySize=20001
MaxJobCount=40000
NodeName={name} NodeAddr=127.0.0.1 CPUs={AT_ONCE}
PartitionName=all Nodes=ALL Default=YES
""")
        self.folder = folder
        self.environment = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf")}
        self.daemons = [subprocess.Popen(command, env=self.environment, stdout=subprocess.DEVNULL,
                                         stderr=subprocess.DEVNULL)
                        for command in (["/usr/sbin/slurmctld", "-D", "-i"], ["/usr/sbin/slurmd", "-D", "-N", name])]
        try:
            wait_until(lambda: "idle" in self.try_call("sinfo", "-h", "-o", "%t"), "Slurm's node")
        except BaseException:
            self.stop()
            raise

    def try_call(self, *command):
        return subprocess.run(command, env=self.environment, capture_output=True, text=True).stdout

    def rate(self, count):
        begin = time.perf_counter()
        quiet("sbatch", f"--array=1-{count}", "--output=/dev/null", "--wrap=true", cwd=self.folder, env=self.environment)
        wait_until(lambda: not self.try_call("squeue", "-h").strip(), "the end of Slurm's jobs")
        return count / (time.perf_counter() - begin)

    def stop(self):
        for daemon in reversed(self.daemons):
            daemon.send_signal(signal.SIGTERM)
            daemon.wait()


def slurm_rate(folder, count):
    slurm = Slurm(folder / "slurm")
    try:
        return slurm.rate(max(1, count // 10))  # its rate is two orders lower
    finally:
        slurm.stop()


def cost_behind(loam, waiting, probes=100):
    """Milliseconds to submit one more job, and from one job's end to the next one's, with so many waiting."""
    loam.submit("--cpus", str(AT_ONCE), "--", "sleep", "100000")
    running = json.loads(loam.run("ps", "--json"))["jobs"][0]["target"]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: loam.submit("--", "true"), range(waiting)))
    begin = time.perf_counter()
    for _ in range(probes):
        loam.submit("--", "true")
    submit_ms = (time.perf_counter() - begin) * 1000 / probes
    loam.run("cancel", running)
    wait_until(lambda: loam.jobs()[1] < waiting + probes, "the first one's turn")
    begin, before = time.perf_counter(), loam.jobs()[1]
    wait_until(lambda: loam.jobs()[1] <= before - 5 * probes, "the queue's turn")
    each_ms = (time.perf_counter() - begin) * 1000 / (before - loam.jobs()[1])
    return submit_ms, each_ms


def adoption_ms(loam, count):
    """From the start of the next node until it has all jobs of the killed one."""
    for _ in range(count):
        loam.submit("--cpus", "0.01", "--memory", "16MiB", "--", "sleep", "100000")
    wait_until(lambda: loam.jobs() == (count, 0), "the jobs' start")
    pid = loam.status()["pid"]
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not pathlib.Path(f"/proc/{pid}").exists(), "the node's end")
    begin = time.perf_counter()
    loam.run("node", "start")
    if loam.jobs() != (count, 0):
        raise SystemExit(f"the next node has {loam.jobs()} of {count} jobs")
    return (time.perf_counter() - begin) * 1000


def print_rates(loam, folder, count):
    peers = {"GNU parallel": ("parallel", parallel_rate), "nq (one at a time)": ("nq", nq_rate),
             "task-spooler": ("tsp", task_spooler_rate), "Slurm, sbatch --array": ("slurmctld", slurm_rate)}
    rates = {"loam run --detach, 1 client": loam_rate(loam, count, 1),
             "loam run --detach, 4 clients": loam_rate(loam, count, 4),
             "a sweep's tasks, a sandbox each": sweep_rate(loam, count, ""),
             "a sweep's tasks that share sandboxes": sweep_rate(loam, count, "    tasks: {share: sandbox}\n")}
    for name, (program, rate) in peers.items():
        if shutil.which(program, path=os.environ["PATH"] + ":/usr/sbin"):
            rates[name] = rate(folder, count)
        else:
            print(f"left out: {name} is not installed")
    print("| | jobs/s |\n| --- | ---: |")
    for name, rate in rates.items():
        print(f"| {name} | {rate:.0f} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bin", default="build/release/bin")
    parser.add_argument("-n", type=int, default=1000, help="jobs of each rate")
    parser.add_argument("--waiting", type=int, nargs="*", default=[1000, 10000])
    options = parser.parse_args()
    binary = str(pathlib.Path(options.bin).resolve() / "loam")
    folder = pathlib.Path(tempfile.mkdtemp(prefix="loam-bench-"))
    loam = Loam(binary, folder)
    try:
        print(f"{datetime.date.today()}, {os.cpu_count()} cores, Linux {platform.release()}, {options.n} jobs each")
        print("; ".join([version(binary, "version"), *peer_versions()]) + "\n")
        print_rates(loam, folder, options.n)
        print("\n| waiting | one more submission, ms | a job's turn to the next one's, ms |\n| ---: | ---: | ---: |")
        for waiting in options.waiting:
            submit_ms, each_ms = cost_behind(loam, waiting)
            print(f"| {waiting:,} | {submit_ms:.1f} | {each_ms:.1f} |")
            loam.stop()
            loam.run("node", "start")
        count = int(os.cpu_count() / 0.01)  # what fits: no job has less than a hundredth of a CPU
        print(f"\nadoption of {count} running jobs: {adoption_ms(loam, count):.0f} ms from the start of the next node")
    finally:
        loam.stop()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
