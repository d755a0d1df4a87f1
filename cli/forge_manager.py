"""`forge-manager`: the container's entry point.

Promises: every mistake in the configuration is named before anything is started (exit 2); RUN_DIR is private to
this user and to this one process tree; then this process *is* supervisord, in the foreground, with no more power than
it takes to give the workers their users (WORKER_UIDS).  With `--worker NAME` it is that one worker instead, for pods
that give each worker a container.
Exit codes: 0 stopped on request, 1 a fault (the kubelet should restart it), 2 configuration.
"""

from __future__ import annotations

import cli.descriptors  # before anything else opens a file
import cli.process_one  # noqa: F401  # before a signal is lost
import workers.lean  # noqa: F401  # supervisord has no use for TLS; without ssl it is 5 MiB smaller

# isort: split
import argparse
import errno
import json
import logging
import os
import secrets
import signal
import stat
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path
from typing import Final, NoReturn

from cli import settings
from config import Config, ConfigError, Mistake, load
from config.spelling import Misspelt, misspelt
from ipc.messages import Worker
from kernel import identity, needed
from kernel.flock import AlreadyHeld, hold
from kernel.process import SUPERVISOR_PID
from sandbox.close import obstacles
from workers import logs

log = logging.getLogger("manager")

_CONF: Final = "supervisor.conf"
_PACKAGE: Final = "cardano-forge-manager"
_HELD: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR2, signal.SIGCHLD)
"""supervisord's signals."""
_PYTHON_KEPT: Final = frozenset(
    f"PYTHON{name}" for name in ("PATH", "HOME", "PYCACHEPREFIX", "NOUSERSITE", "USERBASE", "MALLOC", "HASHSEED")
)
"""The interpreter's variables that say where things are.  The others (INSPECT, OPTIMIZE, WARNINGS...) change how
it behaves, and are not for the workers."""


def main() -> None:
    """Check, prepare, become supervisord."""
    parser = argparse.ArgumentParser(
        prog="forge-manager",
        description="Keeps exactly one cardano-node of a stake pool forging. Configured by environment "
        "variables; `forgectl config` lists them.",
    )
    parser.add_argument("--check", action="store_true", help="check the configuration and end")
    parser.add_argument(
        "--worker",
        choices=[str(worker) for worker in Worker],
        help="be this one worker, without supervisord: for a pod with a container for each",
    )
    parser.add_argument("--version", action="version", version=version(_PACKAGE))
    arguments = parser.parse_args()
    almost = misspelt(os.environ)
    try:
        config = load(os.environ)
        _insist_on_kernel(None if arguments.worker is None else Worker(arguments.worker))
        _insist_on_sandbox(config)
        if arguments.worker in (None, Worker.GATEWAY):  # the others' containers need not have its files
            _insist_on_gateways_files(config)
        if arguments.check:
            for each in almost:
                print(f"forge-manager: {each}", file=sys.stderr)
            print("configuration is complete and consistent")
            return
        if arguments.worker:
            _be_worker(config, Worker(arguments.worker), almost)
        prepare(config)
    except ConfigError as error:
        for said in (*error.mistakes, *almost):  # what is missed may be there under another name
            print(f"forge-manager: {said}", file=sys.stderr)
        sys.exit(2)
    except AlreadyHeld as error:
        print(f"forge-manager: RUN_DIR={str(config.run_dir)!r}: {error}", file=sys.stderr)
        sys.exit(1)
    sys.exit(_supervise(config, almost))


def _insist_on_kernel(worker: Worker | None) -> None:
    """Exit 1, and why, where the fence could not be had: its worker would die of that again and again."""
    tried = [needed.death_timer()]  # each worker's watchdog is one
    if worker in (None, Worker.ACTUATOR):
        tried += [needed.pidfd(), needed.death_signal()]
    if refused := [each for each in tried if each]:
        remedy = "use the container engine's default seccomp profile, of a version that knows this kernel's calls"
        sys.exit(f"forge-manager: {'; '.join(refused)}; {remedy}")


def _insist_on_sandbox(config: Config) -> None:
    """What no worker could do is said once, here.  Raises ConfigError."""
    if config.sandbox == "enforce" and (found := obstacles(config)):
        remedy = "; ".join(found) + "; or accept less with SANDBOX=permissive"
        raise ConfigError((Mistake("SANDBOX", config.sandbox, remedy),))


