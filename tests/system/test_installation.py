"""Life of an installation: unit and completion files, an upgrade under a running job, backup and restore, purge.

What only a real systemd can show is in tests/full/test_guest.py.
"""
import gzip
import json
import os
import pathlib
import shutil
import sqlite3
import stat
import subprocess
import urllib.request

import pytest

from nodes import SOURCE, free_port, make_node, wait_for

COUNT = """name: count
steps:
  count:
    run: i=0; while [ $i -lt {seconds} ]; do i=$((i+1)); echo $i; sleep 0.2; done
    resources: {{cpus: 0.1, memory: 64MiB}}
"""


def jobs(node, run=None):
    done = node.run("ps", "-a", "--json", check=False)
    found = json.loads(done.stdout)["jobs"] if done.returncode == 0 else []
    return [job for job in found if run is None or job["run"] == run]


@pytest.fixture
def root_node(prefix):
    node = make_node(prefix, "root")
    yield node
    node.close()


# --- unit and completion files -------------------------------------------------------------------

SYSTEMCTL = """#!/bin/sh
echo "$@" >>"$SYSTEMCTL_LOG"
case "$*" in *show*) echo 0 ;; esac
"""


def as_on_a_machine(node, *arguments, systemd=True, check=True):
    """`loam node …` of root where /etc/systemd, /usr/local/share and /run are the test's own, with a systemctl that
    only writes down what it is asked."""
    host = node.folder / "host"
    for name in ("units", "share", "bin"):
        (host / name).mkdir(parents=True, exist_ok=True)
    tool = host / "bin/systemctl"
    tool.write_text(SYSTEMCTL)
    tool.chmod(0o755)
    script = ("mkdir -p /etc/systemd/system && mount --bind $HOST/units /etc/systemd/system && "
              "mount --bind $HOST/share /usr/local/share && mount -t tmpfs none /run && "
              + ("mkdir -p /run/systemd/system && " if systemd else "") + 'exec "$@"')
    done = subprocess.run(["unshare", "-m", "sh", "-c", script, "sh", str(node.prefix / "bin/loam"), "node", *arguments],
                          env={**node.environment, "HOST": str(host), "SYSTEMCTL_LOG": str(host / "log"),
                               "PATH": f"{host}/bin:{node.environment['PATH']}"},
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, cwd=node.folder)
    assert not check or done.returncode == 0, done
    asked = (host / "log").read_text().splitlines() if (host / "log").exists() else []
    (host / "log").unlink(missing_ok=True)
    return done, host, asked


def test_install_writes_enables_and_is_idempotent(root_node):
    done, host, asked = as_on_a_machine(root_node, "install", "--dry-run")
    assert "[Service]" in done.stdout and "would write" in done.stdout
    assert list((host / "units").iterdir()) == [] and list((host / "share").iterdir()) == [] and asked == []

    done, host, asked = as_on_a_machine(root_node, "install")
    unit = (host / "units/loam.service").read_text()
    for line in (f'ExecStart="{root_node.prefix}/bin/loam" node run', "Type=notify", "KillMode=process", "Delegate=yes",
                 "Restart=on-failure", f'Environment="LOAM_STATE_DIR={root_node.state}"', "WantedBy=multi-user.target"):
        assert line in unit.splitlines(), unit
    assert asked[0] == "daemon-reload" and asked[1] == "enable loam.service" and asked[-1] == "restart loam.service"
    written = sorted(str(path.relative_to(host)) for path in host.glob("share/**/*") if path.is_file())
    assert written == ["share/bash-completion/completions/loam", "share/fish/vendor_completions.d/loam.fish",
                       "share/zsh/site-functions/_loam"]
    completed = subprocess.run(["bash", "-c", f"source {host}/{written[0]}; COMP_WORDS=(loam node back) COMP_CWORD=2; "
                                              "_loam; echo ${COMPREPLY[@]}"], capture_output=True, text=True)
    assert completed.stdout == "backup\n", completed

    done, host, asked = as_on_a_machine(root_node, "install")
    assert "wrote" not in done.stdout and done.stdout.count("unchanged") == 4
    assert asked[-1] == "start loam.service", "a node that is as it should be is not restarted"

    done, host, asked = as_on_a_machine(root_node, "uninstall")
    assert asked == ["disable --now loam.service", "daemon-reload"]
    assert not list((host / "units").iterdir()) and not [p for p in (host / "share").glob("**/*") if p.is_file()]
    as_on_a_machine(root_node, "uninstall")  # what is gone is gone


