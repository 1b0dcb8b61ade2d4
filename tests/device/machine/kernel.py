"""Debian's arm64 kernel with two modules of ours beside it: pins that stay driven, and a camera that shows what it is given.

The packages come through an apt state of its own, so that the host's sources and architectures stay as they are; the modules are
compiled for arm64 by the host's cross-compiler.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.device.roots import CACHE, HostError

PINS = Path(__file__).with_name("pins")
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
MIRROR = "http://deb.debian.org/debian"
SUITE = "bookworm"  # for every suite of the disk: a host's compiler cannot make modules for a kernel that is newer than itself
TOOLS = {"qemu-system-aarch64": "qemu-system-arm", "aarch64-linux-gnu-gcc": "gcc-aarch64-linux-gnu", "make": "make", "depmod": "kmod",
         "fdtput": "device-tree-compiler", "mkfs.ext4": "e2fsprogs"}
# In the order in which they are loaded: the pins before anything else, as on a board.
EARLY = ("pawlatch_pins", "crc32c_generic", "virtio_mmio", "virtio_blk", "bcm2835", "sdhci_iproc", "ext4")
LATER = ("virtio_console", "v4l2loopback")


@dataclass(frozen=True)
class Kernel:
    """An unpacked kernel: `folder` holds boot/ and lib/modules/ as they would lie on the machine."""

    folder: Path
    release: str

    @property
    def image(self) -> Path:
        """What the emulator boots."""
        return self.folder / "boot" / f"vmlinuz-{self.release}"

    @property
    def pi3(self) -> Path:
        """A Raspberry Pi 3's device tree."""
        return self.folder / "usr" / "lib" / f"linux-image-{self.release}" / "broadcom" / "bcm2837-rpi-3-b.dtb"

    def modules(self, *names: str) -> list[Path]:
        """The files of these modules and of all that they need, in the order in which they are to be loaded."""
        files: dict[Path, None] = {}
        for name in names:
            shown = _out(["modprobe", "-d", str(self.folder), "-S", self.release, "--show-depends", name])
            files |= dict.fromkeys(Path(line.split()[1]) for line in shown.splitlines() if line.startswith("insmod"))
        return list(files)


def check_tools() -> None:
    """Raises HostError: a tool is missing; the message holds the line to type."""
    missing = [package for tool, package in TOOLS.items() if shutil.which(tool) is None]
    if missing:
        raise HostError(f"missing on this machine; type: sudo apt-get install -y --no-install-recommends {' '.join(missing)}")


def fetch_kernel() -> Kernel:
    """Debian's newest kernel of SUITE, from the cache where it is there, with the modules as they are in this tree."""
    check_tools()
    folder = CACHE / f"kernel-{SUITE}"
    if not folder.is_dir():
        unfinished = CACHE / f"{os.getpid()}-kernel-{SUITE}"
        try:
            _unpack(unfinished)
            unfinished.rename(folder)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    (release,) = (path.name for path in (folder / "lib" / "modules").iterdir())
    kernel = Kernel(folder, release)
    (loopback,) = (folder / "usr" / "src").glob("v4l2loopback-*")
    for source in (PINS, loopback):
        _compile(kernel, source)
    _out(["depmod", "-b", str(folder), release])
    return kernel


def _unpack(into: Path) -> None:
    """Fetch and unpack kernel, headers, the camera's source, and for this host's processor what compiles against headers."""
    state = into / "apt"
    arm = _apt(state / "arm64", "arm64")
    _out(["apt-get", "update"], APT_CONFIG=arm)
    image = re.search(r"Depends: (linux-image-\S+)", _out(["apt-cache", "depends", "linux-image-arm64"], APT_CONFIG=arm))
    if image is None:
        raise HostError(f"{SUITE} has no linux-image-arm64")
    release = image[1].removeprefix("linux-image-")
    version = re.match(r"\d+\.\d+", release)
    assert version is not None
    packages = into / "packages"
    packages.mkdir()
    wanted = [image[1], f"linux-headers-{release}", f"linux-headers-{release.removesuffix('-arm64')}-common", "v4l2loopback-dkms",
              "busybox-static"]
    _out(["apt-get", "download", *wanted], cwd=packages, APT_CONFIG=arm)
    host = _out(["dpkg", "--print-architecture"]).strip()
    own = _apt(state / host, host)
    _out(["apt-get", "update"], APT_CONFIG=own)
    _out(["apt-get", "download", f"linux-kbuild-{version[0]}"], cwd=packages, APT_CONFIG=own)
    for package in sorted(packages.iterdir()):
        _out(["dpkg-deb", "-x", str(package), str(into)])
    shutil.rmtree(packages)
    shutil.rmtree(state)


def _apt(state: Path, architecture: str) -> str:
    """An apt state of its own; the path of its configuration."""
    for folder in ("etc/apt.conf.d", "etc/preferences.d", "etc/trusted.gpg.d", "lists/partial", "cache/archives/partial"):
        (state / folder).mkdir(parents=True)
    (state / "status").touch()
    (state / "etc" / "sources.list").write_text(f"deb [signed-by={KEYRING}] {MIRROR} {SUITE} main\n")
    config = state / "apt.conf"
    config.write_text(f'APT::Architecture "{architecture}";\nAPT::Architectures {{ "{architecture}"; }};\nDir::Etc "{state}/etc/";\n'
                      f'Dir::State "{state}/";\nDir::State::status "{state}/status";\nDir::Cache "{state}/cache/";\n'
                      'APT::Sandbox::User "root";\n')
    return str(config)


def _compile(kernel: Kernel, source: Path) -> None:
    headers = kernel.folder / "usr" / "src" / f"linux-headers-{kernel.release}"
    common = headers.with_name(f"linux-headers-{kernel.release.removesuffix('-arm64')}-common")
    (headers / "Makefile").write_text(f"include {common}/Makefile\n")  # Debian's names the place where it would be installed
    work = CACHE / f"{os.getpid()}-module"
    try:
        shutil.copytree(source, work)
        _out(["make", "-C", str(headers), f"M={work}", "ARCH=arm64", "CROSS_COMPILE=aarch64-linux-gnu-", "CC=aarch64-linux-gnu-gcc",
              "modules"])
        extra = kernel.folder / "lib" / "modules" / kernel.release / "extra"
        extra.mkdir(exist_ok=True)
        for module in work.glob("*.ko"):
            shutil.copy(module, extra)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _out(command: list[str], *, cwd: Path | None = None, **environment: str) -> str:
    done = subprocess.run(command, cwd=cwd, env={**os.environ, **environment}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise HostError(f"{' '.join(command[:3])} … failed: " + "\n".join(done.stdout.splitlines()[-8:]))
    return done.stdout
