"""Accounts, quotas and shares of a node: who uses which, who waits, and what a restart keeps."""
import json
import subprocess

import pytest

from nodes import SINGLE_ID_USER, USER, kill, node_processes, user_command
from queueing import command_of, configure, cpus_of, job_of, wait_state

ACCOUNTS = f"""
accounts:
  vision: {{shares: 3, members: [{USER}], quota: {{running: 1, cpus: 1}}}}
  speech: {{}}
users:
  {USER}: {{account: vision}}
"""


def test_who_uses_which_account(shared):
    configure(shared, ACCOUNTS)
    own = command_of(shared, USER, "--", "true")
    other = command_of(shared, SINGLE_ID_USER, "--account", "speech", "--", "true")
    for run, account in ((own, "vision"), (other, "speech"), (command_of(shared, SINGLE_ID_USER, "--", "true"), "default")):
        assert job_of(shared, run)["account"] == account
    assert f"{USER}/vision" in shared.run("ps", "-a").stdout
    refused = shared.as_user(SINGLE_ID_USER, "run", "--account", "vision", "--", "true", check=False)
    assert refused.returncode == 1 and \
        f"{SINGLE_ID_USER} is no member of the account 'vision'; you may use speech, default" in refused.stderr, refused
    refused = shared.as_user(USER, "run", "--account", "visoin", "--", "true", check=False)
    assert refused.returncode == 2 and "no account 'visoin' on this node; did you mean 'vision'?" in refused.stderr, refused
    folder = shared.project({"loam.yaml": "name: named\naccount: visoin\ntrain: {run: 'true'}\n"})
    refused = shared.run("train", cwd=folder, check=False)
    assert refused.returncode == 2 and \
        "loam.yaml:2:10: account: there is no account 'visoin' on this node; did you mean 'vision'?" in refused.stderr
    assert shared.run("train", "--account", "speech", cwd=folder).returncode == 0
    (folder / "loam.yaml").write_text("name: named\naccount: vision\ntrain: {run: 'true'}\n")
    assert shared.json("train", "--force", cwd=folder)["jobs"][0]["account"] == "vision"


def test_a_quota_is_waited_for_and_reload_lifts_it(shared):
    configure(shared, ACCOUNTS)
    first = command_of(shared, USER, "--cpus", "0.1", "--", "sleep", "1000")
    wait_state(shared, first, "running")
    second = command_of(shared, USER, "--cpus", "0.1", "--", "true")
    assert wait_state(shared, second, "queued")["why"].startswith("account vision holds 1 of at most 1 running jobs")
    why = shared.json("ps", "--why", second)["jobs"][0]
    assert why["quota"] and not why["short_of"] and why["unknown_why"] == "it waits for a quota", why
    refused = shared.as_user(USER, "run", "--cpus", "2", "--", "true", check=False)
    assert refused.returncode == 2 and "asks for 2 CPUs; account vision may hold 1 CPU at a time" in refused.stderr, refused
    configure(shared, ACCOUNTS.replace("running: 1", "running: 2"))
    assert wait_state(shared, second, "succeeded", "failed")["state"] == "succeeded"
    configure(shared, "queue: {user_quota: {queued: 0}}\n")
    refused = shared.as_user(USER, "run", "--", "true", check=False)
    assert refused.returncode == 2 and f"{USER} has 0 of at most 0 claims in the queue" in refused.stderr, refused
    # What was submitted goes on in an account that is no more.
    assert job_of(shared, first)["account"] == "vision" and job_of(shared, first)["state"] == "running"
    shared.run("cancel", first)


def posted(node, user, path, body):
    """(head, document) of a request as this user."""
    done = subprocess.run(user_command(user, "curl", "-sSi", "--unix-socket", node.runtime / "node.sock", f"http://localhost{path}",
                                       "-H", "Content-Type: application/json", "-d", json.dumps(body)),
                          capture_output=True, text=True, check=True)
    head, _, document = done.stdout.partition("\n\n")
    return head.lower(), json.loads(document)


def test_a_submission_finds_room_in_the_queue_or_none_of_it_is_taken(shared):
    """All of it counts before anything does: a sweep as its tasks. Full is 429; more than ever fits is the request's fault."""
    configure(shared, "queue: {user_quota: {queued: 3}}\n")
    folder = shared.project({"loam.yaml": "name: many\ntrain: {run: 'true', sweep: {n: 1..2}, resources: {cpus: 0.1, memory: 64MiB}}\n"})
    subprocess.run(["chown", "-R", f"{USER}:{USER}", str(folder)], check=True)
    held = [command_of(shared, USER, "--hold", "--", "true") for _ in range(2)]
    text = (folder / "loam.yaml").read_text()
    body = {"verb": "train", "project": str(folder), "text": text}
    head, answer = posted(shared, USER, "/v1/runs", body)
    assert head.startswith("http/1.1 429 ") and "\nretry-after: 60" in head, head
    assert f"{USER} has 2 of at most 3 claims in the queue; these are 2 more" in answer["error"]["text"], answer
    head, answer = posted(shared, USER, "/v1/runs", {**body, "text": text.replace("1..2", "1..4")})
    assert head.startswith("http/1.1 400 ") and "these are 4 more" in answer["error"]["text"], (head, answer)
    runs = shared.json("ps", "-a")["jobs"]
    assert not [job for job in runs if job["project"] == "many"], runs
    shared.run("cancel", held.pop())
    assert posted(shared, USER, "/v1/runs", body)[0].startswith("http/1.1 201 ")
    for run in held:
        shared.run("cancel", run)


