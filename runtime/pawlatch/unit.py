"""The door as a systemd service: its unit's text, which allows what the door's settings need, and nothing else.

Sources: systemd.exec(5), systemd.service(5), systemd.resource-control(5) of version 252, which Debian 12 has.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from pawlatch import __version__
from pawlatch.config import Config
from pawlatch.errors import ConfigError
from pawlatch.journal import JournalOptions
from pawlatch.latch import latch_uri
from pawlatch.listening import LOCAL_HOSTS

NAME = "pawlatch"
UNIT = Path(f"/etc/systemd/system/{NAME}.service")
SYSUSERS = Path(f"/etc/sysusers.d/{NAME}.conf")
STATE = Path("/var/lib") / NAME
_BACKS_OFF = 254  # the first systemd that waits longer each time; an older one would complain of the unknown keys at each start

_WEB = ("http://", "https://")
_STREAMS = ("rtsp://", "rtsps://", "http://", "https://")
_HOMES = (Path("/home"), Path("/root"), Path("/run/user"))
_PRIVATE = (Path("/tmp"), Path("/var/tmp"))  # which PrivateTmp hides
_VIDEO = ("char-video4linux",)  # by kind: a USB camera that returns may get another number
_PICAMERA = (*_VIDEO, "char-media", "char-dma_heap", "char-vchiq", "/dev/udmabuf")  # what libcamera opens
_GPIO = ("char-gpiochip",)
_HEADER = re.compile(r"# Written by `pawlatch service install`, version \S+, sum ([0-9a-f]{16})\..*\n")


@dataclass(frozen=True)
class Needs:
    """What a door needs of the machine."""

    devices: tuple[str, ...]  # for DeviceAllow
    groups: tuple[str, ...]
    families: tuple[str, ...]  # of addresses
    is_local: bool  # its only network is this machine
    runs_others: bool  # programs that are not ours
    reads: tuple[Path, ...]
    writes: tuple[Path, ...]  # beside its own state and cache
    latch: str | None = None  # the latch's name, where it has one and moves
    is_updated: bool = False  # it tries other models, in processes of lower priority


def needs_of(config: Config, *, program: Path, config_path: Path) -> Needs:
    """What the settings in `config_path` need.

    Raises:
        ConfigError: the model's folder is relative, so that a service would look for it elsewhere.
    """
    uri, bundle = config.camera.uri, config.model.bundle
    if not bundle.is_absolute():
        raise ConfigError(f'a service has no folder of its own, but the model is {bundle}; write bundle = "/…" below [model]')
    has_pins = config.latch.kind in ("gpio", "servo") or config.door.sensors.reed_pin is not None or (
        config.door.sensors.passage_pin is not None)
    is_picamera, is_video = uri == "picamera", uri.isdigit() or uri.startswith("/dev/")
    is_stream, is_command = uri.startswith(_STREAMS), config.latch.kind == "command"
    update = config.update
    fetches = update.url is not None and update.url.startswith(_WEB)
    ends = [*(served.host for served in (config.show, config.web) if served.port is not None),
            *([config.mqtt.host] if config.mqtt.host else [])]
    has_network = is_stream or is_command or fetches or bool(ends)
    families = [*(["AF_INET", "AF_INET6"] if has_network else []), *(["AF_NETLINK"] if has_network or is_picamera else [])]
    commands = [Path(each[0]) for each in (config.latch.lock, config.latch.unlock) if each]
    is_file = not (is_picamera or is_video or is_stream) and not uri.startswith("scene:")
    return Needs(
        devices=(*(_PICAMERA if is_picamera else _VIDEO if is_video else ()), *(_GPIO if has_pins else ())),
        groups=(*(("video",) if is_picamera or is_video else ()), *(("gpio",) if has_pins else ())),
        families=("AF_UNIX", *families),  # by netlink glibc asks for addresses, and libcamera for cameras
        is_local=bool(ends) and all(end in LOCAL_HOSTS for end in ends) and not (is_stream or is_command or fetches),
        runs_others=is_command or is_picamera,
        reads=(program, Path(sys.executable).resolve(), config_path, bundle, *commands, *([Path(uri)] if is_file else []),
               *(path for path in (update.key, config.web.certificate, config.web.key) if path is not None),
               *(config.mqtt.files if config.mqtt.host else ())),
        latch=None if config.latch.kind == "log" else latch_uri(config.latch),
        writes=tuple(folder for folder in (
            *([config.journal.folder] if config.journal.folder != JournalOptions().folder else []),
            *([bundle] if update.url is not None else []),
        ) if not folder.is_relative_to(STATE)),
        is_updated=update.url is not None,
    )


def doubts(needs: Needs, *, user: str) -> list[str]:
    """Sentences on what this service will not be able to read or write as `user`, each with its remedy."""
    told = []
    for path in needs.reads:
        if path.is_absolute() and (barrier := _barrier(path, user)):
            told.append(f"the user {user} cannot read {path}, because of {barrier}; "
                        f"move it, for example to /opt/{NAME}, or type: sudo chmod o+rX {barrier}")
        elif any(path.is_relative_to(private) for private in _PRIVATE):
            told.append(f"{path} lies in a folder that the service sees empty; move it, for example to {STATE}")
    told += [f"the service writes to {path}, which must be there, and {user}'s; type: sudo install -d -o {user} {path}"
             for path in needs.writes if not path.is_dir() or _owner(path) != user]
    return told


def unit_text(needs: Needs, *, program: Path, config_path: Path, user: str, systemd: int | None = None) -> str:
    """The unit, with the sum of what follows in its first line, so that a later change by hand can be told.

    `systemd` is the version that will read it; None where it is not known.
    """
    otherwise = f" --else {needs.latch}" if needs.latch else ""
    lock = f"{_word(program)} latch lock --config {_word(config_path)}{otherwise}"
    is_at_home = any(path.is_relative_to(home) for path in needs.reads for home in _HOMES)
    body = "\n".join([
        "[Unit]",
        "Description=pawlatch, a door that opens for one animal",
        "After=local-fs.target network.target time-sync.target",
        "StartLimitIntervalSec=0",
        "",
        "[Service]",
        "Type=notify",
        "NotifyAccess=main",
        "# Locked from outside before and after: a process that is killed leaves a Raspberry Pi's pin as it was.",
        f"ExecStartPre={lock}",
        f"ExecStart={_word(program)} run --config {_word(config_path)}",
        "ExecReload=/bin/kill -HUP $MAINPID",
        f"ExecStopPost={lock}",
        "WatchdogSec=15",
        "TimeoutStartSec=90",
        "TimeoutStopSec=15",
        "KillMode=mixed",
        "Restart=always",
        "RestartSec=5",
        *(["RestartSteps=5", "RestartMaxDelaySec=60"] if systemd is not None and systemd >= _BACKS_OFF else []),
        "",
        f"User={user}",
        *([f"SupplementaryGroups={' '.join(needs.groups)}"] if needs.groups else []),
        f"StateDirectory={NAME}",
        "StateDirectoryMode=0750",
        f"RuntimeDirectory={NAME}",
        "RuntimeDirectoryMode=0750",
        f"CacheDirectory={NAME}",
        "UMask=0027",
        *(f"ReadWritePaths={_word(path)}" for path in needs.writes),
        "",
        "MemoryMax=400M",
        "OOMPolicy=continue",  # a model that is being tried may take too much: its process ends, not the door's
        "TasksMax=100",
        "LimitCORE=0",
        "",
        "DevicePolicy=closed",
        *(f"DeviceAllow={device} rw" for device in needs.devices),
        f"RestrictAddressFamilies={' '.join(needs.families)}",
        *(["IPAddressAllow=localhost", "IPAddressDeny=any"] if needs.is_local else []),
        *(["PrivateNetwork=yes", "IPAddressDeny=any"] if needs.families == ("AF_UNIX",) else []),
        f"ProtectHome={'read-only' if is_at_home else 'yes'}",
        *(["MemoryDenyWriteExecute=yes"] if not needs.runs_others else []),
        *_HARDENING,
        *([f"SystemCallFilter=~@privileged{'' if needs.is_updated else ' @resources'}"] if not needs.runs_others else []),
        "",
        "[Install]",
        "WantedBy=multi-user.target",
        "",
    ])
    told = "`systemctl edit pawlatch` adds what it lacks, and survives the next install."
    return f"# Written by `pawlatch service install`, version {__version__}, sum {_sum(body)}. {told}\n{body}"


_HARDENING = (
    "ProtectSystem=strict",
    "PrivateTmp=yes",
    "PrivateMounts=yes",
    "NoNewPrivileges=yes",
    "CapabilityBoundingSet=",
    "AmbientCapabilities=",
    "ProtectClock=yes",
    "ProtectHostname=yes",
    "ProtectControlGroups=yes",
    "ProtectKernelLogs=yes",
    "ProtectKernelModules=yes",
    "ProtectKernelTunables=yes",
    "ProtectProc=invisible",  # but no ProcSubset=pid: gpiozero and XNNPACK read /proc/cpuinfo
    "RestrictNamespaces=yes",
    "RestrictRealtime=yes",
    "RestrictSUIDSGID=yes",
    "LockPersonality=yes",
    "RemoveIPC=yes",
    "SystemCallArchitectures=native",
    "SystemCallFilter=@system-service",
    "SystemCallErrorNumber=EPERM",
)


def sysusers_text(needs: Needs, *, user: str) -> str:
    """The service's own user, and the groups that it joins where this system has none of that name; sysusers.d(5)."""
    groups = [f"g {group} -" for group in needs.groups]
    return "\n".join(["# Written by `pawlatch service install`.", *groups, f'u {user} - "pawlatch, the door" {STATE}', ""])


