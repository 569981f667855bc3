# Shared by the build scripts. They run as namespace 0 of the build range (src/sandbox/build.h) with the
# build's folder at /mnt: scripts/, repo/, wheels/, tools/ to read, work/ to write. Nothing here sees the
# network, except where wheels are resolved.
set -eu
umask 022
work=/mnt/work
export TMPDIR="$work"

# unpack TAR FOLDER: as packed by `pack`, with owners and file capabilities.
unpack() {
  mkdir "$2"
  tar -xpf "$1" --numeric-owner --xattrs --xattrs-include='*' -C "$2"
}

# pack FOLDER TAR: the same bytes for the same files, whatever the order they were made in.
pack() {
  tar --create --file "$2" --directory "$1" --sort=name --mtime=@0 --numeric-owner --one-file-system \
    --format=posix --pax-option='exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime' \
    --xattrs --xattrs-include='*' .
}

# enter FOLDER COMMAND…: runs the command in the tree, with /mnt, /dev and /proc of this build. The mounts
# live in a mount namespace of their own and go with the command.
enter() {
  unshare --mount --propagation private sh -eu -c '
    root=$1
    shift
    mount --rbind /dev "$root/dev"
    mount --rbind /proc "$root/proc"
    mount -t tmpfs tmpfs "$root/tmp"
    mount --bind /mnt "$root/mnt"
    # Folders of wheels that pip.conf or PIP_FIND_LINKS names.
    IFS=:
    for folder in ${LOAM_FOLDERS:-}; do
      mkdir -p "$root$folder"
      mount --bind "$folder" "$root$folder"
    done
    unset IFS
    exec chroot "$root" "$@"
  ' enter "$@"
}