def test_install_without_systemd_says_so(root_node):
    done, host, asked = as_on_a_machine(root_node, "install", systemd=False)
    assert "no systemd runs here" in done.stdout and (host / "units/loam.service").exists() and asked == []


def test_install_of_a_user(prefix):
    node = make_node(prefix, "rootless")
    try:
        environment = {"XDG_CONFIG_HOME": str(node.folder / "config"), "XDG_DATA_HOME": str(node.folder / "data")}
        refused = node.run("node", "install", environment=environment, check=False)
        assert refused.returncode != 0 and "--user" in refused.stderr
        node.run("node", "install", "--user", environment=environment)
        unit = (node.folder / "config/systemd/user/loam.service").read_text()
        assert "WantedBy=default.target" in unit and "CapabilityBoundingSet" not in unit
        assert (node.folder / "data/fish/vendor_completions.d/loam.fish").exists()
        node.run("node", "uninstall", environment=environment)
        assert not (node.folder / "config/systemd/user/loam.service").exists()
    finally:
        node.close()


# --- upgrade ---------------------------------------------------------------------------------------

def test_an_upgrade_leaves_a_running_job_alone(fresh_node, tmp_path_factory):
    """The programs that started the job are gone, those of another folder find it and record its end once."""
    old = pathlib.Path(str(fresh_node.folder / "old"))
    shutil.copytree(fresh_node.prefix, old)
    new, fresh_node.prefix = fresh_node.prefix, old
    folder = fresh_node.project({"loam.yaml": COUNT.format(seconds=40)})
    fresh_node.run("up", "--detach", cwd=folder)
    wait_for(lambda: "1" in fresh_node.run("logs", "1", check=False).stdout, what="the job's start")
    fresh_node.run("node", "stop")
    shutil.rmtree(old)
    fresh_node.prefix = new
    fresh_node.run("node", "start")
    job = wait_for(lambda: [j for j in jobs(fresh_node, 1) if j["state"] == "succeeded"], what="the job's end")[0]
    assert len(job["attempts"]) == 1 and job["attempts"][0]["exit"]["outcome"] == "exited", job
    assert fresh_node.run("logs", "1").stdout.split() == [str(i) for i in range(1, 41)]
    fresh_node.run("node", "stop")
    fresh_node.run("node", "start")
    assert jobs(fresh_node, 1)[0]["attempts"] == job["attempts"], "recorded once"


def test_a_node_starts_the_shim_of_its_own_version(fresh_node):
    """An upgrade replaces loam-shim under a node that runs: what that node starts from then on is still its own."""
    own = fresh_node.folder / "own"
    shutil.copytree(fresh_node.prefix, own)
    fresh_node.prefix = own
    fresh_node.run("node", "start")
    other = own / "bin/loam-shim.new"
    other.write_text("#!/bin/sh\necho of another version >&2\nexit 1\n")
    other.chmod(0o755)
    other.rename(own / "bin/loam-shim")
    assert fresh_node.run("run", "--", "echo", "well", cwd=fresh_node.project({})).stdout == "well\n"


def test_a_database_of_a_newer_version_is_refused(fresh_node):
    fresh_node.run("node", "start")
    fresh_node.run("node", "stop")
    database = sqlite3.connect(fresh_node.state / "node.db")
    kept = database.execute("PRAGMA user_version").fetchone()[0]
    database.execute("PRAGMA user_version=999")
    database.commit()
    refused = fresh_node.run("node", "start", check=False)
    assert refused.returncode != 0 and "written by a newer Loam (format 999" in refused.stderr, refused
    database.execute(f"PRAGMA user_version={kept}")
    database.commit()
    database.close()
    fresh_node.run("node", "start")


# --- backup, restore, purge ------------------------------------------------------------------------

