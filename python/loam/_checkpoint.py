"""Checkpoints: folders that appear whole or not at all, and where to go on from.

    with loam.checkpoint(step) as path:   .loam-unfinished-…/  filled by the caller
                                          every file, the mark, the folders: fsync
                                          rename to checkpoint-STEP, fsync: complete from here on
                                          then the oldest go
"""
import contextlib
import errno
import fnmatch
import json
import os
import signal
import sys

MARK = ".loam-checkpoint"  # in each finished one; src/node/checkpoints.h
_UNFINISHED = ".loam-unfinished-"
_REMOVED = ".loam-removed-"
_KEEP = 3
_MATCH = "checkpoint-*"
_SPACE_LOW_BYTES = 1 << 20


class Checkpoint(str):
    """The path of a finished checkpoint; `step` is what it was made with, None where other code made it."""

    step = None


def _folder():
    return os.environ.get("LOAM_CHECKPOINT_FOLDER") or os.path.abspath("checkpoints")


def _name_of(step):
    match = os.environ.get("LOAM_CHECKPOINT_MATCH") or _MATCH
    if match.count("*") != 1 or any(character in match for character in "?[\\"):
        raise ValueError("loam.checkpoint: `checkpoint: match: %s` of loam.yaml must be a name with one *, such as %s"
                         % (match, _MATCH))
    name = match.replace("*", str(step))
    if "/" in name or name.startswith(".loam") or not str(step):
        raise ValueError("loam.checkpoint: %r cannot be part of a name" % (step,))
    return name


def _mark_of(path):
    """What loam.checkpoint wrote into a finished one; None for anything else."""
    try:
        with open(os.path.join(path, MARK)) as file:
            mark = json.load(file)
        return mark if isinstance(mark, dict) else None
    except (OSError, ValueError):
        return None


def _sync(path):
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_tree(path):
    for folder, _, names in os.walk(path, topdown=False):
        for name in names:
            file = os.path.join(folder, name)
            if os.path.isfile(file) and not os.path.islink(file):
                _sync(file)
        _sync(folder)


def _exchange(path, other):
    """Two folders take each other's names at once (renameat2(2)); False where that cannot be done."""
    try:
        import ctypes
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (ImportError, OSError, AttributeError):
        return False
    at_cwd, exchange = -100, 2
    return rename(at_cwd, os.fsencode(path), at_cwd, os.fsencode(other), exchange) == 0


def _remove_tree(path):
    import shutil  # with four compressors behind it: not for those who never write a checkpoint
    shutil.rmtree(path, ignore_errors=True)


def _remove(path):
    """Under another name first: what is half removed must not look finished."""
    folder, name = os.path.split(path)
    if not name.startswith(".loam"):
        aside = os.path.join(folder, "%s%d-%s" % (_REMOVED, os.getpid(), name))
        os.rename(path, aside)
        path = aside
    _remove_tree(path)


def _finish(unfinished, path, step):
    step = step.item() if hasattr(step, "item") else step  # a NumPy scalar, a tensor of one element
    with open(os.path.join(unfinished, MARK), "w") as file:
        json.dump({"step": step if isinstance(step, (int, float, str)) else str(step)}, file)
    _sync_tree(unfinished)
    if os.path.lexists(path):  # the same step once more
        if not _exchange(unfinished, path):
            _remove(path)
            os.rename(unfinished, path)
    else:
        os.rename(unfinished, path)
    _sync(os.path.dirname(path))


def _finished(folder):
    """Paths of finished checkpoints, the newest first."""
    match = os.environ.get("LOAM_CHECKPOINT_MATCH") or _MATCH
    found = []
    for name in os.listdir(folder) if os.path.isdir(folder) else ():
        path = os.path.join(folder, name)
        if name.startswith(".loam") or not fnmatch.fnmatchcase(name, match) or _mark_of(path) is None:
            continue
        found.append((os.stat(os.path.join(path, MARK)).st_mtime_ns, len(name), name, path))
    return [entry[-1] for entry in sorted(found, reverse=True)]


def _say_what_is_full(folder, error):
    space = os.statvfs(folder)
    free = space.f_bavail * space.f_frsize
    quota = getattr(errno, "EDQUOT", errno.ENOSPC)
    number = getattr(error, "errno", None)
    if number not in (errno.ENOSPC, quota) and free >= _SPACE_LOW_BYTES:
        return
    what = "your quota is used up" if number == quota != errno.ENOSPC else "the disk has %d KiB left" % (free >> 10)
    sys.stderr.write("loam: this checkpoint was not finished: %s where checkpoints lie; a smaller `checkpoint: keep` "
                     "in loam.yaml or `loam store gc` makes room. The one before it is kept.\n" % what)
    sys.stderr.flush()


@contextlib.contextmanager
def checkpoint(step):
    """A folder to fill; finished, durable and named once the block has ended well, gone if it has not:

        with loam.checkpoint(step) as path:
            torch.save(model.state_dict(), os.path.join(path, "model.pt"))

    The newest `checkpoint: keep` (3) stay. Outside Loam they lie in ./checkpoints.
    """
    folder, name = _folder(), _name_of(step)
    os.makedirs(folder, exist_ok=True)
    unfinished = os.path.join(folder, "%s%d-%s" % (_UNFINISHED, os.getpid(), name))
    _remove_tree(unfinished)
    try:
        os.mkdir(unfinished)
        yield unfinished
        _finish(unfinished, os.path.join(folder, name), step)
    except BaseException as error:
        _say_what_is_full(folder, error)
        raise
    finally:
        _remove_tree(unfinished)
    for path in _finished(folder)[int(os.environ.get("LOAM_CHECKPOINT_KEEP") or _KEEP):]:
        _remove(path)


def resume():
    """The finished checkpoint to go on from, or None: a path, with the step that it was made with as `.step`.

    In Loam the one that the last attempt of this job left, whoever wrote it; outside, the newest in ./checkpoints.
    """
    path = os.environ.get("LOAM_CHECKPOINT")
    if not path and "LOAM_CHECKPOINT_FOLDER" not in os.environ:
        path = next(iter(_finished(_folder())), None)
    if not path:
        return None
    found = Checkpoint(path)
    found.step = (_mark_of(path) or {}).get("step")
    return found


_caught = None  # the state of preempted(): None before the first call


def preempted():
    """Whether this job was told to make room: save, and end with a status that is not 0.

    The first call catches the signal (`checkpoint: signal`); call it from the main thread, before the long work and
    then in every turn of the loop. Always False where nobody can ask.
    """
    global _caught
    number = int(os.environ.get("LOAM_CHECKPOINT_SIGNAL") or 0)
    if not number:
        return False
    if _caught is None:
        before = signal.getsignal(number)

        def catch(caught, frame):
            global _caught
            _caught = True
            if callable(before) and before is not signal.default_int_handler:
                before(caught, frame)

        signal.signal(number, catch)
        signal.siginterrupt(number, False)
        _caught = False
    return _caught
