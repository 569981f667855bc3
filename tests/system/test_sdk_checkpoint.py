"""loam.checkpoint, loam.resume and loam.preempted as a plain script sees them: no node, no Loam."""
import ast
import errno
import json
import os
import signal
import subprocess
import sys
import textwrap

import pytest

from nodes import SOURCE

PYTHON = SOURCE / "python"


def script(folder, text, environment=None, check=True):
    return subprocess.run([sys.executable, "-c", "import os, sys, loam\n" + textwrap.dedent(text)], cwd=folder, text=True,
                          capture_output=True, check=check,
                          env={"PATH": os.environ["PATH"], "PYTHONPATH": str(PYTHON), **(environment or {})})


SAVE = """
def save(step, content="weights"):
    with loam.checkpoint(step) as path:
        assert not os.listdir(path)
        open(os.path.join(path, "model"), "w").write(content)
"""


def names(folder):
    return sorted(os.listdir(folder / "checkpoints"))


def test_finished_ones_have_their_name_and_the_newest_stay(tmp_path):
    script(tmp_path, SAVE + """
for step in range(1, 6):
    save(step)
""")
    assert names(tmp_path) == ["checkpoint-3", "checkpoint-4", "checkpoint-5"]
    assert json.loads((tmp_path / "checkpoints/checkpoint-5/.loam-checkpoint").read_text()) == {"step": 5}
    last = script(tmp_path, "last = loam.resume(); print(last, last.step, os.path.join(last, 'model'))").stdout.split()
    assert last == [str(tmp_path / "checkpoints/checkpoint-5"), "5", str(tmp_path / "checkpoints/checkpoint-5/model")]


def test_none_before_the_first(tmp_path):
    assert script(tmp_path, "print(loam.resume(), loam.preempted())").stdout == "None False\n"
    assert not os.listdir(tmp_path)


def test_what_fails_leaves_nothing(tmp_path):
    done = script(tmp_path, SAVE + """
save(1)
try:
    with loam.checkpoint(2) as path:
        open(path + "/half", "w").write("x")
        raise KeyError("half")
except KeyError:
    print("as it was")
""")
    assert done.stdout == "as it was\n" and done.stderr == ""
    assert names(tmp_path) == ["checkpoint-1"]


@pytest.mark.parametrize("moment", ["while it is filled", "before it has its name"])
def test_killed_it_is_not_there(tmp_path, moment):
    kill = "os.kill(os.getpid(), 9)"
    body = kill if moment.startswith("while") else "pass"
    late = "" if moment.startswith("while") else f"""
import loam._checkpoint as inner
os.rename = lambda *_: {kill}
"""
    done = script(tmp_path, SAVE + "save(1)\n" + late + f"""
with loam.checkpoint(2) as path:
    open(path + "/model", "w").write("x")
    {body}
""", check=False)
    assert done.returncode == -signal.SIGKILL
    assert len(names(tmp_path)) == 2 and "checkpoint-2" not in names(tmp_path)
    # Neither resume() nor the next one minds what is left.
    assert script(tmp_path, "print(loam.resume().step)").stdout == "1\n"
    script(tmp_path, SAVE + "save(2)")
    assert "checkpoint-2" in names(tmp_path)


@pytest.mark.parametrize("exchange", [True, False])
def test_the_same_step_once_more_replaces_it(tmp_path, exchange):
    without = "" if exchange else "import loam._checkpoint as inner; inner._exchange = lambda *_: False\n"
    script(tmp_path, without + SAVE + "save(1); save(7, 'old'); save(7, 'new')")
    assert names(tmp_path) == ["checkpoint-1", "checkpoint-7"]
    assert (tmp_path / "checkpoints/checkpoint-7/model").read_text() == "new"


def test_loam_yaml_says_where_and_how_many(tmp_path):
    environment = {"LOAM_CHECKPOINT_FOLDER": str(tmp_path / "here"), "LOAM_CHECKPOINT_MATCH": "step=*.d",
                   "LOAM_CHECKPOINT_KEEP": "1"}
    script(tmp_path, SAVE + "save(1); save('2-best')", environment)
    assert os.listdir(tmp_path / "here") == ["step=2-best.d"]
    # In Loam the node says which one counts: here none.
    assert script(tmp_path, "print(loam.resume())", environment).stdout == "None\n"
    (tmp_path / "here/foreign").mkdir()
    found = script(tmp_path, "print(loam.resume(), loam.resume().step)",
                   {**environment, "LOAM_CHECKPOINT": str(tmp_path / "here/foreign")}).stdout
    assert found == f"{tmp_path}/here/foreign None\n"


@pytest.mark.parametrize("match, step", [("[a-z]*", 1), ("a*b*", 1), ("checkpoint-*", "../x"), ("checkpoint-*", "")])
def test_names_that_cannot_be(tmp_path, match, step):
    done = script(tmp_path, f"with loam.checkpoint({step!r}): pass", {"LOAM_CHECKPOINT_MATCH": match}, check=False)
    assert "ValueError: loam.checkpoint: " in done.stderr, done.stderr


def test_other_peoples_folders_are_left_alone(tmp_path):
    for step in range(5):
        (tmp_path / f"checkpoints/checkpoint-old{step}").mkdir(parents=True)
    script(tmp_path, SAVE + "[save(step) for step in range(5)]")
    assert len([name for name in names(tmp_path) if "old" in name]) == 5
    assert len(names(tmp_path)) == 8


def test_a_full_disk_is_said_and_the_one_before_stays(tmp_path):
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(tmp_path)], check=True)
    try:
        done = script(tmp_path, SAVE + "save(1)\nsave(2, 'x' * (2 << 20))", check=False)
        assert f"OSError: [Errno {errno.ENOSPC}]" in done.stderr
        assert "this checkpoint was not finished: the disk has " in done.stderr
        assert names(tmp_path) == ["checkpoint-1"]
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_preempted_is_told_by_the_signal(tmp_path):
    done = script(tmp_path, """
    import signal
    heard = []
    signal.signal(signal.SIGUSR2, lambda *_: heard.append("mine too"))
    print(loam.preempted(), loam.preempted())
    os.kill(os.getpid(), signal.SIGUSR2)
    print(loam.preempted(), heard)
    """, {"LOAM_CHECKPOINT_SIGNAL": str(int(signal.SIGUSR2))})
    assert done.stdout == "False False\nTrue ['mine too']\n"


def test_the_code_is_python_3_6s():
    for path in PYTHON.joinpath("loam").glob("*.py"):
        ast.parse(path.read_text(), feature_version=(3, 6))
