"""Framing, limits and misbehaving clients: none of them harms another."""
import json
import pathlib
import random
import select
import socket
import threading
import time

import pytest

from serving import PATIENCE_S, binary_request, eventually, response_text, vector_request

BODY = json.dumps(vector_request([0, 2, 3, 4])).encode()


def infer_bytes(body=BODY, extra=b""):
    return (b"POST /v2/models/model/infer HTTP/1.1\r\nHost: x\r\n" + extra +
            b"Content-Length: %d\r\n\r\n" % len(body) + body)


def only_answer(endpoint, data):
    with endpoint.raw() as raw:
        raw.sendall(data)
        answers = response_text(raw)
        assert answers, "no answer to %r" % data[:80]
        rest = raw.recv(1)
        assert rest == b"", "the connection stays open after %r" % data[:80]
        return answers[0]


def test_keep_alive(identity):
    connection = identity.connect()
    connection.connect()
    used = connection.sock
    for _ in range(5):
        assert identity.infer(vector_request([1, 2, 3, 4]), connection=connection).status == 200
        assert connection.sock is used
    connection.close()


def test_pipelined_requests_are_answered_in_order(identity):
    with identity.raw() as raw:
        bodies = [json.dumps(vector_request([n, 0, 0, 0], id=str(n))).encode() for n in range(50)]
        raw.sendall(b"".join(infer_bytes(body) + b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n"
                             for body in bodies))
        answers = response_text(raw, 100)
    assert [status for status, _, _ in answers] == [200] * 100
    assert [json.loads(body)["id"] for _, _, body in answers[::2]] == [str(n) for n in range(50)]


def test_bytes_that_come_one_by_one(identity):
    with identity.raw() as raw:
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in infer_bytes():
            raw.sendall(bytes([byte]))
        assert response_text(raw)[0][0] == 200


def test_chunked_body(identity):
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(BODY[i:i + 7]), BODY[i:i + 7]) for i in range(0, len(BODY), 7))
    with identity.raw() as raw:
        head = b"POST /v2/models/model/infer HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        raw.sendall(head + chunks + b"0\r\n\r\n" + infer_bytes())
        assert [status for status, _, _ in response_text(raw, 2)] == [200, 200]


def test_expect_continue(identity):
    with identity.raw() as raw:
        raw.sendall(b"POST /v2/models/model/infer HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
                    b"Content-Length: %d\r\n\r\n" % len(BODY))
        assert raw.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        raw.sendall(BODY)
        assert response_text(raw)[0][0] == 200


def test_http_1_0(identity):
    status, head, _ = only_answer(identity, b"GET /v2 HTTP/1.0\r\n\r\n")
    assert status == 200 and "Connection: close" in head


