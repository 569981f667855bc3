"""Installs every wheel of /mnt/wheels, in order of name, without any resolution (src/env/wheels.cc).

Uses the `installer` library from /mnt/tools. Byte code is unchecked-hash and made in one order with
PYTHONHASHSEED=0, so that the same wheels give the same bytes.
"""
import argparse
import os
import py_compile
import sys

sys.path.insert(0, "/mnt/tools")
sys.dont_write_bytecode = True

from installer import install  # noqa: E402
from installer.destinations import SchemeDictionaryDestination  # noqa: E402
from installer.sources import WheelFile  # noqa: E402

WHEELS = "/mnt/wheels"
VERSION = "%d.%d" % sys.version_info[:2]


class Destination(SchemeDictionaryDestination):
    """Two wheels may bring the same file (a tests/ folder, an old namespace package): as with pip, the later
    one stays; the order is fixed."""

    written = []

    def write_to_fs(self, scheme, path, stream, is_executable):
        folder = os.path.realpath(self.scheme_dict[scheme])
        target = os.path.normpath(os.path.join(folder, path))
        if not target.startswith(folder + os.sep):
            sys.exit("%s: leaves its folder" % path)
        if os.path.lexists(target):
            os.unlink(target)
        entry = super().write_to_fs(scheme, path, stream, is_executable)
        os.chmod(target, 0o755 if is_executable else 0o644)
        if scheme in ("purelib", "platlib") and target.endswith(".py"):
            self.written.append(target)
        return entry


def schemes(folder):
    if folder:
        site, top = os.path.join(folder, "lib"), folder
    else:  # Debian's own place for what does not come from apt: first on sys.path after the standard library
        site, top = "/usr/local/lib/python%s/dist-packages" % VERSION, "/usr/local"
    return {"purelib": site, "platlib": site, "scripts": os.path.join(top, "bin"), "data": top,
            "headers": os.path.join(top, "include/python" + VERSION)}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--python", required=True, help="the version that the wheels were chosen for")
    parser.add_argument("--folder", help="base: host: an empty folder that gets lib/ and bin/")
    options = parser.parse_args()
    if options.python != VERSION:
        sys.exit("ERROR: the wheels were locked for Python %s, this is Python %s" % (options.python, VERSION))
    paths = schemes(options.folder)
    for path in paths.values():
        os.makedirs(path, exist_ok=True)
    destination = Destination(paths, interpreter="/usr/bin/python3", script_kind="posix")
    for name in sorted(os.listdir(WHEELS)):
        print("Installing " + name, flush=True)
        with WheelFile.open(os.path.join(WHEELS, name)) as source:
            install(source=source, destination=destination, additional_metadata={"INSTALLER": b"loam\n"})
    for source in sorted(set(destination.written)):
        shown = source if not options.folder else "/loam/pip" + source[len(options.folder):]
        try:
            py_compile.compile(source, dfile=shown, doraise=True, quiet=2,
                               invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
        except (py_compile.PyCompileError, ValueError):
            pass  # templates and code for other Pythons; pip skips them too


main()
