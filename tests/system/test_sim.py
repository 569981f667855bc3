"""`loam sim`: recorded workloads as files, what is reported, what is refused. No node is started."""
import csv
import gzip
import io
import json
import os
import pty
import subprocess

import pytest

from nodes import BIN

# Two CPUs' worth of work on one machine; worked out in src/sim/simulate_test.cc (backfill).
SWF = """; UnixStartTime: 1000000000
; MaxProcs: 2
1 0 -1 100 1 -1 -1 1 100 -1 1 1 1 -1 -1 -1 -1 -1
2 0 -1 50 2 -1 -1 2 50 -1 1 2 1 -1 -1 -1 -1 -1
3 0 -1 50 1 -1 -1 1 50 -1 1 3 1 -1 -1 -1 -1 -1
4 0 -1 10 3 -1 -1 3 50 -1 1 3 1 -1 -1 -1 -1 -1
"""
NO_FAIR_SHARE = "queue: {fair_share: false}\n"


def sim(*arguments, cwd, check=True, **options):
    environment = {**os.environ, "LOAM_STATE": str(cwd / "no-state")}  # no node is started or asked
    done = subprocess.run([str(BIN / "loam"), "sim", *map(str, arguments)], cwd=cwd, text=True, capture_output=True,
                          env=environment, **options)
    assert not check or done.returncode == 0, done
    return done


def without_times(text):
    document = json.loads(text)
    for one in document["simulations"]:
        assert one["decision_us"].pop("max") >= one["decision_us"].pop("p99") >= one["decision_us"].pop("p50") > 0
    return document


@pytest.fixture
def trace(tmp_path):
    (tmp_path / "t.swf").write_text(SWF)
    (tmp_path / "node.yaml").write_text(NO_FAIR_SHARE)
    return tmp_path


def test_the_numbers_of_a_trace_by_hand(trace):
    document = without_times(sim("t.swf", "--policy", "node.yaml", "--json", cwd=trace).stdout)
    assert document["machine"] == {"cpu_milli": 2000, "gpus": 0, "memory_bytes": None}
    assert document["trace"]["jobs"] == 4
    one, = document["simulations"]
    assert one["jobs"] == {"finished": 3, "at_limit": 0, "refused": 1, "never_started": 0}
    assert one["refused"] == [{"jobs": 1, "why": "asks for 3 CPUs; this machine has 2"}]
    assert one["span_s"] == 150
    assert one["wait_s"] == {"mean": 33.333, "median": 0, "p95": 100, "max": 100}
    # 100/100, (100 + 50)/50, 50/50
    assert one["bounded_slowdown"] == {"mean": 1.667, "median": 1, "p95": 3, "max": 3}
    assert one["utilisation"] == {"cpu": 0.833333, "gpu": None, "memory": None}
    assert one["fairness"]["value"] == round(5 ** 2 / (3 * (1 + 9 + 1)), 6)
    assert one["decision_us"]["count"] == 6
    assert not (trace / "no-state").exists()


def test_output_is_the_same_each_time_and_from_gzip_and_a_pipe(trace):
    (trace / "t.swf.gz").write_bytes(gzip.compress(SWF.encode()))
    plain, again = (without_times(sim("t.swf", "--json", cwd=trace).stdout) for _ in range(2))
    assert plain == again
    packed = without_times(sim("t.swf.gz", "--json", cwd=trace).stdout)
    piped = without_times(sim("-", "--json", cwd=trace, input=SWF).stdout)
    for other in (packed, piped):
        other["trace"]["file"] = plain["trace"]["file"]
        assert other == plain


def test_policies_side_by_side(trace):
    (trace / "strict.yaml").write_text("queue: {fair_share: false, backfill: false}\nreserve: {cpus: 0.5}\n")
    done = sim("t.swf", "--cpus", 3, "--policy", "node.yaml", "--policy", "strict.yaml", cwd=trace)
    head = [line for line in done.stdout.splitlines() if "JOBS" in line][0]
    assert head.split() == ["4", "JOBS", "node.yaml", "strict.yaml"]
    assert "refused by strict.yaml: 1 job asks for 3 CPUs; this machine has 2.5" in done.stdout
    finished = [line for line in done.stdout.splitlines() if line.startswith("finished")][0]
    assert finished.split() == ["finished", "4", "3"]
    wrong = sim("t.swf", "--policy", "node.yaml", "--policy", "strict.yaml", "--jobs", "x", cwd=trace, check=False)
    assert wrong.returncode == 2 and "expected one --policy" in wrong.stderr
    (trace / "bad.yaml").write_text("queue: {backfil: false}\n")
    wrong = sim("t.swf", "--policy", "bad.yaml", cwd=trace, check=False)
    assert wrong.returncode == 2
    assert "bad.yaml:1:9: queue.backfil: unknown key; did you mean 'backfill'?" in wrong.stderr


def test_accounts_shares_and_quotas_of_a_policy(trace):
    rows = "".join(f"0,10,1,{user}\n" for user in ["anna", "anna", "ben", "ben"])
    (trace / "j.csv").write_text("submit,duration,gpus,user\n" + rows)
    (trace / "p.yaml").write_text("accounts: {vision: {quota: {gpus: 1}}}\nusers: {anna: {account: vision}}\n")
    out = sim("j.csv", "--gpus", 4, "--policy", "p.yaml", "--jobs", "out.csv", "--json", cwd=trace).stdout
    starts = [(row["user"], float(row["start"])) for row in csv.DictReader(io.StringIO((trace / "out.csv").read_text()))]
    assert starts == [("anna", 0), ("anna", 10), ("ben", 0), ("ben", 0)]
    assert without_times(out)["simulations"][0]["utilisation"]["gpu"] == 0.5


