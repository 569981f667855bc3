"""The Open Inference Protocol v2 as clients see it: metadata, health, JSON, binary tensors, errors."""
import contextlib
import json
import math
import random
import struct

import jsonschema
import pytest

from serving import PATIENCE_S, binary_request, eventually, response_text, vector_request

ROW = [1.0, -2.5, 3.25, 1e-3]


def test_server_and_health(identity):
    server = identity.request("GET", "/v2")
    assert server.status == 200
    assert server.json["name"] == "loam"
    assert "binary_tensor_data" in server.json["extensions"]
    assert identity.request("GET", "/v2/health/live").json == {"live": True}
    assert identity.request("GET", "/v2/health/ready").json == {"ready": True}


def test_not_ready_without_a_worker(endpoint):
    endpoint.add_attempt(write=False)
    endpoint.start()
    assert endpoint.request("GET", "/v2/health/live").status == 200
    assert endpoint.request("GET", "/v2/health/ready").status == 503
    assert endpoint.request("GET", "/v2/models/model/ready").status == 503
    assert endpoint.request("GET", "/v2/models/model").status == 503


def test_model_metadata(identity):
    for path in ("/v2/models/model", "/v2/models/model/versions/1"):
        answer = identity.request("GET", path)
        assert answer.status == 200
        assert answer.json == {"name": "model", "versions": ["1"], "platform": "loam_python",
                               "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}],
                               "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 4]}]}
    assert identity.request("GET", "/v2/models/model/versions/1/ready").status == 200
    assert identity.request("GET", "/v2/models/model/versions/2").status == 404
    missing = identity.request("GET", "/v2/models/modle")
    assert missing.status == 404 and "modle" in missing.error and "model@1" in missing.error
    assert identity.request("GET", "/nothing").status == 404
    for method, path, allowed in (("DELETE", "/v2/models/model", "GET, HEAD"), ("GET", "/v2/models/model/infer", "POST"),
                                  ("HEAD", "/v2/models/model/infer", "POST")):
        refused = identity.request(method, path)
        assert (refused.status, refused.headers["Allow"]) == (405, allowed)


def test_head_is_get_without_the_body(identity):
    with contextlib.closing(identity.connect()) as connection:
        for path in ("/v2", "/v2/health/ready", "/v2/models/model", "/v2/models/modle"):
            whole, head = (identity.request(method, path, connection=connection) for method in ("GET", "HEAD"))
            assert head.body == b"" and head.status == whole.status
            assert head.headers["Content-Length"] == str(len(whole.body))


def test_json_in_json_out(identity):
    answer = identity.infer(vector_request(ROW, ROW[::-1], id="abc"))
    assert answer.status == 200, answer.body
    assert answer.json["id"] == "abc"
    assert answer.json["model_name"] == "model" and answer.json["model_version"] == "1"
    (output,) = answer.json["outputs"]
    assert output["name"] == "y" and output["shape"] == [2, 4] and output["datatype"] == "FP32"
    floats = struct.unpack("<8f", struct.pack("<8f", *output["data"]))
    assert floats == struct.unpack("<8f", struct.pack("<8f", *(ROW + ROW[::-1])))


NUMBER_OR_NOT = {"type": ["number", "boolean", "null"]}
TENSOR = {"name": {"type": "string"}, "datatype": {"enum": sorted(["BOOL", "FP16", "FP32", "FP64"] + [
    sign + "INT" + bits for sign in ("", "U") for bits in ("8", "16", "32", "64")])},
    "shape": {"type": "array", "items": {"type": "integer"}}}


def form(required, properties):
    """An object with these members and no others."""
    return {"type": "object", "properties": properties, "additionalProperties": False, "required": required}


def several(schema):
    return {"type": "array", "items": schema}


TEXT, FLAG = {"type": "string"}, {"type": "boolean"}
FORMS = {  # of the responses, after "Open Inference Protocol, HTTP/REST" and the binary tensor data extension
    "live": form(["live"], {"live": FLAG}),
    "ready": form(["ready"], {"ready": FLAG}),
    "model_ready": form(["name", "ready"], {"name": TEXT, "ready": FLAG}),
    "server": form(["name", "version", "extensions"], {"name": TEXT, "version": TEXT, "extensions": several(TEXT)}),
    "metadata": form(["name", "versions", "platform", "inputs", "outputs"], {
        "name": TEXT, "versions": several(TEXT), "platform": TEXT, "inputs": several(form(list(TENSOR), TENSOR)),
        "outputs": several(form(list(TENSOR), TENSOR))}),
    "infer": form(["model_name", "model_version", "outputs"], {
        "model_name": TEXT, "model_version": TEXT, "id": TEXT,
        "outputs": several(dict(form(list(TENSOR), {**TENSOR, "data": several(NUMBER_OR_NOT), "parameters": form(
            ["binary_data_size"], {"binary_data_size": {"type": "integer"}})}),
            oneOf=[{"required": ["data"]}, {"required": ["parameters"]}]))}),
    "error": form(["error"], {"error": TEXT}),
}


def test_responses_have_the_protocols_form(identity):
    document, data = binary_request([ROW])
    answers = [("server", 200, identity.request("GET", "/v2")), ("server", 200, identity.request("GET", "/v2/")),
               ("live", 200, identity.request("GET", "/v2/health/live")),
               ("ready", 200, identity.request("GET", "/v2/health/ready")),
               ("model_ready", 200, identity.request("GET", "/v2/models/model/ready")),
               ("model_ready", 200, identity.request("GET", "/v2/models/model/versions/1/ready")),
               ("metadata", 200, identity.request("GET", "/v2/models/model")),
               ("infer", 200, identity.infer(vector_request(ROW))),
               ("infer", 200, identity.infer(vector_request(ROW, id="x"))),
               ("infer", 200, identity.infer(document, data)),
               ("error", 400, identity.infer(vector_request(ROW, inputs=[]))),
               ("error", 404, identity.request("GET", "/v2/models/nobody")),
               ("error", 404, identity.infer(vector_request(ROW), path="/v2/models/model/versions/2/infer")),
               ("error", 405, identity.request("DELETE", "/v2"))]
    for kind, status, answer in answers:
        assert answer.status == status, (kind, answer.body)
        jsonschema.validate(answer.json, FORMS[kind])
        binary = "Inference-Header-Content-Length" in answer.headers
        assert answer.headers["Content-Type"] == ("application/octet-stream" if binary else "application/json")
        assert int(answer.headers["Content-Length"]) == len(answer.body)


def test_an_id_comes_back_as_it_was_given(identity):
    for given in ("", "42", "\u00e9\"\\\n", "x" * 256):
        assert identity.infer(vector_request(ROW, id=given)).json["id"] == given
    assert "id" not in identity.infer(vector_request(ROW)).json


def test_outputs_that_name_none_are_all(identity):
    assert [output["name"] for output in identity.infer(vector_request(ROW, outputs=[])).json["outputs"]] == ["y"]


def test_nested_data(identity):
    document = vector_request(ROW, ROW)
    document["inputs"][0]["data"] = [ROW, ROW]
    assert identity.infer(document).json["outputs"][0]["data"] == pytest.approx(ROW + ROW)


def test_binary_in_binary_out(identity):
    document, data = binary_request([ROW, ROW])
    answer = identity.infer(document, data)
    assert answer.status == 200, answer.body
    assert answer.headers["Content-Type"] == "application/octet-stream"
    assert answer.binary() == {"y": data}


def test_binary_in_json_out_and_back(identity):
    document, data = binary_request([ROW], outputs=[{"name": "y", "parameters": {"binary_data": False}}])
    assert identity.infer(document, data).json["outputs"][0]["data"] == pytest.approx(ROW)
    document = vector_request(ROW, outputs=[{"name": "y", "parameters": {"binary_data": True}}])
    assert identity.infer(document).binary()["y"] == struct.pack("<4f", *ROW)


def test_not_a_number_survives_binary_and_is_null_in_json(identity):
    document, data = binary_request([[math.nan, math.inf, 0, 1]])
    assert identity.infer(document, data).binary()["y"] == data
    del document["parameters"]
    assert identity.infer(document, data).json["outputs"][0]["data"] == [None, None, 0, 1]


def test_two_inputs_two_outputs_and_a_choice(endpoint):
    endpoint.start()
    endpoint.start_worker("mlp.py:predict")
    pixels = [random.Random(3).randrange(17) for _ in range(64)]
    document = {"inputs": [{"name": "scale", "datatype": "FP64", "shape": [1], "data": [0.0625]},
                           {"name": "image", "datatype": "UINT8", "shape": [1, 8, 8],
                            "parameters": {"binary_data_size": 64}}]}
    both = endpoint.infer(document, bytes(pixels))
    assert both.status == 200, both.body
    digit, chance = both.json["outputs"]
    assert digit["name"] == "digit" and digit["datatype"] == "INT64" and digit["shape"] == [1]
    assert chance["shape"] == [1, 10] and sum(chance["data"]) == pytest.approx(1, abs=1e-5)
    assert chance["data"].index(max(chance["data"])) == digit["data"][0]
    document["outputs"] = [{"name": "digit"}]
    assert [o["name"] for o in endpoint.infer(document, bytes(pixels)).json["outputs"]] == ["digit"]


def test_every_datatype(endpoint):
    endpoint.start()
    endpoint.start_worker("dtypes.py:predict")
    values = {"BOOL": [True, False], "UINT8": [0, 255], "UINT64": [0, 2**64 - 1], "INT8": [-128, 127],
              "INT32": [-2**31, 2**31 - 1], "INT64": [-2**63, 2**63 - 1], "FP16": [0.5, -65504.0],
              "FP64": [1e300, -0.1]}

    def document(values):
        return {"inputs": [{"name": "in_" + name, "datatype": name, "shape": [1, 2], "data": data}
                           for name, data in values.items()]}
    answer = endpoint.infer(document(values))
    assert answer.status == 200, answer.body
    assert {o["datatype"]: o["data"] for o in answer.json["outputs"]} == values
    for name, wrong in (("UINT8", 256), ("INT8", -129), ("UINT64", -1), ("INT64", 2**63), ("INT32", 0.5),
                        ("BOOL", 2), ("FP16", 1e6), ("FP64", "1"), ("INT32", None), ("UINT8", True)):
        refused = endpoint.infer(document(dict(values, **{name: [0, wrong]})))
        assert refused.status == 400, (name, wrong)
        assert f"'in_{name}': value 1 of data is {json.dumps(wrong)}, expected {name}" in refused.error, refused.error


ROWS = "[-1, 4] is expected (-1: the rows, 1 to 8)"
BAD_REQUESTS = [
    (lambda d: d["inputs"][0].update(name="X"), ["'X'", "'x' (FP32 [-1, 4])"]),
    (lambda d: d["inputs"][0].update(name=7), ["inputs[0]: name 7 came", "'x' (FP32 [-1, 4])"]),
    (lambda d: d["inputs"][0].update(datatype="FP64"), ["'x': datatype \"FP64\" came, FP32 is expected"]),
    (lambda d: d["inputs"][0].update(datatype=32), ["'x': datatype 32 came, FP32 is expected"]),
    (lambda d: d["inputs"][0].update(shape=[1, 5]), ["'x': shape [1, 5] came, " + ROWS]),
    (lambda d: d["inputs"][0].update(shape=[4]), ["'x': shape [4] came, " + ROWS]),
    (lambda d: d["inputs"][0].update(shape=[0, 4]), ["'x': shape [0, 4] came, " + ROWS]),
    (lambda d: d["inputs"][0].update(shape=[-1, 4]), ["'x': shape [-1, 4] came, " + ROWS]),
    (lambda d: d["inputs"][0].update(shape=["1", 4]), ["'x': shape [\"1\", 4] came, " + ROWS]),
    (lambda d: d["inputs"][0].update(shape=[1.5, 4]), ["'x': shape [1.5, 4] came, " + ROWS]),
    (lambda d: d["inputs"][0].update(shape=[[1], 4]), ["'x': shape [[1], 4] came, " + ROWS]),
    (lambda d: d["inputs"][0].update(shape=[1] * 99), ["'x': shape [1, 1, 1,", "… came, " + ROWS]),
    (lambda d: d["inputs"][0].update(shape=[]), ["'x': shape [] came, " + ROWS]),
    (lambda d: d["inputs"][0].update(shape="[1, 4]"), ["'x': shape \"[1, 4]\" came, " + ROWS]),
    (lambda d: d["inputs"][0].update(shape=None), ["'x': shape null came, " + ROWS]),
    (lambda d: d["inputs"][0].update(shape=[2, 4]), ["'x'", "4 values", "8"]),
    (lambda d: d["inputs"][0].update(shape=[9, 4]), ["'x'", "9 rows came", "at most 8"]),
    (lambda d: d["inputs"][0].update(shape=[10**18, 4]), ["'x'", "rows came"]),
    (lambda d: d["inputs"][0].update(data=[1, 2, 3]), ["'x'", "3 values", "4"]),
    (lambda d: d["inputs"][0].update(data=[1, 2, 3, 4, 5]), ["'x'", "more values"]),
    (lambda d: d["inputs"][0].update(data=[[1, 2], [3, 4]]), ["'x': data nested as [2, 2] came", "4 values", "[1, 4]"]),
    (lambda d: d["inputs"][0].update(data=[[1, 2, 3, 4], 5]), ["'x': data nested as [2, 4] came", "[1, 4]"]),
    (lambda d: d["inputs"][0].update(shape=[2, 4], data=[[1, 2, 3, 4], [5]]), ["'x': data", "unequal length", "[2, 4]"]),
    (lambda d: d["inputs"][0].update(data=[1, 2, 3, "4"]), ["'x': value 3 of data is \"4\", expected FP32"]),
    (lambda d: d["inputs"][0].update(data=[1, 2, None, 4]), ["'x': value 2 of data is null, expected FP32"]),
    (lambda d: d["inputs"][0].update(data="x"), ["'x': data \"x\" came, 4 values of FP32 are expected in a list"]),
    (lambda d: d["inputs"][0].update(data="\u00e9" * 10**6), ["'x': data \"\u00e9", "\u00e9… came, 4 values of FP32"]),
    (lambda d: d["inputs"][0].update(data={"a": [1, "b"]}), ["'x': data {\"a\": [1, \"b\"]} came", "4 values of FP32"]),
    (lambda d: d["inputs"][0].pop("data"), ["'x': data is missing", "4 values of FP32", "binary_data_size 16"]),
    (lambda d: d["inputs"][0].pop("shape"), ["'x': shape is missing, " + ROWS]),
    (lambda d: d["inputs"][0].pop("datatype"), ["'x': datatype is missing, FP32 is expected"]),
    (lambda d: d["inputs"][0].pop("name"), ["inputs[0]: name is missing", "'x' (FP32 [-1, 4])"]),
    (lambda d: d["inputs"].append(d["inputs"][0]), ["'x'", "twice"]),
    (lambda d: d["inputs"].insert(0, 1), ["inputs[0]: 1 came", "object"]),
    (lambda d: d.update(inputs=[]), ["'x' (FP32 [-1, 4])", "missing"]),
    (lambda d: d.update(inputs={}), ["inputs {} came", "list", "'x' (FP32 [-1, 4])"]),
    (lambda d: d.pop("inputs"), ["inputs is missing", "list"]),
    (lambda d: d.update(outputs=[{"name": "z"}]), ["'z'", "'y' (FP32 [-1, 4])"]),
    (lambda d: d.update(outputs=["y"]), ["outputs: \"y\" came", "'y' (FP32 [-1, 4])"]),
    (lambda d: d.update(outputs="y"), ["outputs \"y\" came", "list", "'y' (FP32 [-1, 4])"]),
    (lambda d: d.update(outputs=[{"name": "y"}, {"name": "y"}]), ["'y'", "twice"]),
    (lambda d: d.update(id=7), ["id: 7 came", "string"]),
]


def test_wrong_requests_say_what_came_and_what_is_expected(identity):
    for number, (spoil, parts) in enumerate(BAD_REQUESTS):
        document = vector_request(ROW)
        spoil(document)
        answer = identity.infer(document)
        assert answer.status == 400, (number, answer.body)
        for part in parts:
            assert part in answer.error, (number, answer.error)
        assert len(answer.error) < 300, number
    for body in (b"", b"{", b"[]", b"7", b"\xff\xfe", b'{"inputs": [1]}', b"[" * 5000):
        assert identity.infer(body).status == 400, body
    assert identity.infer(vector_request(ROW)).status == 200  # nobody was harmed


def test_binary_framing_is_checked(identity):
    document, data = binary_request([ROW])
    assert "left in the body" in identity.infer(document, data[:-1]).error
    assert "accounts for" in identity.infer(document, data + b"x").error
    document["inputs"][0]["parameters"]["binary_data_size"] = 15
    assert "binary_data_size 15 came, shape [1, 4] expects 16" in identity.infer(document, data[:-1]).error
    for size in ("99999", "-1", "x", "18446744073709551617"):
        answer = identity.infer(vector_request(ROW), headers={"Inference-Header-Content-Length": size})
        assert answer.status == 400 and "Inference-Header-Content-Length" in answer.error, size
    both = vector_request(ROW)
    both["inputs"][0]["parameters"] = {"binary_data_size": 16}
    assert "both" in identity.infer(both, data).error


def test_a_boolean_is_a_byte_of_zero_or_one(endpoint):
    endpoint.start()
    endpoint.start_worker("dtypes.py:predict")
    sizes = {"BOOL": 1, "UINT8": 1, "UINT64": 8, "INT8": 1, "INT32": 4, "INT64": 8, "FP16": 2, "FP64": 8}
    document = {"inputs": [{"name": "in_" + name, "datatype": name, "shape": [1, 2],
                            "parameters": {"binary_data_size": 2 * size}} for name, size in sizes.items()],
                "outputs": [{"name": "out_BOOL", "parameters": {"binary_data": True}}]}
    rest = bytes(2 * sum(sizes.values()) - 2)
    assert endpoint.infer(document, b"\1\0" + rest).binary() == {"out_BOOL": b"\1\0"}
    for wrong in (b"\0\2", b"\xff\0"):
        refused = endpoint.infer(document, wrong + rest)
        assert refused.status == 400 and "in_BOOL" in refused.error and "0 or 1" in refused.error


def test_compressed_bodies_are_refused(identity):
    answer = identity.infer(vector_request(ROW), headers={"Content-Encoding": "gzip"})
    assert answer.status == 400 and "gzip" in answer.error


def test_every_response_has_its_own_request_id(identity):
    ids = [identity.request("GET", path).headers["loam-request-id"] for path in ("/v2", "/nothing", "/v2")]
    ids += [identity.infer(document).headers["loam-request-id"] for document in (vector_request(ROW), b"{")]
    with identity.raw() as raw:
        raw.sendall(b"garbage\r\n\r\n")
        ((status, head, _),) = response_text(raw)
        assert status == 400
        ids.append(head.split("loam-request-id: ")[1].split("\r\n")[0])
    assert len(set(ids)) == len(ids)
    assert all(i.startswith("req-") and len(i) == 30 for i in ids), ids


def test_two_versions_of_a_model(endpoint):
    endpoint.add_model("model", "2")
    endpoint.start()
    endpoint.plan["models"].reverse()  # attempts are added to the first of that name
    endpoint.start_worker("identity.py:predict")
    assert endpoint.request("GET", "/v2/models/model/versions/2/ready").status == 200
    assert endpoint.request("GET", "/v2/models/model/versions/1/ready").status == 503
    answer = endpoint.infer(vector_request(ROW))
    assert answer.json["model_version"] == "2"  # the one that is ready


def test_a_taken_port_is_in_the_status(endpoint):
    import socket
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen(1)
        endpoint.plan["listen"] = "127.0.0.1:%d" % holder.getsockname()[1]
        endpoint.start(check=False)
        assert endpoint.gateway.wait(PATIENCE_S) == 1
        status = json.loads((endpoint.folder / "status/status.json").read_text())
        assert status["port_taken"] is True and "port is in use" in status["error"]


def test_term_finishes_what_is_in_flight(endpoint):
    endpoint.start()
    endpoint.start_worker("moody.py:predict")
    connection = endpoint.connect()
    connection.request("POST", "/v2/models/model/infer", json.dumps(vector_request([8, 0, 0, 0])))
    eventually(lambda: (endpoint.folder / "calls").exists(), "the handler is called")
    endpoint.gateway.terminate()
    eventually(lambda: "stopping" in endpoint.gateway_log(), "the gateway stops")
    with pytest.raises(ConnectionRefusedError):
        endpoint.raw()
    (endpoint.folder / "go").touch()
    response = connection.getresponse()
    assert response.status == 200 and response.headers["Connection"] == "close"
    response.read()
    connection.close()
    assert endpoint.gateway.wait(PATIENCE_S) == 0
