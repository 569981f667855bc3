"""Several users of one system node: what is one's own, what admins may do for all, and what not even they may."""
import json
import pwd
import subprocess

import pytest

from nodes import USER, Node, ensure_user, free_port, wait_for

OTHER, ADMIN = "loamtest2", "loamtestadmin"
GROUP = "loamtestadmins"
STEP = "name: {name}\ntrain:\n  run: {run}\n  resources: {{cpus: 0.1, memory: 64MiB}}\n"


def ensure_named(user):
    try:
        pwd.getpwnam(user)
    except KeyError:
        subprocess.run(["useradd", "--create-home", user], check=True)


@pytest.fixture(scope="module")
def group():
    """A group with one member, which goes again."""
    ensure_user()
    for user in (OTHER, ADMIN):
        ensure_named(user)
    subprocess.run(["groupadd", "--force", GROUP], check=True)
    subprocess.run(["usermod", "--append", "--groups", GROUP, ADMIN], check=True)
    yield GROUP
    subprocess.run(["groupdel", GROUP], check=True)


@pytest.fixture(scope="module")
def shared(prefix, group):
    node = Node(prefix, None)
    node.config = node.configure(f"admins: {{groups: {group}}}\n")
    node.run("node", "start")
    yield node
    node.close()


def loam(node, user, *arguments, cwd=None, check=False):
    return node.run_as(user, *arguments, cwd=cwd, check=check)


def submit(node, user, run="echo not-for-others; sleep 300", name="theirs", options=()):
    folder = node.project({"loam.yaml": STEP.format(name=name, run=json.dumps(run))})
    subprocess.run(["chown", "-R", f"{user}:{user}", str(folder)], check=True)
    done = loam(node, user, "train", "--detach", "--json", *options, cwd=folder, check=True)
    return json.loads(done.stdout)["run"]


SERVED = """name: served
endpoint: 127.0.0.1:{port}
serve: {{handler: serve.py:predict, model: served, resources: {{cpus: 0.1, memory: 128MiB}}}}
"""
SERVE = """import loam

@loam.signature(inputs={"x": ("FP32", [-1])}, outputs={"y": ("FP32", [-1])})
def predict(batch):
    return {"y": batch["x"]}
"""


def serve(node, user):
    """A project of this name that this user, or root, serves: its run."""
    folder = node.project({"loam.yaml": SERVED.format(port=free_port()), "serve.py": SERVE, "model/weight": "2"})
    if user:
        subprocess.run(["chown", "-R", f"{user}:{user}", str(folder)], check=True)
    call = (lambda *arguments: loam(node, user, *arguments, cwd=folder, check=True)) if user else (
        lambda *arguments: node.run(*arguments, cwd=folder))
    call("models", "import", "model", "--name", "served")
    call("serve")
    return max(job["run"] for job in node.json("ps")["jobs"])


def states(node, run):
    return {job["state"] for job in node.json("ps", "-a")["jobs"] if job["run"] == run}


def state(node, run):
    return [job for job in node.json("ps", "-a")["jobs"] if job["run"] == run][0]["state"]


def await_state(node, run, *states):
    return wait_for(lambda: state(node, run) in states, what=f"one of {states} of run {run}")


def test_everybody_sees_the_queue_and_acts_only_on_his_own(shared):
    run = submit(shared, USER)
    await_state(shared, run, "running")
    seen = json.loads(loam(shared, OTHER, "ps", "--json", check=True).stdout)["jobs"]
    assert [job["user"] for job in seen if job["run"] == run] == [USER]
    for verb in (("cancel", run), ("preempt", run), ("hold", run), ("logs", run), ("files", run), ("shell", run),
                 ("ps", "--why", run), ("trace", run)):
        refused = loam(shared, OTHER, *verb)
        assert refused.returncode != 0 and f"no such run or job: {run}" in refused.stderr, (verb, refused)
    assert state(shared, run) == "running"
    loam(shared, USER, "cancel", run, check=True)
    await_state(shared, run, "cancelled")


