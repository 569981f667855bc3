"""python/loam is mounted into environments that it does not choose: Python 3.6 or newer, on glibc or musl. Checked in
its syntax tree, because the distribution has one Python only."""
import ast
import re
import sys
import tokenize

import pytest

from nodes import SOURCE

FILES = sorted((SOURCE / "python/loam").rglob("*.py"))
OLDEST = (3, 6)
# Modules and members that came after 3.6 (the "New in version" notes of Python's library reference), of what an SDK
# like this one could reach for.
NEW_MODULES = {"dataclasses", "contextvars", "graphlib", "tomllib", "zoneinfo", "_posixshmem"}
NEW_SUBMODULES = {"importlib.resources", "importlib.metadata", "multiprocessing.shared_memory"}
NEW_MEMBERS = {
    "time": {"time_ns", "monotonic_ns", "perf_counter_ns", "process_time_ns", "clock_gettime_ns", "thread_time"},
    "os": {"memfd_create", "pidfd_open", "posix_spawn", "posix_spawnp", "register_at_fork", "preadv", "pwritev",
           "waitstatus_to_exitcode", "copy_file_range", "eventfd", "eventfd_read", "eventfd_write", "splice",
           "add_dll_directory", "process_cpu_count", "unshare", "setns", "EFD_CLOEXEC", "MFD_CLOEXEC", "O_PATH"},
    "socket": {"send_fds", "recv_fds", "create_server", "has_dualstack_ipv6", "close"},
    "signal": {"pidfd_send_signal", "raise_signal", "strsignal", "valid_signals"},
    "math": {"prod", "dist", "comb", "perm", "isqrt", "lcm", "cbrt", "exp2", "remainder", "nextafter"},
    "functools": {"cache", "cached_property", "singledispatchmethod"},
    "itertools": {"pairwise", "batched"},
    "contextlib": {"nullcontext", "AsyncExitStack", "asynccontextmanager", "aclosing", "chdir"},
    "asyncio": {"run", "create_task", "get_running_loop", "to_thread", "TaskGroup", "timeout"},
    "typing": {"Protocol", "Final", "Literal", "TypedDict", "Annotated", "ForwardRef", "OrderedDict", "ParamSpec",
               "Self", "get_origin", "get_args", "final"},
    "threading": {"excepthook", "get_native_id", "gettrace"},
    "shlex": {"join"}, "statistics": {"fmean", "quantiles", "NormalDist"}, "sys": {"unraisablehook", "orig_argv"},
    "string": {"get_identifiers"}, "types": {"GenericAlias", "UnionType", "NoneType", "CellType"},
    "inspect": {"get_annotations"}, "ast": {"unparse"}, "base64": {"b32hexencode"},
}
# Of strings, files, maps of memory: whatever the object, the name says it.
NEW_METHODS = {"removeprefix", "removesuffix", "fromisoformat", "madvise", "is_relative_to", "with_stem", "bit_count",
               "is_junction", "isascii"}
NEW_ARGUMENTS = {("run", "capture_output"), ("run", "text"), ("Popen", "text"), ("Popen", "process_group"),
                 ("check_output", "text"), ("unlink", "missing_ok"), ("zip", "strict"),
                 ("rmtree", "dir_fd"), ("copytree", "dirs_exist_ok")}
NEW_FUNCTIONS = {"breakpoint", "aiter", "anext", "ExceptionGroup", "BaseExceptionGroup", "EncodingWarning"}
FUTURE = {"absolute_import", "division", "generator_stop", "print_function", "unicode_literals", "with_statement"}
GENERIC_ONLY_LATER = {"list", "dict", "tuple", "set", "frozenset", "type"}
# f"{x=}" (3.8): an expression, one "=" that is no comparison, then the end, a conversion or a format.
SELF_NAMING = re.compile(r"\{[^{}:]*[^{}=!<>:]=\s*(![rsa])?(:[^{}]*)?\}")


def dotted(node):
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        base = dotted(node.value)
        return base and base + "." + node.attr
    return None


