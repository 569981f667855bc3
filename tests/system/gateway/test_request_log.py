"""The request log as the gateway writes it: every inference request is there before its answer."""
from serving import binary_request, vector_request

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford's base 32


def id_bytes(text):
    number = 0
    for character in text[len("req-"):].upper():
        number = number * 32 + ALPHABET.index(character)
    return number.to_bytes(17, "big")[1:]


def log_bytes(endpoint):
    return b"".join(path.read_bytes() for path in sorted((endpoint.folder / "requests").iterdir()))


def test_an_answered_request_is_in_the_log_already(identity):
    for document, status in ((vector_request([0, 1, 2, 3]), 200), (vector_request([0, 1]), 400), ("{", 400)):
        answer = identity.infer(document)
        assert answer.status == status
        assert log_bytes(identity).count(id_bytes(answer.headers["loam-request-id"])) == 1
    health = identity.request("GET", "/v2/health/live")
    assert id_bytes(health.headers["loam-request-id"]) not in log_bytes(identity)


def test_the_replicas_record_is_in_the_entry(identity):
    before = len(log_bytes(identity))
    identity.infer(vector_request([0, 1, 2, 3]))
    record = bytes.fromhex(identity.workers[0].attempt.rjust(64, "0"))
    assert record in log_bytes(identity)[before:]


def test_at_most_100_bytes_a_request(identity):
    before = len(log_bytes(identity))
    connection = identity.connect()
    document, data = binary_request([[0, 1, 2, 3]])
    for _ in range(200):
        assert identity.infer(document, data, connection=connection).status == 200
    connection.close()
    assert 0 < len(log_bytes(identity)) - before <= 200 * 100
