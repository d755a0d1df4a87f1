"""`forge-manager`: the container's entry point.

Promises: every mistake in the configuration is named before anything is started (exit 2); RUN_DIR is private to
this user and to this one process tree; then this process *is* supervisord, in the foreground.
Exit codes: 0 stopped on request, 1 a fault (the kubelet should restart it), 2 configuration.
"""

from __future__ import annotations

import argparse
import os
import secrets
import signal
import stat
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Final

from cli import supervision
from config import Config, ConfigError, Mistake, load
from ipc.messages import Worker
from kernel.flock import AlreadyHeld, hold
from workers import logs
from workers.runtime import SUPERVISOR_PID

_CONF: Final = "supervisor.conf"


def main() -> None:
    """Check, prepare, become supervisord."""
    parser = argparse.ArgumentParser(
        prog="forge-manager",
        description="Keeps exactly one cardano-node of a stake pool forging. Configured by environment "
        "variables; `forgectl config` lists them.",
    )
    parser.add_argument("--check", action="store_true", help="check the configuration and end")
    parser.add_argument("--version", action="version", version=version("cardano-forge-manager"))
    arguments = parser.parse_args()
    try:
        config = load(os.environ)
        if arguments.check:
            print("configuration is complete and consistent")
            return
        prepare(config)
    except ConfigError as error:
        for mistake in error.mistakes:
            print(f"forge-manager: {mistake}", file=sys.stderr)
        sys.exit(2)
    except AlreadyHeld as error:
        print(f"forge-manager: RUN_DIR={str(config.run_dir)!r}: {error}", file=sys.stderr)
        sys.exit(1)
    logs.set_up("manager", config.log_level, config.log_format)
    os.environ["RUN_DIR"] = str(config.run_dir)
    os.environ["FORGE_PYTHON"] = sys.executable
    os.environ[SUPERVISOR_PID] = str(os.getpid())
    os.environ.setdefault("PYTHONDONTWRITEBYTECODE", "1")
    sys.exit(supervision.run(str(configuration_file())))


def prepare(config: Config) -> None:
    """Make RUN_DIR ready: private, ours, one tree only, with an instance id that outlives a restart.

    Raises ConfigError when the folder cannot be used, AlreadyHeld when another forge-manager uses it.
    """
    os.umask(0o077)
    run_dir = config.run_dir
    try:
        run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        _private(run_dir)
        hold(run_dir / "lock")
        for worker in Worker:
            folder = config.worker_dir(worker)
            folder.mkdir(mode=0o700, exist_ok=True)
            _private(folder)
        _instance(config.instance_file)
    except OSError as error:
        what = f"cannot be prepared ({error.strerror}: {error.filename}); mount a memory-backed emptyDir that "
        remedy = what + f"uid {os.getuid()} may write to"
        raise ConfigError((Mistake("RUN_DIR", str(run_dir), remedy),)) from None


def _private(folder: Path) -> None:
    """Insist that the folder is ours and closed to others.  An emptyDir comes as 0777, owned by root."""
    info = folder.stat()
    if info.st_uid == os.getuid():
        folder.chmod(0o700)
    elif stat.S_IMODE(info.st_mode) & 0o002 and not info.st_mode & stat.S_ISVTX and folder.is_dir():
        return  # an emptyDir: nobody else is in the pod but its containers; what is below it is 0700 and ours


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
    return beside if beside.is_file() else Path(sys.prefix) / "share" / "forge-manager" / _CONF


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    main()
