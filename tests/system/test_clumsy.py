"""What hurried and clumsy hands type: refused, or done, and said in words that help."""
import pathlib
import subprocess

import pytest

from nodes import kill, node_processes, wait_for


def refused(node, *arguments, status=2, **options):
    done = node.run(*arguments, check=False, **options)
    assert done.returncode == status, (done.returncode, done.stdout, done.stderr)
    return done.stderr


def test_what_has_ended_cannot_be_cancelled(node):
    folder = node.project({"loam.yaml": "name: over\nsteps: {a: {run: 'true'}}\n"})
    run = node.json("up", "--detach", cwd=folder)["run"]
    wait_for(lambda: node.json("ps", str(run))["state"] == "succeeded", what="the run's end")
    assert refused(node, "cancel", run, status=1) == f"loam: run {run} has already ended (succeeded)\n"
    assert refused(node, "cancel", f"{run}/a", status=1) == f"loam: {run}/a has already ended (succeeded)\n"


@pytest.mark.parametrize("words", [("trace", ""), ("logs", ""), ("cancel", ""), ("ps", ""), ("models", "show", ""),
                                   ("models", "import", ""), ("files", ""), ("secret", "set", ""), ("check", "")],
                         ids=lambda words: "-".join(filter(None, words)))
def test_an_empty_word_is_wrong_usage(node, words):
    said = refused(node, *words)
    assert "is empty; expected" in said and "try: loam help" in said


def test_secrets_that_no_job_could_have_are_refused(node):
    assert "LOAM_TOKEN' is Loam's own" in refused(node, "secret", "set", "LOAM_TOKEN", input="x")
    assert "ZERO: holds a zero byte" in refused(node, "secret", "set", "ZERO", input="a\0b")
    assert "no variable's name" in refused(node, "secret", "set", "TWO WORDS", input="x")
    assert node.run("secret", "ls").stdout == ""


@pytest.mark.parametrize("setting, wrong", [
    ("LOAM_RUN=9", "'LOAM_RUN' is Loam's own"), ("A B=x", "'A B' is no variable's name"), ("1A=x", "'1A' is no variable's name"),
])
def test_variables_that_loam_would_replace_or_no_shell_can_read_are_refused(node, setting, wrong):
    result = node.run("run", "-e", setting, "--", "true", check=False)
    assert result.returncode == 2 and wrong in result.stderr, result.stderr


def test_a_project_without_the_half_that_is_asked_for(node):
    only_steps = node.project({"loam.yaml": "name: half\nsteps: {a: {run: 'true'}}\n"})
    node.run("node", "start")
    assert refused(node, "serve", cwd=only_steps).startswith("loam.yaml: has no services; 'loam serve' needs")
    only_services = node.project({"loam.yaml": "name: half\nservices: {s: {model: m, handler: 's.py:f'}}\n", "w": "1",
                                  "s.py": "def f(x): return x\n"})
    node.run("models", "import", only_services, "--name", "m")
    assert refused(node, "train", cwd=only_services).startswith("loam.yaml: has no steps; 'loam train' needs")


def test_leading_zeros_are_refused_on_the_command_line_too(node):
    for words in (("--memory", "0100MiB"), ("--time", "010m"), ("--cpus", "01"), ("--ranks", "02"), ("--gpus", "01"),
                  ("--hugepages", "02MiB")):
        assert "without the leading zero" in refused(node, "run", *words, "--", "true"), words


def test_a_state_folder_behind_links(fresh_node):
    """The link itself, and one above; to a folder that is there, and to one that is still to be made."""
    real = fresh_node.folder / "disk"
    real.mkdir()
    (fresh_node.folder / "above").symlink_to(real)
    (fresh_node.folder / "linked").symlink_to(real / "here")
    fresh_node.own(fresh_node.folder)
    for state in ("above/state", "linked"):
        fresh_node.environment["LOAM_STATE_DIR"] = str(fresh_node.folder / state)
        folder = fresh_node.project({"loam.yaml": "name: linked\nsteps: {a: {run: echo hello}}\n"})
        assert "hello" in fresh_node.run("up", cwd=folder).stdout
        assert fresh_node.run("run", "--", "echo", "there", cwd=folder).stdout == "there\n"
        fresh_node.run("node", "stop", "--jobs")
    assert (real / "state/node.db").is_file() and (real / "here/node.db").is_file()
    fresh_node.state = real / "here"  # whose groups are to be gone


def test_a_foreign_file_in_the_store_is_named_and_left_alone(fresh_node):
    fresh_node.run("models", "import", fresh_node.project({"w": "1"}), "--name", "m")
    note = fresh_node.state / "store/objects/note.txt"
    note.write_text("mine")
    listed = fresh_node.run("store", "ls")
    assert "m@1" in listed.stdout and "store/objects/note.txt is not the store's own" in listed.stderr
    assert "store/objects/note.txt is not the store's own" in fresh_node.run("store", "gc").stderr
    verified = fresh_node.run("store", "verify", check=False)
    assert verified.returncode == 1 and "objects/note.txt: is not the store's own; move it away" in verified.stdout
    assert note.read_text() == "mine"
    note.unlink()
    fresh_node.run("store", "verify")


def test_a_command_that_is_over_is_recorded_as_over(node):
    """Whoever looks right after it sees its end."""
    folder = node.project({})
    for _ in range(5):
        assert node.run("run", "--", "sh", "-c", "exit 4", cwd=folder, check=False).returncode == 4
        job = max(node.json("ps", "-a")["jobs"], key=lambda job: job["run"])
        assert job["state"] == "failed", job


def test_a_commands_status_outlives_the_node(fresh_node):
    gate = fresh_node.project({"none": ""}, "gate")
    folder = fresh_node.project({"loam.yaml": f"name: gate\nmounts: [{{from: {gate}, to: /mnt}}]\nsteps: {{a: {{run: 'true'}}}}\n"})
    client = fresh_node.start("run", "--", "sh", "-c", "echo ready; while [ ! -e /mnt/go ]; do sleep 0.05; done; exit 37",
                              cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert client.stdout.readline() == "ready\n"
    kill(node_processes(fresh_node))
    pathlib.Path(gate, "go").touch()
    _, said = client.communicate(timeout=60)
    assert client.returncode == 37 and "has not recorded it yet" in said
    fresh_node.run("node", "start")
    run = max(job["run"] for job in fresh_node.json("ps", "-a")["jobs"])
    wait_for(lambda: fresh_node.json("ps", str(run))["state"] == "failed", what="the recorded end")
