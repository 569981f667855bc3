"""The Python side alone: what user code calls, inside and outside Loam, and the mirror of the C header."""
import ast
import ctypes
import json
import os
import subprocess
import sys

import pytest

from serving import PYTHON, ROOT

sys.path.insert(0, str(ROOT / "python"))
import loam  # noqa: E402
from loam import _channel  # noqa: E402


@pytest.fixture
def outside(monkeypatch, tmp_path):
    for name in list(os.environ):
        if name.startswith("LOAM_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_outside_loam_nothing_fails(outside, capfd):
    assert loam.params() == {}
    loam.log(loss=0.5)
    assert capfd.readouterr() == ("", "")
    assert loam.output() == str(outside / "model") == loam.model()
    assert os.path.isdir(loam.output())


def test_params_are_items_and_attributes(outside, monkeypatch):
    monkeypatch.setenv("LOAM_PARAMS", '{"lr": 0.1, "net": {"hidden": [{"units": 64}]}}')
    params = loam.params()
    assert params["lr"] == params.lr == 0.1
    assert params.net.hidden[0].units == 64
    with pytest.raises(AttributeError, match="'rate'.*lr, net"):
        params.rate


def test_log_appends_json_lines(outside, monkeypatch, capfd):
    import numpy
    monkeypatch.setenv("LOAM_METRICS", str(outside / "metrics"))
    loam.log(epoch=1, loss=numpy.float32(0.5), best=True, note="a\nb")
    loam.log(loss=float("nan"))
    lines = [json.loads(line) for line in (outside / "metrics").read_text().splitlines()]
    assert lines == [{"epoch": 1, "loss": 0.5, "best": True, "note": "a\nb"}, {"loss": None}]
    assert capfd.readouterr() == ("", "")
    with pytest.raises(TypeError, match="numbers"):
        loam.log(x=[1])


def test_folders(outside, monkeypatch):
    monkeypatch.setenv("LOAM_OUTPUT", str(outside / "out"))
    monkeypatch.setenv("LOAM_MODEL", str(outside / "in"))
    assert loam.output() == str(outside / "out") and os.path.isdir(loam.output())
    assert loam.model() == str(outside / "in")


@pytest.mark.parametrize("inputs", [
    {}, {"x": "FP32"}, {"x": ("FP33", [-1])}, {"x": ("FP32", [4])}, {"x": ("FP32", [])},
    {"x": ("FP32", [-1, -1])}, {"x": ("FP32", [-1, 0])}, {"x": ("FP32", [-1] + [1] * 8)},
    {str(n): ("FP32", [-1]) for n in range(16)}])
def test_wrong_signatures_are_refused_where_they_are_written(inputs):
    with pytest.raises(ValueError, match="loam.signature"):
        loam.signature(inputs=inputs, outputs={"y": ("FP32", [-1])})


def test_the_sdk_is_python_3_6():
    for path in (ROOT / "python/loam").glob("*.py"):
        ast.parse(path.read_text(), feature_version=(3, 6))


def test_importing_needs_only_the_standard_library():
    """`import loam` in an environment without NumPy, and without a look-up of the C library's name."""
    script = ("import sys; sys.modules['numpy'] = None; sys.modules['ctypes.util'] = None\n"
              "import loam, loam._channel; loam.params()")
    subprocess.run([PYTHON, "-S", "-c", script], check=True, env={"PYTHONPATH": str(ROOT / "python")})


def fields(structure):
    return ["%s %d %d" % (name, getattr(structure, name).offset, getattr(structure, name).size)
            for name, _ in structure._fields_]


def test_the_mirror_is_the_header(tmp_path):
    structures = {"loam_channel_header": _channel.Header, "loam_channel_queue": _channel.Queue,
                  "loam_channel_queue_pair": _channel.QueuePair, "loam_channel_tensor": _channel.Tensor,
                  "loam_channel_slot": _channel.Slot}
    prints, expected = [], []
    for c_name, mirror in structures.items():
        prints.append('printf("%%s %%zu\\n", "%s", sizeof(struct %s));' % (c_name, c_name))
        expected.append("%s %d" % (c_name, ctypes.sizeof(mirror)))
        for name, _ in mirror._fields_:
            prints.append('printf("%%s %%zu %%zu\\n", "%s", offsetof(struct %s, %s), '
                          'sizeof(((struct %s*)0)->%s));' % (name, c_name, name, c_name, name))
        expected += fields(mirror)
    for name in ("MAGIC", "VERSION", "QUEUE_CAPACITY", "TENSORS_MAX", "DIMS_MAX", "ERROR_BYTES"):
        prints.append('printf("%%llu\\n", (unsigned long long)LOAM_CHANNEL_%s);' % name)
        expected.append(str(getattr(_channel, name)))
    for number, name in enumerate(_channel.DTYPES[1:], 1):
        prints.append('printf("%%d\\n", LOAM_%s);' % name)
        expected.append(str(number))
    source = tmp_path / "print.c"
    source.write_text('#include <stddef.h>\n#include <stdio.h>\n#include "channel/abi/loam_channel.h"\n'
                      "int main(void) { %s return 0; }\n" % "\n".join(prints))
    subprocess.run(["cc", "-std=c99", "-I", str(ROOT / "src"), "-o", str(tmp_path / "print"), str(source)],
                   check=True)
    printed = subprocess.run([str(tmp_path / "print")], check=True, stdout=subprocess.PIPE,
                             universal_newlines=True).stdout.splitlines()
    assert printed == expected