def newer(text):
    """What of a source file Python 3.6 does not have, with its line."""
    found = []
    try:
        tree = ast.parse(text, feature_version=OLDEST)
    except SyntaxError as error:
        return [f"{error.lineno}: {error.msg}"]
    aliases = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for name in node.names:
                aliases[name.asname or name.name.split(".")[0]] = name.asname and name.name or name.name.split(".")[0]
                if name.name.split(".")[0] in NEW_MODULES or name.name in NEW_SUBMODULES:
                    found.append(f"{node.lineno}: module {name.name}")
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names = {name.name for name in node.names}
            if node.module in NEW_MODULES | NEW_SUBMODULES or node.module == "__future__" and names - FUTURE:
                found.append(f"{node.lineno}: from {node.module} import {', '.join(sorted(names))}")
            for name in names:
                if name in NEW_MEMBERS.get(node.module, ()) or f"{node.module}.{name}" in NEW_SUBMODULES:
                    found.append(f"{node.lineno}: {node.module}.{name}")
    guarded = {id(part) for node in ast.walk(tree) if isinstance(node, ast.Try) and any(
                   "AttributeError" in ast.dump(handler.type) for handler in node.handlers if handler.type)
               for statement in node.body for part in ast.walk(statement)}
    for node in ast.walk(tree):
        line = getattr(node, "lineno", 0)
        if isinstance(node, ast.Attribute):
            base = aliases.get(dotted(node.value) or "", "")
            if (node.attr in NEW_MEMBERS.get(base, ()) or node.attr in NEW_METHODS) and id(node) not in guarded:
                found.append(f"{line}: {dotted(node) or node.attr}")
        if isinstance(node, ast.Call):
            name = (dotted(node.func) or "").split(".")[-1]
            found += [f"{line}: {name}({keyword.arg}=)" for keyword in node.keywords
                      if (name, keyword.arg) in NEW_ARGUMENTS]
        if isinstance(node, ast.Name) and node.id in NEW_FUNCTIONS:
            found.append(f"{line}: {node.id}")
        if isinstance(node, ast.NamedExpr):
            found.append(f"{line}: :=")
        if isinstance(node, ast.arguments) and node.posonlyargs:
            found.append(f"{node.posonlyargs[0].lineno}: positional-only parameters")
        if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name) and node.value.id in GENERIC_ONLY_LATER:
            found.append(f"{line}: {node.value.id}[…]")
        annotations = [getattr(node, "annotation", None), getattr(node, "returns", None)]
        for annotation in filter(None, annotations):
            found += [f"{line}: X | Y" for part in ast.walk(annotation)
                      if isinstance(part, ast.BinOp) and isinstance(part.op, ast.BitOr)]
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            found += [f"{line}: decorator that is no name or call" for decorator in node.decorator_list
                      if not dotted(decorator.func if isinstance(decorator, ast.Call) else decorator)]
    for token in tokenize.generate_tokens(iter(text.splitlines(keepends=True)).__next__):
        if token.type == tokenize.STRING and "f" in re.match(r"[a-zA-Z]*", token.string).group().lower():
            if SELF_NAMING.search(token.string.replace("{{", "").replace("}}", "")):
                found.append(f"{token.start[0]}: f-string with '='")
    return found


def needs_a_libc_by_name(text):
    """Names of C libraries, and ways to look one up: another file on musl, or none."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and re.search(r"\blib\w+\.so|ld-(linux|musl)",
                                                                                       node.value):
            found.append(f"{node.lineno}: {node.value!r}")
        if isinstance(node, ast.Call):
            name = dotted(node.func) or ""
            if name.split(".")[-1] == "find_library" or name == "platform.libc_ver":
                found.append(f"{node.lineno}: {name}")
            if name.split(".")[-1] in ("CDLL", "PyDLL", "LoadLibrary") and not (
                    node.args and isinstance(node.args[0], ast.Constant) and node.args[0].value is None):
                found.append(f"{node.lineno}: {name} of something else than this process")
    return found


def test_there_is_an_sdk():
    assert {path.name for path in FILES} >= {"__init__.py", "_channel.py", "worker.py"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_python_3_6_has_all_that_it_uses(path):
    assert newer(path.read_text()) == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_no_c_library_is_named(path):
    assert needs_a_libc_by_name(path.read_text()) == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_nothing_is_imported_that_python_does_not_bring(path):
    """Pure Python: the standard library, itself, and NumPy, which serving needs."""
    allowed = set(sys.stdlib_module_names) | {"loam", "numpy"}
    imported = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            imported |= {name.name.split(".")[0] for name in node.names}
        if isinstance(node, ast.ImportFrom) and node.level == 0:
            imported.add(node.module.split(".")[0])
    assert imported <= allowed


@pytest.mark.parametrize("text", [
    "if (n := 3): pass", "def f(a, /): pass", "f'{x=}'", "f'{x = !r:>4}'", "from __future__ import annotations",
    "import dataclasses", "from importlib import resources", "import time\ntime.time_ns()", "import os as o\no.memfd_create('x')",
    "from functools import cached_property", "'x'.removeprefix('y')", "import subprocess\nsubprocess.run([], text=True)",
    "x: list[int] = []", "def f(a: 'int') -> int | None: pass", "match x:\n  case 1: pass", "breakpoint()",
    "with (open('a') as a, open('b') as b): pass", "@x[0]\ndef f(): pass", "import os\nos.O_PATH"])
def test_the_check_sees_what_is_newer(text):
    assert newer(text) != []


@pytest.mark.parametrize("text", [
    "f'{x}'", "f'{x == y}'", "f'{x!r:>{n}}'", "f'{f(a=1)}'", "import os\ngetattr(os, 'O_PATH', 1)",
    "try:\n  memory.madvise(1)\nexcept (AttributeError, OSError):\n  pass", "x = a | b", "x: int = 3",
    "from typing import List\nx: List[int] = []", "import subprocess\nsubprocess.run([], universal_newlines=True)"])
def test_the_check_lets_pass_what_is_not(text):
    assert newer(text) == []


@pytest.mark.parametrize("text", ["import ctypes\nctypes.CDLL('libc.so.6')", "ctypes.util.find_library('c')",
                                  "ctypes.CDLL(name)", "ctypes.cdll.LoadLibrary('x')", "n = 'ld-linux-x86-64.so.2'"])
def test_the_check_sees_named_libraries(text):
    assert needs_a_libc_by_name(text) != []
