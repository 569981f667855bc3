"""The node's HTTP API and its OpenAPI document: neither says what the other does not.

The document is held against the routes of a running node, every answer of a fuzzer against the document, by the document
itself: requests are made from its schemas, right ones and broken ones. What is refused is refused as documented, and
nothing is answered with 500."""
import http.client
import json
import random
import re
import socket
import subprocess

import jsonschema
import pytest

from nodes import BIN, Node, wait_for

SEED = 20261125
STEPS = "name: api\ntrain:\n  run: echo hello; echo data > made.txt; echo w > m/w\n  resources: {cpus: 0.1, memory: 64MiB}\n  output: m\n"


class Unix(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost", timeout=60)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Api:
    """Requests to a node; each answer is held against the document before it is returned."""

    def __init__(self, path, document):
        self.path, self.document, self.seen = path, document, set()

    def schema(self, schema):
        return {**schema, "components": self.document["components"]}

    def send(self, method, target, body=None, headers=None):
        connection = Unix(self.path)
        sent = {"Content-Type": "application/json"} if body is not None else {}
        connection.request(method, target, body if isinstance(body, (bytes, type(None))) else json.dumps(body),
                           {**sent, **(headers or {})})
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        return answer, content

    def call(self, method, path, names=None, query="", body=None):
        """One documented operation; `names` fill its path."""
        operation = self.document["paths"][path][method]
        target = re.sub(r"{(\w+)}", lambda match: quoted(names[match.group(1)]), path) + query
        answer, content = self.send(method.upper(), target, body)
        self.check(operation, answer, content, (method, target, body))
        self.seen.add((operation["operationId"], answer.status))
        return answer.status, content

    def check(self, operation, answer, content, asked):
        assert answer.status not in (500, 501, 502), (asked, content)
        if answer.status == 503:
            assert "503" in operation["responses"], (asked, content)
        response = operation["responses"].get(str(answer.status), operation["responses"]["default"])
        assert answer.status >= 400 or str(answer.status) in operation["responses"], (asked, answer.status)
        kind = answer.getheader("content-type")
        assert kind in response["content"], (asked, kind)
        if kind == "application/json":
            schema = self.schema(response["content"][kind]["schema"])
            jsonschema.Draft202012Validator(schema).validate(json.loads(content))
        if kind == "text/event-stream":
            for event in content.decode().split("\n\n")[:-1]:
                name, data = re.fullmatch(r"event: (\w+)\ndata: (.*)", event).groups()
                assert name in operation["x-events"], (asked, name)
                jsonschema.Draft202012Validator(self.schema(operation["x-events"][name])).validate(json.loads(data))


def quoted(text):
    return "".join(f"%{byte:02X}" for byte in str(text).encode())


def printed():
    done = subprocess.run([str(BIN / "loam"), "schema", "--api"], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def document():
    return printed()


@pytest.fixture(scope="module")
def served(prefix, document):
    """A node with a run that has ended, one that runs, and the API in front of it."""
    node = Node(prefix, None)
    node.run("node", "start")
    node.steps = str(node.project({"loam.yaml": STEPS}))
    node.run("train", cwd=node.steps)
    node.api = Api(str(node.runtime / "node.sock"), document)
    yield node
    node.close()


def operations(document):
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method, path, operation


def test_the_document_is_what_the_node_answers(served, document):
    """The node makes its from its routes, `loam schema --api` from the descriptions: an operation that only one of them
    knows makes them differ."""
    answer, content = served.api.send("GET", "/v1/openapi.json")
    assert answer.status == 200
    mine, its = ({(path, method) for method, path, _ in operations(one)} for one in (document, json.loads(content)))
    assert mine == its
    assert json.loads(content) == document


def test_the_document_is_openapi(document):
    """What OpenAPI 3.1 asks for beside JSON Schema; the long tier has a validator and a fuzzer of its community."""
    assert document["openapi"] == "3.1.0" and document["info"]["title"] and document["info"]["version"]
    ids = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(ids) == len(set(ids)) and len(ids) > 30
    for method, path, operation in operations(document):
        named = [one["name"] for one in operation.get("parameters", []) if one["in"] == "path"]
        assert sorted(named) == sorted(re.findall(r"{(\w+)}", path)), path
        assert operation["summary"] and operation["summary"] != f"{method.upper()} {path}", path
        assert any(status in operation["responses"] for status in ("101", "200", "201")), path
    references = re.findall(r'"\$ref": "#/components/schemas/(\w+)"', json.dumps(document))
    assert set(references) == set(document["components"]["schemas"])
    for schema in document["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)


def test_what_is_answered_is_as_documented(served, document):
    """Each operation that answers something, with something to answer."""
    api = served.api
    assert api.call("get", "/v1/runs")[0] == 200
    run = max(one["id"] for one in json.loads(api.call("get", "/v1/runs")[1])["runs"])
    assert api.call("get", "/v1/runs/{id}/events", {"id": run})[0] == 200
    folder = json.loads(api.call("get", "/v1/runs/{id}", {"id": run})[1])["folder"]
    for method, path, names, query, body, status in (
            ("get", "/v1/usage", {}, "?since_ms=0", None, 200), ("get", "/v1/usage", {}, "?since_ms=soon", None, 400),
            ("post", "/v1/plan", {}, "", {"verb": "train", "project": folder, "text": STEPS}, 200),
            ("post", "/v1/plan", {}, "", {"verb": "train", "project": folder, "text": STEPS, "force": True, "hold": True}, 200),
            ("get", "/v1/node", {}, "", None, 200), ("get", "/v1/doctor", {}, "", None, 200),
            ("get", "/v1/devices", {}, "", None, 200), ("get", "/v1/jobs", {}, "?all=1", None, 200),
            ("get", "/v1/runs/{id}", {"id": run}, "", None, 200), ("get", "/v1/why/{target}", {"target": run}, "", None, 200),
            ("get", "/v1/logs/{target}", {"target": f"{run}/train"}, "?tail=1", None, 200),
            ("get", "/v1/files/{target}", {"target": f"{run}/train/1"}, "", None, 200),
            ("get", "/v1/files/{target}", {"target": run}, "?path=made.txt", None, 200),
            ("get", "/v1/models", {}, "", None, 200), ("get", "/v1/models/{name}", {"name": "api@1"}, "", None, 200),
            ("get", "/v1/trace/{of}", {"of": "api"}, "", None, 200), ("get", "/v1/store", {}, "", None, 200),
            ("post", "/v1/store/verify", {}, "", None, 200), ("post", "/v1/store/gc", {}, "", {"dry_run": True}, 200),
            ("put", "/v1/secrets/{name}", {"name": "TOKEN"}, "", {"value": "x"}, 200), ("get", "/v1/secrets", {}, "", None, 200),
            ("delete", "/v1/secrets/{name}", {"name": "TOKEN"}, "", None, 200),
            ("post", "/v1/preempt", {}, "", {"target": str(run)}, 409), ("post", "/v1/hold", {}, "", {"target": str(run)}, 409),
            ("post", "/v1/cancel", {}, "", {"target": "4711"}, 404), ("post", "/v1/node/reload", {}, "", None, 200),
            ("post", "/v1/runs", {}, "", {"verb": "train", "project": "/tmp", "text": "name: 3\n"}, 422)):
        assert api.call(method, path, names, query, body)[0] == status, (method, path)
    assert api.call("get", "/v1/logs/{target}", {"target": run})[1] == b"hello\n"


def test_the_queue_comes_in_pages(served):
    """However much waits, an answer has so many of it, says how many more there are, and where to go on."""
    held = [served.run("run", "--detach", "--hold", "--", "true").stdout.strip() for _ in range(3)]
    jobs = lambda query: json.loads(served.api.call("get", "/v1/jobs", {}, query)[1])
    everything = jobs("")
    assert everything["more"] == 0 and everything["next"] is None
    targets, page = [], jobs("?limit=1")
    while True:
        assert len(page["jobs"]) == 1
        targets.append(page["jobs"][0]["target"])
        assert page["more"] == len(everything["jobs"]) - len(targets)
        if page["next"] is None:
            break
        page = jobs(f"?limit=1&after={page['next']}")
    assert targets == [job["target"] for job in everything["jobs"]]
    assert "and 2 more (loam ps --limit 3)" in served.run("ps", "--limit", "1").stdout
    assert "more" not in served.run("ps").stdout
    for run in held:
        served.run("cancel", run)


def test_a_wrong_method_says_which_are_right(served, document):
    for path, methods in document["paths"].items():
        target = re.sub(r"{\w+}", "1", path)
        answer, content = served.api.send("PATCH", target)
        assert answer.status == 405, (path, content)
        allowed = set(answer.getheader("allow").split(", "))
        assert {method.upper() for method in methods} <= allowed, path
    assert served.api.send("GET", "/v1/nothing")[0].status == 404


def test_bodies_have_a_type_and_a_limit(served):
    send = served.api.send
    for kind in ("text/plain", "application/x-www-form-urlencoded", "application/json2", "multipart/form-data; boundary=x"):
        answer, content = send("POST", "/v1/cancel", b'{"target": "1"}', {"Content-Type": kind})
        assert answer.status == 415 and b"expected application/json" in content, kind
    for kind in ("application/json", "Application/JSON; charset=utf-8"):
        assert send("POST", "/v1/cancel", b'{"target": "4711"}', {"Content-Type": kind})[0].status == 404, kind
    answer, _ = send("POST", "/v1/cancel", b"", {"Content-Length": str(17 << 20), "Content-Type": "application/json"})
    assert answer.status == 413
    assert send("POST", "/v1/cancel", b"[" * 100_000)[0].status == 400


# --- by the document itself

WORDS = ["", "0", "-1", "1", "1/train", "1/train/1", "4711", "x" * 3000, "../../etc/passwd", "\u0000", "🦀", "%00", "a/b/c/d/e",
         "req-0", "api@1", "api@99999999999999999999", "9" * 30, "/", "//", " ", "\n", "'; DROP TABLE runs; --"]


def valid(schema, chance):
    """A value that the schema takes, of no particular sense."""
    if "anyOf" in schema:
        return valid(chance.choice(schema["anyOf"]), chance)
    if "enum" in schema:
        return chance.choice(schema["enum"])
    kind = schema.get("type", "string")
    if isinstance(kind, list):
        kind = chance.choice(kind)
    if kind == "object":
        if isinstance(schema.get("additionalProperties"), dict):
            return {chance.choice(WORDS): valid(schema["additionalProperties"], chance) for _ in range(chance.randrange(3))}
        return {key: valid(inner, chance) for key, inner in schema.get("properties", {}).items()
                if key in schema.get("required", []) or chance.random() < 0.4}
    if kind == "array":
        return [valid(schema["items"], chance) for _ in range(chance.randrange(4))]
    return {"null": None, "boolean": chance.random() < 0.5, "integer": chance.choice([0, 1, -1, 7, 2 ** 31, 2 ** 53 - 1]),
            "number": 0.5, "string": chance.choice(WORDS)}[kind]


def broken(value, chance):
    """Somewhere in it something of another type."""
    other = chance.choice([None, True, -1, 1.5, 10 ** 17, "x", [], {}, [[]], {"a": {}}])
    if isinstance(value, dict) and value and chance.random() < 0.8:
        key = chance.choice(list(value))
        return {**value, key: broken(value[key], chance)}
    return other


def test_no_request_that_the_document_allows_or_forbids_breaks_the_node(served, document):
    chance = random.Random(SEED)
    project = served.project({"loam.yaml": STEPS})
    for method, path, operation in operations(document):
        # The end of the node is no subject, nor is the whole machine as a project.
        if path == "/v1/node/stop":
            continue
        for turn in range(40):
            names = {one["name"]: chance.choice(WORDS[1:]) for one in operation.get("parameters", []) if one["in"] == "path"}
            query = "&".join(f"{one['name']}={quoted(valid(one['schema'], chance) if turn % 2 else chance.choice(WORDS))}"
                             for one in operation.get("parameters", []) if one["in"] == "query" and chance.random() < 0.5
                             and one["name"] != "follow")
            body = None
            if "requestBody" in operation:
                body = valid(operation["requestBody"]["content"]["application/json"]["schema"], chance)
                if turn % 2:
                    body = broken(body, chance)
                if isinstance(body, dict) and isinstance(body.get("project"), str):
                    body["project"] = chance.choice([str(project), "relative", "/no/such/folder", ""])
                if isinstance(body, dict) and isinstance(body.get("path"), str):
                    body["path"] = chance.choice([str(project), "relative", "/no/such/folder"])
            served.api.call(method, path, names, f"?{query}" if query else "", body)
    assert json.loads(served.api.call("get", "/v1/node")[1])["jobs"] is not None
    refused = {status for _, status in served.api.seen}
    assert {200, 201, 400, 404} <= refused, refused
    for run in json.loads(served.api.call("get", "/v1/runs", query="?limit=1000")[1])["runs"]:
        served.api.send("POST", "/v1/cancel", {"target": str(run["id"])})
    wait_for(lambda: served.json("node", "status")["jobs"] == {"running": 0, "waiting": 0}, what="the end of all jobs")