def digits(node):
    """The example on the host's own Python, so that no environment has to be built."""
    port = free_port()
    text = (SOURCE / "examples/digits/loam.yaml").read_text()
    text = text.replace("base: debian:bookworm", "base: host").replace("  apt: [python3, python3-numpy]\n", "")
    files = {path.name: path.read_bytes() for path in (SOURCE / "examples/digits").glob("*.py")}
    files["data/digits.csv.gz"] = (SOURCE / "examples/digits/data/digits.csv.gz").read_bytes()
    return node.project({**files, "loam.yaml": text + f"\nendpoint: 127.0.0.1:{port}\n"}), port


def ask(port):
    row = gzip.decompress((SOURCE / "examples/digits/data/digits.csv.gz").read_bytes()).split()[1499].split(b",")
    body = {"inputs": [{"name": "image", "datatype": "FP32", "shape": [1, 64], "data": [float(x) for x in row[:64]]}]}
    request = urllib.request.Request(f"http://127.0.0.1:{port}/v2/models/digits/infer", json.dumps(body).encode())
    with urllib.request.urlopen(request, timeout=30) as answer:
        return answer.headers["loam-request-id"], json.loads(answer.read())


def ask_until_it_answers(port):
    def once():
        try:
            return ask(port)
        except OSError:
            return None
    return wait_for(once, seconds=120, what="an answer")


def model_lines(trace):
    """From the model down to the kernel; what is above is the request's and the replica's own."""
    return trace[trace.index("\nmodel"):]


def test_backup_and_restore(fresh_node):
    node = fresh_node
    folder, port = digits(node)
    node.run("secret", "set", "TOKEN", input="hush-hush")
    node.run("up", cwd=folder)
    request, answer = ask(port)
    trace = node.run("trace", request).stdout
    backup = node.folder / "kept.tar.zst"
    # It works on meanwhile: what comes in between is in the backup or not, never half.
    writers = [node.start("run", "--", "true", cwd=node.project({}), stdout=subprocess.DEVNULL) for _ in range(3)]
    said = node.run("node", "backup", backup).stdout
    assert " trees" in said and "no secrets" in said
    for writer in writers:
        writer.wait(timeout=60)
    assert stat.S_IMODE(backup.stat().st_mode) == 0o600
    members = subprocess.run(["tar", "--zstd", "-tf", backup], capture_output=True, text=True, check=True).stdout
    assert "secrets" not in members

    refused = node.run("node", "uninstall", "--purge", check=False)
    assert refused.returncode != 0 and "2 jobs run" in refused.stderr, refused
    node.run("node", "uninstall", "--purge", "--force")
    assert not node.state.exists() and not node.runtime.exists()
    assert node.processes() == [] and node.cgroups() == [] and node.mounts() == []

    assert "restored" in node.run("node", "restore", backup).stdout
    again = node.run("node", "restore", backup, check=False)
    assert again.returncode != 0 and "is not empty" in again.stderr
    node.run("node", "start")
    request_after, answer_after = ask_until_it_answers(port)
    assert answer_after == answer
    assert node.run("trace", request).stdout == trace
    assert model_lines(node.run("trace", request_after).stdout) == model_lines(trace)
    assert "test accuracy" in node.run("logs", "1/train").stdout
    assert node.run("secret", "ls").stdout.strip() == ""
    assert node.run("store", "verify").returncode == 0
    train = [job for job in jobs(node, 1) if job["name"] == "train"] or jobs(node, 1)
    assert train[0]["state"] in ("succeeded", "running")
    node.run("down", cwd=folder)


def test_secrets_come_along_only_when_asked(fresh_node):
    fresh_node.run("secret", "set", "TOKEN", input="hush-hush")
    backup = fresh_node.folder / "kept.tar.zst"
    assert ", secrets" in fresh_node.run("node", "backup", "--secrets", backup).stdout
    fresh_node.run("node", "uninstall", "--purge")
    fresh_node.run("node", "restore", backup)
    assert "TOKEN" in fresh_node.run("secret", "ls").stdout


def test_tokens_stay_behind(root_node):
    """A backup is often kept less carefully than the node: who reads it must not be able to call in anybody's name."""
    root_node.configure("listen: {address: 127.0.0.1:%d}\n" % free_port())
    token = root_node.run("token", "create", "--scope", "admin").stdout.strip()
    backup = root_node.folder / "kept.tar.zst"
    root_node.run("node", "backup", "--secrets", backup)
    assert len(root_node.json("token", "ls")["tokens"]) == 1 and token
    root_node.run("node", "uninstall", "--purge")
    root_node.run("node", "restore", backup)
    assert root_node.json("token", "ls")["tokens"] == []


