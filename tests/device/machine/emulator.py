"""A running machine: QEMU, its console in a file, and a port through which commands are run inside.

Sources: QEMU's "System Emulation", virt and raspi3b; the Raspberry Pi's BCM2835 ARM Peripherals, 6.1, for the pins' levels.
"""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from tests.device.machine.image import Disk
from tests.device.machine.kernel import Kernel
from tests.device.roots import HostError

PI4_REVISION = "c03115"  # a Raspberry Pi 4 B with 4 GB, by which gpiozero knows the pins
PI3_REVISION = "a02082"
BOOT_S = 900.0
LEVELS = 0x3F200034  # GPLEV0: what the lines 0 to 31 are at
_WORDS = ["loglevel=7", "rw", "systemd.show_status=0", "panic=0", "net.ifnames=0"]


class Machine:
    """A machine that was switched on. `kind` is virt, or raspi3b; `folder` keeps its console, one file for each time it is on.

    `cut` takes away its power; a machine that is left is off.
    """

    def __init__(self, kernel: Kernel, disk: Disk, folder: Path, *, kind: str = "virt", number: int = 1) -> None:
        self.console = folder / f"console-{number}.txt"
        self._port, self._monitor = folder / f"port-{number}", folder / f"monitor-{number}"
        self._asked, self._said = 0, b""
        self.on_s = time.monotonic()
        console = ["-serial", f"file:{self.console}"]
        if kind == "raspi3b":  # whose second port, the small one, tells everything and hears nothing under QEMU: it is the console
            console = ["-serial", f"unix:{self._port},server=on,wait=off", *console]
        with (folder / f"qemu-{number}.txt").open("wb") as log:
            self._process = subprocess.Popen(
                [*_BOARDS[kind](kernel, disk, folder, self._port), "-initrd", disk.initramfs, "-display", "none", "-no-reboot",
                 "-kernel", kernel.image, *console, "-monitor", f"unix:{self._monitor},server=on,wait=off"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self._log = Path(log.name)
        self._stage: socket.socket | None = None
        self._probe = Probe(self._monitor, self.console) if kind == "raspi3b" else None

    def run(self, command: str, *, timeout_s: float = 120.0, check: bool = True) -> str:
        """What a shell inside says to a command.

        Raises:
            HostError: it failed and `check` is on, or the machine does not answer.
        """
        self._asked += 1
        asked = {"id": self._asked, "run": command, "timeout_s": timeout_s}
        self._connect().sendall(json.dumps(asked).encode() + b"\n")
        answer = self._answer(command, timeout_s=timeout_s + 60)
        if check and answer["status"] != 0:
            raise HostError(f"inside: {command!r} ended with {answer['status']}: {answer['said'].strip()}")
        return str(answer["said"])

    def wait_for(self, is_so: Callable[[], bool], *, timeout_s: float, every_s: float = 0.5) -> bool:
        """Whether something comes true within a time."""
        until_s = time.monotonic() + timeout_s
        while not is_so():
            if self._process.poll() is not None:
                raise HostError(f"the emulator ended: {self._log.read_text()[-500:]}")
            if time.monotonic() > until_s:
                return False
            threading.Event().wait(every_s)
        return True

    def wait_until_up(self) -> None:
        """Wait until the agent inside answers."""
        if not self.wait_for(lambda: "] clock: " in self.text(), timeout_s=BOOT_S):
            raise HostError(f"it does not come up: {self.text()[-1000:]}")
        self.run("true")

    def text(self) -> str:
        """The console so far."""
        return self.console.read_text(errors="replace") if self.console.exists() else ""

    def pins_text(self) -> str:
        """What the pins did so far, as lines of a console: the kernel's own, or on raspi3b what was seen from outside."""
        return self.text() if self._probe is None else self._probe.text()

    def cut(self) -> None:
        """Take away its power: nothing inside has the time to do anything. May be called twice."""
        if self._probe is not None:
            self._probe.close()
        self._process.kill()
        self._process.wait()
        if self._stage is not None:
            self._stage.close()
        self._stage = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.cut()

    def _connect(self) -> socket.socket:
        if self._stage is None:
            self._stage = socket.socket(socket.AF_UNIX)
            self._stage.connect(str(self._port))
        return self._stage

    def _answer(self, command: str, *, timeout_s: float) -> dict[str, Any]:
        stage = self._connect()
        until_s = time.monotonic() + timeout_s
        while True:
            *lines, self._said = self._said.split(b"\n")
            for line in lines:
                if line.startswith(b"{") and (answer := json.loads(line))["id"] == self._asked:
                    return dict(answer)
            stage.settimeout(max(0.1, until_s - time.monotonic()))
            try:
                some = stage.recv(65536)
            except TimeoutError:
                raise HostError(f"inside: no answer to {command!r}; the console ends with {self.text()[-500:]}") from None
            if not some:
                raise HostError(f"the emulator ended before it answered {command!r}: {self._log.read_text()[-500:]}")
            self._said += some


class Probe:
    """Reads raspi3b's pins from outside, twenty times a second, and writes down their changes with the time since power-on.

    The machine's clocks and marks are taken over from the console as they appear there. What is shorter than a twentieth is not seen.
    """

    def __init__(self, monitor: Path, console: Path) -> None:
        self._monitor, self._console, self._on_s = monitor, console, time.monotonic()
        self._lines, self._taken, self._levels = ["[0.0] pins: all as from power-on"], 0, 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="probe", daemon=True)
        self._thread.start()

    def text(self) -> str:
        """What was seen so far."""
        return "\n".join(self._lines)

    def close(self) -> None:
        """See no more."""
        self._ended.set()
        self._thread.join(30)

    def _watch(self) -> None:
        while not self._monitor.exists():
            self._ended.wait(0.02)
        with socket.socket(socket.AF_UNIX) as monitor:
            monitor.settimeout(60)
            monitor.connect(str(self._monitor))
            _said_by(monitor, rb"\(qemu\) ")
            while not self._ended.wait(0.05):
                monitor.sendall(f"xp /1xw {LEVELS:#x}\n".encode())
                self._take(int(_said_by(monitor, rb": (0x[0-9a-f]{8})\r\n\(qemu\) ")[1], 16))

    def _take(self, levels: int) -> None:
        now_s = time.monotonic() - self._on_s
        for pin in range(28):
            if (levels ^ self._levels) >> pin & 1:
                self._lines.append(f"[{now_s:.3f}] pins: {pin} {'high' if levels >> pin & 1 else 'low'}")
        self._levels = levels
        text = self._console.read_text(errors="replace")
        whole = text.rfind("\n") + 1
        self._lines += [f"[{now_s:.3f}] {found}" for found in re.findall(r"\] ((?:clock|mark): \S+)", text[self._taken : whole])]
        self._taken = max(self._taken, whole)


def _said_by(monitor: socket.socket, pattern: bytes) -> re.Match[bytes]:
    said = b""
    while (found := re.search(pattern, said)) is None:
        some = monitor.recv(4096)
        if not some:
            raise HostError("the emulator's monitor has ended")
        said += some
    return found


def _virt(kernel: Kernel, disk: Disk, folder: Path, port: Path) -> list[object]:
    board = ["-cpu", "cortex-a72", "-smp", "2", "-m", "2048", "-accel", "tcg,thread=multi", "-nodefaults"]
    tree = folder / "virt.dtb"
    subprocess.run(["qemu-system-aarch64", "-M", f"virt,gic-version=2,dumpdtb={tree}", *board], check=True, stderr=subprocess.DEVNULL)
    for node in ("/gpio-keys", "/pl061@9030000"):  # so that ours are the machine's only pins
        subprocess.run(["fdtput", "-r", tree, node], check=True)
    subprocess.run(["fdtput", "-p", "-t", "x", tree, "/system", "linux,revision", PI4_REVISION], check=True)
    return ["qemu-system-aarch64", "-M", "virt,gic-version=2", *board, "-dtb", tree,
            "-append", " ".join(["console=ttyAMA0", "root=/dev/vda", *_WORDS]),
            "-drive", f"if=none,id=disk,file={disk.image},format=raw", "-device", "virtio-blk-device,drive=disk",
            "-device", "virtio-serial-device", "-chardev", f"socket,id=stage,path={port},server=on,wait=off",
            "-device", "virtserialport,chardev=stage,name=stage"]


def _raspi3b(kernel: Kernel, disk: Disk, folder: Path, port: Path) -> list[object]:
    tree = folder / "pi3.dtb"
    shutil.copy(kernel.pi3, tree)
    subprocess.run(["fdtput", "-r", tree, "/soc/serial@7e201000/bluetooth"], check=True)  # whose port is the stage's here
    subprocess.run(["fdtput", "-p", "-t", "x", tree, "/system", "linux,revision", PI3_REVISION], check=True)
    return ["qemu-system-aarch64", "-M", "raspi3b", "-accel", "tcg,thread=multi", "-dtb", tree,
            "-append", " ".join(["console=ttyS1,115200", "stage=/dev/ttyAMA0", "root=/dev/mmcblk0", "dwc_otg.fiq_fsm_enable=0", *_WORDS]),
            "-drive", f"if=sd,file={disk.image},format=raw"]


_BOARDS: dict[str, Callable[[Kernel, Disk, Path, Path], list[Any]]] = {"virt": _virt, "raspi3b": _raspi3b}
