"""What each user keeps in the store: counted once, by who brought it, and limited by `store` of his quota."""
import os
import pwd

from nodes import SINGLE_ID_USER, USER
from queueing import configure

MIB = 1 << 20
FILE = """name: kept
train:
  run: {run}
{more}keep: {{runs: 1}}
"""


def kept(node):
    return {one["user"]: (one["bytes"], one["bytes_max"]) for one in node.json("usage")["store"]}


def project_of(node, user, noise, run="'true'", more=""):
    folder = node.project({"loam.yaml": FILE.format(run=run, more=more), "noise": noise}, name="kept")
    give(folder, user)
    return folder


def give(folder, user):
    entry = pwd.getpwnam(user)
    for path in [folder, *folder.iterdir()]:
        os.chown(path, entry.pw_uid, entry.pw_gid)


def change(folder, user, noise):
    (folder / "noise").write_bytes(noise)
    give(folder, user)


def test_what_a_user_keeps_is_counted_and_limited(shared):
    node = shared
    configure(node, f"users: {{{USER}: {{quota: {{store: 6MiB}}}}}}\n")
    first = os.urandom(4 * MIB)
    folder = project_of(node, USER, first)
    node.as_user(USER, "train", cwd=folder)
    (used, limit) = kept(node)[USER]
    assert 4 * MIB <= used < 5 * MIB and limit == 6 * MIB
    # Equal content is there already: another user who brings it too pays for nothing but his own file.
    other = project_of(node, SINGLE_ID_USER, first, run="'true  '")
    node.as_user(SINGLE_ID_USER, "train", cwd=other)
    assert kept(node)[SINGLE_ID_USER][0] < 1 * MIB and kept(node)[SINGLE_ID_USER][1] is None
    assert kept(node)[USER][0] == used

    change(folder, USER, os.urandom(4 * MIB))
    refused = node.as_user(USER, "train", cwd=folder, check=False)
    assert refused.returncode != 0
    assert f"{USER} keeps 4.0 MiB of at most 6.0 MiB in Loam's store, and this is 4.0 MiB more" in refused.stderr, refused
    assert kept(node)[USER][0] == used
    change(folder, USER, first)
    node.as_user(USER, "train", "--force", cwd=folder)

    # The first run goes; what another still names becomes his.
    configure(node, "queue: {user_quota: {store: 20MiB}}\n")
    change(folder, USER, os.urandom(3 * MIB))
    node.as_user(USER, "train", cwd=folder)
    assert 7 * MIB <= kept(node)[USER][0] < 8 * MIB and kept(node)[USER][1] == 20 * MIB
    node.run("store", "gc")
    assert 3 * MIB <= kept(node)[USER][0] < 4 * MIB, kept(node)
    assert 4 * MIB <= kept(node)[SINGLE_ID_USER][0] < 5 * MIB, kept(node)
    assert "OF AT MOST" in node.run("usage").stdout


def test_what_a_job_made_is_kept_but_nothing_more_is_taken(shared):
    node = shared
    configure(node, "queue: {user_quota: {store: 2MiB}}\n")
    folder = project_of(node, USER, b"x", run="head -c 3000000 /dev/urandom > model/weights", more="  output: model\n")
    node.as_user(USER, "train", cwd=folder)
    assert kept(node)[USER][0] > 2 * MIB
    refused = node.as_user(USER, "run", "--", "true", cwd=folder, check=False)
    assert f"{USER} keeps 2.9 MiB of at most 2.0 MiB" in refused.stderr, refused
    imported = node.as_user(USER, "models", "import", folder, "--name", "other", cwd=folder, check=False)
    assert "in Loam's store" in imported.stderr, imported
    node.as_user(USER, "models", "rm", "kept", cwd=folder)
    node.run("store", "gc")
    assert node.as_user(USER, "run", "--", "echo", "again", cwd=folder).stdout == "again\n"
