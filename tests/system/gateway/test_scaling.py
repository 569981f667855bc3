"""How many replicas the gateway asks for where its plan leaves it the choice, and which it lets go."""
import json
import signal

from serving import eventually, vector_request
from test_batching import calls, hold_worker, let_go, post


def said(endpoint):
    """What the status says of the model: how many are wanted, and who is spare."""
    return next((model["wanted"], model["spare"]) for model in endpoint.status()["models"])


def test_a_fixed_number_is_not_asked_about(endpoint):
    endpoint.plan["models"][0]["batch_max"] = 1
    endpoint.start()
    endpoint.start_worker("moody.py:predict")
    held = hold_worker(endpoint)
    waits = post(endpoint, vector_request([0, 0, 0, 0]))
    assert said(endpoint) == (None, [])
    let_go(endpoint)
    assert [held.getresponse().status, waits.getresponse().status] == [200, 200]


def test_one_more_while_requests_wait_and_an_idle_one_goes_when_they_do_not(endpoint):
    endpoint.plan["models"][0].update(batch_max=1, scale={"min": 1, "max": 2, "wanted": 1})
    endpoint.start()
    first = endpoint.start_worker("moody.py:predict")
    assert said(endpoint) == (1, [])
    held = [hold_worker(endpoint), post(endpoint, vector_request([8, 0, 0, 0]))]
    eventually(lambda: said(endpoint) == (2, []), "one more is wanted")
    second = endpoint.start_worker("moody.py:predict")
    eventually(lambda: len(calls(endpoint)) == 2, "the second took what waited")
    let_go(endpoint)
    assert [client.getresponse().status for client in held] == [200, 200]
    eventually(lambda: said(endpoint)[0] == 1, "one is enough again")
    assert said(endpoint) == (1, [second.attempt]), "the last of the plan"
    assert sorted(endpoint.ready_attempts("model")) == [first.attempt, second.attempt]
    # No batch goes to it: it may end at any time. Only where no other is left it serves again.
    second.send_signal(signal.SIGSTOP)
    for _ in range(4):
        assert endpoint.infer(json.dumps(vector_request([0, 1, 2, 3]))).status == 200
    second.send_signal(signal.SIGCONT)
    first.kill()
    eventually(lambda: said(endpoint) == (1, []), "the spare one is taken back")
    assert endpoint.infer(json.dumps(vector_request([0, 1, 2, 3]))).status == 200


def test_the_next_gateway_begins_with_as_many_as_there_are(endpoint):
    endpoint.plan["models"][0].update(batch_max=1, scale={"min": 1, "max": 4, "wanted": 3})
    endpoint.start()
    endpoint.start_worker("moody.py:predict")
    assert said(endpoint) == (3, [])
    endpoint.plan["models"][0]["scale"] = {"min": 1, "max": 2, "wanted": 2}
    endpoint.write_plan()
    eventually(lambda: said(endpoint) == (2, []), "the narrower limit")
    endpoint.plan["models"][0]["scale"] = None
    endpoint.write_plan()
    eventually(lambda: said(endpoint) == (None, []), "the choice is taken away")
