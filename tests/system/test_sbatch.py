"""`loam sbatch`: batch scripts as Slurm takes them: resources, variables, output files, arrays, what is not honoured."""
import os
import re

from queueing import job_of, wait_state

SCRIPT = """#!/bin/bash
#SBATCH --job-name=two-words
#SBATCH --time=00:05:00 --mem=64M
#SBATCH -c 1
"""


def batch(node, body, head=SCRIPT, name="job.sh"):
    return node.project({name: head + body}, name="submit")


def submit(node, folder, *arguments, **options):
    done = node.run("sbatch", "--parsable", *arguments, cwd=folder, **options)
    return int(done.stdout), done


def done_output(node, run, path):
    job = wait_state(node, run, "succeeded", "failed")
    return job, path.read_text()


def test_a_script_runs_where_it_was_submitted_and_writes_there(node):
    folder = batch(node, 'echo "in $PWD with $1"; cat data.txt; echo made > result.txt; echo to-error >&2\n')
    (folder / "data.txt").write_text("live data\n")
    node.own(folder)
    done = node.run("sbatch", "job.sh", "an argument", cwd=folder)
    number = re.fullmatch(r"Submitted batch job (\d+)\n", done.stdout).group(1)
    job, text = done_output(node, int(number), folder / f"slurm-{number}.out")
    assert job["state"] == "succeeded"
    assert text == f"in {folder} with an argument\nlive data\nto-error\n"
    assert (folder / "result.txt").read_text() == "made\n"
    assert (folder / "result.txt").stat().st_uid == folder.stat().st_uid
    assert node.run("logs", number).stdout == f"output: {folder}/slurm-{number}.out\n"
    assert job["project"] == "two-words" and job["memory_bytes"] == 64 << 20 and job["cpu_milli"] == 1000


def test_slurm_variables_are_set(node):
    folder = batch(node, "env | grep -E '^(SLURM|ENVIRONMENT)'; nproc > /dev/null\n", SCRIPT + "#SBATCH -n 1\n")
    run, _ = submit(node, folder, "job.sh")
    _, text = done_output(node, run, folder / f"slurm-{run}.out")
    found = dict(line.split("=", 1) for line in text.splitlines())
    host = os.uname().nodename.split(".")[0]
    expected = {"SLURM_JOB_ID": str(run), "SLURM_JOBID": str(run), "SLURM_JOB_NAME": "two-words",
                "SLURM_SUBMIT_DIR": str(folder), "SLURM_CPUS_PER_TASK": "1", "SLURM_NTASKS": "1", "SLURM_NPROCS": "1",
                "SLURM_MEM_PER_NODE": "64", "SLURM_JOB_NODELIST": host, "SLURM_NNODES": "1", "SLURM_PROCID": "0",
                "SLURM_LOCALID": "0", "SLURM_NODEID": "0", "ENVIRONMENT": "BATCH", "SLURM_CPUS_ON_NODE": "1",
                "SLURM_JOB_USER": node.user or "root"}
    assert {name: found.get(name) for name in expected} == expected
    assert "SLURM_ARRAY_TASK_ID" not in found and "SLURM_RESTART_COUNT" not in found


def test_an_array_is_a_job_for_each_index(node):
    folder = batch(node, 'echo "$SLURM_ARRAY_TASK_ID of $SLURM_ARRAY_TASK_COUNT, $SLURM_ARRAY_JOB_ID"\n',
                   SCRIPT + "#SBATCH --array=1-5:2 --output=%x.%A.%a.txt\n")
    first, _ = submit(node, folder, "job.sh")
    for step, index in enumerate((1, 3, 5)):
        job, text = done_output(node, first + step, folder / f"two-words.{first}.{index}.txt")
        assert text == f"{index} of 3, {first}\n"


def test_options_of_the_command_line_win_and_wait_returns_the_status(node):
    folder = batch(node, "echo out; echo err >&2; exit 7\n", SCRIPT + "#SBATCH -o wrong.txt\n")
    done = node.run("sbatch", "--wait", "-o", "sub/%j.o", "--error=sub/%j.e", "-J", "other", "job.sh", cwd=folder,
                    check=False)
    assert done.returncode in (1, 2) and "sub" in done.stdout  # there is no such folder, and the log says so
    (folder / "sub").mkdir()
    node.own(folder)
    done = node.run("sbatch", "--wait", "-o", "sub/%j.o", "--error=sub/%j.e", "-J", "other", "job.sh", cwd=folder,
                    check=False)
    assert done.returncode == 7, done
    number = re.match(r"Submitted batch job (\d+)\n", done.stdout).group(1)
    assert (folder / f"sub/{number}.o").read_text() == "out\n"
    assert (folder / f"sub/{number}.e").read_text() == "err\n"
    assert job_of(node, int(number))["project"] == "other"


