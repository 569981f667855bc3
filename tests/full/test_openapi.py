"""The OpenAPI document before its community's own tools: a validator, and a fuzzer of APIs over a real node."""
import os
import pathlib
import shutil
import socket
import socketserver
import subprocess
import sys
import tempfile
import threading

import pytest

SOURCE = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(SOURCE / "tests/system"))
from nodes import BIN, Node  # noqa: E402

TOOLS = ["openapi-spec-validator==0.9.0", "schemathesis==4.32.5"]
# Not for a fuzzer: the end of the node. Streams without an end are cut off by --request-timeout.
EXCLUDED = ["/v1/node/stop"]


class Bridge(socketserver.ThreadingTCPServer):
    """TCP on loopback in front of a node's Unix socket, for tools that know nothing else."""
    allow_reuse_address = daemon_threads = True

    def __init__(self, path):
        class Handler(socketserver.BaseRequestHandler):
            def handle(self):
                with socket.socket(socket.AF_UNIX) as node:
                    node.connect(path)
                    back = threading.Thread(target=copy, args=(node, self.request), daemon=True)
                    back.start()
                    copy(self.request, node)
                    back.join()
        super().__init__(("127.0.0.1", 0), Handler)


def copy(source, target):
    try:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        pass


@pytest.fixture(scope="module")
def tools(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tools")
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    subprocess.run([folder / "bin/pip", "install", "-q", *TOOLS], check=True)
    return folder / "bin"


@pytest.fixture
def document(tmp_path):
    path = tmp_path / "openapi.json"
    path.write_text(subprocess.run([BIN / "loam", "schema", "--api"], capture_output=True, text=True, check=True).stdout)
    return path


def test_a_validator_takes_it(tools, document):
    done = subprocess.run([tools / "openapi-spec-validator", document], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_fuzzer_finds_nothing(tools, document):
    """Statuses, types and schemas of all answers are as documented. Not its not_a_server_error, for a documented 503 (it
    has not been started yet) is no finding; not its look at `Allow`, for /v1/models/import is the name of a model, too, and
    OpenAPI gives a path one set of methods (test_api.py holds both)."""
    prefix = pathlib.Path(tempfile.mkdtemp(prefix="loam-prefix-"))
    prefix.chmod(0o755)
    subprocess.run(["cmake", "--install", BIN.parent, "--prefix", prefix], check=True, stdout=subprocess.DEVNULL)
    node = Node(prefix, None)
    try:
        node.run("node", "start")
        node.run("run", "--", "true", cwd=node.project({}))
        with Bridge(str(node.runtime / "node.sock")) as bridge:
            threading.Thread(target=bridge.serve_forever, daemon=True).start()
            done = subprocess.run(
                [tools / "schemathesis", "run", document, "--url", f"http://127.0.0.1:{bridge.server_address[1]}",
                 *(f"--exclude-path={path}" for path in EXCLUDED), "--phases", "examples,coverage,fuzzing", "--seed", "4",
                 "--max-examples", os.environ.get("LOAM_FUZZ_EXAMPLES", "50"), "--request-timeout", "20",
                 "--checks", "status_code_conformance,content_type_conformance,response_schema_conformance,"
                 "unsupported_method", "--warnings", "off", "--no-color"],
                capture_output=True, text=True, cwd=document.parent, env={**os.environ, "HOME": str(document.parent)})
            bridge.shutdown()
        assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
        assert node.json("node", "status")["pid"]
    finally:
        node.close()
        shutil.rmtree(prefix)