def test_an_admin_acts_on_everybodys_jobs(shared):
    run = submit(shared, USER)
    await_state(shared, run, "running")
    assert "preempted" in loam(shared, ADMIN, "preempt", f"{run}/train", "--json", check=True).stdout
    assert loam(shared, ADMIN, "ps", "--why", run).returncode == 0
    loam(shared, ADMIN, "cancel", run, check=True)
    await_state(shared, run, "cancelled")
    error = loam(shared, USER, "ps", "-a", "--json", check=True).stdout
    assert f"cancelled by {ADMIN}" in error


def test_an_admin_reads_nothing_of_others(shared):
    """What acts is one right, what reads another: neither output, files, trace, events nor a shell."""
    run = submit(shared, USER)
    await_state(shared, run, "running")
    for verb in (("logs", run), ("files", run), ("shell", run), ("trace", run)):
        refused = loam(shared, ADMIN, *verb)
        assert refused.returncode != 0 and f"run {run} is {USER}'s" in refused.stderr, (verb, refused)
        assert "not-for-others" not in refused.stdout + refused.stderr
    loam(shared, USER, "cancel", run, check=True)
    await_state(shared, run, "cancelled")
    assert loam(shared, USER, "logs", run).stdout == "not-for-others\n"
    assert loam(shared, ADMIN, "logs", run).stdout == ""


def test_an_admins_hold_is_no_request(shared):
    run = submit(shared, USER, run="true", options=("--hold",))
    loam(shared, ADMIN, "hold", run, check=True)
    refused = loam(shared, USER, "release", run)
    assert refused.returncode != 0 and f"is held by {ADMIN}; root and the node's admins let it go" in refused.stderr
    loam(shared, ADMIN, "release", run, check=True)
    await_state(shared, run, "succeeded")
    run = submit(shared, USER, run="true", options=("--hold",))
    shared.run("hold", run)
    refused = loam(shared, ADMIN, "release", run)
    assert refused.returncode != 0 and "held by root, who alone lets it go" in refused.stderr
    shared.run("release", run)
    await_state(shared, run, "succeeded")


def test_an_admin_may_raise_and_what_is_the_nodes_own_stays_roots(shared):
    raised = submit(shared, ADMIN, run="true", options=("--priority", "5"))
    await_state(shared, raised, "succeeded")
    for verb in (("node", "stop"), ("node", "reload"), ("store", "gc"), ("node", "backup", f"{pwd.getpwnam(ADMIN).pw_dir}/x.tar.zst")):
        refused = loam(shared, ADMIN, *verb)
        assert refused.returncode != 0 and "root" in refused.stderr, (verb, refused)


def test_by_its_name_root_ends_roots_own_project(shared):
    """Two users may call theirs alike; what root names is not somebody else's service."""
    theirs = serve(shared, USER)
    mine = serve(shared, None)
    shared.run("down", "served", cwd=shared.folder)
    assert "running" not in states(shared, mine)
    assert states(shared, theirs) == {"running"}
    loam(shared, USER, "down", "served", check=True)
    assert "running" not in states(shared, theirs)


def test_who_is_admin_is_read_again(shared):
    """A user by name; then nobody, without a restart."""
    run = submit(shared, USER)
    await_state(shared, run, "running")
    before = shared.config.read_text()
    shared.config.write_text(f"admins: {{users: [{OTHER}]}}\n")
    shared.run("node", "reload")
    assert loam(shared, ADMIN, "cancel", run).returncode != 0
    loam(shared, OTHER, "cancel", run, check=True)
    await_state(shared, run, "cancelled")
    shared.config.write_text("admins:\n  groups: [no-such-group]\n")
    refused = shared.run("node", "reload", check=False)
    assert refused.returncode != 0
    assert f"{shared.config}:1:1: admins: this machine has no group 'no-such-group'" in refused.stderr
    shared.config.write_text(before)
    shared.run("node", "reload")


def test_a_users_own_node_has_no_admins(prefix):
    node = Node(prefix, USER)
    try:
        ensure_user()
        node.configure("admins: {groups: root}\n")
        refused = node.run("node", "start", check=False)
        assert refused.returncode != 0 and "a user's own node serves nobody else" in refused.stderr
    finally:
        node.close()