def test_what_is_not_honoured_is_named_in_a_line_each(node):
    folder = batch(node, "true\nsrun true || true\n",
                   SCRIPT + "#SBATCH --partition=gpu --qos=high\n#SBATCH --mail-type=END --mail-user=a@b.c\n")
    _, done = submit(node, folder, "job.sh", environment={"HF_TOKEN": "secret-value"})
    assert done.stderr.splitlines() == [
        "loam: --mail-type=END is not honoured", "loam: --mail-user=a@b.c is not honoured",
        "loam: --partition=gpu is not honoured", "loam: --qos=high is not honoured",
        "loam: not passed on, for they look like secrets: HF_TOKEN (--export=ALL,NAME passes one on)",
        "loam: job.sh:8: there is no srun here; the script runs once, with all CPUs and GPUs"]


def test_the_environment_is_passed_on_as_export_says(node):
    body = 'echo "${LEFT-unset} ${NAMED-unset} ${GIVEN-unset} ${MY_TOKEN-unset}"\n'
    environment = {"LEFT": "left", "NAMED": "named", "MY_TOKEN": "hidden"}
    for export, expected in [(None, "left named unset unset"), ("NONE", "unset unset unset unset"),
                             ("NAMED,GIVEN=given", "unset named given unset"),
                             ("ALL,MY_TOKEN,GIVEN=x", "left named x hidden")]:
        folder = batch(node, body)
        run, _ = submit(node, folder, *([f"--export={export}"] if export else []), "job.sh", environment=environment)
        assert done_output(node, run, folder / f"slurm-{run}.out")[1] == expected + "\n", export


def test_dependencies_are_of_jobs_that_have_ended(node):
    folder = batch(node, "exit $1\n")
    good, _ = submit(node, folder, "job.sh", 0)
    bad, _ = submit(node, folder, "job.sh", 1)
    held, _ = submit(node, folder, "--hold", "job.sh", 0)
    wait_state(node, good, "succeeded")
    wait_state(node, bad, "failed")
    submit(node, folder, f"--dependency=afterok:{good},afterany:{bad}", "job.sh", 0)
    for dependency, expected in [(f"afterok:{bad}", "never start"), (f"afterok:{held}", "expected one that has ended"),
                                 ("afterok:9999999", "no such run"), ("singleton", "afternotok")]:
        done = node.run("sbatch", "-d", dependency, "job.sh", cwd=folder, check=False)
        assert done.returncode in (1, 2, 3) and expected in done.stderr and not done.stdout, done
    assert job_of(node, held)["state"] == "held"
    node.run("release", held)
    wait_state(node, held, "succeeded")


def test_from_standard_input_and_as_a_wrapped_command(node):
    folder = batch(node, "")
    run = int(node.run("sbatch", "--parsable", cwd=folder, input="#!/bin/sh\necho piped\n").stdout)
    assert done_output(node, run, folder / f"slurm-{run}.out")[1] == "piped\n"
    run, _ = submit(node, folder, "--wrap", "echo $SLURM_JOB_NAME", "--mem=64")
    assert done_output(node, run, folder / f"slurm-{run}.out")[1] == "wrap\n"


def test_wrong_scripts_and_requests(node):
    folder = batch(node, "true\n")
    (folder / "plain.txt").write_text("echo\n")
    node.own(folder)
    for arguments, expected in [(["plain.txt"], "plain.txt:1: expected a batch script"),
                                (["absent.sh"], "absent.sh: No such file"),
                                (["-t", "soon", "job.sh"], "--time: found 'soon', expected minutes, MM:SS"),
                                (["-N", "2", "job.sh"], "expected 1: Loam runs a job on one machine"),
                                (["-c", "5000", "job.sh"], "asks for 5000 CPUs; this machine has"),
                                (["--gpus=900", "job.sh"], "asks for 900 GPUs; this machine has"),
                                (["--account=nobody's", "job.sh"], "there is no account")]:
        done = node.run("sbatch", *arguments, cwd=folder, check=False)
        assert done.returncode in (1, 2) and expected in done.stderr and not done.stdout, done


def test_a_time_limit_ends_the_job(node):
    folder = batch(node, "sleep 1000\n")
    done = node.run("sbatch", "--wait", "--time=0:01", "job.sh", cwd=folder, check=False)
    assert done.returncode == 124, done


def test_a_preempted_script_starts_again_and_knows_it(node):
    folder = batch(node, '[ -n "$SLURM_RESTART_COUNT" ] && echo "again $SLURM_RESTART_COUNT" && exit 0\nexec sleep 1000\n')
    run, _ = submit(node, folder, "job.sh")
    wait_state(node, run, "running")
    node.run("preempt", run)
    job, text = done_output(node, run, folder / f"slurm-{run}.out")
    assert job["state"] == "succeeded" and text == "again 1\n", job


def test_a_folder_that_every_job_needs_cannot_be_mounted(node):
    done = node.run("sbatch", "--mem=64", "--wrap", "true", cwd="/tmp", check=False)
    assert done.returncode == 2 and "'/tmp' would hide what every job needs" in done.stderr, done
    assert not done.stdout
