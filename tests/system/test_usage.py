"""`loam usage`: what was held is counted, once, whatever dies."""
import json
import os
import time

import pytest

from nodes import SINGLE_ID_USER, USER, kill, node_processes, wait_for
from queueing import command_of, configure, job_of, project, submit, wait_state


LICENCE = f"licence-{os.getpid()}"  # locks are the machine's, by name: another run of these tests has others


def held_ms(node, runs, cpu_milli):
    """CPU-milliseconds of these runs by their attempts' own times."""
    jobs = [job for job in node.json("ps", "-a")["jobs"] if job["run"] in runs]
    assert all(attempt["state"] == "ended" for job in jobs for attempt in job["attempts"])
    return sum((attempt["ended_ms"] - attempt["created_ms"]) * cpu_milli for job in jobs for attempt in job["attempts"])


def usage_of(node, *arguments):
    return node.json("usage", *arguments)["usage"]


def hours(usage):
    return sum(one["cpu_hours"] for one in usage)


def test_usage_is_what_was_held(fresh_node):
    assert fresh_node.run("usage").stdout == "nobody has had anything of this machine since then\n"
    folder = project(fresh_node, "sleep 0.5", cpus=0.5, more="  retries: 1\n")
    runs = [submit(fresh_node, folder, "--force") for _ in range(3)]
    failing = submit(fresh_node, project(fresh_node, "exit 1", cpus=0.5, more="  retries: 1\n"))
    for run in [*runs, failing]:
        wait_state(fresh_node, run, "succeeded", "failed")
    (used,) = usage_of(fresh_node)
    user = fresh_node.user or "root"
    assert (used["account"], used["user"], used["attempts"]) == ("default", user, 5), used
    assert used["cpu_hours"] == pytest.approx(held_ms(fresh_node, [*runs, failing], 500) / 3.6e9, rel=1e-6)
    assert used["memory_gib_hours"] == pytest.approx(used["cpu_hours"] * 2 / 16, rel=1e-6)
    # A job holds its place until its output is taken in, and is charged until its process has ended.
    assert used["points"] >= (used["cpu_hours"] + used["memory_gib_hours"] / 8) * 0.99
    kill(node_processes(fresh_node))
    fresh_node.run("node", "start")
    (again,) = usage_of(fresh_node)
    assert again["points"] == pytest.approx(used["cpu_hours"] + used["memory_gib_hours"] / 8, rel=0.01)
    assert {**again, "points": 0} == {**used, "points": 0}
    used = again
    (by_user,) = usage_of(fresh_node, "--by", "user")
    assert {**by_user, "points": 0} == {**{key: used[key] for key in used if key != "account"}, "points": 0}
    said = fresh_node.run("usage", "--by", "account", "--since", "1h").stdout.splitlines()
    assert said[0].split() == ["ACCOUNT", "CPU-HOURS", "GIB-HOURS", "ATTEMPTS", "POINTS"] and said[1].startswith("default ")
    assert usage_of(fresh_node, "--since", "2999-01-01") == []
    for wrong in (["--by", "job"], ["--since", "soon"]):
        assert fresh_node.run("usage", *wrong, check=False).returncode == 2
    running = submit(fresh_node, project(fresh_node, "sleep 1000", cpus=0.5))
    wait_state(fresh_node, running, "running")
    before = hours(usage_of(fresh_node))
    wait_for(lambda: hours(usage_of(fresh_node)) > before)
    fresh_node.run("cancel", running)


