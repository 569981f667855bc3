"""The channel's memory as a worker sees it: a mirror of src/channel/abi/loam_channel.h by ctypes.

Format: docs/formats/channel.md. Python has no memory barriers: where the order of a store and a later load
matters, a FUTEX_WAKE that wakes nobody stands in, because the kernel begins it with a full barrier. Plain
stores stay in order on x86 (TSO); elsewhere the same call orders them.
"""
import ctypes
import errno
import json
import mmap
import os
import platform
import socket
import struct

FORMAT = 1
MAGIC = 0x4C4F414D43484131
VERSION = 1
QUEUE_CAPACITY = 64
TENSORS_MAX = 16
DIMS_MAX = 8
ERROR_BYTES = 2048
STATUS_OK = 0
STATUS_RAISED = 1
PACKET_BYTES_MAX = 64 * 1024
DTYPES = ("", "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16",
          "FP32", "FP64")

_u32 = ctypes.c_uint32
_u64 = ctypes.c_uint64


class Header(ctypes.Structure):
    _fields_ = [("magic", _u64), ("version", _u32), ("slot_count", _u32), ("slot_stride", _u64),
                ("slots_offset", _u64), ("queues_offset", _u64), ("queue_pair_stride", _u64),
                ("queue_pair_count", _u32), ("batch_max", _u32)]


class Queue(ctypes.Structure):
    _fields_ = [("head", _u32), ("pad0", _u32 * 15), ("tail", _u32), ("pad1", _u32 * 15),
                ("armed", _u32), ("pad2", _u32 * 15), ("entries", _u32 * QUEUE_CAPACITY)]


class QueuePair(ctypes.Structure):
    _fields_ = [("submit", Queue), ("complete", Queue)]


class Tensor(ctypes.Structure):
    _fields_ = [("offset", _u64), ("size_bytes", _u64), ("dtype", _u32), ("dims", _u32),
                ("shape", ctypes.c_int64 * DIMS_MAX)]


class Slot(ctypes.Structure):
    _fields_ = [("sequence", _u64), ("answered", _u64), ("rows", _u32), ("input_count", _u32),
                ("output_count", _u32), ("status", _u32), ("compute_ns", _u64), ("error_size", _u32),
                ("pad", _u32), ("tensors", Tensor * TENSORS_MAX), ("error", ctypes.c_uint8 * ERROR_BYTES)]


assert ctypes.sizeof(Header) == 56 and ctypes.sizeof(QueuePair) == 896 and ctypes.sizeof(Slot) == 3504

_FUTEX_WAIT = 0  # never FUTEX_PRIVATE: the other side is another process
_FUTEX_WAKE = 1
_SYS_FUTEX = {"x86_64": 202, "aarch64": 98, "riscv64": 98, "loongarch64": 98, "ppc64le": 221,
              "s390x": 238}.get(platform.machine())
_ORDERED_STORES = platform.machine() == "x86_64"


