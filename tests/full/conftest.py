"""What the long tier shares: the packages, made once as a user makes them."""
import os
import pathlib
import subprocess

import pytest

SOURCE = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def packages(tmp_path_factory):
    """Paths of `make package`'s two files; LOAM_BUILD names another build folder than its own."""
    out = tmp_path_factory.mktemp("dist")
    build = os.environ.get("LOAM_BUILD", str(SOURCE / "build/package"))
    subprocess.run([SOURCE / "scripts/package", build, out], check=True)
    return {"deb": next(out.glob("*.deb")), "archive": next(out.glob("*.tar.zst"))}
