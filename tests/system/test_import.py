"""`loam models import`: what it takes, what it says of what it does not, and that it ends with its client."""
import os
import signal
import socket

import pytest

from nodes import command_line, wait_for


def refused(node, folder, *options):
    done = node.run("models", "import", folder, *options, check=False)
    assert done.returncode != 0 and "__import" not in done.stderr and "tar:" not in done.stderr, done.stderr
    return done.stderr


def test_all_files_are_taken_and_what_is_left_out_is_named(node):
    folder = node.project({"weights.bin": "7", ".config": "hidden", ".hg/x": "of another tool", ".gitignore": "*.bin",
                           ".git/config": "secret", "sub/.git/config": "secret", "sub/big.bin": b"w" * 300_000})
    os.symlink("weights.bin", folder / "current")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "sub/a.sock"))
        os.mkfifo(folder / "b.fifo")
        done = node.run("models", "import", folder, "--name", "whole")
    assert done.stdout == "imported whole@1\n"
    assert done.stderr.endswith("loam: left out (.git, sockets, fifos and devices are no part of a model): "
                           ".git, b.fifo, sub/.git, sub/a.sock\n")
    files = {file["path"] for file in node.json("models", "show", "whole")["files"]}
    assert files == {"weights.bin", ".config", ".hg/x", ".gitignore", "sub/big.bin", "current"}


def test_a_folder_without_files_is_refused(node):
    folder = node.project({}, "empty")
    assert f"{folder}: has no file that could be imported" in refused(node, folder)
    os.mkfifo(folder / "fifo")
    (folder / "folder").mkdir()
    assert "has no file that could be imported" in refused(node, folder)
    assert folder.name not in node.run("models", "ls").stdout


def test_what_is_no_folder_is_refused(node):
    folder = node.project({"file": "x"})
    assert f"{folder}/file: is no folder" in refused(node, folder / "file")
    absent = refused(node, folder / "absent")
    assert "No such file" in absent and "expected the folder that holds the model's files" in absent
    assert "--name NAME" in refused(node, folder, "--name", "two words")


def test_a_link_out_of_the_folder_is_refused(node):
    """As in the cache of a download tool, whose folder of one version has only links to a place beside it."""
    folder = node.project({"snapshot/readme": "x", "blobs/ab12": "weights"})
    os.symlink("../blobs/ab12", folder / "snapshot/weights.bin")
    said = refused(node, folder / "snapshot")
    assert "weights.bin: is a link out of the folder, to ../blobs/ab12" in said and "cp -rL" in said


def test_a_file_that_cannot_be_read_is_named(fresh_node):
    if not fresh_node.rootless:
        pytest.skip("root reads everything")
    folder = fresh_node.project({"weights.bin": "7", "sub/secret.bin": "8"})
    os.chmod(folder / "sub/secret.bin", 0)
    said = refused(fresh_node, folder, "--name", "torn")
    assert f"{folder}: sub/secret.bin: Permission denied; make it readable" in said


def reads(pid, folder):
    """Whether the process has something of the folder open."""
    try:
        return any(os.readlink(f"/proc/{pid}/fd/{name}").startswith(str(folder)) for name in os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        return False


def test_an_interrupted_import_leaves_nothing(fresh_node):
    """The child that reads the folder is stopped as soon as it is there, so that it cannot have been done before."""
    folder = fresh_node.project({"small": "x"})
    with open(folder / "weights.bin", "wb") as weights:
        weights.truncate(1 << 30)
    fresh_node.own(folder)
    fresh_node.run("node", "start")

    def readers():
        # The server that forks it has the same title for a moment (base/fork_server.h).
        return [pid for pid in fresh_node.processes() if b"__import" in command_line(pid) and reads(pid, folder)]
    client = fresh_node.start("models", "import", folder, "--name", "never")
    reader = wait_for(readers, what="the child that reads the folder")[0]
    os.kill(reader, signal.SIGSTOP)
    client.send_signal(signal.SIGINT)
    assert client.wait(timeout=20) == 130
    wait_for(lambda: not readers(), seconds=20, what="the end of the child that reads the folder")
    wait_for(lambda: not list((fresh_node.state / "store/temp").iterdir()), what="the store's temporary files to be gone")
    assert "never" not in fresh_node.run("models", "ls").stdout
    assert fresh_node.run("models", "import", fresh_node.project({"w": "1"}), "--name", "next").stdout == "imported next@1\n"
