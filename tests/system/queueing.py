"""Steps and commands in a node's queue, and how to see where they stand."""
import json

from nodes import node_processes, wait_for

STEP = """name: queue
train:
  run: {run}
  resources: {{cpus: {cpus}, memory: 64MiB{time}}}
{more}"""


def project(node, run="true", cpus=0.1, time="", more="", name="queue"):
    return node.project({"loam.yaml": STEP.format(run=json.dumps(run), cpus=cpus, more=more,
                                                  time=f", time: {time}" if time else "")}, name=name)


def submit(node, folder, *arguments):
    return json.loads(node.run("train", "--detach", "--json", *arguments, cwd=folder).stdout)["run"]


def job_of(node, run):
    return [entry for entry in node.json("ps", "-a")["jobs"] if entry["run"] == run][0]


def wait_state(node, run, *states):
    return wait_for(lambda: (lambda job: job if job["state"] in states else None)(job_of(node, run)),
                    what=f"one of {states} of run {run}")


def cpus_of(node):
    node.run("node", "start")
    return node.json("node", "status")["capacity"]["cpus"]


def configure(node, text):
    """Writes the configuration of a node and brings it in force."""
    node.configure(text)
    return node.run("node", "reload" if node_processes(node) else "start")


def command_of(node, user, *arguments):
    """The number of a command that this user submits, of the options before `--` and the command behind it."""
    return int(node.as_user(user, "run", "--detach", *arguments).stdout)
