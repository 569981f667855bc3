"""Accounts, quotas and shares of a node: who uses which, who waits, and what a restart keeps."""
import pytest

from nodes import SINGLE_ID_USER, USER, kill, node_processes
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
