"""Gangs: `ranks: N` of a step and `loam run --ranks N`. N processes of one attempt that find each other."""
import json
import os
import pathlib

import pytest

from nodes import kill, make_node, node_processes, shims, wait_for

MEET = """
import json, os, socket, sys, time

def mine():
    names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    return {name: os.environ[name] for name in names}

def meet():
    "Rank 0 hears from every other and answers with the sum of all ranks, as an all-reduce does."
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    at = (os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]))
    if rank == 0:
        server = socket.create_server(at)
        peers = [server.accept()[0] for _ in range(size - 1)]
        total = sum(int(peer.recv(8)) for peer in peers)
        for peer in peers:
            peer.sendall(b"%d" % total)
        return total
    while True:
        try:
            peer = socket.create_connection(at)
            break
        except ConnectionRefusedError:
            time.sleep(0.05)
    peer.sendall(b"%d" % rank)
    return int(peer.recv(8))
"""
SEAT = f"seat{os.getpid()}"  # locks are the machine's, by name: another run of these tests has others
CONFIG = f"devices: {{{SEAT}: 3}}\n"


@pytest.fixture(scope="module", params=["root", "rootless"])
def node(prefix, request):
    made = make_node(prefix, request.param)
    made.configure(CONFIG)
    yield made
    made.close()


def gang(node, script, more="", ranks=2, resources="cpus: 0.1, memory: 32MiB"):
    text = f"name: gang\ntrain:\n  run: [python3, train.py]\n  ranks: {ranks}\n  resources: {{{resources}}}\n{more}"
    return node.project({"loam.yaml": text, "train.py": MEET + script})


def run_of(node, project, *arguments, status=0):
    done = node.run("train", *arguments, cwd=project, check=False)
    assert done.returncode == status, (done.stdout, done.stderr, node.log()[-2000:])
    return node.json("ps", "-a")["jobs"][0]


def lines(node, job, attempt=None):
    target = job["target"] + (f"/{attempt}" if attempt else "")
    return node.run("logs", target).stdout.splitlines()


def start(node, project):
    run = node.json("train", "--detach", cwd=project)["run"]
    return f"{run}/train"


def job_of(node, target):
    return next(job for job in node.json("ps", "-a")["jobs"] if job["target"] == target)


def await_lines(node, target, count, word):
    def there():
        log = node.run("logs", target, check=False).stdout.splitlines()
        return sum(word in line for line in log) >= count and log
    return wait_for(there, what=f"{count} lines with {word}")


def await_state(node, target, *states):
    return wait_for(lambda: (job := job_of(node, target))["state"] in states and job, what=f"{target} {states}")


def test_ranks_meet_and_know_who_they_are(node):
    job = run_of(node, gang(node, "print(json.dumps(mine()), 'sum', meet())", ranks=3))
    assert job["state"] == "succeeded" and job["request"]["ranks"] == 3
    told = {}
    for line in lines(node, job):
        label, _, rest = line.partition(" ")
        document, _, total = rest.rpartition(" sum ")
        told[label] = json.loads(document)
        assert total == "3"
    assert sorted(told) == ["[0]", "[1]", "[2]"]
    for label, one in told.items():
        rank = label.strip("[]")
        assert one["RANK"] == one["LOCAL_RANK"] == rank
        assert one["WORLD_SIZE"] == one["LOCAL_WORLD_SIZE"] == "3" and one["MASTER_ADDR"] == "127.0.0.1"
    assert len({one["MASTER_PORT"] for one in told.values()}) == 1


def test_without_a_network_they_meet_all_the_same(node):
    assert "[1] sum 1" in lines(node, run_of(node, gang(node, "print('sum', meet())", "  network: none\n")))


def test_each_rank_is_given_its_own_devices(node):
    script = f"print([unit['id'] for unit in json.loads(os.environ['LOAM_DEVICES'])['{SEAT}']])"
    job = run_of(node, gang(node, script, resources=f"cpus: 0.1, memory: 32MiB, devices: {{{SEAT}: 1}}"))
    mine = [line.partition(" ")[2] for line in lines(node, job)]
    assert len(set(mine)) == 2, mine
    assert len(job["attempts"][0]["devices"]) == 2
    assert all(device["state"] == "free" for device in node.json("devices")["devices"])


def test_a_gang_that_can_never_fit_is_refused(node):
    project = gang(node, "", ranks=4, resources=f"cpus: 0.1, memory: 32MiB, devices: {{{SEAT}: 1}}")
    refused = node.run("train", cwd=project, check=False)
    assert refused.returncode != 0 and SEAT in refused.stderr, refused.stderr
    job = node.run("run", "--ranks", "257", "--", "true", check=False)
    assert job.returncode == 2 and "from 1 to 256" in job.stderr
    job = node.run("run", "--ranks", "2", "-t", "--", "true", check=False)
    assert job.returncode == 2 and "neither a terminal" in job.stderr


