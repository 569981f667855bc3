#!/bin/sh
# resolve_wheels.sh debian|host MODE…: runs resolve_wheels.py with the environment's own Python; the wheels
# and wheels.json land in work/out. Debian: inside a throw-away copy of the tree in base.tar.
. /mnt/scripts/common.sh
base=$1
shift
mkdir "$work/out" "$work/cache"
if [ "$base" = host ]; then
  exec /usr/bin/python3 -s /mnt/scripts/resolve_wheels.py --pip /mnt/tools/pip-*.whl --out "$work/out" "$@"
fi
unpack /mnt/base.tar "$work/root"
# The suite's own pip (a pip older than the Python may not run on it), or what this machine's pip lacks there.
for package in /mnt/tools/*.deb; do
  [ ! -e "$package" ] || dpkg-deb --extract "$package" "$work/root"
done
for wheel in "$work"/root/usr/share/python-wheels/pip-*.whl; do
  [ ! -e "$wheel" ] || cp "$wheel" "$work/"
done
for wheel in /mnt/tools/pip-*.whl "$work"/pip-*.whl; do
  [ ! -e "$wheel" ] || pip=$wheel
done
cp -L /etc/resolv.conf /etc/hosts "$work/root/etc/"
# Debian's pip opens the distribution's bundle when it starts, even where another one is named.
bundle="$work/root/etc/ssl/certs/ca-certificates.crt"
if [ ! -e "$bundle" ] && [ -e /mnt/io/ca.crt ]; then
  mkdir -p "$(dirname "$bundle")"
  cp /mnt/io/ca.crt "$bundle"
fi
enter "$work/root" /usr/bin/python3 -s /mnt/scripts/resolve_wheels.py --pip "$pip" --out "$work/out" "$@"