def systemd_version(root: Path) -> int | None:
    """The version of the systemd in this root, by the name of its library; None where there is none."""
    found = [re.match(r"libsystemd-shared-(\d+)", path.name)
             for place in ("systemd", "*/systemd") for path in root.glob(f"usr/lib/{place}/libsystemd-shared-*.so")]
    return max((int(each[1]) for each in found if each), default=None)


def is_untouched(text: str) -> bool:
    """Whether a unit is as some `pawlatch service install` wrote it."""
    header = _HEADER.match(text)
    return bool(header) and header[1] == _sum(text[header.end():])  # type: ignore[index,union-attr]


def _sum(body: str) -> str:
    return hashlib.sha256(body.encode()).hexdigest()[:16]


def _word(path: Path) -> str:
    """A path as one word of a unit's line, with what systemd would expand escaped."""
    text = str(path).replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{text}"' if re.search(r"[\s'\"\\;]", text) else text


def _barrier(path: Path, user: str) -> Path | None:
    """The first part of a path that others than its owner cannot pass, or the path itself where it cannot be read."""
    for part in (*reversed(path.parents), path):
        try:
            mode = part.stat().st_mode
        except OSError:  # not there yet, or not for us to see
            return None
        needed = 0o5 if part.is_dir() else 0o4
        if part != path:
            needed = 0o1
        if mode & needed != needed and _owner(part) != user and not (_group(part) == user and mode >> 3 & needed == needed):
            return part
    return None


def _owner(path: Path) -> str:
    try:
        return path.owner()
    except (KeyError, OSError):
        return ""


def _group(path: Path) -> str:
    try:
        return path.group()
    except (KeyError, OSError):
        return ""


def program_path() -> Path:
    """The `pawlatch` command of this Python, as a service must name it.

    Raises:
        ConfigError: it is not installed there.
    """
    program = Path(sys.executable).with_name(NAME)
    if not os.access(program, os.X_OK):
        raise ConfigError(f"the service needs the command {program}, which is not there; type: pip install pawlatch")
    return program