def _insist_on_gateways_files(config: Config) -> None:
    """Token and certificate must be usable by the gateway when it starts.  Raises ConfigError.

    They are looked at in a process of its own: as the gateway's user, and with the ssl module, which this process does
    without.
    """
    if not config.gateway_files:
        return
    told, telling = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(told)
        _tell_mistakes(config, telling)
    os.close(telling)
    with os.fdopen(told, "rb") as pipe:
        said = pipe.read()
    _, status = os.waitpid(child, 0)
    if status != 0:
        raise RuntimeError("the check of the gateway's files ended without an answer")
    if found := tuple(Mistake(*each) for each in json.loads(said)):
        raise ConfigError(found)


def _tell_mistakes(config: Config, telling: int) -> NoReturn:
    """The child's whole life: exit code 0, once everything was told."""
    code = 1
    try:
        sys.modules.pop("ssl")
        from gateway import guard, tls  # noqa: F401  # all of it, as long as we may read it

        uid = config.worker_uids.get(Worker.GATEWAY, os.getuid())
        if uid != os.getuid() and identity.has(identity.CAP_SETUID) and identity.has(identity.CAP_SETGID):
            identity.become(uid, uid)
        found = [(each.name, each.value, each.remedy) for each in guard.mistakes(config)]
        with os.fdopen(telling, "wb") as pipe:
            pipe.write(json.dumps(found).encode("ascii"))
        code = 0
    finally:
        os._exit(code)  # nothing of the parent's is ours to tidy up


def _warn(almost: tuple[Misspelt, ...]) -> None:
    """To the log: nothing is wrong for sure, but somebody may think that it is set."""
    for each in almost:
        log.warning("%s", each, extra={"event": "almost_a_variable", "variable": each.name, "meant": each.meant})


def _say_start(config: Config) -> None:
    """Which program begins, where, and with what it was told: the first question to any log."""
    ours = version(_PACKAGE)
    log.info(
        "forge-manager %s on Python %s, Linux %s",
        ours,
        sys.version.split()[0],
        os.uname().release,
        extra={"event": "starting", "version": ours, "settings": settings.given(config)},
    )


def _be_worker(config: Config, worker: Worker, almost: tuple[Misspelt, ...]) -> NoReturn:
    """Become one worker.  Raises ConfigError."""
    uid = config.worker_uids.get(worker, os.getuid())
    if uid != os.getuid():
        remedy = f"gives the {worker} uid {uid}, but this container runs as {os.getuid()}; set its runAsUser"
        raise ConfigError((Mistake("WORKER_UIDS", f"{worker}={uid}", remedy),))
    _prepare_folders(config, (worker,))
    writer = logs.set_up(worker, config.log_level, config.log_format)
    _say_start(config)
    _warn(almost)
    writer.finish()
    make_environment(config)
    os.environ.pop(SUPERVISOR_PID, None)
    os.chdir("/")
    os.execv(sys.executable, [sys.executable, "-P", "-m", f"workers.{worker}"])  # noqa: S606  # our own


def _supervise(config: Config, almost: tuple[Misspelt, ...]) -> int:
    """Be supervisord; the exit code."""
    identity.no_new_privs()
    identity.keep_only((identity.CAP_SETUID, identity.CAP_SETGID) if config.worker_uids else ())
    _hold_signals()
    from cli import supervision  # half of our start: signals are held by then

    writer = logs.set_up("manager", config.log_level, config.log_format)
    _say_start(config)
    _warn(almost)
    os.chdir("/")  # pin nobody's mount
    tempfile.tempdir = str(config.run_dir)  # supervisord looks for one by writing into all it knows
    make_environment(config)
    return supervision.run(str(configuration_file()), writer, config.log_format, config.worker_uids)


def _hold_signals() -> None:
    """From now on no signal is lost: those for supervisord wait until it listens.

    Whoever started us may have left signals ignored or blocked (nohup, a shell's `&`), and process 1 of a container
    would not die of a SIGTERM it has no handler for.
    """
    signal.pthread_sigmask(signal.SIG_SETMASK, _HELD)  # a blocked signal waits even where it was ignored


def make_environment(config: Config) -> None:
    """What the workers inherit: ours, without what would have Python import or behave otherwise."""
    for name in [n for n in os.environ if n.startswith("PYTHON") and n not in _PYTHON_KEPT]:
        del os.environ[name]
    folders = [f for f in os.environ.pop("PYTHONPATH", "").split(os.pathsep) if f.startswith("/")]
    if folders:
        os.environ["PYTHONPATH"] = os.pathsep.join(folders)
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    os.environ["PYTHONSAFEPATH"] = "1"
    os.environ["RUN_DIR"] = str(config.run_dir)
    os.environ["FORGE_PYTHON"] = sys.executable
    os.environ[SUPERVISOR_PID] = str(os.getpid())


