"""An endpoint without a node: its folder, a real loam-gateway, real workers as plain processes."""
import http.client
import json
import os
import pathlib
import shutil
import socket
import struct
import subprocess
import time

ROOT = pathlib.Path(__file__).resolve().parents[3]
BIN = pathlib.Path(os.environ.get("LOAM_BIN") or ROOT / "build/release/bin")
HANDLERS = pathlib.Path(__file__).resolve().parent / "handlers"
PYTHON = os.environ.get("LOAM_TEST_PYTHON", "/usr/bin/python3")  # the distribution's, with its NumPy
PATIENCE_S = 60  # a bound for what must happen at all, never a measure


def eventually(condition, what):
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        value = condition()
        if value:
            return value
        time.sleep(0.01)
    raise AssertionError("never happened: " + what)


class Answer:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    @property
    def json(self):
        size = self.headers.get("Inference-Header-Content-Length")
        return json.loads(self.body[:int(size)] if size else self.body)

    @property
    def error(self):
        return self.json["error"]

    def binary(self):
        """The binary outputs by name, as bytes."""
        rest = self.body[int(self.headers["Inference-Header-Content-Length"]):]
        result = {}
        for output in self.json["outputs"]:
            size = output["parameters"]["binary_data_size"]
            result[output["name"]], rest = rest[:size], rest[size:]
        assert rest == b""
        return result


class Endpoint:
    """One endpoint folder with its gateway; everything that it starts is gone after close()."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        for name in ("plan", "replicas", "requests", "status"):
            (self.folder / name).mkdir(parents=True)
        self.plan = {"project": "test", "listen": "127.0.0.1:0", "models": []}
        self.gateway = None
        self.workers = []
        self.attempts = 0

    # The node's part.
    def add_model(self, name="model", version="1", batch_max=8, delay_ms=0, queue_max=1024,
                  timeout_ms=60000):
        self.plan["models"].append({
            "name": name, "version": version, "batch_max": batch_max, "batch_delay_max_us": delay_ms * 1000,
            "queue_max": queue_max, "request_timeout_ms": timeout_ms, "replicas": []})
        return name

    def model(self, name="model"):
        return next(model for model in self.plan["models"] if model["name"] == name)

    def add_attempt(self, name="model", write=True):
        self.attempts += 1
        attempt = str(self.attempts)
        (self.folder / "replicas" / attempt).mkdir()
        self.model(name)["replicas"].append({"attempt": attempt, "record": attempt.rjust(64, "0")})
        if write:
            self.write_plan()
        return attempt

    def drop_attempt(self, attempt):
        for model in self.plan["models"]:
            model["replicas"] = [r for r in model["replicas"] if r["attempt"] != attempt]
        self.write_plan()

    def write_plan(self):
        temporary = self.folder / "plan/new"
        temporary.write_text(json.dumps(self.plan))
        temporary.rename(self.folder / "plan/plan.json")

    def start(self, check=True):
        self.write_plan()
        self.log = open(self.folder / "gateway.log", "ab")
        self.gateway = subprocess.Popen([str(BIN / "loam-gateway"), "--endpoint", str(self.folder)],
                                        stderr=self.log)
        if check:
            self.address = eventually(lambda: self.status().get("listening"), "the gateway listens")
        return self

    def status(self):
        try:
            return json.loads((self.folder / "status/status.json").read_text())
        except FileNotFoundError:
            assert self.gateway is None or self.gateway.poll() is None, self.gateway_log()
            return {}

    def gateway_log(self):
        return (self.folder / "gateway.log").read_text()

    def start_worker(self, handler, attempt=None, wait=True, name="model", environment=None):
        attempt = attempt or self.add_attempt(name)
        log = open(self.folder / ("worker-%s.log" % attempt), "ab")
        worker = subprocess.Popen(
            [PYTHON, "-m", "loam.worker"], cwd=str(HANDLERS), stdout=log, stderr=log,
            env=dict({"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT / "python"), "LOAM_HANDLER": handler,
                      "LOAM_CHANNEL": str(self.folder / "replicas" / attempt),
                      "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1",
                      "LOAM_TEST_FOLDER": str(self.folder)}, **(environment or {})))
        log.close()
        worker.attempt = attempt
        self.workers.append(worker)
        if wait:
            def is_ready():
                assert worker.poll() is None, self.worker_log(worker)
                return attempt in self.ready_attempts(name)
            eventually(is_ready, "the worker is ready")
        return worker

    def worker_log(self, worker):
        return (self.folder / ("worker-%s.log" % worker.attempt)).read_text()

    def ready_attempts(self, name):
        return [attempt for m in self.status().get("models", []) if m["name"] == name for attempt in m["ready"]]

    def ready(self, name="model"):
        return len(self.ready_attempts(name))

    def model_error(self, name="model"):
        return next(m["error"] for m in self.status()["models"] if m["name"] == name)

    def close(self):
        for worker in self.workers:
            worker.kill()
            worker.wait()
        found, status = "", 0
        if self.gateway:
            if self.gateway.poll() is None:  # to its own end, where a sanitizer looks for leaks
                self.gateway.terminate()
                try:
                    status = self.gateway.wait(PATIENCE_S)
                finally:
                    self.gateway.kill()
            self.log.close()
            found = self.gateway_log()
        shutil.rmtree(self.folder, ignore_errors=True)
        # Where the gateway was built with sanitizers, what they found fails the test.
        assert "runtime error" not in found and "Sanitizer" not in found, found
        assert status == 0, found

    # The client's part.
    @property
    def host_port(self):
        host, port = self.address.rsplit(":", 1)
        return host, int(port)

    def connect(self):
        connection = http.client.HTTPConnection(*self.host_port, timeout=PATIENCE_S)
        return connection

    def raw(self):
        return socket.create_connection(self.host_port, timeout=PATIENCE_S)

    def request(self, method, path, body=None, headers=None, connection=None):
        own = connection is None
        connection = connection or self.connect()
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        finally:
            if own:
                connection.close()

    def infer(self, document, binary=None, path="/v2/models/model/infer", connection=None, headers=None):
        body = document if isinstance(document, (bytes, str)) else json.dumps(document)
        body = body.encode() if isinstance(body, str) else body
        headers = dict(headers or {})
        if binary is not None:
            headers["Inference-Header-Content-Length"] = str(len(body))
            body += binary
        return self.request("POST", path, body, headers, connection)


def vector_request(*rows, **extra):
    """A JSON request for the `identity` handler: x is FP32 [-1, 4]."""
    document = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [len(rows), 4],
                            "data": [value for row in rows for value in row]}]}
    document.update(extra)
    return document


def binary_request(rows, **extra):
    """The same with binary tensors, in and out."""
    data = struct.pack("<%df" % (len(rows) * 4), *[value for row in rows for value in row])
    document = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [len(rows), 4],
                            "parameters": {"binary_data_size": len(data)}}],
                "parameters": {"binary_data_output": True}}
    document.update(extra)
    return document, data


def response_text(stream_socket, count=1):
    """Reads `count` whole HTTP responses from a socket, or until its end."""
    data = b""
    answers = []
    while len(answers) < count:
        head_end = data.find(b"\r\n\r\n")
        if head_end >= 0:
            head = data[:head_end].decode()
            length = next(int(line.split(":")[1]) for line in head.split("\r\n")
                          if line.lower().startswith("content-length"))
            if len(data) >= head_end + 4 + length:
                answers.append((int(head.split()[1]), head, data[head_end + 4:head_end + 4 + length]))
                data = data[head_end + 4 + length:]
                continue
        more = stream_socket.recv(65536)
        if not more:
            break
        data += more
    return answers
