"""A user without subordinate ids: base: host works in a namespace of one id, all else is refused with the mend."""
import pytest

import nodes


@pytest.fixture(scope="module")
def single(prefix):
    node = nodes.make_node(prefix, "single_id")
    yield node
    node.close()


def test_a_job_runs_as_the_user_alone(single):
    folder = single.project({"a.txt": "one\n", "bin/tool": "#!/bin/sh\necho tool\n"})
    (folder / "link").symlink_to("a.txt")
    (folder / "bin/tool").chmod(0o755)
    done = single.run("run", "--", "sh", "-c",
                      "id -un; id -u; grep ^Cap /proc/self/status | cut -f2 | sort -u; cat link; bin/tool; "
                      "echo two > a.txt; cat a.txt; stat -c %U a.txt; cat /proc/1/environ 2>&1 | grep -o denied", cwd=folder)
    name = nodes.SINGLE_ID_USER
    uid = str(nodes.pwd.getpwnam(name).pw_uid)
    assert done.stdout.split() == [name, uid, "0" * 16, "one", "tool", "two", name, "denied"], done.stderr
    assert (folder / "a.txt").read_text() == "one\n"
    for guard in ("memory", "cpu", "processes", "devices"):
        assert guard in done.stderr


def test_the_node_says_what_is_missing(single):
    assert single.json("node", "status")["single_id"] is True
    checks = {check["name"]: check for check in single.json("doctor")["checks"]}
    assert not checks["ids"]["ok"] and "--add-subuids" in checks["ids"]["mend"]
    for guard in ("namespaces", "seccomp", "overlay", "network", "no_new_privs"):
        assert checks[f"guard {guard}"]["ok"], checks[f"guard {guard}"]


def test_network_none(single):
    done = single.run("run", "--network", "none", "--", "python3", "-c",
                      "import socket; print([n for _, n in socket.if_nameindex()])", cwd=single.project({}))
    assert done.stdout == "['lo']\n"


def test_steps_models_and_the_store_are_whole(single):
    folder = single.project({"loam.yaml": "name: lone\nsteps:\n  a:\n    run: echo weights > out/w\n    output: {model: lone, path: out}\n"})
    single.run("up", cwd=folder)
    assert single.json("store", "verify")["damage"] == []
    single.run("store", "gc")
    assert single.json("store", "verify")["damage"] == []


def test_an_environment_is_refused_with_the_mend(single):
    folder = single.project({"loam.yaml": "name: d\nenv: {base: 'debian:bookworm'}\nsteps:\n  a: {run: echo ran}\n"})
    done = single.run("up", cwd=folder, check=False)
    assert done.returncode == 2 and "--add-subuids" in done.stderr and "base: host" in done.stderr
    assert "\nran\n" not in done.stdout