def prepare(config: Config) -> None:
    """Make RUN_DIR ready: private, ours, one tree only, with an instance id that outlives a restart.

    Raises ConfigError when the folder cannot be used, AlreadyHeld when another forge-manager uses it.
    """
    if config.worker_uids and not (identity.has(identity.CAP_SETUID) and identity.has(identity.CAP_SETGID)):
        remedy = (
            "to give the workers these users, forge-manager must be started as root with the capabilities SETUID and "
            "SETGID; or run each worker in a container of its own (--worker)"
        )
        raise ConfigError((Mistake("WORKER_UIDS", "set", remedy),))
    _prepare_folders(config, tuple(Worker))
    try:
        hold(config.run_dir / "lock")
    except OSError as error:
        raise _unusable(config, error) from None


def _prepare_folders(config: Config, workers: tuple[Worker, ...]) -> None:
    """RUN_DIR and the folders of these workers, each its worker's own.  Raises ConfigError."""
    os.umask(0o077)
    run_dir = config.run_dir
    try:
        run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        _claim(run_dir, run_dir.stat(), _open_mode(config), roots_will_do=True)
        missing = [worker for worker in workers if not os.path.lexists(config.worker_dir(worker))]
        if config.worker_uids and missing and run_dir.stat().st_uid == os.getuid():
            run_dir.chmod(0o777)  # the workers' users make their folders themselves: nobody here may give files away
        for worker in workers:
            uid = config.worker_uids.get(worker, os.getuid())
            with identity.acting_as(uid, uid if config.worker_uids else os.getegid()):
                folder = config.worker_dir(worker)
                folder.mkdir(mode=0o700, exist_ok=True)
                _claim(folder, folder.lstat(), _open_mode(config), roots_will_do=False)
                if worker is Worker.ELECTOR:
                    _instance(config.instance_file)
        _claim(run_dir, run_dir.stat(), _open_mode(config), roots_will_do=True)
    except OSError as error:
        raise _unusable(config, error) from None


def _unusable(config: Config, error: OSError) -> ConfigError:
    what = f"cannot be prepared ({error.strerror}: {error.filename}); mount a memory-backed emptyDir that "
    return ConfigError((Mistake("RUN_DIR", str(config.run_dir), what + f"uid {os.getuid()} may write to"),))


def _open_mode(config: Config) -> int:
    """With a user for each worker, others must get as far as the sockets, which ask the kernel who they are."""
    return 0o711 if config.worker_uids else 0o700


def _claim(folder: Path, info: os.stat_result, mode: int, *, roots_will_do: bool) -> None:
    """Insist that the folder is ours, and close it to others.  Raises OSError.

    roots_will_do: an emptyDir belongs to root and comes as 0777 (a tmpfs of a container engine as 1777).  Nobody
    but the pod's containers is there, and what lies below it is its worker's own.
    """
    if not stat.S_ISDIR(info.st_mode):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))
    if info.st_uid == os.geteuid():
        if stat.S_IMODE(info.st_mode) != mode:
            folder.chmod(mode)
    elif info.st_uid != 0 or not roots_will_do:
        raise PermissionError(errno.EPERM, f"belongs to uid {info.st_uid}", str(folder))


def _instance(path: Path) -> str:
    """This pod instance's id: made once, kept over container restarts, gone with the pod."""
    try:
        text = path.read_text(encoding="ascii").strip()
        if text.isalnum() and len(text) == 8:
            return text
    except (FileNotFoundError, UnicodeDecodeError):
        pass
    text = secrets.token_hex(4)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text + "\n", encoding="ascii")
    temporary.rename(path)
    return text


def configuration_file() -> Path:
    """supervisor.conf: beside the packages in a checkout, under share/ when installed from a wheel."""
    beside = Path(__file__).resolve().parent.parent / _CONF
    if beside.is_file():
        return beside
    try:
        for file in distribution(_PACKAGE).files or ():  # wherever pip's scheme put it (--user, --prefix)
            if file.name == _CONF and (found := Path(str(file.locate()))).is_file():
                return found.resolve()
    except PackageNotFoundError:
        pass
    return Path(sys.prefix) / "share" / "forge-manager" / _CONF


if __name__ == "__main__":
    main()
