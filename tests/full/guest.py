"""A guest with Debian's own kernel and systemd, cgroup v2 alone, booted by QEMU in software: what this machine's kernel
and init cannot show.

The checks are functions of guest_checks.sh, run one after another inside; each one's output and status come back over a
serial line.
"""
import hashlib
import os
import pathlib
import re
import shutil
import subprocess

SOURCE = pathlib.Path(__file__).resolve().parents[2]
CACHE = pathlib.Path(os.environ.get("LOAM_GUEST_CACHE", SOURCE / "build/guest"))
BOOT_SECONDS_MAX = 1500  # in software on two busy cores; a boot takes one to two minutes
SYSTEM = ["linux-image-cloud-amd64", "systemd", "systemd-sysv", "dbus", "dbus-user-session", "libpam-systemd", "procps",
          "python3-numpy", "util-linux", "zstd"]

UNIT = """[Unit]
After=basic.target dbus.service
[Service]
Type=oneshot
Environment=HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
WorkingDirectory=/root
ExecStart=/bin/bash -c 'exec bash /root/guest_checks.sh >/dev/ttyS1 2>&1'
ExecStopPost=/bin/systemctl --no-block poweroff
TimeoutStartSec=infinity
[Install]
WantedBy=multi-user.target
"""


def needs(deb):
    """The packages that the .deb names: the guest has no network, and its apt must find all of them there."""
    text = subprocess.run(["dpkg-deb", "-f", deb, "Depends"], capture_output=True, text=True, check=True).stdout
    return sorted(re.sub(r"\s*\(.*", "", name).strip() for name in text.split(","))


def base_tree(packages):
    """A tar of Debian with these packages, made once."""
    CACHE.mkdir(parents=True, exist_ok=True)
    name = hashlib.sha256(" ".join(packages).encode()).hexdigest()[:12]
    tar = CACHE / f"base-{name}.tar"
    if not tar.exists():
        partial = tar.with_suffix(".partial.tar")
        subprocess.run(["mmdebstrap", "--variant=minbase", f"--include={','.join(packages)}",
                        "--dpkgopt=path-exclude=/usr/share/doc/*", "--dpkgopt=path-exclude=/usr/share/locale/*",
                        "bookworm", str(partial)], check=True)
        partial.rename(tar)
    return tar


def make_disk(folder, files):
    """An ext4 image of the base tree with `files` (name in /root → path) and the unit that runs the checks."""
    root = folder / "root"
    root.mkdir()
    subprocess.run(["tar", "-xf", base_tree(sorted(SYSTEM + needs(files["loam.deb"]))), "-C", root], check=True)
    for name, path in files.items():
        shutil.copy(path, root / "root" / name)
    units = root / "etc/systemd/system"
    (units / "guest-checks.service").write_text(UNIT)
    (units / "multi-user.target.wants").mkdir(exist_ok=True)
    (units / "multi-user.target.wants/guest-checks.service").symlink_to("../guest-checks.service")
    (units / "serial-getty@ttyS0.service").symlink_to("/dev/null")
    (root / "etc/hostname").write_text("guest\n")
    (root / "etc/fstab").write_text("/dev/vda / ext4 defaults 0 1\n")
    kernel, initrd = (shutil.copy(next((root / "boot").glob(f"{name}-*")), folder / name) for name in ("vmlinuz", "initrd.img"))
    disk = folder / "disk.img"
    subprocess.run(["mke2fs", "-q", "-F", "-t", "ext4", "-d", root, disk, "4G"], check=True)
    shutil.rmtree(root)
    return kernel, initrd, disk


def boot(folder, name, kernel, initrd, disk):
    """Runs until the guest turns itself off; its checks' output: name → (status, text)."""
    output = folder / f"{name}.output"
    subprocess.run(["qemu-system-x86_64", "-machine", "q35", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2",
                    "-m", "2048", "-display", "none", "-no-reboot", "-nic", "none", "-kernel", kernel, "-initrd", initrd,
                    "-append", "root=/dev/vda rw console=ttyS0 quiet systemd.unified_cgroup_hierarchy=1",
                    "-drive", f"file={disk},if=virtio,format=raw,cache=unsafe",
                    "-serial", f"file:{folder / name}.console", "-serial", f"file:{output}"],
                   check=True, timeout=BOOT_SECONDS_MAX)
    text = output.read_text(errors="replace").replace("\r", "")
    found = re.findall(r"^=== (\w+)\n(.*?)^=== status (\d+)\n", text, re.MULTILINE | re.DOTALL)
    return {name: (int(status), body) for name, body, status in found}, text
