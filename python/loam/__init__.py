"""Loam's side of your code: parameters, metrics, folders, and the signature of a model.

Pure Python, 3.6 or newer, no dependency. Outside Loam everything still works: params() is empty, log() is
silent, the folders are ./model and ./checkpoints. Documented in docs/python.md.
"""
import json
import math
import os

from ._checkpoint import checkpoint, preempted, resume

__all__ = ["checkpoint", "log", "model", "output", "params", "preempted", "resume", "signature"]

_DATATYPES = ("BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64",
              "FP16", "FP32", "FP64")
_TENSORS_MAX = 16
_DIMS_MAX = 8


class Params(dict):
    """The step's `params:`, as items and as attributes: params["lr"], params.lr."""

    def __getattr__(self, name):
        try:
            return self[name]
        except KeyError:
            known = ", ".join(sorted(self)) or "none"
            raise AttributeError("no parameter '%s' in loam.yaml (params: %s)" % (name, known)) from None


def _params_from(value):
    if isinstance(value, dict):
        return Params((key, _params_from(item)) for key, item in value.items())
    if isinstance(value, list):
        return [_params_from(item) for item in value]
    return value


def params():
    """The parameters of this step; {} outside Loam."""
    return _params_from(json.loads(os.environ.get("LOAM_PARAMS") or "{}"))


def _plain(value):
    if hasattr(value, "item"):  # a NumPy scalar, a tensor of one element
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None  # JSON has no word for it
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError("loam.log takes numbers and strings, not %s" % type(value).__name__)


def log(**metrics):
    """Records metrics of this attempt, such as log(epoch=3, loss=0.21). Silent outside Loam."""
    line = json.dumps({name: _plain(value) for name, value in metrics.items()}) + "\n"
    path = os.environ.get("LOAM_METRICS")
    if not path:
        return
    # One write of one line to a file opened for appending: ranks and forks do not mix theirs.
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, line.encode())
    finally:
        os.close(descriptor)


def output():
    """The folder that becomes the model's next version; ./model outside Loam."""
    folder = os.environ.get("LOAM_OUTPUT") or os.path.abspath("model")
    os.makedirs(folder, exist_ok=True)
    return folder


def model():
    """The folder of the model version that is served; ./model outside Loam."""
    return os.environ.get("LOAM_MODEL") or os.path.abspath("model")


def _tensors(which, tensors):
    if not tensors:
        raise ValueError("loam.signature: %s must name at least one tensor" % which)
    result = []
    for name, declared in tensors.items():
        place = "loam.signature: %s '%s'" % (which, name)
        try:
            datatype, shape = declared
            shape = [int(size) for size in shape]
        except (TypeError, ValueError):
            raise ValueError('%s: expected (DATATYPE, SHAPE), such as ("FP32", [-1, 64])' % place) from None
        if datatype not in _DATATYPES:
            raise ValueError("%s: datatype %r is none of %s" % (place, datatype, ", ".join(_DATATYPES)))
        if not 1 <= len(shape) <= _DIMS_MAX or shape[0] != -1 or any(size < 1 for size in shape[1:]):
            raise ValueError("%s: shape %r must begin with -1 (the rows of a batch), followed by at most 7 "
                             "fixed sizes" % (place, shape))
        result.append({"name": name, "datatype": datatype, "shape": shape})
    return result


def signature(inputs, outputs):
    """Declares what a handler takes and gives:

        @loam.signature(inputs={"image": ("FP32", [-1, 64])}, outputs={"digit": ("INT64", [-1])})
        def predict(batch): ...
    """
    declared = {"inputs": _tensors("input", inputs), "outputs": _tensors("output", outputs)}
    if len(declared["inputs"]) + len(declared["outputs"]) > _TENSORS_MAX:
        raise ValueError("loam.signature: over %d inputs and outputs together" % _TENSORS_MAX)

    def attach(handler):
        handler.__loam_signature__ = declared
        return handler

    return attach
