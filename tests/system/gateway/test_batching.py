"""Which requests share a call: at once when a worker is idle, together while it is busy, never split."""
import http.client
import json
import threading
import time

import pytest

from serving import binary_request, eventually, vector_request


def calls(endpoint):
    try:
        return [line.split() for line in (endpoint.folder / "calls").read_text().splitlines()]
    except FileNotFoundError:
        return []


def hold_worker(endpoint):
    """Keeps the moody worker busy with one request until the file `go` appears."""
    connection = endpoint.connect()
    connection.request("POST", "/v2/models/model/infer", json.dumps(vector_request([8, 0, 0, 0])))
    eventually(lambda: calls(endpoint), "the worker is busy")
    return connection


def let_go(endpoint):
    (endpoint.folder / "go").touch()


def post(endpoint, document, connection=None):
    connection = connection or endpoint.connect()
    connection.request("POST", "/v2/models/model/infer", json.dumps(document))
    return connection


def test_64_clients_share_calls_on_inputs_in_the_memfd(endpoint):
    endpoint.plan["models"][0]["batch_max"] = 64
    endpoint.start()
    endpoint.start_worker("slow.py:predict")
    per_client, failures = 8, []
    barrier = threading.Barrier(64)

    def client(number):
        connection = endpoint.connect()
        try:
            barrier.wait()
            for turn in range(per_client):
                row = [number, turn, 0.5, -1]
                document, data = binary_request([row])
                answer = endpoint.infer(document, data, connection=connection)
                if answer.status != 200 or answer.binary()["y"] != binary_request([[2 * v for v in row]])[1]:
                    failures.append((number, turn, answer.body))
        except (OSError, http.client.HTTPException) as error:
            failures.append((number, error))
        finally:
            connection.close()

    threads = [threading.Thread(target=client, args=(n,)) for n in range(64)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures[:3]
    seen = calls(endpoint)
    assert sum(int(rows) for rows, _ in seen) == 64 * per_client  # nothing lost, nothing twice
    assert all(inside == "True" for _, inside in seen)
    assert len(seen) <= 64 * per_client / 8, "%d calls" % len(seen)


def test_an_idle_worker_is_never_waited_for(endpoint):
    endpoint.plan["models"][0]["batch_delay_max_us"] = 3_600_000_000 // 60  # a minute: would be noticed
    endpoint.start()
    endpoint.start_worker("identity.py:predict")
    answer = endpoint.infer(vector_request([1, 2, 3, 4]))
    assert answer.status == 200


def test_waiting_requests_become_one_batch_and_none_is_split(endpoint):
    endpoint.start()
    endpoint.start_worker("moody.py:predict")
    held = hold_worker(endpoint)
    # 3 + 3 rows fit 8; the next 3 would have to be split; then 5 fit beside them.
    waiting = []
    for rows in (3, 3, 3, 5):
        waiting.append(post(endpoint, vector_request(*[[0, rows, i, 0] for i in range(rows)])))
        time.sleep(0.05)  # so that they arrive in this order
    let_go(endpoint)
    for connection, rows in zip([held] + waiting, (1, 3, 3, 3, 5)):
        response = connection.getresponse()
        document = json.loads(response.read())
        assert response.status == 200
        assert document["outputs"][0]["shape"] == [rows, 4]
        connection.close()
    assert [int(rows) for _, rows in calls(endpoint)] == [1, 6, 8]


def test_each_request_gets_its_own_rows(endpoint):
    endpoint.start()
    endpoint.start_worker("moody.py:predict")
    held = hold_worker(endpoint)
    waiting = [post(endpoint, vector_request([0, n, n * n, 0], [0, -n, 1, 1])) for n in range(20)]
    let_go(endpoint)
    assert held.getresponse().status == 200
    for n, connection in enumerate(waiting):
        data = json.loads(connection.getresponse().read())["outputs"][0]["data"]
        assert data == [0, n, n * n, 0, 0, -n, 1, 1]
        connection.close()
    held.close()


def test_a_full_queue_is_429(endpoint):
    endpoint.plan["models"][0]["queue_max"] = 2
    endpoint.start()
    endpoint.start_worker("moody.py:predict")
    connections = [hold_worker(endpoint)]
    codes = []
    for _ in range(3):
        connections.append(post(endpoint, vector_request([0, 0, 0, 0])))
        time.sleep(0.1)
    response = connections[-1].getresponse()
    assert response.status == 429 and response.headers["Retry-After"] and response.headers["loam-request-id"]
    let_go(endpoint)
    for connection in connections[:-1]:
        codes.append(connection.getresponse().status)
    assert codes == [200, 200, 200]
    for connection in connections:
        connection.close()


def test_a_request_that_waits_too_long_is_504(endpoint):
    endpoint.plan["models"][0]["request_timeout_ms"] = 100
    endpoint.start()
    endpoint.start_worker("moody.py:predict")
    held = hold_worker(endpoint)
    waiting = post(endpoint, vector_request([0, 0, 0, 0]))
    assert held.getresponse().status == 504  # with the worker
    assert waiting.getresponse().status == 504  # in the queue
    let_go(endpoint)
    eventually(lambda: endpoint.infer(vector_request([0, 0, 0, 0])).status == 200, "the worker answers again")
    assert [mood for mood, _ in calls(endpoint)][:2] == ["8", "0"]
    held.close()
    waiting.close()


def half_sent(endpoint, document):
    """A request whose head and half its body are there; returns the socket and the rest."""
    body = json.dumps(document).encode()
    raw = endpoint.raw()
    raw.sendall(b"POST /v2/models/model/infer HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) +
                body[:20])
    time.sleep(0.1)
    return raw, body[20:]


def test_a_closing_batch_waits_for_a_body_that_is_on_its_way(endpoint):
    endpoint.plan["models"][0]["batch_delay_max_us"] = 20_000_000
    endpoint.start()
    endpoint.start_worker("moody.py:predict")
    raw, rest = half_sent(endpoint, vector_request([0, 1, 1, 1]))
    whole = post(endpoint, vector_request([0, 2, 2, 2]))
    time.sleep(0.2)
    assert not calls(endpoint)  # it waits
    raw.sendall(rest)
    assert whole.getresponse().status == 200
    raw.close()
    whole.close()
    assert calls(endpoint) == [["0", "2"]]


def test_a_full_batch_does_not_wait_for_bodies(endpoint):
    endpoint.plan["models"][0]["batch_delay_max_us"] = 60_000_000
    endpoint.start()
    endpoint.start_worker("moody.py:predict")
    raw, _ = half_sent(endpoint, vector_request([0, 1, 1, 1]))
    answer = endpoint.infer(vector_request(*[[0, n, 0, 0] for n in range(8)]))
    assert answer.status == 200
    raw.close()


def test_a_slow_body_delays_one_batch_at_most(endpoint):
    endpoint.plan["models"][0]["batch_delay_max_us"] = 300_000
    endpoint.start()
    endpoint.start_worker("moody.py:predict")
    raw, rest = half_sent(endpoint, vector_request([0, 1, 1, 1]))
    assert endpoint.infer(vector_request([0, 2, 2, 2])).status == 200  # after the delay, alone
    endpoint.plan["models"][0]["batch_delay_max_us"] = 60_000_000
    endpoint.write_plan()
    time.sleep(0.2)
    assert endpoint.infer(vector_request([0, 3, 3, 3])).status == 200  # its claim is void: no minute's wait
    raw.sendall(rest)
    assert raw.recv(12) == b"HTTP/1.1 200"
    raw.close()


def test_two_replicas_work_at_once(endpoint):
    endpoint.start()
    endpoint.start_worker("moody.py:predict")
    endpoint.start_worker("moody.py:predict")
    first = post(endpoint, vector_request([8, 0, 0, 0]))
    second = post(endpoint, vector_request([8, 0, 0, 1]))
    eventually(lambda: len(calls(endpoint)) == 2, "both replicas are called")
    let_go(endpoint)
    assert first.getresponse().status == 200 and second.getresponse().status == 200
    first.close()
    second.close()


@pytest.mark.parametrize("rows", [9, 1000])
def test_more_rows_than_a_batch_has(identity, rows):
    answer = identity.infer(vector_request(*[[0, 0, 0, 0]] * rows))
    assert answer.status == 400 and "at most 8" in answer.error and "%d rows" % rows in answer.error
