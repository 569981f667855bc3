#!/bin/sh
# clean_tree.sh ROOT: takes out what names this machine, this moment or this mirror.
set -eu
cd "$1"

# Bound at every start; empty in the tree.
for file in etc/hostname etc/hosts etc/resolv.conf etc/apt/sources.list; do
  rm -f "$file"
  : >"$file"
  chmod 0644 "$file"
done
rm -rf etc/apt/sources.list.d/* etc/apt/apt.conf.d/99mmdebstrap etc/apt/apt.conf.d/00mmdebstrap \
  etc/dpkg/dpkg.cfg.d/99mmdebstrap
# Identities: an environment is many machines.
[ ! -e etc/machine-id ] || : >etc/machine-id
rm -f var/lib/dbus/machine-id var/lib/systemd/random-seed etc/ssh/ssh_host_*
# Logs, caches, backups, lists.
find var/log -type f -delete
find var/cache -mindepth 1 -type f ! -path 'var/cache/debconf/*.dat' -delete
find var/cache/man var/cache/fontconfig -mindepth 1 -delete 2>/dev/null || true
find var/backups tmp var/tmp run dev -mindepth 1 -delete
find var/lib/apt/lists -type f -delete
rm -f var/lib/dpkg/*-old var/lib/dpkg/lock var/lib/dpkg/lock-frontend var/lib/apt/extended_states
rm -f etc/passwd- etc/group- etc/shadow- etc/gshadow- etc/subuid- etc/subgid- etc/.pwd.lock
rm -f root/.bash_history root/.wget-hsts
rm -rf root/.cache

# Times in a tree are one constant, so byte code must not ask for its source's; nor read it to hash it:
# "checked hash" (PEP 552 flags 3, what py_compile writes under SOURCE_DATE_EPOCH) becomes "unchecked" (1).
find usr -name '*.pyc' -type f -print0 | perl -0 -ne '
  chomp;
  open(my $file, "+<:raw", $_) or die "$_: $!\n";
  next unless read($file, my $head, 8) == 8 && unpack("V", substr($head, 4)) == 3;
  seek($file, 4, 0) && print($file pack("V", 1)) or die "$_: $!\n";
'
