"""What a measurement must say of the machine that it was made on, and nothing that says whose machine it is.

Kept out: host, user, addresses, paths, serial numbers, and the kernel's build line. `root` is the system that is looked at.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pawlatch import __version__
from pawlatch.board import run_tool

PACKAGES = ("numpy", "opencv-python-headless", "ai-edge-litert", "tflite-runtime", "onnxruntime")
# CPU parts of Arm's (implementer 0x41) that Raspberry Pis have, from the cores' reference manuals (MIDR_EL1).
PARTS = {0xB76: "ARM1176", 0xC07: "Cortex-A7", 0xD03: "Cortex-A53", 0xD08: "Cortex-A72", 0xD0B: "Cortex-A76"}


def versions() -> dict[str, str]:
    """Of what measures and is measured; only what is installed."""
    found = {"pawlatch": __version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def machine_facts(root: Path = Path("/")) -> dict[str, Any]:
    """The board, its processor, memory and system; None for what this machine does not tell."""
    return {
        "board": (_text(root / "proc/device-tree/model") or "").rstrip("\0").strip() or None,
        "cpu": cpu(root),
        "architecture": platform.machine(),
        "cores": os.cpu_count(),
        "governor": _text(root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "ram_mb": _ram_mb(root),
        "kernel": platform.release(),
        "system": _line(root / "etc/os-release", r'PRETTY_NAME="?([^"\n]+)'),
    }


def cpu(root: Path = Path("/")) -> str | None:
    """The processor's name: what x86 calls "model name", or an Arm core by its part number."""
    part = _line(root / "proc/cpuinfo", r"CPU part\s*:\s*(0x[0-9a-f]+)")
    if part is not None:
        return PARTS.get(int(part, 16), f"Arm part {part}")
    return _line(root / "proc/cpuinfo", r"model name\s*:\s*(.+)")


def emulation(root: Path = Path("/"), *, environ: Mapping[str, str] = os.environ) -> list[str]:
    """Signs that instructions are emulated, so that times say nothing; empty where there is none.

    A virtual machine that runs on its own architecture is no emulation. QEMU's `-M raspi3b` has no sign that can be told.
    """
    signs = []
    if "QEMU_CPU" in environ:
        signs.append("QEMU_CPU is set")
    if "qemu" in _program(root).lower():
        signs.append("QEMU runs this program")
    cpuinfo, is_arm = _text(root / "proc/cpuinfo") or "", platform.machine().startswith(("aarch64", "arm"))
    if is_arm and re.search(r"^(vendor_id|flags)\s*:", cpuinfo, re.MULTILINE):
        signs.append("an Arm program sees an x86 processor")
    if run_tool("systemd-detect-virt", "--vm") == "qemu":  # with KVM it says kvm
        signs.append("the machine is QEMU's, without KVM")
    return signs


def _program(root: Path) -> str:
    """What the kernel runs here: QEMU's user mode hides itself behind /proc/self, and forgets /proc/thread-self."""
    try:
        return (root / "proc/thread-self/exe").readlink().name
    except OSError:
        return ""


def _ram_mb(root: Path) -> int | None:
    kilobytes = _line(root / "proc/meminfo", r"MemTotal:\s*(\d+) kB")
    return None if kilobytes is None else round(int(kilobytes) / 1024)


def _line(path: Path, pattern: str) -> str | None:
    found = re.search(pattern, _text(path) or "")
    return found[1].strip() if found else None


def _text(path: Path) -> str | None:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return None