def repacked(backup, folder, change):
    """The same backup after `change` has seen its unpacked members."""
    tree = folder / "members"
    tree.mkdir()
    subprocess.run(["tar", "--zstd", "-xf", backup, "-C", tree], check=True)
    change(tree)
    result = folder / "changed.tar.zst"
    names = ["loam-backup.json", "database.db", *sorted(p.name for p in tree.iterdir()
                                                        if p.name not in ("loam-backup.json", "database.db"))]
    subprocess.run(["tar", "--zstd", "--format=posix", "-cf", result, "-C", tree, *names], check=True)
    shutil.rmtree(tree)
    return result


def test_a_wrong_backup_is_refused_and_leaves_nothing(root_node):
    node = root_node
    folder = node.project({"loam.yaml": COUNT.format(seconds=1), "a.txt": "content of a file\n" * 100})
    node.run("up", cwd=folder)
    backup = node.folder / "kept.tar.zst"
    node.run("node", "backup", backup)
    node.run("node", "uninstall", "--purge")

    def edit_manifest(tree, **values):
        path = tree / "loam-backup.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **values}))

    def edit_object(tree):
        victim = max((p for p in (tree / "store/objects").rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
        victim.write_bytes(victim.read_bytes().replace(b"content", b"CONTENT"))

    def edit_database(tree):
        path = tree / "database.db"
        path.write_bytes(path.read_bytes()[:-1] + b"x")

    def lose_a_blob(tree):
        next(p for p in (tree / "store/blobs").rglob("*") if p.is_file()).unlink()

    def bring_a_stranger(tree):
        (tree / "node.lock2").write_text("x")

    whole = backup.read_bytes()
    (node.folder / "cut").write_bytes(whole[:len(whole) // 2])
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 0x20
    (node.folder / "flipped").write_bytes(flipped)
    (node.folder / "text").write_text("no archive")
    cases = [(node.folder / "cut", "zstd"), (node.folder / "flipped", ""), (node.folder / "text", "zstd"),
             (node.folder / "absent", "No such file")]
    for number, (change, finding) in enumerate([
            (lambda tree: edit_manifest(tree, format=99), "newer Loam"),
            (lambda tree: edit_manifest(tree, database_format=99), "newer Loam"),
            (lambda tree: edit_manifest(tree, rootless=True, owner_uid=4711), "the user with id 4711"),
            (edit_object, "object"), (edit_database, "database"), (lose_a_blob, "blobs"),
            (bring_a_stranger, "none of a node's")]):
        place = node.folder / f"case-{number}"
        place.mkdir()
        cases.append((repacked(backup, place, change), finding))
    for path, finding in cases:
        refused = node.run("node", "restore", path, check=False)
        assert refused.returncode != 0 and finding in refused.stderr, (path, refused)
        left = [p for p in node.state.rglob("*") if p.is_file() and p.name != "node.lock"] if node.state.exists() else []
        assert left == [], (path, left)
        shutil.rmtree(node.state, ignore_errors=True)
    node.run("node", "restore", backup)
    assert jobs(node, 1)[0]["state"] == "succeeded"


def test_a_full_disk_leaves_no_half_backup(root_node):
    node = root_node
    folder = node.project({"loam.yaml": COUNT.format(seconds=1), "noise": os.urandom(3 << 20)})
    node.run("up", cwd=folder)
    small = node.folder / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", small], check=True)
    try:
        (small / "kept.tar.zst").write_text("of yesterday")
        full = node.run("node", "backup", small / "kept.tar.zst", check=False)
        assert full.returncode != 0 and "No space left" in full.stderr, full
        assert [p.name for p in small.iterdir()] == ["kept.tar.zst"]
        assert (small / "kept.tar.zst").read_text() == "of yesterday"
    finally:
        subprocess.run(["umount", small], check=True)
    # And the node can do it again, once it has noticed that nobody reads the first one any more.
    wait_for(lambda: node.run("node", "backup", node.folder / "kept.tar.zst", check=False).returncode == 0,
             what="the next backup")
    assert not (node.state / "backup").exists()


def test_a_restore_that_was_cut_short_is_not_taken_for_a_state(root_node):
    node = root_node
    node.run("node", "start")
    node.run("node", "backup", node.folder / "kept.tar.zst")
    node.run("node", "uninstall", "--purge")
    node.state.mkdir()
    (node.state / "restoring").write_text("kept.tar.zst\n")
    (node.state / "store").mkdir()
    refused = node.run("node", "start", check=False)
    assert refused.returncode != 0 and "cut short" in refused.stderr, refused
    node.run("node", "restore", node.folder / "kept.tar.zst")
    node.run("node", "start")


def test_a_purge_ends_what_no_node_watches_only_when_told(fresh_node):
    node = fresh_node
    folder = node.project({"loam.yaml": COUNT.format(seconds=3000)})
    node.run("up", "--detach", cwd=folder)
    wait_for(lambda: "1" in node.run("logs", "1", check=False).stdout, what="the job's start")
    node.run("node", "stop")
    refused = node.run("node", "uninstall", "--purge", check=False)
    assert refused.returncode != 0 and "attempt 1" in refused.stderr, refused
    assert (node.state / "node.db").exists()
    node.run("node", "uninstall", "--purge", "--force")
    assert not node.state.exists()
    wait_for(lambda: not node.processes(), what="the end of the job's processes")


def test_on_a_terminal_a_purge_wants_a_yes(root_node):
    root_node.run("node", "start")
    asked = subprocess.run(["script", "-qec", f"{root_node.prefix}/bin/loam node uninstall --purge", "/dev/null"],
                           env=root_node.environment, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert asked.returncode == 2 and "--yes" in asked.stdout, asked
    assert (root_node.state / "node.db").exists()


# --- packages --------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def packages(prefix, tmp_path_factory):
    from nodes import BIN
    out = tmp_path_factory.mktemp("dist")
    for name in ("first", "second"):
        subprocess.run([SOURCE / "scripts/package", BIN.parent, out / name], check=True, stdout=subprocess.DEVNULL,
                       umask=0o077 if name == "second" else 0o022)
    return out


def test_the_same_build_gives_the_same_packages(packages):
    names = sorted(path.name for path in (packages / "first").iterdir())
    assert [name.split("_")[0].split("-")[0] for name in names] == ["loam", "loam"] and len(names) == 2
    for name in names:
        assert (packages / "first" / name).read_bytes() == (packages / "second" / name).read_bytes(), name


@pytest.mark.parametrize("kind", ["root", "rootless"])
def test_the_archive_runs_from_any_folder(packages, tmp_path_factory, kind):
    """With its own libraries, in the gateway's sandbox too, and below a folder whose name has a space in it."""
    place = tmp_path_factory.mktemp("any where")
    for parent in (place, *place.parents):
        if str(parent).startswith("/tmp/"):
            parent.chmod(0o755)
    subprocess.run(["tar", "--zstd", "-xf", next((packages / "first").glob("*.tar.zst")), "-C", place], check=True)
    prefix = next(place.iterdir())
    for program in ("loam", "loam-gateway"):
        libraries = subprocess.run(["ldd", prefix / "bin" / program], capture_output=True, text=True, check=True).stdout
        for line in libraries.splitlines():
            name = line.split()[0]
            if "=>" in line and not name.startswith(("libc.", "libm.")):
                assert f"{prefix}/bin/../lib/loam/" in line, line
    node = make_node(prefix, kind)
    try:
        folder, port = digits(node)
        node.run("up", cwd=folder)
        assert ask(port)[1]["outputs"][0]["data"] == [2]
        node.run("down", cwd=folder)
    finally:
        node.close()


def test_the_package_names_what_running_needs():
    """What scripts/setup installs for running is what the .deb depends on."""
    setup = (SOURCE / "scripts/setup").read_text()
    run = set(setup[setup.index("run=("):].split(")")[0][len("run=("):].split())
    depends = next(line for line in (SOURCE / "packaging/control.in").read_text().splitlines() if line.startswith("Depends:"))
    assert run - {"curl"} <= {name.strip().split()[0] for name in depends[len("Depends:"):].split(",")}, depends
