"""Attempts on files: secrets, API credentials, targets, other workers' folders."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import hashlib
import os
import stat
from pathlib import Path

from redteam_tools import (
    LIBC,
    WORKERS,
    Given,
    attempt,
    call,
    first,
    make,
    others,
    reaches_the_kernel,
    read,
    siblings,
)

AT_FDCWD = -100
AT_SYMLINK_FOLLOW = 0x400
SECRETS = {"KES key": "kes", "VRF key": "vrf", "operational certificate": "cert"}
API = ("elector", "arbiter if it has the API")
NO_FILE = (errno.ENOENT,)
"""In a container of its own a worker does not even see the volume."""


def _direct(what: str, key: str) -> None:
    @attempt(f"opens the {what}", allowed=("actuator",), also=NO_FILE)
    def do(given: Given) -> object:
        return read(given[key])


for _what, _key in SECRETS.items():
    _direct(_what, _key)


@attempt("opens a secret once more through a descriptor made with O_PATH", allowed=("actuator",), also=NO_FILE)
def _(given: Given) -> object:
    def again(path: str) -> str:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
        try:
            return read(f"/proc/self/fd/{fd}")
        finally:
            os.close(fd)

    return first(given["secrets"], again)


@attempt("opens a secret with openat2", also=NO_FILE)
def _(given: Given) -> object:
    how = (ctypes.c_uint64 * 3)(os.O_RDONLY, 0, 0)

    def do(path: str) -> str:
        fd = call("openat2", AT_FDCWD, os.fsencode(path), ctypes.byref(how), 24)
        os.close(fd)
        return path

    return first(given["secrets"], do)


@attempt("asks for a handle of a secret", also=NO_FILE)
def _(given: Given) -> object:
    handle = ctypes.create_string_buffer(136)
    ctypes.c_uint32.from_buffer(handle).value = 128
    mount = ctypes.c_int()
    return first(
        given["secrets"],
        lambda path: call("name_to_handle_at", AT_FDCWD, os.fsencode(path), handle, ctypes.byref(mount), 0),
    )


@attempt("opens files by handle")
def _(given: Given) -> object:
    return reaches_the_kernel("open_by_handle_at", -1, None, 0)


@attempt("opens a secret through the root folder of another process", also=(*NO_FILE, errno.ESRCH))
def _(given: Given) -> object:
    return first(others(given), lambda pid: read(f"/proc/{pid}/root{given['kes']}"))


@attempt("opens a secret through its own root folder", allowed=("actuator",), also=NO_FILE)
def _(given: Given) -> object:
    roots = ("/proc/self/root", "/proc/thread-self/root", "/proc/self/task/../root")
    return first(roots, lambda root: read(root + given["kes"]))


@attempt("lists the folder of the secrets", allowed=("actuator",))
def _(given: Given) -> object:
    names = os.listdir(os.path.dirname(given["kes"]))
    if "kes.skey" not in names:  # an empty folder in the volume's place
        raise OSError(errno.EACCES, "nothing there")
    return names


@attempt("makes a hard link to a secret in its own folder", also=NO_FILE)
def _(given: Given) -> object:
    link = given["own"] + "/redteam-link"

    def do(path: str) -> str:
        os.link(path, link)
        os.unlink(link)
        return path

    return first(given["secrets"], do)


@attempt("makes a hard link to a secret in its own folder by its descriptor", also=NO_FILE)
def _(given: Given) -> object:
    fd = os.open(given["kes"], os.O_PATH | os.O_CLOEXEC)
    link = given["own"] + "/redteam-link"
    try:
        call("linkat", AT_FDCWD, f"/proc/self/fd/{fd}".encode(), AT_FDCWD, os.fsencode(link), AT_SYMLINK_FOLLOW)
        os.unlink(link)
    finally:
        os.close(fd)
    return "linked"


@attempt("makes a symbolic link to a secret in its own folder and reads it", also=NO_FILE)
def _(given: Given) -> object:
    link = given["own"] + "/redteam-link"
    os.symlink(given["kes"], link)
    try:
        return read(link)
    finally:
        os.unlink(link)


@attempt("moves a secret into its own folder", also=NO_FILE)
def _(given: Given) -> object:
    mine = given["own"] + "/redteam-moved"

    def do(path: str) -> str:
        os.rename(path, mine)
        os.rename(mine, path)
        return path

    return first(given["secrets"], do)


@attempt("writes a file beside the secrets", also=NO_FILE)
def _(given: Given) -> object:
    return make(os.path.dirname(given["kes"]) + "/redteam-new")


@attempt("watches the secrets", allowed=("actuator",))
def _(given: Given) -> object:
    fd = LIBC.inotify_init1(os.O_CLOEXEC)
    if fd < 0:
        raise OSError(ctypes.get_errno(), "inotify_init1")
    try:
        return call("inotify_add_watch", fd, os.fsencode(os.path.dirname(given["kes"])), 0xFFF)
    finally:
        os.close(fd)


@attempt("watches the whole mount with fanotify")
def _(given: Given) -> object:
    return reaches_the_kernel("fanotify_init", -1, 0)


@attempt("finds the bytes of a secret in any file of the pod", allowed=("actuator",))
def _(given: Given) -> object:
    wanted = set(given["hashes"])
    roots = {given["pod"], given["run_dir"], *map(os.path.dirname, [*given["secrets"], *given["targets"]])}
    roots |= {f"{given['run_dir']}/{name}" for name in WORKERS}
    for folder, _names, files in (found for root in sorted(roots) for found in os.walk(root)):
        for name in files:
            path = os.path.join(folder, name)
            try:
                if not stat.S_ISREG(os.stat(path).st_mode):
                    continue
                if hashlib.sha256(Path(path).read_bytes()).hexdigest() in wanted:
                    return path
            except OSError:
                continue
    raise OSError(errno.EACCES, "nothing found")


# --- what is exposed to the node ---


@attempt("reads the keys that the node is shown, through the target paths", allowed=("actuator",), also=NO_FILE)
def _(given: Given) -> object:
    return first(given["targets"], read)


@attempt("looks into the actuator's working directory", allowed=("actuator",))
def _(given: Given) -> object:
    return first(("cwd", f"task/{given['pids']['actuator']}/cwd"), lambda way: _listed(given, way))


def _listed(given: Given, way: str) -> str:
    names = os.listdir(f"/proc/{given['pids']['actuator']}/{way}")
    if "kes.skey" not in names:
        raise OSError(errno.EACCES, "empty")
    return str(names)


@attempt("reads the keys in the actuator's folder", allowed=("actuator",))
def _(given: Given) -> object:
    for folder, _names, files in os.walk(given["run_dir"] + "/actuator", onerror=_raise):
        for name in files:
            if name.endswith(".skey"):
                return read(os.path.join(folder, name))
    raise OSError(errno.EACCES, "none there")


def _raise(error: OSError) -> None:
    raise error


@attempt("puts a link of its own beside the target paths", allowed=("actuator",))
def _(given: Given) -> object:
    link = os.path.dirname(given["targets"][0]) + "/redteam-link"
    os.symlink("/nowhere", link)
    os.unlink(link)
    return "made"


@attempt("writes a file beside the target paths")
def _(given: Given) -> object:
    return make(os.path.dirname(given["targets"][0]) + "/redteam-file")


@attempt("takes a target path away", workers=tuple(w for w in WORKERS if w != "actuator"))
def _(given: Given) -> object:
    def do(path: str) -> str:
        os.rename(path, path + ".away")
        os.rename(path + ".away", path)
        return path

    return first(given["targets"], do)


@attempt("removes a target path", workers=tuple(w for w in WORKERS if w != "actuator"))
def _(given: Given) -> object:
    def do(path: str) -> str:
        was = os.readlink(path)
        os.unlink(path)
        with contextlib.suppress(FileExistsError):  # the actuator has put it back already
            os.symlink(was, path)
        return path

    return first(given["targets"], do)


@attempt("writes through a target path", control="root", also=NO_FILE)
def _(given: Given) -> object:
    return first(given["targets"], lambda path: os.close(os.open(path, os.O_WRONLY | os.O_CLOEXEC)))


# --- API credentials ---


@attempt("opens the kubeconfig", allowed=API, also=NO_FILE)
def _(given: Given) -> object:
    return first(given["kubeconfigs"], read)


@attempt("opens the kubeconfig once more through a descriptor made with O_PATH", allowed=API, also=NO_FILE)
def _(given: Given) -> object:
    def again(path: str) -> str:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
        try:
            return read(f"/proc/self/fd/{fd}")
        finally:
            os.close(fd)

    return first(given["kubeconfigs"], again)


@attempt(
    "opens the kubeconfig through the elector's root folder",
    workers=tuple(w for w in WORKERS if w != "elector"),
    control="root",
)
def _(given: Given) -> object:
    return first(given["kubeconfigs"], lambda path: read(f"/proc/{given['pids']['elector']}/root{path}"))


@attempt("changes the kubeconfig")
def _(given: Given) -> object:
    return first(given["kubeconfigs"], lambda path: os.close(os.open(path, os.O_WRONLY | os.O_CLOEXEC)))


@attempt("opens the service account's token", also=NO_FILE, control="there is no such volume on a test's machine")
def _(given: Given) -> object:
    return read("/var/run/secrets/kubernetes.io/serviceaccount/token")


# --- other workers' folders ---


@attempt("lists another worker's folder")
def _(given: Given) -> object:
    return first(siblings(given), lambda name: os.listdir(f"{given['run_dir']}/{name}"))


@attempt("reads a file in another worker's folder", also=NO_FILE)
def _(given: Given) -> object:
    return first(siblings(given), lambda name: read(f"{given['run_dir']}/{name}/lock"))


@attempt("writes a file into another worker's folder")
def _(given: Given) -> object:
    return first(siblings(given), lambda name: make(f"{given['run_dir']}/{name}/redteam"))


@attempt("removes another worker's socket")
def _(given: Given) -> object:
    def do(name: str) -> str:
        path = f"{given['run_dir']}/{name}/state.sock"
        os.rename(path, path + ".away")  # what may remove may rename
        os.rename(path + ".away", path)
        return path

    return first(siblings(given), do)


@attempt("unlinks another worker's socket")
def _(given: Given) -> object:
    def do(name: str) -> str:
        path = f"{given['run_dir']}/{name}/redteam.sock"  # the test's own: nobody misses it
        os.unlink(path)
        return path

    return first(siblings(given), do)


@attempt("puts its own socket in another worker's place")
def _(given: Given) -> object:
    def do(name: str) -> str:
        mine, theirs = given["own"] + "/debug.sock", f"{given['run_dir']}/{name}/redteam-new.sock"
        os.rename(mine, theirs)
        os.rename(theirs, mine)
        return theirs

    return first(siblings(given), do)


@attempt("puts its own folder in another worker's place")
def _(given: Given) -> object:
    mine = given["run_dir"] + "/redteam-folder"
    os.rename(given["own"], mine)
    os.rename(mine, given["own"])
    return mine


@attempt("makes a link in another worker's folder")
def _(given: Given) -> object:
    def do(name: str) -> str:
        path = f"{given['run_dir']}/{name}/redteam-link"
        os.symlink("/nowhere", path)
        os.unlink(path)
        return path

    return first(siblings(given), do)


@attempt("makes a folder beside those of the workers")
def _(given: Given) -> object:
    os.mkdir(given["run_dir"] + "/redteam")
    os.rmdir(given["run_dir"] + "/redteam")
    return "made"


@attempt("writes into RUN_DIR")
def _(given: Given) -> object:
    return make(given["run_dir"] + "/redteam")


@attempt("writes to supervisord's pid file", also=NO_FILE)
def _(given: Given) -> object:
    return os.close(os.open(given["run_dir"] + "/lock", os.O_WRONLY | os.O_CLOEXEC))


@attempt("writes into its own folder", allowed=("actuator", *API))
def _(given: Given) -> object:
    return make(given["own"] + "/redteam-file")


@attempt("makes a file grow through a descriptor that it holds", control="a fresh process holds none")
def _(given: Given) -> object:
    for fd in range(256):
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode) or os.readlink(f"/proc/self/fd/{fd}").endswith(".log"):
                continue
            size = os.fstat(fd).st_size
            os.lseek(fd, 0, os.SEEK_END)
            os.write(fd, b" ")
            return f"{os.readlink(f'/proc/self/fd/{fd}')} grew from {size}"
        except OSError as error:
            if error.errno != errno.EBADF:
                continue
    raise OSError(errno.EACCES, "no descriptor of a file can be written")


for _folder in ("/tmp", "/dev/shm", "/var/tmp", "/root", "/etc"):

    def _writes(folder: str) -> None:
        control = "root" if folder in ("/root", "/etc") else "uid"

        @attempt(f"writes into {folder}", control=control, also=NO_FILE)
        def do(given: Given) -> object:
            return make(f"{folder}/redteam-{os.getpid()}")

    _writes(_folder)


@attempt("makes a file without a name in its own folder", allowed=("actuator", *API))
def _(given: Given) -> object:
    os.close(os.open(given["own"], os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    return "made"


@attempt("makes a file in memory", allowed=API)
def _(given: Given) -> object:
    os.close(os.memfd_create("redteam"))
    return "made"


@attempt("writes to a device")
def _(given: Given) -> object:
    return first(("/dev/null", "/dev/zero"), lambda path: os.close(os.open(path, os.O_WRONLY | os.O_CLOEXEC)))


@attempt("changes what the node or the kernel reads below /proc", also=NO_FILE)
def _(given: Given) -> object:
    paths = (f"/proc/{given['node']}/oom_score_adj", "/proc/self/oom_score_adj", "/proc/self/timerslack_ns")
    return first(paths, lambda path: os.close(os.open(path, os.O_WRONLY | os.O_CLOEXEC)))


@attempt("holds a descriptor of a file outside of its own folder", control="a fresh process holds none")
def _(given: Given) -> object:
    allowed = (given["own"], "/dev/null")
    for fd in range(3, 256):
        try:
            target = os.readlink(f"/proc/self/fd/{fd}")
        except FileNotFoundError:
            continue
        if target.startswith("/") and not target.startswith(allowed):
            return target
    raise OSError(errno.EACCES, "none")


for _name in ("mknodat", "fchmodat", "fchownat", "setxattr", "utimensat", "truncate", "linkat", "symlinkat"):

    def _changes(name: str) -> None:
        allowed = ("actuator",) if name in ("fchmodat", "symlinkat") else ()

        @attempt(f"reaches the kernel's {name}", allowed=allowed)
        def do(given: Given) -> object:
            return reaches_the_kernel(name, -1, None, 0, 0, 0)

    _changes(_name)