class _Timespec(ctypes.Structure):
    _fields_ = [("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long)]


def _find_syscall():
    # Whatever C library this Python runs on is already in the process: no look-up by name, which is
    # another one on musl and needs a compiler or ldconfig.
    try:
        function = ctypes.CDLL(None, use_errno=True).syscall
    except (OSError, AttributeError):
        raise ImportError("loam: no C library with syscall() in this process")
    function.restype = ctypes.c_long
    return function


if _SYS_FUTEX is None:
    raise ImportError("loam: no futex number for %s" % platform.machine())
_syscall = _find_syscall()
_PAGE = 4096
_HANDSHAKE_S = 10
_MADV_POPULATE_WRITE = 23  # Linux 5.14


def _futex(address, operation, value, timeout):
    return _syscall(ctypes.c_long(_SYS_FUTEX), ctypes.c_void_p(address), ctypes.c_long(operation),
                    ctypes.c_long(value), timeout, None, ctypes.c_long(0))


class Refused(Exception):
    """The gateway does not want this worker; trying again would not help."""


def _connect(path):
    """Connects to a socket, or to channel.sock in a folder, however long the path."""
    if os.path.isdir(path):
        path = os.path.join(path, "channel.sock")
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    folder = os.open(os.path.dirname(path) or ".", getattr(os, "O_PATH", 0o10000000) | os.O_DIRECTORY)
    try:
        # sun_path holds 108 bytes.
        connection.connect("/proc/self/fd/%d/%s" % (folder, os.path.basename(path)))
    except OSError:
        connection.close()
        raise
    finally:
        os.close(folder)
    return connection


def _receive(connection):
    """One packet and the descriptors that came with it."""
    text, control, _, _ = connection.recvmsg(PACKET_BYTES_MAX, socket.CMSG_SPACE(8 * 4))
    descriptors = []
    for level, kind, data in control:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            descriptors += struct.unpack("%di" % (len(data) // 4), data[:len(data) // 4 * 4])
    for descriptor in descriptors:
        os.set_inheritable(descriptor, False)
    return text, descriptors


class Channel:
    """A connected worker's end: next submission, slots, completion."""

    def __init__(self, path, signature):
        self.connection = _connect(path)
        self.memory = None
        self._eventfd = -1
        try:
            hello = {"format": FORMAT, "position": 0, "signature": signature}
            self.connection.settimeout(_HANDSHAKE_S)
            self.connection.send(json.dumps(hello).encode())
            text, descriptors = _receive(self.connection)
            self.connection.settimeout(None)
            self._welcome(text, descriptors)
        except BaseException:
            self.close()
            raise

    def _welcome(self, text, descriptors):
        if not text:
            raise ConnectionError("the gateway hung up")
        answer = json.loads(text.decode())
        if "error" in answer:
            raise Refused(answer["error"])
        memfd, self._eventfd = descriptors
        self.memory = mmap.mmap(memfd, os.fstat(memfd).st_size)
        os.close(memfd)  # the mapping keeps it
        self.header = Header.from_buffer(self.memory)
        if self.header.magic != MAGIC or self.header.version != VERSION:
            raise Refused("the memory is of another version of the channel")
        offset = self.header.queues_offset + answer["queue"] * self.header.queue_pair_stride
        queues = QueuePair.from_buffer(self.memory, offset)
        self._submit, self._complete = queues.submit, queues.complete
        self._tail_address = ctypes.addressof(self._submit) + Queue.tail.offset
        self._head = 0
        self._tail = 0
        self._fault_in()
        self.connection.send(b'{"ready":true}')

    def _fault_in(self):
        """Touches every page, so that this process's cgroup pays for them, not the gateway's."""
        try:
            self.memory.madvise(_MADV_POPULATE_WRITE)
        except (AttributeError, OSError, ValueError):
            for offset in range(0, len(self.memory), _PAGE):
                self.memory[offset]  # reading is enough: a hole of a shared file gets its page

    def slot_offset(self, index):
        return self.header.slots_offset + index * self.header.slot_stride

    def slot(self, index):
        return Slot.from_buffer(self.memory, self.slot_offset(index))

    def _fence(self):
        _futex(self._tail_address, _FUTEX_WAKE, 0, None)

    def pop(self):
        """The next submitted slot's index, or None."""
        if self._submit.tail == self._head:
            return None
        if not _ORDERED_STORES:
            self._fence()  # the entry and the slot are read after the tail that announced them
        index = self._submit.entries[self._head % QUEUE_CAPACITY]
        self._head = (self._head + 1) & 0xFFFFFFFF
        self._submit.head = self._head
        return index

    def wait(self, seconds):
        """Sleeps until something may have been submitted, a signal came, or the bound has passed."""
        self._submit.armed = 1
        # The kernel compares tail with our head after a full barrier: no submission is slept through.
        timeout = _Timespec(int(seconds), int(seconds % 1 * 1e9))
        _futex(self._tail_address, _FUTEX_WAIT, self._head, ctypes.byref(timeout))
        self._submit.armed = 0

    def complete(self, index):
        self._complete.entries[self._tail % QUEUE_CAPACITY] = index
        if not _ORDERED_STORES:
            self._fence()
        self._tail = (self._tail + 1) & 0xFFFFFFFF
        self._complete.tail = self._tail
        if not self._complete.armed:
            self._fence()  # pairs with the gateway's: it sees this tail, or we see it armed
            if not self._complete.armed:
                return
        self._complete.armed = 0
        try:
            os.write(self._eventfd, b"\x01\0\0\0\0\0\0\0")  # an eventfd takes 8 bytes
        except BlockingIOError:
            pass  # full, so it is readable anyway

    def leave(self):
        """Asks for no more batches; the gateway ends the connection when none is out."""
        self.connection.send(b'{"leaving":true}')

    def ended(self):
        """Whether the gateway has gone."""
        try:
            return not self.connection.recv(PACKET_BYTES_MAX, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError as error:
            return error.errno != errno.EINTR

    def close(self):
        self.connection.close()
        if self._eventfd >= 0:
            os.close(self._eventfd)
            self._eventfd = -1
        # The mapping lives as long as a view into it does.
        self.header = self._submit = self._complete = self.memory = None
