"""What handlers do wrong, and workers that die, leave, come back, or come late."""
import json
import signal
import subprocess
import threading
import time

import pytest

from serving import HANDLERS, PATIENCE_S, PYTHON, ROOT, eventually, vector_request


def post(endpoint, document):
    connection = endpoint.connect()
    connection.request("POST", "/v2/models/model/infer", json.dumps(document))
    return connection


def calls(endpoint):
    path = endpoint.folder / "calls"
    return path.read_text().splitlines() if path.exists() else []


@pytest.fixture
def moody(endpoint):
    endpoint.start()
    endpoint.start_worker("moody.py:predict")
    return endpoint


@pytest.mark.parametrize("mood, parts", [
    (1, ["ValueError: no mood for 77"]),
    (3, ["output 'y'", "shape [1, 5]", "expected [1, 4]"]),
    (4, ["output 'z'", "signature", "y"]),
    (5, ["output 'y'", "float64", "float32"]),
    (6, ["list", "dict"]),
    (7, ["output 'y'", "missing"]),
])
def test_a_handler_that_fails_answers_500_and_lives(moody, mood, parts):
    answer = moody.infer(vector_request([mood, 77, 0, 0]))
    assert answer.status == 500
    for part in parts:
        assert part in answer.error
    assert moody.infer(vector_request([0, 1, 2, 3])).status == 200
    assert moody.workers[0].poll() is None


def test_a_long_exception_is_cut_not_fatal(endpoint):
    handler = HANDLERS / "identity.py"
    assert handler.exists()
    (endpoint.folder / "long.py").write_text(
        "import loam\n@loam.signature(inputs={'x': ('FP32', [-1, 4])}, outputs={'y': ('FP32', [-1, 4])})\n"
        "def predict(batch):\n    raise RuntimeError('\\u00e4' * 5000)\n")
    endpoint.start()
    endpoint.start_worker(str(endpoint.folder / "long.py") + ":predict")
    answer = endpoint.infer(vector_request([0, 0, 0, 0]))
    assert answer.status == 500 and "\u00e4" * 1000 in answer.error


def test_a_worker_that_dies_answers_503_and_the_next_one_serves(moody):
    answer = moody.infer(vector_request([2, 0, 0, 0]))
    assert answer.status == 503 and "Retry-After" in answer.headers and "died" in answer.error
    eventually(lambda: moody.ready() == 0, "the death is in the status")
    assert "died" in moody.model_error()
    first = moody.workers[0]
    moody.drop_attempt(first.attempt)
    moody.start_worker("moody.py:predict")
    assert moody.infer(vector_request([0, 1, 2, 3])).json["outputs"][0]["data"] == [0, 1, 2, 3]
    assert moody.model_error() is None


def test_a_worker_that_comes_back_in_the_same_attempt(moody):
    assert moody.infer(vector_request([2, 0, 0, 0])).status == 503
    eventually(lambda: moody.ready() == 0, "the death is seen")
    moody.start_worker("moody.py:predict", attempt=moody.workers[0].attempt)
    assert moody.infer(vector_request([0, 1, 2, 3])).status == 200


def test_requests_wait_for_a_worker_that_is_to_come(moody):
    assert moody.infer(vector_request([2, 0, 0, 0])).status == 503
    eventually(lambda: moody.ready() == 0, "the death is seen")
    waiting = post(moody, vector_request([0, 1, 2, 3]))
    moody.start_worker("moody.py:predict", attempt=moody.workers[0].attempt)
    assert waiting.getresponse().status == 200
    waiting.close()


def test_requests_wait_for_the_very_first_worker(endpoint):
    attempt = endpoint.add_attempt(write=False)
    endpoint.start()
    waiting = post(endpoint, vector_request([0, 1, 2, 3]))
    wrong = post(endpoint, vector_request([0, 1, 2]))
    endpoint.start_worker("identity.py:predict", attempt=attempt)
    assert waiting.getresponse().status == 200
    assert wrong.getresponse().status == 400
    waiting.close()
    wrong.close()


def test_without_any_replica_503_at_once(endpoint):
    endpoint.start()
    answer = endpoint.infer(vector_request([0, 1, 2, 3]))
    assert answer.status == 503 and answer.headers["Retry-After"]


def test_requests_wait_while_the_plan_says_that_a_replica_is_expected(moody):
    """A replica has died and its attempt has ended: in the pause before the next one the plan lists none."""
    assert moody.infer(vector_request([2, 0, 0, 0])).status == 503
    moody.model()["expected"] = True
    moody.drop_attempt(moody.workers[0].attempt)
    eventually(lambda: moody.status()["models"][0]["ready"] == [], "the plan is followed")
    waiting = post(moody, vector_request([0, 1, 2, 3]))
    moody.start_worker("moody.py:predict")
    assert waiting.getresponse().status == 200
    waiting.close()