@pytest.mark.parametrize("data, status", [
    (infer_bytes(extra=b"Transfer-Encoding: chunked\r\n"), 400),
    (b"POST /v2/models/model/infer HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", 400),
    (b"POST /v2/models/model/infer HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
    (b"POST /v2/models/model/infer HTTP/1.1\r\nContent-Length: 1e3\r\n\r\n", 400),
    (b"POST /v2/models/model/infer HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n", 413),
    (b"POST /v2/models/model/infer HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
    (b"GET /v2 HTTP/1.1\r\nA: " + b"a" * 20000 + b"\r\n\r\n", 431),
    (b"GET /v2 HTTP/1.1\r\nA" + b"a" * 20000, 431),
    (b"GET /v2 HTTP/3.7\r\n\r\n", 505),
    (b"GET  /v2 HTTP/1.1\r\n\r\n", 400),
    (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    (b"GET /v2\r\n\r\n", 400),
    (b"POST /v2/models/model/infer HTTP/1.1\r\nA : b\r\n\r\n", 400),
], ids=["both-lengths", "two-lengths", "negative", "exponent", "huge", "bad-chunk", "long-head", "long-name",
        "version", "two-spaces", "tls", "no-version", "space-in-name"])
def test_wrong_framing(identity, data, status):
    answer = only_answer(identity, data)
    assert answer[0] == status, answer
    assert "loam-request-id: req-" in answer[1] and json.loads(answer[2])["error"]


def test_large_body(endpoint):
    """Far beyond one read, in and out."""
    endpoint.plan["models"][0]["batch_max"] = 65536
    endpoint.start()
    endpoint.start_worker("identity.py:predict")
    document, data = binary_request([[n, 1, 2, 3] for n in range(65536)])
    assert endpoint.infer(document, data).binary()["y"] == data


def test_chunked_bodies_count_among_those_that_are_held(identity):
    """4 MiB each, 512 MiB together."""
    head = b"POST /v2/models/model/infer HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n" % (4 << 20)
    held = []
    try:
        while len(held) < 140 and not select.select(held, [], [], 0)[0]:
            held.append(identity.raw())
            held[-1].sendall(head)
            for _ in range(64):
                if not select.select([held[-1]], [], [], 0)[0]:
                    held[-1].sendall(b" " * (64 << 10))
        ready, _, _ = select.select(held, [], [], PATIENCE_S)
        assert ready, "all are held"
        ((status, _, body),) = response_text(ready[0])
        assert status == 503 and b"too many large requests" in body
    finally:
        for raw in held:
            raw.close()
    eventually(lambda: identity.infer(vector_request([1, 2, 3, 4])).status == 200, "there is room again")


def memory(pid, key):
    """In KiB, as /proc/PID/status says."""
    with open("/proc/%d/status" % pid) as status:
        return next(int(line.split()[1]) for line in status if line.startswith(key + ":"))


def test_a_large_request_leaves_no_memory_behind(identity):
    """Its JSON is read with buffers of several times its size."""
    if "san.so" in pathlib.Path(f"/proc/{identity.gateway.pid}/maps").read_text():
        pytest.skip("a sanitizer keeps what is freed")
    document = json.dumps(vector_request([1, 2, 3, 4])).encode()
    before = memory(identity.gateway.pid, "VmRSS")
    document = document.replace(b"[1, 2, 3, 4]", b"[" + b"0," * (8 << 20) + b"0]")
    assert identity.infer(document).status == 400
    peak = memory(identity.gateway.pid, "VmHWM")
    after = memory(identity.gateway.pid, "VmRSS")
    assert peak - before > 5 * (after - before), (before, peak, after)


def test_slow_and_silent_clients_block_nobody(identity):
    silent = [identity.raw() for _ in range(50)]
    slow = []
    for n in range(50):
        raw = identity.raw()
        raw.sendall(infer_bytes()[:10 + n])
        slow.append(raw)
    for _ in range(20):
        assert identity.infer(vector_request([1, 2, 3, 4])).status == 200
    for raw in silent + slow:
        raw.close()


def test_a_client_that_does_not_read_blocks_nobody(endpoint):
    endpoint.plan["models"][0]["batch_max"] = 65536
    endpoint.start()
    endpoint.start_worker("identity.py:predict")
    document, data = binary_request([[n, 1, 2, 3] for n in range(65536)])
    head = json.dumps(document).encode()
    deaf = endpoint.raw()
    deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    request = infer_bytes(head + data, b"Inference-Header-Content-Length: %d\r\n" % len(head))

    def shout():
        try:
            for _ in range(20):
                deaf.sendall(request)
        except OSError:
            pass
    thread = threading.Thread(target=shout)
    thread.start()
    for _ in range(20):
        assert endpoint.infer(vector_request([1, 2, 3, 4])).status == 200
    deaf.shutdown(socket.SHUT_RDWR)
    deaf.close()
    thread.join()


def test_vanished_clients_free_their_rows(endpoint):
    endpoint.plan["models"][0]["queue_max"] = 4
    endpoint.start()
    endpoint.start_worker("moody.py:predict")
    held = endpoint.connect()
    held.request("POST", "/v2/models/model/infer", json.dumps(vector_request([8, 0, 0, 0])))
    eventually(lambda: (endpoint.folder / "calls").exists(), "the worker is busy")
    for _ in range(5):  # far more than the queue holds, if they stayed
        gone = [endpoint.raw() for _ in range(4)]
        for raw in gone:
            raw.sendall(infer_bytes())
        time.sleep(0.1)
        for raw in gone:
            raw.close()
        time.sleep(0.1)
    still_here = endpoint.raw()
    still_here.sendall(infer_bytes())
    time.sleep(0.1)
    (endpoint.folder / "go").touch()
    assert held.getresponse().status == 200
    assert response_text(still_here)[0][0] == 200
    rows = [int(line.split()[1]) for line in (endpoint.folder / "calls").read_text().splitlines()]
    assert rows == [1, 1]
    held.close()
    still_here.close()


def test_a_client_that_only_closed_its_sending_side_is_answered(identity):
    with identity.raw() as raw:
        raw.sendall(infer_bytes())
        raw.shutdown(socket.SHUT_WR)
        assert response_text(raw)[0][0] == 200


def mutate(rng, data):
    data = bytearray(data)
    for _ in range(rng.randrange(1, 6)):
        kind = rng.randrange(5)
        at = rng.randrange(len(data) + 1)
        if kind == 0 and at < len(data):
            data[at] = rng.randrange(256)
        elif kind == 1:
            del data[at:at + rng.randrange(1, 20)]
        elif kind == 2:
            data[at:at] = bytes(rng.randrange(256) for _ in range(rng.randrange(1, 20)))
        elif kind == 3:
            data[at:at] = data[at:at + rng.randrange(1, 60)]
        else:
            data[at:at] = rng.choice([b"-1", b"9" * 30, b"\r\n", b"[[[[", b"null", b"1e999", b"\\u0000", b"\0"])
    return bytes(data)


def test_fuzzed_requests(identity):
    rng = random.Random(20240607)
    document, data = binary_request([[1, 2, 3, 4]])
    head = json.dumps(document).encode()
    seeds = [infer_bytes(), infer_bytes(head + data, b"Inference-Header-Content-Length: %d\r\n" % len(head)),
             b"POST /v2/models/model/infer HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{\"a\":\r\n0\r\n\r\n",
             b"GET /v2/models/model HTTP/1.1\r\nHost: x\r\n\r\n"]
    for _ in range(600):
        seed = rng.choice(seeds)
        if rng.random() < 0.5 and b"\r\n\r\n" in seed:  # only the body, with a length that fits
            request_head, body = seed.split(b"\r\n\r\n", 1)
            body = mutate(rng, body)
            lines = [line for line in request_head.split(b"\r\n") if not line.startswith(b"Content-Length")]
            sent = b"\r\n".join(lines + [b"Content-Length: %d" % len(body)]) + b"\r\n\r\n" + body
        else:
            sent = mutate(rng, seed)
        with identity.raw() as raw:
            raw.sendall(sent)
            try:
                raw.shutdown(socket.SHUT_WR)
                answers = response_text(raw, 10)
            except ConnectionError:
                continue
        for status, text, _ in answers:
            assert status in (200, 400, 404, 405, 413, 431, 501, 505), (sent, text)
            assert text.count("loam-request-id: ") == 1
    assert identity.gateway.poll() is None
    assert identity.infer(vector_request([1, 2, 3, 4])).status == 200
    assert all(worker.poll() is None for worker in identity.workers)
