"""The node's configuration file: what it may say, what is in force, reading it again."""
import os
import signal
import time

import pytest


@pytest.fixture
def configured(fresh_node):
    """A node that reads node.yaml in its own folder, which is not there yet."""
    fresh_node.config_path = fresh_node.configure("")
    fresh_node.config_path.unlink()
    yield fresh_node
    del fresh_node.environment["LOAM_NODE_CONFIG"]


def test_reserve_is_not_given_to_jobs(configured):
    configured.configure("reserve: {memory: 1GiB}\n")
    configured.run("node", "start")
    state = configured.json("node", "status")
    assert state["config"]["file"] == str(configured.config_path) and state["config"]["present"]
    assert state["config"]["in_force"]["reserve"] == {"cpu_milli": 0, "memory_bytes": 1 << 30}
    before = state["capacity"]["memory_bytes"]
    configured.configure("reserve: {cpus: 0.5, memory: 2GiB}\n")
    assert configured.run("node", "reload").stdout == f"read {configured.config_path}\n"
    state = configured.json("node", "status")
    assert state["capacity"]["memory_bytes"] == before - (1 << 30)
    cpus = os.cpu_count()
    assert state["capacity"]["cpus"] == cpus - 0.5
    refused = configured.run("run", "--cpus", cpus, "--", "true", cwd=configured.project({}), check=False)
    assert refused.returncode == 2 and f"asks for {cpus} CPUs; this machine has {cpus - 0.5}" in refused.stderr


def test_problems_name_line_and_spelling_and_change_nothing(configured):
    configured.configure("reserve:\n  memroy: 1GiB\n")
    refused = configured.run("node", "start", check=False)
    assert refused.returncode != 0
    assert f"{configured.config_path}:2:3: reserve.memroy: unknown key; did you mean 'memory'?" in refused.stderr
    configured.configure("reserve: {memory: 1GiB}\n")
    configured.run("node", "start")
    in_force = configured.json("node", "status")["config"]
    configured.configure("reserve: {memory: 1000TiB}\n")
    refused = configured.run("node", "reload", check=False)
    assert refused.returncode != 0
    assert f"{configured.config_path}:1:1: reserve: leaves no memory for jobs; this machine has " in refused.stderr
    assert configured.json("node", "status")["config"] == in_force


def test_a_named_file_must_be_there(configured):
    refused = configured.run("node", "start", check=False)
    assert refused.returncode != 0 and f"LOAM_NODE_CONFIG: {configured.config_path}: No such file" in refused.stderr


def test_hangup_reads_it_again(configured):
    if configured.rootless:
        pytest.skip("a user cannot signal his node: it has other ids")
    configured.configure("reserve: {memory: 1GiB}\n")
    configured.run("node", "start")
    configured.configure("reserve: {memory: 2GiB}\n")
    os.kill(configured.pid(), signal.SIGHUP)
    deadline = time.monotonic() + 30
    while configured.json("node", "status")["config"]["in_force"]["reserve"]["memory_bytes"] != 2 << 30:
        assert time.monotonic() < deadline, configured.log()
        time.sleep(0.05)


def test_only_roots_own_file_configures_a_root_node(configured):
    if configured.rootless:
        pytest.skip("a user's node reads the user's file")
    configured.configure("{}\n")
    configured.config_path.chmod(0o666)
    refused = configured.run("node", "start", check=False)
    assert refused.returncode != 0 and "others than root can write it" in refused.stderr


def test_without_a_file_all_defaults_are_in_force(fresh_node):
    state = fresh_node.run("node", "start") and fresh_node.json("node", "status")
    assert not state["config"]["present"]
    expected = "/etc/loam/node.yaml" if not fresh_node.rootless else fresh_node.environment["HOME"] + "/.config/loam/node.yaml"
    assert state["config"]["file"] == expected
    assert state["config"]["in_force"]["reserve"] == {"cpu_milli": 0, "memory_bytes": 0}