def test_the_first_that_fails_ends_the_others_and_is_named(node):
    script = """
import signal
signal.signal(signal.SIGTERM, lambda *_: (print("told to end", flush=True), sys.exit(3)))
meet()
if os.environ["RANK"] == "1":
    raise ValueError("rank one has had enough")
time.sleep(1000)
"""
    job = run_of(node, gang(node, script), status=1)
    assert job["error"] == "rank 1 failed first: exit status 1: ValueError: rank one has had enough", job
    assert job["attempts"][0]["exit"]["rank"] == 1
    assert "[0] told to end" in lines(node, job)


def test_a_retry_meets_at_a_port_of_its_own(node):
    script = """
print("port", os.environ["MASTER_PORT"], flush=True)
meet()
if os.environ["LOAM_ATTEMPT"] == "1" and os.environ["RANK"] == "1":
    sys.exit(9)
if os.environ["LOAM_ATTEMPT"] == "1":
    time.sleep(1000)
"""
    job = run_of(node, gang(node, script, "  retries: 1\n  retry_on: ['exit:9']\n"))
    ports = [{line.split()[2] for line in lines(node, job, attempt) if " port " in line} for attempt in (1, 2)]
    assert [len(port) for port in ports] == [1, 1], ports


def test_a_preemption_reaches_all_and_they_resume_and_meet_again(node):
    script = """
import signal
asked = []
signal.signal(signal.SIGUSR1, lambda *_: asked.append(1))
print("met", meet(), "from", os.environ.get("LOAM_CHECKPOINT"), flush=True)
if "LOAM_CHECKPOINT" in os.environ:
    sys.exit(0)
while not asked:
    time.sleep(0.02)
if os.environ["RANK"] == "0":
    os.makedirs("ck/checkpoint-1")
    open("ck/checkpoint-1/state", "w").write("x")
print("saved", flush=True)
sys.exit("asked to end")
"""
    target = start(node, gang(node, script, "  checkpoint: ck\n"))
    await_lines(node, target, 2, "met 1 from None")
    node.run("preempt", target)
    job = await_state(node, target, "succeeded", "failed")
    assert job["state"] == "succeeded" and job["preemptions"] == 1, job
    assert [attempt["exit"]["outcome"] for attempt in job["attempts"]] == ["preempted", "exited"]
    assert sum("saved" in line for line in lines(node, job, 1)) == 2
    assert sum("from /project/ck/checkpoint-1" in line for line in lines(node, job, 2)) == 2


def test_cancel_and_time_limit_reach_all(node):
    script = """
import signal
signal.signal(signal.SIGTERM, lambda *_: (print("bye", flush=True), sys.exit(1)))
print("up", flush=True)
time.sleep(1000)
"""
    target = start(node, gang(node, script))
    await_lines(node, target, 2, "up")
    node.run("cancel", target)
    assert await_state(node, target, "cancelled", "failed")["state"] == "cancelled"
    assert len(await_lines(node, target, 2, "bye")) == 4
    job = run_of(node, gang(node, script, resources="cpus: 0.1, memory: 32MiB, time: 3s"), status=1)
    assert job["attempts"][0]["exit"]["outcome"] == "timed_out"
    assert sum("bye" in line for line in lines(node, job)) == 2


def test_run_passes_output_and_status(node):
    folder = node.project({})
    done = node.run("run", "--ranks", "2", "--", "sh", "-c", "echo $RANK of $WORLD_SIZE", cwd=folder)
    assert sorted(done.stdout.splitlines()) == ["[0] 0 of 2", "[1] 1 of 2"]
    failed = node.run("run", "--ranks", "2", "--", "sh", "-c", "[ $RANK = 0 ] || exit 7; sleep 1000", cwd=folder, check=False)
    assert failed.returncode == 7 and "rank 1 failed first: exit status 7" in failed.stderr


def test_a_gang_outlives_the_node(fresh_node):
    """And is what it was for the next one: the same attempt, its devices held, ended once."""
    node = fresh_node
    node.configure(CONFIG)
    script = """
print("met", meet(), flush=True)
while not os.path.exists("/loam/home/go"):
    time.sleep(0.05)
"""
    target = start(node, gang(node, script, resources=f"cpus: 0.1, memory: 32MiB, devices: {{{SEAT}: 1}}"))
    await_lines(node, target, 2, "met 1")
    kill(node_processes(node))
    wait_for(lambda: not node_processes(node), what="the node's end")
    assert len(shims(node)) >= 1
    states = [device["state"] for device in node.json("devices")["devices"]]
    assert states == ["in use", "in use", "free"], states
    home = next(pathlib.Path(node.state, "homes").glob("*/gang"))
    (home / "go").write_text("")
    job = await_state(node, target, "succeeded", "failed")
    assert job["state"] == "succeeded" and len(job["attempts"]) == 1, job