def test_who_waits_hears_at_once_that_none_is_expected_any_more(endpoint):
    endpoint.model()["expected"] = True
    endpoint.model()["queue_max"] = 1
    endpoint.start()
    waiting = post(endpoint, vector_request([0, 1, 2, 3]))
    eventually(lambda: endpoint.infer(vector_request([0, 1, 2, 3])).status == 429, "the first waits, and fills the queue")
    endpoint.model()["expected"] = False
    endpoint.write_plan()
    answer = waiting.getresponse()
    assert answer.status == 503 and answer.headers["Retry-After"] and b"none is about to start" in answer.read()
    assert endpoint.infer(vector_request([0, 1, 2, 3])).status == 503
    waiting.close()


def test_a_version_that_goes_leaves_its_requests_to_the_other(endpoint):
    """What no worker has yet is answered by the version that is left; who asked for a version gets no other."""
    endpoint.model()["expected"] = True
    endpoint.start()
    waiting = post(endpoint, vector_request([0, 1, 2, 3]))
    asked = endpoint.connect()
    asked.request("POST", "/v2/models/model/versions/1/infer", json.dumps(vector_request([0, 1, 2, 3])))
    endpoint.model()["queue_max"] = 2
    endpoint.write_plan()
    eventually(lambda: endpoint.infer(vector_request([0, 0, 0, 0])).status == 429, "both wait")
    endpoint.plan["models"] = []
    endpoint.add_model(version="2")
    endpoint.start_worker("identity.py:predict")
    answer = waiting.getresponse()
    assert answer.status == 200 and json.loads(answer.read())["model_version"] == "2"
    assert asked.getresponse().status == 503
    waiting.close()
    asked.close()


def test_who_waits_for_one_version_gets_the_other_that_is_ready_first(endpoint):
    endpoint.model()["expected"] = True
    endpoint.model()["queue_max"] = 1
    endpoint.start()
    waiting = post(endpoint, vector_request([0, 1, 2, 3]))
    eventually(lambda: endpoint.infer(vector_request([0, 0, 0, 0])).status == 429, "it waits")
    first = endpoint.plan["models"].pop()
    endpoint.add_model(version="2")
    attempt = endpoint.add_attempt(write=False)
    endpoint.plan["models"].insert(0, first)
    endpoint.write_plan()
    endpoint.start_worker("identity.py:predict", attempt=attempt)
    answer = waiting.getresponse()
    assert answer.status == 200 and json.loads(answer.read())["model_version"] == "2"
    waiting.close()


def test_ready_where_one_version_of_each_model_is(identity):
    identity.add_model(version="2")
    identity.write_plan()
    eventually(lambda: len(identity.status()["models"]) == 2, "the plan is followed")
    assert identity.request("GET", "/v2/health/ready").status == 200
    assert identity.request("GET", "/v2/models/model/ready").status == 200
    assert identity.request("GET", "/v2/models/model/versions/2/ready").status == 503
    assert identity.infer(vector_request([0, 1, 2, 3])).json["model_version"] == "1"


def test_the_other_replica_goes_on(moody):
    """One of two dies with a request; the slots that it held rest until the plan drops its attempt."""
    moody.start_worker("moody.py:predict")
    dead = post(moody, vector_request([2, 0, 0, 0]))
    assert dead.getresponse().status == 503
    eventually(lambda: moody.ready() == 1, "one is left")
    for n in range(100):
        assert moody.infer(vector_request([0, n, 0, 0])).status == 200
    dead.close()


def test_memfd_and_socket_kept_by_a_fork(moody):
    """The worker dies, a fork of it keeps memfd and socket: the node's word ends it, nobody waits for the fork."""
    lost = post(moody, vector_request([9, 0, 0, 0]))
    eventually(lambda: moody.workers[0].poll() is not None, "the worker is dead")
    moody.drop_attempt(moody.workers[0].attempt)
    moody.start_worker("moody.py:predict")
    assert lost.getresponse().status == 503
    for n in range(20):
        assert moody.infer(vector_request([0, n, 0, 0])).status == 200
    (moody.folder / "go").touch()
    lost.close()


def test_a_fork_that_keeps_the_socket_does_not_keep_the_attempt(moody):
    """The same, and the worker's successor in the same attempt takes over from the dead connection."""
    lost = post(moody, vector_request([9, 0, 0, 0]))
    eventually(lambda: moody.workers[0].poll() is not None, "the worker is dead")
    moody.start_worker("moody.py:predict", attempt=moody.workers[0].attempt, wait=False)
    assert lost.getresponse().status == 503
    assert moody.infer(vector_request([0, 1, 0, 0])).status == 200
    (moody.folder / "go").touch()
    lost.close()


