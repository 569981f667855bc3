#!/bin/sh
# resolve_wheels.sh debian|host MODE…: runs resolve_wheels.py with the environment's own Python; the wheels
# and wheels.json land in work/out. Debian: inside a throw-away copy of the tree in base.tar.
. /mnt/scripts/common.sh
base=$1
shift
mkdir "$work/out" "$work/cache"
# The suite's own pip where it came as a package: a pip older than the Python may not run on it.
for package in /mnt/tools/*.deb; do
  [ ! -e "$package" ] || dpkg-deb --extract "$package" "$work/pip"
done
for wheel in /mnt/tools/pip-*.whl "$work"/pip/usr/share/python-wheels/pip-*.whl; do
  [ ! -e "$wheel" ] || pip=$wheel
done
if [ "$base" = host ]; then
  exec /usr/bin/python3 -s /mnt/scripts/resolve_wheels.py --pip "$pip" --out "$work/out" "$@"
fi
unpack /mnt/base.tar "$work/root"
cp -L /etc/resolv.conf /etc/hosts "$work/root/etc/"
# Debian's pip opens the distribution's bundle when it starts, even where another one is named.
bundle="$work/root/etc/ssl/certs/ca-certificates.crt"
if [ ! -e "$bundle" ] && [ -e /mnt/io/ca.crt ]; then
  mkdir -p "$(dirname "$bundle")"
  cp /mnt/io/ca.crt "$bundle"
fi
enter "$work/root" /usr/bin/python3 -s /mnt/scripts/resolve_wheels.py --pip "$pip" --out "$work/out" "$@"
