"""`loam logs -f` outlives the node: it goes on with the next one, byte for byte, and ends with the attempt."""
from nodes import kill, node_processes, wait_for

# Prints "first", "second", … each once its file is there.
JOB = """for part in first second third last; do
  while [ ! -e /mnt/$part ]; do sleep 0.05; done
  echo $part
done"""


def follow(node, *arguments):
    """`loam logs -f` with its output in a file, so that it can be looked at meanwhile."""
    out, err = node.folder / "logs.out", node.folder / "logs.err"
    with open(out, "w") as output, open(err, "w") as error:
        return node.start("logs", "-f", *arguments, stdout=output, stderr=error), out, err


def start_job(node, run=JOB):
    folder = node.project({"gate/none": "", "loam.yaml": ""})
    (folder / "loam.yaml").write_text(f"""name: logs
mounts: [{{from: {folder}/gate, to: /mnt}}]
steps:
  talk:
    run: |
      {run.replace(chr(10), chr(10) + "      ")}
""")
    return folder / "gate", node.json("up", "--detach", cwd=folder)["run"]


def test_logs_go_on_with_the_next_node(fresh_node):
    gate, run = start_job(fresh_node)
    (gate / "first").touch()
    wait_for(lambda: fresh_node.run("logs", run, check=False).stdout == "first\n", what="the first line")
    client, out, err = follow(fresh_node, run)
    wait_for(lambda: out.read_text() == "first\n", what="what there is")
    kill(node_processes(fresh_node))
    (gate / "second").touch()
    wait_for(lambda: "lost the node" in err.read_text(), what="the line about the node's death")
    fresh_node.run("node", "start")
    wait_for(lambda: out.read_text() == "first\nsecond\n", what="what came meanwhile")
    fresh_node.run("node", "stop")
    fresh_node.run("node", "start")
    (gate / "third").touch()
    wait_for(lambda: out.read_text() == "first\nsecond\nthird\n", what="what came after the node's restart")
    (gate / "last").touch()
    assert client.wait(timeout=60) == 0
    assert out.read_text() == "first\nsecond\nthird\nlast\n"


def test_a_tail_goes_on_behind_what_was_printed(fresh_node):
    gate, run = start_job(fresh_node)
    for part in ("first", "second"):
        (gate / part).touch()
    wait_for(lambda: fresh_node.run("logs", run, check=False).stdout == "first\nsecond\n", what="two lines")
    client, out, _ = follow(fresh_node, "--tail", "1", run)
    wait_for(lambda: out.read_text() == "second\n", what="the last line")
    kill(node_processes(fresh_node))
    fresh_node.run("node", "start")
    for part in ("third", "last"):
        (gate / part).touch()
    assert client.wait(timeout=60) == 0
    assert out.read_text() == "second\nthird\nlast\n"


def test_without_another_node_logs_say_so(fresh_node):
    gate, run = start_job(fresh_node)
    (gate / "first").touch()
    wait_for(lambda: fresh_node.run("logs", run, check=False).stdout == "first\n", what="the first line")
    client, out, err = follow(fresh_node, run)
    wait_for(lambda: out.read_text() == "first\n", what="what there is")
    fresh_node.run("node", "stop")
    assert client.wait(timeout=90) == 3
    assert "the node did not come back" in err.read_text() and f"loam logs -f {run}/talk/1" in err.read_text()
    for part in ("second", "third", "last"):
        (gate / part).touch()
    again = fresh_node.run("logs", "-f", f"{run}/talk/1")
    assert again.stdout == "first\nsecond\nthird\nlast\n"
