"""The same batch scripts through a Slurm that is started here and through Loam: variables, names of output files, the
exit status of --wait."""
import os
import pathlib
import re
import subprocess
import sys

import pytest

SOURCE = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(SOURCE / "tests/system"), str(SOURCE / "tests/bench")]
from jobs import Slurm, wait_until  # noqa: E402
from nodes import BIN, Node  # noqa: E402

SHOW = "env | grep -E '^(SLURM|ENVIRONMENT)' | sort\n"
# What is Slurm's alone (its configuration, its network), and what is a number or a folder of each.
SLURMS_OWN = {"SLURM_CONF", "SLURM_WORKING_CLUSTER", "SLURM_TOPOLOGY_ADDR", "SLURM_TOPOLOGY_ADDR_PATTERN",
              "SLURM_NODE_ALIASES", "SLURM_PRIO_PROCESS", "SLURM_JOB_PARTITION"}
EACH_ITS_OWN = {"SLURM_CLUSTER_NAME", "SLURM_JOB_ID", "SLURM_JOBID", "SLURM_ARRAY_JOB_ID", "SLURM_SUBMIT_DIR",
                "SLURM_TASK_PID"}
SCRIPTS = {
    "plain.sh": ("", []),
    "asked.sh": ("#SBATCH -n 1 -c 1 -t 5 -J 'a name' --nice --comment='x # y'   # a remark\n", []),
    "named.sh": ("#SBATCH -J name -o '%x.%u.%N.%n.%t.%s.%%.txt' -e err-%x\n", []),
    "array.sh": ("#SBATCH -J name --array=1-5:2 -o %x.%4a.txt\n", []),
    "given.sh": ("#SBATCH -J wrong --output=wrong.txt\n", ["--job-name=right", "-oright.txt"]),
}


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """Folders in which Slurm and Loam have run the scripts, and a function that calls either's sbatch."""
    folder = tmp_path_factory.mktemp("slurm")
    folder.chmod(0o755)
    prefix = tmp_path_factory.mktemp("prefix")
    prefix.chmod(0o755)
    subprocess.run(["cmake", "--install", BIN.parent, "--prefix", prefix], check=True, stdout=subprocess.DEVNULL)
    slurm = Slurm(folder / "daemons")
    node = Node(prefix, None)
    try:
        def sbatch(which, *arguments):
            work = folders[which]
            if which == "loam":
                return node.run("sbatch", *arguments, cwd=work, check=False)
            return subprocess.run(["sbatch", *arguments], cwd=work, env=slurm.environment, text=True,
                                  capture_output=True)
        folders = {"slurm": folder / "work", "loam": node.project({"empty": ""})}
        folders["slurm"].mkdir()
        for which, work in folders.items():
            for name, (head, arguments) in SCRIPTS.items():
                (work / name).write_text("#!/bin/bash\n" + head + SHOW)
                done = sbatch(which, *arguments, name)
                assert re.fullmatch(r"Submitted batch job \d+\n", done.stdout), done
        wait_until(lambda: not slurm.try_call("squeue", "-h").strip(), "the end of Slurm's jobs")
        wait_until(lambda: not node.json("ps")["jobs"], "the end of Loam's jobs")
        yield folders, sbatch
    finally:
        slurm.stop()
        node.close()


def outputs(work):
    """By name, a job's number in it left open; in the order of the names with their numbers."""
    return {re.sub(r"^slurm-\d+", "slurm-N", path.name): path.read_text() for path in sorted(work.iterdir())
            if path.suffix in (".txt", ".out") or path.name.startswith("err")}


def test_output_files_have_the_same_names(both):
    folders, _ = both
    names = {which: sorted(outputs(work)) for which, work in folders.items()}
    assert names["loam"] == names["slurm"]
    host = os.uname().nodename.split(".")[0]
    assert {f"name.root.{host}.0.0.batch.%.txt", "name.0001.txt", "name.0005.txt", "right.txt", "err-name"} <= set(
        names["loam"])


def test_variables_have_the_same_values(both):
    folders, _ = both
    slurm, loam = (outputs(folders[which]) for which in ("slurm", "loam"))
    for name, text in slurm.items():
        wanted, found = (dict(line.split("=", 1) for line in one.splitlines()) for one in (text, loam[name]))
        for one in SLURMS_OWN:
            wanted.pop(one, None)
        assert set(wanted) <= set(found), (name, sorted(set(wanted) - set(found)))
        assert {key: found[key] for key in wanted if key not in EACH_ITS_OWN} == {
            key: value for key, value in wanted.items() if key not in EACH_ITS_OWN}, name


def test_wait_returns_the_scripts_own_status(both):
    for which in ("slurm", "loam"):
        assert both[1](which, "--wait", "--wrap", "exit 3").returncode == 3
        assert both[1](which, "--wait", "--wrap", "true").returncode == 0


def test_what_both_refuse(both):
    folders, sbatch = both
    for work in folders.values():
        (work / "plain.data").write_text("echo\n")
    for which in ("slurm", "loam"):
        for arguments in (["-t", "soon", "plain.sh"], ["plain.data"], ["absent.sh"], ["--no-such-option", "plain.sh"],
                          ["-a", "5-1", "plain.sh"], ["--mem=lots", "plain.sh"]):
            done = sbatch(which, *arguments)
            assert done.returncode != 0 and "Submitted" not in done.stdout, (which, arguments, done)
