#!/bin/sh
# install_wheels.sh debian|host PYTHON: installs wheels/*.whl, without any resolution, into the tree of
# base.tar (debian) or into an empty one with lib/ and bin/ (host), and packs it as work/tree.tar.
. /mnt/scripts/common.sh
if [ "$1" = host ]; then
  mkdir "$work/root"
  /usr/bin/python3 -s /mnt/scripts/install_wheels.py --python "$2" --folder "$work/root"
else
  unpack /mnt/base.tar "$work/root"
  enter "$work/root" /usr/bin/python3 -s /mnt/scripts/install_wheels.py --python "$2"
  /mnt/scripts/clean_tree.sh "$work/root"
fi
pack "$work/root" "$work/tree.tar"
