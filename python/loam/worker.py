"""A replica's process: python3 -m loam.worker

Imports LOAM_HANDLER ("serve.py:predict", below the working directory), connects to LOAM_CHANNEL, and calls
predict(batch) for each batch: a dict of arrays that lie in the channel's memory, valid until it returns.
What it raises is that batch's answer. TERM ends it after the batch that it works on.
"""
import importlib.util
import os
import signal
import sys
import time
import traceback

import numpy

from loam import _channel

_WAIT_S = 0.5           # at most this long until the end of the gateway is noticed
_LEAVE_S = 5.0          # for the gateway to let go after TERM
_RECONNECT_S = (0.02, 1.0)
_NUMPY_DTYPES = {"BOOL": "?", "UINT8": "<u1", "UINT16": "<u2", "UINT32": "<u4", "UINT64": "<u8",
                 "INT8": "<i1", "INT16": "<i2", "INT32": "<i4", "INT64": "<i8", "FP16": "<f2",
                 "FP32": "<f4", "FP64": "<f8"}


class HandlerError(Exception):
    """The handler cannot be served; the text says how to mend it."""


class OutputError(Exception):
    """What the handler returned is not what its signature says."""


def load_handler(spec):
    """The function that "serve.py:predict" names, with its signature."""
    path, separator, name = spec.rpartition(":")
    if not separator or not path or not name:
        raise HandlerError("handler %r: expected FILE.py:FUNCTION, such as serve.py:predict" % spec)
    path = os.path.abspath(path)
    if not os.path.isfile(path):
        raise HandlerError("handler %r: no file %s" % (spec, path))
    sys.path.insert(0, os.path.dirname(path))
    module_name = os.path.splitext(os.path.basename(path))[0]
    module_spec = importlib.util.spec_from_file_location(module_name, path)
    module = importlib.util.module_from_spec(module_spec)
    sys.modules[module_name] = module
    module_spec.loader.exec_module(module)
    handler = getattr(module, name, None)
    if not callable(handler):
        raise HandlerError("handler %r: %s defines no function %s" % (spec, path, name))
    if not hasattr(handler, "__loam_signature__"):
        raise HandlerError(
            "handler %r has no signature: the gateway must know what it takes. Put above it\n"
            '    @loam.signature(inputs={"x": ("FP32", [-1, 64])}, outputs={"y": ("FP32", [-1, 10])})\n'
            "with the names, datatypes and shapes of yours (-1: the rows of a batch)" % spec)
    return handler


class SlotViews:
    """One slot's tensors as arrays over the shared memory, for the largest batch; made once."""

    def __init__(self, channel, index, signature):
        self.head = channel.slot(index)
        offset = channel.slot_offset(index)
        rows_max = channel.header.batch_max
        arrays = []
        for number, spec in enumerate(signature["inputs"] + signature["outputs"]):
            shape = [rows_max] + spec["shape"][1:]
            arrays.append((spec["name"], numpy.ndarray(shape, _NUMPY_DTYPES[spec["datatype"]], channel.memory,
                                                       offset + self.head.tensors[number].offset)))
        count = len(signature["inputs"])
        self.inputs, self.outputs = arrays[:count], arrays[count:]

    def batch(self):
        rows = self.head.rows
        return {name: array[:rows] for name, array in self.inputs}

    def write(self, results):
        """Checks the handler's result against its signature and copies it to where it belongs."""
        rows = self.head.rows
        if not isinstance(results, dict):
            raise OutputError("the handler returned %s, expected a dict of arrays" % type(results).__name__)
        unknown = sorted(set(map(str, results)) - {name for name, _ in self.outputs})
        if unknown:
            raise OutputError("output '%s' is not in the handler's signature (outputs: %s)" %
                              (unknown[0], ", ".join(name for name, _ in self.outputs)))
        for name, place in self.outputs:
            if name not in results:
                raise OutputError("output '%s' is missing from what the handler returned" % name)
            result = numpy.asarray(results[name])
            expected = (rows,) + place.shape[1:]
            if result.shape != expected:
                raise OutputError("output '%s' has shape %s, expected %s" %
                                  (name, list(result.shape), list(expected)))
            if result.dtype != place.dtype:
                raise OutputError("output '%s' has dtype %s, expected %s; use .astype(numpy.%s)" %
                                  (name, result.dtype, place.dtype, place.dtype))
            place[:rows] = result


class Worker:
    def __init__(self, handler, channel_path):
        self.handler = handler
        self.signature = handler.__loam_signature__
        self.channel_path = channel_path
        self.stopping = False

    def stop(self, *_):
        self.stopping = True

    def run(self):
        """Serves one gateway after the other until TERM."""
        delay = _RECONNECT_S[0]
        while not self.stopping:
            try:
                channel = _channel.Channel(self.channel_path, self.signature)
            except (OSError, ValueError):  # not there yet, or on its way down
                time.sleep(delay)
                delay = min(delay * 2, _RECONNECT_S[1])
                continue
            delay = _RECONNECT_S[0]
            try:
                self.serve(channel)
            finally:
                channel.close()

    def serve(self, channel):
        views = {}
        leave_until = None
        while True:
            index = channel.pop()
            if index is not None:
                if index not in views:
                    views[index] = SlotViews(channel, index, self.signature)
                self.answer(views[index])
                channel.complete(index)
                continue
            if self.stopping and leave_until is None:
                leave_until = time.monotonic() + _LEAVE_S
                try:
                    channel.leave()
                except OSError:
                    return
            channel.wait(_WAIT_S if leave_until is None else 0.01)
            if channel.ended() or (leave_until is not None and time.monotonic() > leave_until):
                return

    def answer(self, slot):
        head = slot.head
        started = time.perf_counter()
        status = _channel.STATUS_OK
        try:
            slot.write(self.handler(slot.batch()))
        except Exception as error:  # whatever the user's code does is an answer, not our end
            status = _channel.STATUS_RAISED
            if not isinstance(error, OutputError):
                traceback.print_exc()
            self.write_error(head, error)
        head.status = status
        head.compute_ns = int((time.perf_counter() - started) * 1e9)
        head.answered = head.sequence

    @staticmethod
    def write_error(head, error):
        text = str(error) if isinstance(error, OutputError) else "%s: %s" % (type(error).__name__, error)
        data = text.encode("utf-8", "replace")[:_channel.ERROR_BYTES]
        data = data.decode("utf-8", "ignore").encode()  # not in the middle of a character
        head.error[:len(data)] = data
        head.error_size = len(data)


def main():
    spec = os.environ.get("LOAM_HANDLER")
    path = os.environ.get("LOAM_CHANNEL")
    if not spec or not path:
        print("loam.worker is started by Loam, with LOAM_HANDLER and LOAM_CHANNEL", file=sys.stderr)
        return 2
    try:
        worker = Worker(load_handler(spec), path)
        signal.signal(signal.SIGTERM, worker.stop)
        signal.signal(signal.SIGINT, worker.stop)
        worker.run()
    except HandlerError as error:
        print("loam: %s" % error, file=sys.stderr)
        return 1
    except _channel.Refused as error:
        print("loam: the gateway refused this replica: %s" % error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
