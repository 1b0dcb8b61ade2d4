"""What is to be known of the machine that a door runs on: each check looks at one thing, and says what to do about it.

`root` is the system that is looked at; "/" but in tests.
"""

from __future__ import annotations

import importlib.metadata
import os
import shutil
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

from pawlatch.board import (
    CAPPED,
    HEAT_REMEDY,
    HOT_C,
    POWER_REMEDY,
    SINCE_START,
    SOFT_LIMIT,
    THROTTLED,
    UNDERVOLTAGE,
    Board,
    ask_firmware,
    run_tool,
    throttled_bits,
)
from pawlatch.boot import boot_doubt

Level = Literal["ok", "note", "bad", "skipped"]

OPENCV_WHEELS = ("opencv-python", "opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless")
EARLIEST_YEAR, LATEST_YEAR = 2025, 2100  # a Pi without battery and network begins where it was switched off, or in 1970
LEAST_FREE_BYTES = 200e6
WARM_C = 70.0


@dataclass(frozen=True)
class Finding:
    """What a check found, and what to do about it. "bad" is what a door must not run with; "note" is worth knowing."""

    check: str
    level: Level
    text: str
    remedy: str = ""

    def __str__(self) -> str:
        word = "FAILED" if self.level == "bad" else self.level
        return f"  {word:<8}{self.check}: {self.text}{f'; {self.remedy}' if self.remedy else ''}"


def check_opencv() -> Finding:
    """Whether there is one OpenCV: all its wheels share one folder, and what is installed last damages what was there."""
    installed = {each.metadata["Name"]: each.version for each in importlib.metadata.distributions()
                 if each.metadata["Name"] in OPENCV_WHEELS}
    told = ", ".join(f"{name} {version}" for name, version in sorted(installed.items()))
    if len(installed) <= 1:
        return Finding("opencv", "ok", told or "of another origin than pip")
    return Finding("opencv", "bad", f"{told} are installed into one folder",
                   f"type: pip uninstall -y {' '.join(sorted(installed))} && pip install opencv-python-headless")


def check_clock(now: datetime, *, needed: bool, root: Path = Path("/")) -> Finding:
    """Whether the time of day can be believed; `needed`: the door keeps hours."""
    said = f"{now:%Y-%m-%d %H:%M} {now.astimezone().tzname()}"
    remedy = "type: sudo timedatectl set-ntp true (or fit a clock module with a battery)"
    if not EARLIEST_YEAR <= now.year <= LATEST_YEAR:
        return Finding("clock", "bad", f"it says {said}", remedy)
    if (root / "run/systemd/timesync/synchronized").exists():
        return Finding("clock", "ok", f"{said}, synchronised")
    told = run_tool("timedatectl", "show", "--property=NTPSynchronized", "--value")
    if told == "yes":
        return Finding("clock", "ok", f"{said}, synchronised")
    if needed and told == "no":
        return Finding("clock", "bad", f"it says {said}, is not synchronised, and the door keeps hours", remedy)
    return Finding("clock", "note", f"it says {said}; nothing here says that it is synchronised", remedy)


def check_power(board: Board) -> Finding:
    """Whether the power supply holds, as a Raspberry Pi's firmware, or else its kernel, has seen it."""
    bits = throttled_bits()
    if bits is None:
        return _power_now(board)
    now, before = bits, bits >> SINCE_START
    if now & UNDERVOLTAGE or before & UNDERVOLTAGE:
        when = "now" if now & UNDERVOLTAGE else "at times since the start"
        return Finding("power", "bad", f"undervoltage {when} ({bits:#x})", POWER_REMEDY)
    for mask, what in ((THROTTLED, "throttled"), (CAPPED, "held to a lower frequency"), (SOFT_LIMIT, "near its limit of heat")):
        if now & mask or before & mask:
            when = "is" if now & mask else "was, at times since the start,"
            return Finding("power", "note", f"the processor {when} {what} ({bits:#x})", HEAT_REMEDY)
    return Finding("power", "ok", "no undervoltage since the start")