def test_term_ends_a_worker_after_its_batch(moody):
    held = post(moody, vector_request([8, 0, 0, 0]))
    eventually(lambda: calls(moody), "the worker is busy")
    moody.workers[0].terminate()
    time.sleep(0.1)
    (moody.folder / "go").touch()
    assert held.getresponse().status == 200
    assert moody.workers[0].wait(PATIENCE_S) == 0, moody.worker_log(moody.workers[0])
    eventually(lambda: moody.ready() == 0, "it is gone")
    assert moody.model_error() is None  # leaving is no failure
    held.close()


def test_term_under_load_loses_no_request(moody):
    """A replica that is scaled down answers what it holds and gets nothing more."""
    moody.start_worker("moody.py:predict")
    failures = []
    stop = threading.Event()

    def client():
        connection = moody.connect()
        while not stop.is_set():
            answer = moody.infer(vector_request([0, 0, 0, 0]), connection=connection)
            if answer.status != 200:
                failures.append(answer.body)
        connection.close()
    threads = [threading.Thread(target=client) for _ in range(8)]
    for thread in threads:
        thread.start()
    eventually(lambda: len(calls(moody)) > 50, "there is load")
    moody.workers[0].terminate()
    assert moody.workers[0].wait(PATIENCE_S) == 0
    seen = len(calls(moody))
    eventually(lambda: len(calls(moody)) > seen + 50, "the other goes on")
    stop.set()
    for thread in threads:
        thread.join()
    assert not failures, failures[:2]


def test_signals_reach_an_idle_worker(identity):
    identity.workers[0].send_signal(signal.SIGINT)
    assert identity.workers[0].wait(PATIENCE_S) == 0


def test_a_restarted_gateway_is_connected_to_again(identity):
    identity.gateway.kill()
    identity.gateway.wait()
    (identity.folder / "status/status.json").unlink()
    identity.start()
    eventually(lambda: identity.ready() == 1, "the worker is back")
    assert identity.infer(vector_request([0, 1, 2, 3])).status == 200
    assert len(identity.workers) == 1 and identity.workers[0].poll() is None


def test_a_replica_that_the_plan_drops_is_let_go(identity):
    identity.drop_attempt(identity.workers[0].attempt)
    eventually(lambda: identity.ready() == 0, "it is let go")
    assert identity.infer(vector_request([0, 1, 2, 3])).status == 503


def test_a_broken_plan_changes_nothing(identity):
    (identity.folder / "plan/new").write_text("{")
    (identity.folder / "plan/new").rename(identity.folder / "plan/plan.json")
    eventually(lambda: "plan.json" in identity.status().get("error", ""), "the error is in the status")
    assert identity.infer(vector_request([0, 1, 2, 3])).status == 200


def run_worker(handler, **environment):
    return subprocess.run([PYTHON, "-m", "loam.worker"], cwd=str(HANDLERS), stderr=subprocess.PIPE,
                          timeout=PATIENCE_S, universal_newlines=True,
                          env=dict({"PYTHONPATH": str(ROOT / "python"), "LOAM_HANDLER": handler,
                                    "PYTHONDONTWRITEBYTECODE": "1", "LOAM_CHANNEL": "/nonexistent"},
                                   **environment))


@pytest.mark.parametrize("handler, part", [
    ("bare.py:predict", "@loam.signature("),
    ("bare.py:nothing", "no function nothing"),
    ("none.py:predict", "no file"),
    ("bare.py", "FILE.py:FUNCTION"),
])
def test_handlers_that_cannot_be_served_name_the_mend(handler, part):
    ended = run_worker(handler)
    assert ended.returncode == 1 and part in ended.stderr


def test_another_signature_beside_a_running_replica_is_refused(identity):
    worker = identity.start_worker("mlp.py:predict", wait=False)
    assert worker.wait(PATIENCE_S) == 1
    assert "signature" in identity.worker_log(worker)
    assert identity.infer(vector_request([0, 1, 2, 3])).status == 200


def test_the_worker_pays_for_the_pages(identity):
    """The pool's pages are in the worker's address space before the first request."""
    pid = identity.workers[0].pid
    with open("/proc/%d/smaps" % pid) as smaps:
        text = smaps.read()
    part = text[text.index("memfd:loam-channel"):]
    size, resident = (int(part.split(name + ":")[1].split()[0]) for name in ("Size", "Rss"))
    assert resident == size