def test_usage_of_devices_and_accounts(shared):
    configure(shared, f"devices: {{{LICENCE}: 2}}\naccounts: {{vision: {{members: [{USER}]}}}}\n")
    run = command_of(shared, USER, "--account", "vision", "--device", f"{LICENCE}=2", "--cpus", "0.5", "--", "sleep", "0.5")
    other = command_of(shared, SINGLE_ID_USER, "--cpus", "0.5", "--", "true")
    for one in (run, other):
        wait_state(shared, one, "succeeded")
    used = {(one["account"], one["user"]): one for one in usage_of(shared)}
    assert set(used) == {("vision", USER), ("default", SINGLE_ID_USER)}, used
    vision = used["vision", USER]
    assert vision["device_hours"] == {LICENCE: pytest.approx(vision["cpu_hours"] * 4, rel=1e-6)}
    assert used["default", SINGLE_ID_USER]["device_hours"] == {}
    assert f"{LICENCE}-HOURS" in shared.run("usage").stdout
    # Everybody sees it, as he sees the queue.
    assert json.loads(shared.as_user(SINGLE_ID_USER, "usage", "--json").stdout)["usage"] != []


@pytest.mark.parametrize("point", ["node.exit_seen", "node.exit_committed", "node.exit_acknowledged", "shim.after_exit_record",
                                   "node.output_stored"])
def test_an_end_is_counted_once_whenever_the_node_dies(fresh_node, point):
    fresh_node.run("node", "start", environment={"LOAM_CRASH_AT": point})
    run = submit(fresh_node, project(fresh_node, "sleep 1", cpus=0.5))
    time.sleep(3)
    kill(node_processes(fresh_node))
    fresh_node.run("node", "start")
    wait_state(fresh_node, run, "succeeded")
    (used,) = usage_of(fresh_node)
    assert used["attempts"] == len(job_of(fresh_node, run)["attempts"]) == 1, used
    assert used["cpu_hours"] == pytest.approx(held_ms(fresh_node, [run], 500) / 3.6e9, rel=1e-6)


def test_what_ran_while_no_node_was_there_is_counted(fresh_node):
    run = submit(fresh_node, project(fresh_node, "sleep 3", cpus=0.5))
    goes_on = submit(fresh_node, project(fresh_node, "sleep 1000", cpus=0.5))
    for one in (run, goes_on):  # a job runs from its grant on; an attempt whose shim had no time to begin is begun again
        wait_for(lambda: [attempt for attempt in job_of(fresh_node, one)["attempts"] if attempt["state"] != "starting"])
    kill(node_processes(fresh_node))
    time.sleep(3)
    fresh_node.run("node", "start")
    wait_state(fresh_node, run, "succeeded")
    used = hours(usage_of(fresh_node))
    ended = held_ms(fresh_node, [run], 500) / 3.6e9
    begun = job_of(fresh_node, goes_on)["attempts"][0]["created_ms"]
    (row,) = usage_of(fresh_node)
    assert ended + 0.5 * 3 / 3600 < used, (fresh_node.json("ps", "-a"), row, used, ended)
    assert used <= ended + 500 * (fresh_node.json("usage")["until_ms"] - begun) / 3.6e9
    # Fair share knows it too, though it was another node's.
    assert row["points"] == pytest.approx(row["cpu_hours"] + row["memory_gib_hours"] / 8, rel=0.01)
    fresh_node.run("cancel", goes_on)


def test_a_lost_job_is_not_charged_for_what_nobody_saw(fresh_node):
    """Node and shims gone: it counts until its last sign of life, not until a node looks again."""
    run = submit(fresh_node, project(fresh_node, "echo alive; sleep 1000", cpus=0.5))
    wait_for(lambda: "alive" in fresh_node.run("logs", f"{run}/train", check=False).stdout)
    started = job_of(fresh_node, run)["attempts"][0]["created_ms"]
    fresh_node.kill_all()
    time.sleep(4)
    fresh_node.run("node", "start")
    wait_for(lambda: len(job_of(fresh_node, run)["attempts"]) == 2 or None)
    fresh_node.run("cancel", run)
    wait_state(fresh_node, run, "cancelled")
    first, second = job_of(fresh_node, run)["attempts"]
    assert first["exit"]["outcome"] == "lost" and first["ended_ms"] - started > 3000, first
    lost = hours(usage_of(fresh_node)) - 500 * (second["ended_ms"] - second["created_ms"]) / 3.6e9
    assert lost < 500 * 3000 / 3.6e9, lost