def _power_now(board: Board) -> Finding:
    """What is known without the firmware's answer: nothing of the past."""
    if board.undervoltage is not None:
        return Finding("power", "bad", "undervoltage now", POWER_REMEDY) if board.undervoltage else (
            Finding("power", "ok", "no undervoltage now"))
    told = ask_firmware("get_throttled")
    if told is None:
        return Finding("power", "skipped", "there is no vcgencmd here, which tells of undervoltage")
    return Finding("power", "skipped", f"vcgencmd says {told!r}", "type: sudo usermod -aG video $USER, and log in again")


def check_temperature(board: Board) -> Finding:
    """How hot the processor is."""
    celsius = board.temperature_c
    if celsius is None:
        return Finding("temperature", "skipped", "nothing here tells it")
    level: Level = "bad" if celsius >= HOT_C else "note" if celsius >= WARM_C else "ok"
    return Finding("temperature", level, f"{celsius:.0f} °C", "" if level == "ok" else HEAT_REMEDY)


def check_boot(pin: int, *, active_high: bool) -> Finding:
    """Whether a latch at this pin is locked between power-on and this program."""
    if (doubt := boot_doubt(pin, active_high=active_high)) is not None:
        return Finding("boot", "note", doubt, "docs/wiring.md tells what to do about it")
    return Finding("boot", "ok", f"pin {pin} rests on the side that locks")


def check_disk(folder: Path, *, megabytes: int, root: Path = Path("/")) -> Finding:
    """Whether the journal in `folder` has room for what it may take."""
    there = next(parent for parent in (folder, *folder.parents) if parent.is_dir())
    usage = shutil.disk_usage(there)
    free, wanted = usage.free / 1e6, megabytes - _taken_bytes(folder) / 1e6
    said = f"{free:,.0f} MB free for {folder}{_on_what(there, root)}"
    if os.statvfs(there).f_flag & os.ST_RDONLY:
        return Finding("disk", "bad", f"{folder} is mounted read-only",
                       "type: sudo mount -o remount,rw /, and if that fails, check the card with fsck or replace it")
    if usage.free < LEAST_FREE_BYTES:
        return Finding("disk", "bad", said, "make room: without its journal the door stays locked")
    if free < wanted:
        return Finding("disk", "note", f"{said}, and the journal may take {wanted:,.0f} MB more",
                       f"make room, or write megabytes = {max(10, int(free / 2))} below [journal]")
    return Finding("disk", "ok", said)


def check_device(check: str, pattern: str, group: str, *, root: Path = Path("/")) -> Finding:
    """Whether there is a device node such as /dev/video* that this user may open."""
    nodes = sorted((root / "dev").glob(pattern))
    if not nodes:
        return Finding(check, "bad", f"there is no /dev/{pattern}", "check the cable, or whether this machine has one at all")
    if any(os.access(node, os.R_OK | os.W_OK) for node in nodes):
        return Finding(check, "ok", f"{', '.join(node.name for node in nodes[:4])} may be opened")
    return Finding(check, "bad", f"{nodes[0].name} may not be opened by this user",
                   f"type: sudo usermod -aG {group} $USER, and log in again")


def check_memory_limit(*, root: Path = Path("/")) -> Finding:
    """Whether the unit's MemoryMax has an effect: Raspberry Pi OS leaves the kernel's memory controller off."""
    try:
        controllers = (root / "sys/fs/cgroup/cgroup.controllers").read_text().split()
    except OSError:
        return Finding("memory", "skipped", "this system has no unified control groups")
    if "memory" in controllers:
        return Finding("memory", "ok", "the service's limit holds")
    return Finding("memory", "note", "the kernel's memory controller is off, so the service's limit does not hold",
                   "add cgroup_enable=memory to the line in /boot/firmware/cmdline.txt, and restart")


def _taken_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _on_what(folder: Path, root: Path) -> str:
    """", on an SD card" where that is so: it wears out by writing."""
    device = folder.stat().st_dev
    name = (root / f"sys/dev/block/{os.major(device)}:{os.minor(device)}").resolve().name
    return ", on an SD card" if name.startswith("mmcblk") else ""
