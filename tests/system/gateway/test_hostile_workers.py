"""A worker that lies. It is ended and its requests are answered; the gateway and other models go on."""
import ctypes
import json
import mmap
import os
import random
import socket
import sys
import threading

import pytest

from serving import ROOT, eventually, vector_request

sys.path.insert(0, str(ROOT / "python"))
from loam import _channel  # noqa: E402

SIGNATURE = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}],
             "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 4]}]}


class Request(threading.Thread):
    def __init__(self, endpoint):
        super().__init__()
        self.endpoint = endpoint
        self.answer = None
        self.start()

    def run(self):
        self.answer = self.endpoint.infer(vector_request([0, 1, 2, 3]))

    def result(self):
        self.join()
        return self.answer


@pytest.fixture
def two_models(endpoint):
    """`model`, for the hostile worker, and `other`, which must go on undisturbed."""
    endpoint.add_model("other")
    endpoint.start()
    endpoint.start_worker("identity.py:predict", name="other")
    return endpoint


def connect(folder):
    try:
        return _channel.Channel(folder, SIGNATURE)
    except (FileNotFoundError, ConnectionRefusedError):
        return None


def hostile(endpoint):
    attempt = endpoint.add_attempt()
    folder = str(endpoint.folder / "replicas" / attempt)
    channel = eventually(lambda: connect(folder), "the door is open")
    channel.attempt = attempt
    eventually(lambda: endpoint.ready() == 1, "the worker is ready")
    return channel


def submitted(channel):
    while True:
        index = channel.pop()
        if index is not None:
            return index
        channel.wait(0.5)


def other_is_fine(endpoint):
    assert endpoint.gateway.poll() is None, endpoint.gateway_log()
    answer = endpoint.infer(vector_request([0, 1, 2, 3]), path="/v2/models/other/infer")
    assert answer.status == 200


def honest_answer(channel, index):
    slot = channel.slot(index)
    slot.answered = slot.sequence


def lie_sequence(slot):
    slot.answered += 1


def lie_rows(slot):
    slot.rows = 8


def lie_rows_huge(slot):
    slot.rows = 0xFFFFFFFF


def lie_count(slot):
    slot.output_count = 16


def lie_offset(slot):
    slot.tensors[1].offset = 1 << 63


def lie_offset_near(slot):
    slot.tensors[1].offset += 256


def lie_size(slot):
    slot.tensors[1].size_bytes = 1 << 40


def lie_dims(slot):
    slot.tensors[1].dims = 0xFFFFFFFF


def lie_shape(slot):
    slot.tensors[1].shape[1] = -1


def lie_dtype(slot):
    slot.tensors[1].dtype = 12


def lie_status(slot):
    slot.status = 9


def lie_error_size(slot):
    slot.status = _channel.STATUS_RAISED
    slot.error_size = 0x7FFFFFFF


@pytest.mark.parametrize("lie", [lie_sequence, lie_rows, lie_rows_huge, lie_count, lie_offset,
                                 lie_offset_near, lie_size, lie_dims, lie_shape, lie_dtype, lie_status,
                                 lie_error_size], ids=lambda lie: lie.__name__)
def test_lies_in_the_slot(two_models, lie):
    channel = hostile(two_models)
    request = Request(two_models)
    index = submitted(channel)
    honest_answer(channel, index)
    lie(channel.slot(index))
    channel.complete(index)
    answer = request.result()
    assert answer.status == 503 and "ended" in answer.error
    eventually(channel.ended, "the liar's connection is closed")
    assert two_models.ready() == 0 and two_models.model_error()
    other_is_fine(two_models)


@pytest.mark.parametrize("forged", [0, 1, 63, 64, 0xFFFFFFFF])
def test_forged_completions(two_models, forged):
    """Of slots that were never submitted, while one other is."""
    channel = hostile(two_models)
    request = Request(two_models)
    index = submitted(channel)
    forged = forged if forged != index else forged + 1
    channel.complete(forged)
    assert request.result().status == 503
    eventually(channel.ended, "the liar's connection is closed")
    other_is_fine(two_models)


def test_a_completion_out_of_nothing(two_models):
    channel = hostile(two_models)
    channel.complete(0)
    eventually(channel.ended, "the liar's connection is closed")
    other_is_fine(two_models)


def test_completing_twice(two_models):
    channel = hostile(two_models)
    request = Request(two_models)
    index = submitted(channel)
    honest_answer(channel, index)
    channel.complete(index)
    assert request.result().status == 200
    channel.complete(index)
    eventually(channel.ended, "the liar's connection is closed")
    other_is_fine(two_models)


def test_a_liar_may_not_come_back(two_models):
    channel = hostile(two_models)
    channel.complete(5)
    eventually(channel.ended, "the liar's connection is closed")
    with pytest.raises((OSError, _channel.Refused)):
        _channel.Channel(str(two_models.folder / "replicas" / channel.attempt), SIGNATURE)
    assert channel.attempt in two_models.model_error()


