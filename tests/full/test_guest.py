"""The whole life of an installation under real systemd on cgroup v2 alone: see guest_checks.sh, where each check is."""
import pathlib
import re
import subprocess

import pytest

import guest

CHECKS = re.findall(r"^((?:first|second)_\w+)\(\) \{$", (pathlib.Path(__file__).parent / "guest_checks.sh").read_text(),
                    re.MULTILINE)


def next_version(deb, folder):
    """The same package under a later version: what an upgrade replaces."""
    tree = folder / "next"
    subprocess.run(["dpkg-deb", "-R", deb, tree], check=True)
    control = tree / "DEBIAN/control"
    control.write_text(re.sub(r"^Version: (.*)$", r"Version: \1+next", control.read_text(), flags=re.MULTILINE))
    # dpkg leaves a file of the same bytes alone no less than another one: it always renames a new one over it.
    subprocess.run(["dpkg-deb", "--root-owner-group", "-Zgzip", "-b", tree, folder / "next.deb"], check=True,
                   stdout=subprocess.DEVNULL)
    return folder / "next.deb"


@pytest.fixture(scope="module")
def boots(packages, tmp_path_factory):
    folder = tmp_path_factory.mktemp("guest")
    files = {"loam.deb": packages["deb"], "next.deb": next_version(packages["deb"], folder),
             "guest_checks.sh": pathlib.Path(__file__).parent / "guest_checks.sh"}
    machine = guest.make_disk(folder, files)
    results, said = {}, ""
    for name in ("first", "second"):
        found, text = guest.boot(folder, name, *machine)
        results.update(found)
        said += text
    return results, said


@pytest.mark.parametrize("check", CHECKS)
def test_in_the_guest(boots, check):
    results, said = boots
    assert check in results, f"the guest never came to it:\n{said[-3000:]}"
    status, text = results[check]
    print(text)
    assert status == 0, text[-3000:]