def test_what_is_left_out_of_a_command_counts_as_it_will_be_given(shared):
    configure(shared, "")
    folder = shared.project({})
    subprocess.run(["chown", f"{USER}:{USER}", str(folder)], check=True)
    body = {"verb": "run", "project": str(folder), "command": {"argv": ["true"]}}
    run = posted(shared, USER, "/v1/runs", body)[1]["run"]
    assert wait_state(shared, run, "succeeded")["memory_bytes"] > 512 << 20
    configure(shared, "queue: {user_quota: {memory: 512MiB}}\n")
    for path, asked in (("/v1/runs", body), ("/v1/shell", {"target": str(run)})):
        head, answer = posted(shared, USER, path, asked)
        assert head.startswith("http/1.1 400 "), (path, head)
        assert f"of memory; {USER} may hold 512.0 MiB of memory at a time" in answer["error"]["text"], (path, answer)
    configure(shared, "queue: {user_quota: {queued: 0}}\n")
    assert "claims in the queue" in posted(shared, USER, "/v1/shell", {"target": str(run)})[1]["error"]["text"]


@pytest.mark.parametrize("fair", [True, False])
def test_who_has_had_more_waits(shared, fair):
    configure(shared, f"queue: {{fair_share: {str(fair).lower()}}}\n")
    cpus = cpus_of(shared)
    holds = command_of(shared, USER, "--cpus", cpus, "--", "sleep", "1000")
    wait_state(shared, holds, "running")
    his = command_of(shared, USER, "--cpus", cpus, "--", "true")
    others = command_of(shared, SINGLE_ID_USER, "--cpus", cpus, "--", "true")
    first, second = (others, his) if fair else (his, others)
    why = shared.json("ps", "--why", second)["jobs"][0]
    assert why["ahead"] == 1 and why["first_ahead"]["target"].startswith(f"{first}/"), why
    shared.run("cancel", holds)
    ended = wait_state(shared, second, "succeeded")
    assert wait_state(shared, first, "succeeded")["attempts"][0]["created_ms"] < ended["attempts"][0]["created_ms"]


def test_shares_weigh_what_was_had(shared):
    """Two accounts that hold alike: the one with more shares is next."""
    cpus = cpus_of(shared)
    configure(shared, "accounts: {big: {shares: 10}, small: {}}\n")
    half = cpus / 2
    held = [command_of(shared, USER, "--account", name, "--cpus", half, "--", "sleep", "1000") for name in ("big", "small")]
    for run in held:
        wait_state(shared, run, "running")
    small, big = [command_of(shared, USER, "--account", name, "--cpus", cpus, "--", "true") for name in ("small", "big")]
    assert shared.json("ps", "--why", small)["jobs"][0]["first_ahead"]["target"].startswith(f"{big}/")
    configure(shared, "accounts: {big: {}, small: {shares: 10}}\n")
    assert shared.json("ps", "--why", big)["jobs"][0]["first_ahead"]["target"].startswith(f"{small}/")
    for run in held:
        shared.run("cancel", run)
    wait_state(shared, big, "succeeded")


def test_fair_share_survives_the_node(shared):
    """Who had the machine before the node was killed stands behind who had not."""
    shared.run("node", "start")
    cpus = cpus_of(shared)
    had = command_of(shared, USER, "--cpus", cpus, "--", "sleep", "2")
    wait_state(shared, had, "succeeded")
    kill(node_processes(shared))
    shared.run("node", "start")
    holds = int(shared.run("run", "--detach", "--cpus", cpus, "--", "sleep", "1000", cwd=shared.project({})).stdout)
    wait_state(shared, holds, "running")
    his = command_of(shared, USER, "--cpus", cpus, "--", "true")
    others = command_of(shared, SINGLE_ID_USER, "--cpus", cpus, "--", "true")
    assert shared.json("ps", "--why", his)["jobs"][0]["first_ahead"]["target"].startswith(f"{others}/")
    shared.run("cancel", holds)
    wait_state(shared, his, "succeeded")
