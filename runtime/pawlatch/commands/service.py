"""`pawlatch service`: the door as a systemd service. It writes files and says what to type; it starts nothing unless asked."""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
from pathlib import Path

from pawlatch.boot import CONFIG_TXT, boot_doubt, config_line
from pawlatch.config import read_config
from pawlatch.errors import OutputError
from pawlatch.files import write_atomic
from pawlatch.latch import LatchOptions
from pawlatch.unit import (
    NAME,
    SYSUSERS,
    UNIT,
    Needs,
    doubts,
    is_untouched,
    needs_of,
    program_path,
    systemd_version,
    sysusers_text,
    unit_text,
)

WANTED = Path(f"/etc/systemd/system/multi-user.target.wants/{NAME}.service")
INSTALLED = (
    ("systemd-sysusers",), ("systemctl", "daemon-reload"), ("systemctl", "enable", NAME),
    ("systemctl", "restart", "--no-block", NAME),  # it is ready with its first frame: a person need not wait for it
)
LEFT = (("systemctl", "disable", "--now", NAME),)


def service(argv: list[str]) -> int:
    """Install, show or take away the unit.

    Raises:
        ConfigError: the settings are not usable.
        OutputError: a unit that somebody changed would be replaced, or the place cannot be written to.
    """
    args = _arguments(argv)
    if args.action == "uninstall":
        return _uninstall(args.root, start=args.now)
    config_path = args.config.absolute()
    program = program_path()
    config = read_config(config_path)
    needs = needs_of(config, program=program, config_path=config_path)
    text = unit_text(needs, program=program, config_path=config_path, user=args.user, systemd=systemd_version(args.root))
    if args.action == "show":
        print(text, end="")
        return 0
    return _install(args, text, needs, config.latch)


def _install(args: argparse.Namespace, text: str, needs: Needs, latch: LatchOptions) -> int:
    unit, sysusers = _below(args.root, UNIT), _below(args.root, SYSUSERS)
    if unit.is_file() and not args.overwrite and (there := unit.read_text()) != text and not is_untouched(there):
        raise OutputError(
            f"{unit} was changed by hand and is not touched; keep changes with `systemctl edit {NAME}`, or add --overwrite"
        )
    for path, content in ((sysusers, sysusers_text(needs, user=args.user)), (unit, text)):
        _write(path, content)
    for doubt in doubts(needs, user=args.user):
        print(f"note: {doubt}")
    _tell_of_boot(latch)
    return _then(INSTALLED, start=args.now) or _told_how_to_watch()


def _tell_of_boot(latch: LatchOptions) -> None:
    """What holds the latch before systemd does."""
    if latch.kind != "gpio" or latch.pin is None:
        return
    if doubt := boot_doubt(latch.pin, active_high=latch.active_high):
        print(f"note: {doubt}")
    print(f"to lock before Linux runs, add to {CONFIG_TXT} (docs/wiring.md):\n  "
          f"{config_line(latch.pin, active_high=latch.active_high)}")


def _uninstall(root: Path, *, start: bool) -> int:
    unit, sysusers = _below(root, UNIT), _below(root, SYSUSERS)
    if not unit.is_file():
        print(f"there is no {unit}")
        return 0
    if start and _then(LEFT, start=True):
        return 1
    if os.path.lexists(_below(root, WANTED)):
        raise OutputError(f"the service is still enabled; type: sudo systemctl disable --now {NAME}, then this again")
    for path in (unit, sysusers):
        _require_writable(path)
        path.unlink(missing_ok=True)
        print(f"removed: {path}")
    print(f"the user {NAME}, the journal in /var/lib/{NAME} and your settings are still there")
    return _then((("systemctl", "daemon-reload"),), start=start)


def _write(path: Path, content: str) -> None:
    if path.is_file() and path.read_text() == content:
        print(f"as it was: {path}")
        return
    _require_writable(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, content)
    path.chmod(0o644)
    print(f"written: {path}")


def _require_writable(path: Path) -> None:
    folder = next(parent for parent in path.parents if parent.exists())
    if not os.access(folder, os.W_OK):
        raise OutputError(f"{folder} belongs to the system; type: sudo {program_path()} service ...")


def _then(commands: tuple[tuple[str, ...], ...], *, start: bool) -> int:
    """Run these commands, or say that they are to be typed; status 1 where one of them fails."""
    if not start:
        print("now type:")
    for command in commands:
        line = f"sudo {shlex.join(command)}"
        if not start:
            print(f"  {line}")
            continue
        print(shlex.join(command))
        try:
            failed = subprocess.run(command, check=False).returncode
        except OSError as error:
            raise OutputError(f"{command[0]} does not run here ({error.strerror}); type {line} where systemd is") from error
        if failed:
            print(f"{command[0]} failed with status {failed}")
            return 1
    return 0


def _told_how_to_watch() -> int:
    print(f"then watch it with:\n  systemctl status {NAME}\n  journalctl -fu {NAME}")
    return 0


def _below(root: Path, path: Path) -> Path:
    return root / path.relative_to("/")


def _arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="pawlatch service",
        description="The door as a systemd service with a user of its own, that may touch only what its settings need.",
    )
    parser.add_argument("action", choices=("install", "uninstall", "show"),
                        help="write the unit, take it away, or print what install would write")
    parser.add_argument("--config", type=Path, default=Path("/etc/pawlatch/door.toml"), metavar="door.toml",
                        help="the door's settings (default: %(default)s)")
    parser.add_argument("--user", type=_user, default=NAME, metavar="NAME",
                        help="who the service runs as (default: %(default)s)")
    parser.add_argument("--overwrite", action="store_true", help="replace a unit that was changed by hand, too")
    parser.add_argument("--now", action="store_true", help="also run the systemctl commands that would be printed")
    parser.add_argument("--root", type=Path, default=Path("/"), metavar="DIR",
                        help="another system's root, such as an SD card's")
    args = parser.parse_args(argv)
    if args.now and args.root != Path("/"):
        parser.error("--now is for this system, and --root names another")
    return args


def _user(name: str) -> str:
    """A system user's name, as systemd allows it."""
    if not name.isascii() or not name.replace("-", "_").isidentifier() or name == "root":
        raise argparse.ArgumentTypeError(f"must be letters, digits, - and _, and not root, got {name!r}")
    return name