def test_each_job_as_csv(trace):
    (trace / "j.csv").write_text('id,submit,duration,gpus,user\n1,2020-01-01 00:00:00,60,1,"a, b"\n'
                                 "2,2020-01-01 00:00:10,60,1,c\n3,2020-01-01,1,9,c\n")
    sim("j.csv", "--gpus", 1, "--jobs", "out.csv", cwd=trace)
    rows = {row["id"]: row for row in csv.DictReader(io.StringIO((trace / "out.csv").read_text()))}
    assert rows["1"] == {"id": "1", "user": "a, b", "account": "", "submit": "2020-01-01T00:00:00.000Z",
                         "start": "2020-01-01T00:00:00.000Z", "end": "2020-01-01T00:01:00.000Z", "wait": "0",
                         "slowdown": "1.000", "state": "finished", "preemptions": "0"}
    assert rows["2"]["start"] == "2020-01-01T00:01:00.000Z" and rows["2"]["wait"] == "50"
    assert rows["2"]["slowdown"] == "1.833"  # (50 + 60) / 60
    assert rows["3"]["state"] == "refused" and rows["3"]["start"] == ""
    full = sim("j.csv", "--gpus", 1, "--jobs", "/dev/full", cwd=trace, check=False)
    assert full.returncode == 1 and "No space left" in full.stderr, full


def test_a_cluster_trace_as_they_are_published(trace):
    # Columns and values as in the Helios traces (SenseTime, SC '21).
    (trace / "cluster_log.csv").write_text(
        "job_id,user,vc,jobname,gpu_num,cpu_num,node_num,state,submit_time,start_time,end_time,duration,queue\r\n"
        "1,u1,vcA,x,8,32,1,COMPLETED,2020-04-01 00:00:16,2020-04-01 00:00:17,2020-04-01 01:00:17,3600,1\r\n"
        "2,u2,vcB,y,0,1,1,CANCELLED,2020-04-01 00:00:15,None,None,None,0\r\n"
        "3,u2,vcB,y,16,1,1,FAILED,2020-04-01 00:00:15,2020-04-01 00:00:15,2020-04-01 00:00:15,0,0\r\n")
    done = sim("cluster_log.csv", "--cpus", 64, "--gpus", 8, cwd=trace)
    assert "cluster_log.csv: 1 job left out: no run time recorded\n" in done.stderr
    assert "columns that say nothing here are left out: jobname, node_num, state" in done.stderr
    assert "refused: 1 job asks for 16 GPUs; this machine has 8 GPUs" in done.stdout


def test_wrong_usage_and_wrong_traces(trace):
    (trace / "j.csv").write_text("submit,duration,gpus,user\n0,10,1,a\nsoon,10,1,a\n")
    for arguments, expected in [
            (["absent.swf"], "absent.swf: No such file"),
            (["j.csv", "--gpus", 1], "j.csv:3: submit: found 'soon', expected seconds or a date"),
            (["t.swf", "--cpus", "many"], "--cpus 'many': expected a whole number from 0 to 1000000"),
            (["t.swf", "--memory", "big"], "--memory: "),
            (["t.swf", "--limits", "some"], "--limits 'some': expected recorded, exact or none"),
            (["t.swf", "--gpus", 2, "--gpu-parts", 1], "--gpu-parts: expected 2 or more")]:
        done = sim(*arguments, cwd=trace, check=False)
        assert done.returncode in (1, 2) and expected in done.stderr and not done.stdout, done
    skipped = sim("j.csv", "--gpus", 1, "--skip-bad", cwd=trace)
    assert "1 line left out" in skipped.stderr and "finished" in skipped.stdout
    (trace / "k.csv").write_text("submit,duration,gpus,cpus,user\n0,10,1,1,a\n")
    assert "its jobs ask for GPUs; expected --gpus N" in sim("k.csv", "--cpus", 1, cwd=trace, check=False).stderr
    assert "expected --cpus N" in sim("k.csv", "--gpus", 1, cwd=trace, check=False).stderr
    (trace / "l.csv").write_text("submit,duration,gpus,user\n0,,1,a\n")
    empty = sim("l.csv", "--gpus", 1, cwd=trace, check=False)
    assert empty.returncode == 2 and "no job in it that could run; 1 left out: no run time" in empty.stderr


def test_progress_shows_on_a_terminal_alone(trace):
    # Two classes of users that outrun the machine: some seconds of decisions.
    lines = "".join(f"{i} {i} -1 {1 + i % 7} 1 -1 -1 {1 + i % 5} 60 -1 1 {i % 50} 1\n" for i in range(150_000))
    (trace / "long.swf").write_text("; MaxProcs: 10\n" + lines)
    assert "\r" not in sim("long.swf", cwd=trace).stdout
    main, side = pty.openpty()
    child = subprocess.Popen([str(BIN / "loam"), "sim", "long.swf"], cwd=trace, stdout=side, stderr=side,
                             env={**os.environ, "TERM": "xterm"})
    os.close(side)
    shown = b""
    while True:
        try:
            more = os.read(main, 65536)
        except OSError:
            break
        if not more:
            break
        shown += more
    os.close(main)
    assert child.wait() == 0
    assert b"of 150000 jobs" in shown or b"read " in shown, shown[-2000:]
    assert b"finished" in shown
