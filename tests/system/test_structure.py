"""The house as DESIGN draws it: only the arrows of src/CMakeLists.txt, heavy headers in few places, small programs."""
import re
import subprocess

import pytest

from nodes import BIN, SOURCE

SRC = SOURCE / "src"
INCLUDE = re.compile(r'^\s*#include\s+["<]([^">]+)[">]', re.MULTILINE)


def arrows():
    table = {}
    for name, rest in re.findall(r"^loam_library\((\w+)([^)]*)\)", (SRC / "CMakeLists.txt").read_text(), re.MULTILINE):
        words = rest.split()
        wanted = []
        if "ARROWS" in words:
            for word in words[words.index("ARROWS") + 1:]:
                if word.isupper() and word.startswith(("EXTERNAL", "TEST")):
                    break
                wanted.append(word)
        table[name] = wanted
    return table


def reachable(table, folder):
    seen, todo = set(), [folder]
    while todo:
        for target in table[todo.pop()]:
            if target not in seen:
                seen.add(target)
                todo.append(target)
    return seen


def sources():
    return [path for path in SRC.rglob("*") if path.suffix in (".cc", ".h", ".c")]


def includes(path):
    return INCLUDE.findall(path.read_text())


def test_only_the_drawn_arrows_are_included():
    table = arrows()
    assert {"base", "node", "cli", "gateway", "sandbox"} <= set(table)
    wrong = []
    for path in sources():
        folder = path.relative_to(SRC).parts[0]
        if folder == "main":
            continue
        allowed = {folder, "base", *table[folder]}
        for name in includes(path):
            target = name.split("/")[0]
            if "/" in name and target in table and target not in allowed:
                wrong.append(f"{path.relative_to(SOURCE)} includes {name}")
    assert not wrong, "\n".join(wrong)


def test_arrows_have_no_cycle():
    table = arrows()
    for folder in table:
        assert folder not in reachable(table, folder)


@pytest.mark.parametrize("header,most", [("boost/asio", 8), ("boost/beast", 6), ("nlohmann/", 1), ("yaml-cpp/", 1),
                                         ("CLI/", 1), ("sqlite3.h", 1)])
def test_heavy_headers_stay_in_few_places(header, most):
    users = [path for path in sources()
             if not path.name.endswith("_test.cc") and any(name.startswith(header) for name in includes(path))]
    assert len([path for path in users if path.suffix == ".h"]) == 0 or header.startswith("boost/"), users
    assert 0 < len(users) <= most, users


def needed(program):
    text = subprocess.run(["readelf", "-d", str(BIN / program)], capture_output=True, text=True, check=True).stdout
    return set(re.findall(r"NEEDED.*\[(.+?)\]", text))


def test_what_each_program_links():
    runtime = {"libstdc++.so.6", "libgcc_s.so.1", "libc.so.6", "libm.so.6", "ld-linux-x86-64.so.2", "libfmt.so.9"}
    assert needed("loam-shim") == set(), "the shim is static"
    gateway = needed("loam-gateway") - runtime
    assert all(name.startswith(("libcrypto", "libsimdjson", "libarchive", "libz.", "libzstd")) for name in gateway), gateway
    loam = needed("loam") - runtime
    allowed = ("libcrypto", "libyaml-cpp", "libsqlite3", "libarchive", "libhwloc", "libseccomp")
    assert all(name.startswith(allowed) for name in loam), loam
    for program in ("loam", "loam-gateway"):
        assert not any(word in name for name in needed(program) for word in ("grpc", "kafka", "libpq", "curl")), program


def test_files_and_functions_stay_small():
    long = [f"{path.relative_to(SOURCE)}: {lines}" for path in sources()
            if (lines := len(path.read_text().splitlines())) > 600 and not path.name.endswith("_test.cc")]
    assert not long, long
