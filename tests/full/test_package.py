"""The .deb in a clean Debian: what it names is enough, it starts nothing, and its removal leaves nothing."""
import subprocess

import pytest


@pytest.fixture(scope="module")
def debian(tmp_path_factory):
    """A minbase tree with the host's way to its package mirror."""
    tree = tmp_path_factory.mktemp("debian") / "tree"
    subprocess.run(["mmdebstrap", "--variant=minbase", "--mode=root", "bookworm", str(tree)], check=True)
    return tree


def inside(tree, command, check=True):
    # Its own mounts and processes: whatever a package might start ends with it.
    done = subprocess.run(["unshare", "--mount", "--pid", "--fork", "sh", "-c",
                           'mount -t proc proc "$0/proc" && exec chroot "$0" sh -c "$1"', str(tree), command],
                          capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert not check or done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done


def test_lintian_finds_nothing(packages):
    done = subprocess.run(["lintian", "--allow-root", "--fail-on", "error,warning", packages["deb"]],
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_in_a_clean_tree(debian, packages):
    (debian / "loam.deb").write_bytes(packages["deb"].read_bytes())
    inside(debian, "apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends /loam.deb")
    assert inside(debian, "loam version").stdout.startswith("loam ")
    assert "not found" not in inside(debian, "ldd /usr/bin/loam /usr/bin/loam-gateway").stdout
    for path in ("usr/share/loam/python/loam/__init__.py", "usr/share/bash-completion/completions/loam",
                 "usr/share/man/man1/loam.1.gz", "usr/share/doc/loam/copyright"):
        assert (debian / path).exists(), path
    for path in ("run/loam", "var/lib/loam", "etc/systemd/system/loam.service"):
        assert not (debian / path).exists(), path
    (debian / "loam.yaml").write_text("name: x\nsteps:\n  a: {run: 'true'}\n")
    inside(debian, "loam check /loam.yaml")
    # Completion files are the package's: install writes the unit alone.
    said = inside(debian, "loam node install").stdout
    assert "wrote /etc/systemd/system/loam.service" in said and "/usr/local" not in said, said
    inside(debian, "apt-get purge -y -qq loam")
    for path in ("usr/bin/loam", "usr/share/loam", "etc/systemd/system/loam.service", "var/lib/loam"):
        assert not (debian / path).exists(), path
