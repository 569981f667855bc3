"""Environments: locked once, the same tree everywhere, errors that name the package."""
import json

FILE = """name: envs
env:
  base: debian:bookworm
  apt: [python3-minimal]
steps:
  a: {run: "python3 --version; cat /etc/debian_version"}
"""


def test_debian_environment_is_built_locked_and_the_same_again(node, prefix):
    from nodes import make_node
    folder = node.project({"loam.yaml": FILE})
    done = node.run("up", cwd=folder)
    assert "Python 3.11" in done.stdout and "\n12." in done.stdout
    lock = json.loads((folder / "loam.lock").read_text())
    section = lock["envs"][0]
    assert all(len(deb["sha256"]) == 64 for deb in section["debs"]) and section["tree"]
    assert "http" not in (folder / "loam.lock").read_text()

    other = make_node(prefix, "rootless" if node.rootless else "root")  # as on another machine: an empty store
    try:
        copy = other.project({"loam.yaml": FILE, "loam.lock": (folder / "loam.lock").read_text()})
        again = other.run("up", cwd=copy, environment={"TZ": "Pacific/Auckland"})
        assert "Python 3.11" in again.stdout
        assert json.loads((copy / "loam.lock").read_text()) == lock
    finally:
        other.close()


def test_unknown_package_names_the_nearest(node):
    folder = node.project({"loam.yaml": FILE.replace("python3-minimal", "python3-nmupy")})
    done = node.run("up", cwd=folder, check=False)
    assert done.returncode == 1
    assert "python3-nmupy" in done.stderr + done.stdout and "python3-numpy" in done.stderr + done.stdout


def test_unknown_wheel_names_what_the_index_has(node):
    """By its spelling, or by what it is imported as."""
    for wrong, right in (("nmupy", "numpy"), ("sklearn-x", None), ("yaml", "pyyaml")):
        folder = node.project({"loam.yaml": f"name: envs\nenv: {{base: host, pip: [{wrong}]}}\nsteps: {{a: {{run: 'true'}}}}\n"})
        done = node.run("up", cwd=folder, check=False)
        said = done.stdout + done.stderr
        assert done.returncode == 1 and f"{wrong}: no such package on the configured index" in said
        assert (f"did you mean {right}?" in said) if right else ("did you mean" not in said)


def test_wheels_are_locked_by_hash(node):
    folder = node.project({"loam.yaml": FILE.replace("  apt: [python3-minimal]", "  apt: [python3]\n  pip: [six==1.16.0]")
                           .replace("python3 --version", "python3 -c 'import six; print(six.__version__)'")})
    assert "1.16.0" in node.run("up", cwd=folder).stdout
    wheels = json.loads((folder / "loam.lock").read_text())["envs"][0]["wheels"]
    assert [wheel["name"] for wheel in wheels] == ["six"] and len(wheels[0]["sha256"]) == 64


def test_a_lock_is_held_to_its_packages(node):
    """The tree that it names is there, but it is not of the wheel that it names."""
    folder = node.project({"loam.yaml": "name: held\nenv: {base: host, pip: [six==1.16.0]}\nsteps: {a: {run: 'true'}}\n"})
    node.run("up", cwd=folder)
    lock = folder / "loam.lock"
    (wheel,) = json.loads(lock.read_text())["envs"][0]["wheels"]
    lock.write_text(lock.read_text().replace(wheel["sha256"], "0" * 64))
    node.own(folder)
    done = node.run("up", "--force", cwd=folder, check=False)
    said = done.stdout + done.stderr
    assert done.returncode == 1 and "six" in said and "loam lock --update" in said, said


def test_two_builds_of_one_environment_at_once(node):
    text = FILE.replace("[python3-minimal]", "[python3-minimal, hello]")
    folders = [node.project({"loam.yaml": text.replace("name: envs", f"name: twin{i}")}) for i in range(2)]
    import subprocess
    runs = [node.start("up", cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) for folder in folders]
    outputs = [run.communicate(timeout=600)[0] for run in runs]
    assert [run.returncode for run in runs] == [0, 0], outputs
    locks = [json.loads((folder / "loam.lock").read_text())["envs"][0]["tree"] for folder in folders]
    assert locks[0] == locks[1]
