#!/bin/sh
# debian_tree.sh SUITE: makes work/base.tar from exactly the packages of repo/ (src/env/debian.cc).
#
#   repo/*.deb, repo/index ─▶ work/repo/Packages ─▶ mmdebstrap ─▶ work/root ─▶ cleaned ─▶ work/base.tar
. /mnt/scripts/common.sh
suite=$1
root="$work/root"

# A flat repository's index. repo/index has "SHA256 SIZE FILE NAME" for each package, sorted.
mkdir "$work/repo"
ln -s /mnt/repo/*.deb "$work/repo/"
while read -r sha256 size file name; do
  dpkg-deb --field "/mnt/repo/$file"
  printf 'Filename: ./%s\nSize: %s\nSHA256: %s\n\n' "$file" "$size" "$sha256"
done </mnt/repo/index >"$work/repo/Packages"

# Some hundred names an option: one argument may not pass 128 KiB.
set --
for list in $(cut -d' ' -f4 /mnt/repo/index | xargs -n 200 | tr ' ' ','); do
  set -- "$@" "--include=$list"
done
# Every package by name: the solver has nothing to choose. force-unsafe-io: an unfinished build is thrown
# away, so nothing here needs fsync.
mmdebstrap --mode=root --variant=apt --format=directory --verbose "$@" \
  --aptopt='APT::Sandbox::User "root"' --aptopt='Acquire::Languages "none"' \
  --dpkgopt=force-unsafe-io \
  "$suite" "$root" "deb [trusted=yes] copy:$work/repo ./"

/mnt/scripts/clean_tree.sh "$root"
pack "$root" "$work/base.tar"