def test_queue_positions_that_cannot_be(two_models):
    for spoil in ("tail", "head"):
        channel = hostile(two_models)
        request = Request(two_models)
        submitted(channel)
        if spoil == "tail":
            channel._complete.tail = 0x80000000
            os.write(channel._eventfd, b"\x01\0\0\0\0\0\0\0")
        else:
            channel._submit.head = 0x80000000
            channel.complete(77)  # the head is only looked at when something is submitted
        assert request.result().status == 503
        two_models.drop_attempt(channel.attempt)
        other_is_fine(two_models)


def test_a_flooded_eventfd(two_models):
    channel = hostile(two_models)
    os.write(channel._eventfd, (2**64 - 2).to_bytes(8, "little"))
    request = Request(two_models)
    index = submitted(channel)
    honest_answer(channel, index)
    channel.complete(index)
    assert request.result().status == 200
    other_is_fine(two_models)


def test_the_memfd_cannot_shrink_and_holes_only_zero_data(two_models):
    channel = hostile(two_models)
    libc = ctypes.CDLL(None, use_errno=True)
    path = next("/proc/self/map_files/" + name for name in os.listdir("/proc/self/map_files")
                if "loam-channel" in os.readlink("/proc/self/map_files/" + name))
    memfd = os.open(path, os.O_RDWR)
    try:
        size = os.fstat(memfd).st_size
        for wanted in (0, size - mmap.PAGESIZE, size + mmap.PAGESIZE):
            with pytest.raises(OSError):
                os.ftruncate(memfd, wanted)
        request = Request(two_models)
        index = submitted(channel)
        honest_answer(channel, index)
        keep_and_punch = 3  # FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE
        libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
        # Everything goes: header, queues, slots. Then the completion is announced in what is left.
        assert libc.fallocate(memfd, keep_and_punch, 0, size) == 0
        channel.complete(index)
        os.write(channel._eventfd, b"\x01\0\0\0\0\0\0\0")  # the flag that asks for it is gone too
        assert request.result().status == 503
    finally:
        os.close(memfd)
    eventually(channel.ended, "the worker is ended")
    other_is_fine(two_models)


def test_outputs_change_while_they_are_read(two_models):
    """Bytes under another's pen mean nothing: the answer is well-formed, whatever is in it."""
    channel = hostile(two_models)
    stop = threading.Event()
    rng = random.Random(5)

    def scribble():
        base = channel.header.slots_offset + 3584
        while not stop.is_set():
            at = base + rng.randrange(512)
            channel.memory[at] = rng.randrange(256)
    thread = threading.Thread(target=scribble)
    thread.start()
    try:
        for _ in range(50):
            request = Request(two_models)
            index = submitted(channel)
            honest_answer(channel, index)
            channel.complete(index)
            answer = request.result()
            assert answer.status == 200 and len(answer.json["outputs"][0]["data"]) == 4
    finally:
        stop.set()
        thread.join()
    other_is_fine(two_models)


def test_garbage_at_the_door(two_models):
    attempt = two_models.add_attempt()
    path = str(two_models.folder / "replicas" / attempt / "channel.sock")
    eventually(lambda: os.path.exists(path), "the door is open")
    rng = random.Random(11)
    good = json.dumps({"format": 1, "position": 0, "signature": SIGNATURE}).encode()
    garbage = [b"\0", b"{", b"[]", b"{}", b'{"format":2}', b"x" * 60000, b"[" * 60000, good[:-1],
               good.replace(b"FP32", b"FP33"), good.replace(b"-1", b"-2"), good.replace(b"4", b"99999999999")]
    garbage += [bytes(rng.randrange(256) for _ in range(rng.randrange(1, 200))) for _ in range(30)]
    for packet in garbage:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as knock:
            knock.settimeout(30)
            knock.connect(path)
            knock.send(packet)
            answer = knock.recv(65536)
            assert answer == b"" or "error" in json.loads(answer.decode()), packet
    silent = []
    for _ in range(20):  # more than wait at a door at once; none says a word
        knock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        knock.connect(path)
        silent.append(knock)
    for knock in silent:
        knock.close()
    other_is_fine(two_models)
    two_models.start_worker("identity.py:predict", attempt=attempt)
    assert two_models.infer(vector_request([0, 1, 2, 3])).status == 200


@pytest.mark.parametrize("packet", [b"\xff\xfe garbage", b'{"ready":true}'], ids=["garbage", "twice"])
def test_packets_that_have_no_place(two_models, packet):
    channel = hostile(two_models)
    channel.connection.send(packet)
    eventually(channel.ended, "the connection is closed")
    other_is_fine(two_models)


def test_descriptors_sent_to_the_gateway_do_not_stay(two_models):
    channel = hostile(two_models)
    before = len(os.listdir("/proc/%d/fd" % two_models.gateway.pid))
    attempt = two_models.add_attempt()
    path = str(two_models.folder / "replicas" / attempt / "channel.sock")
    eventually(lambda: os.path.exists(path), "the door is open")
    for _ in range(20):
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as knock:
            knock.connect(path)
            rights = (0).to_bytes(4, "little") * 8
            knock.sendmsg([b"{}"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
            knock.recv(65536)
    two_models.drop_attempt(attempt)
    eventually(lambda: len(os.listdir("/proc/%d/fd" % two_models.gateway.pid)) <= before, "none is left")
    channel.close()
