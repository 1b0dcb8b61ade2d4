"""The machine's disk: Debian, the wheel of this tree as a Raspberry Pi's owner installs it, and what the test needs inside."""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.device.machine.kernel import EARLY, LATER, Kernel
from tests.device.roots import CACHE, SUITES, HostError, build_root, run_apart, run_inside
from tests.published import publish

from pawlatch.card import read_card

TREE = Path(__file__).parents[3]
GUEST = Path(__file__).with_name("guest")
TINY = TREE / "tests" / "fixtures" / "tiny"
PACKAGES = ("dbus", "kmod", "systemd", "systemd-sysv", "udev")
COMPILERS = ("gcc", "libc6-dev", "python3-dev", "swig")  # for lgpio, of which the index has no wheel, nor Debian a package, for Python 3.13
# One for each glibc that the wheels are built for; pip takes no other than those that are named.
PLATFORMS = [f"--platform={tag}_aarch64" for tag in ("manylinux_2_34", "manylinux_2_31", "manylinux_2_28", "manylinux_2_27",
                                                     "manylinux_2_17", "manylinux2014")]
SIZE = "2G"  # an SD card's size is a power of two
_EMPTY = ("proc", "sys", "dev", "run", "tmp")
_UNITS = {
    "stage-agent": "Type=exec\nExecStart=/usr/bin/python3 /opt/stage/agent.py /dev/stage-port\nRestart=always\n"
                   "[Install]\nWantedBy=multi-user.target\n",
    # Started by hand: without [Install], or systemd enables it at the first boot.
    "stage-camera": "Type=exec\nExecStart=/opt/pawlatch/bin/python /opt/stage/camera.py /dev/video0 /opt/stage/cast\n",
}
_INIT = """#!/bin/busybox sh
export PATH=/bin
busybox mkdir -p /proc /sys /dev /disk
busybox mount -t proc proc /proc
busybox mount -t devtmpfs dev /dev
for module in {modules}; do busybox insmod /modules/$module; done
for word in $(busybox cat /proc/cmdline); do case $word in root=*) root=${{word#root=}};; esac; done
while ! [ -b $root ]; do busybox usleep 100000; done
busybox mount -t ext4 $root /disk
busybox mount --move /dev /disk/dev
busybox umount /proc
exec busybox switch_root /disk /sbin/init
"""


@dataclass(frozen=True)
class Disk:
    """What boots: the disk, and the small system that loads the modules and mounts it."""

    image: Path
    initramfs: Path
    packages: str  # name=version of what the report names
    model: str  # whose bundle decides there, and on how many photos of whom


@dataclass(frozen=True)
class Cast:
    """What decides in the machine, and who comes: files of photos; without any, coloured squares for the tiny model."""

    bundle: Path = TINY
    own: tuple[Path, ...] = ()
    other: tuple[Path, ...] = ()

    @classmethod
    def read(cls, bundle: Path, photos: Path) -> Cast:
        """Those of a bundle's unlocking labels, and all others, from a folder with one for each label.

        Raises:
            HostError: there are none of one side.
        """
        card = read_card(bundle)
        split = next((photos / name for name in ("test", "valid") if (photos / name).is_dir()), photos)
        of = {label: tuple(sorted((split / label).glob("*"))) for label in card.labels}
        own = tuple(path for label in card.unlock for path in of[label])
        other = tuple(path for label in card.labels if label not in card.unlock for path in of[label])
        if not (own and other):
            raise HostError(f"--model takes BUNDLE,PHOTOS, with a folder of photos for each of {', '.join(card.labels)}; there are "
                            f"{len(own)} of who may enter and {len(other)} others in {split}")
        return cls(bundle, own, other)


def build_disk(kernel: Kernel, work: Path, *, suite: str = "bookworm", cast: Cast | None = None) -> Disk:
    """A disk below the new folder `work`, with the service installed by `pawlatch service install`."""
    cast = cast or Cast()
    work.mkdir(parents=True)
    wheel = _wheel(work / "wheel")
    root = _with_dependencies(wheel, suite, work / "root")
    run_inside(root, ["/opt/pawlatch/bin/pip", "install", "-q", "--no-index", "--no-deps", "--force-reinstall",
                      f"/wheel/{wheel.name}"], binds={work / "wheel": "/wheel"})  # by force: the cached one has the same version
    _furnish(root, kernel, cast)
    run_inside(root, ["/opt/pawlatch/bin/pawlatch", "service", "install", "--config", "/etc/pawlatch/door.toml"], stdout=subprocess.PIPE)
    run_inside(root, ["systemd-sysusers"])
    run_inside(root, ["systemctl", "enable", "pawlatch", "stage-agent"], stderr=subprocess.PIPE)
    versions = run_inside(root, ["sh", "-c", "dpkg-query -W -f='${Package} ${Version}\\n' systemd python3; "
                                 "/opt/pawlatch/bin/pip list 2>/dev/null | grep -iE '^(numpy|opencv|ai-edge|lgpio|gpiozero|pawlatch)'"],
                          stdout=subprocess.PIPE).stdout
    for name in _EMPTY:
        shutil.rmtree(root / name, ignore_errors=True)
        (root / name).mkdir(mode=0o1777 if name == "tmp" else 0o755)
    (root / "tmp").chmod(0o1777)
    image = work / "disk.ext4"
    subprocess.run(["mkfs.ext4", "-q", "-d", root, image, SIZE], check=True, stdout=subprocess.DEVNULL)
    shutil.rmtree(root)
    initramfs = work / "initramfs"
    initramfs.write_bytes(_initramfs(kernel))
    return Disk(image, initramfs, ", ".join(" ".join(line.split()) for line in versions.splitlines()),
                "the tests' model, coloured squares" if not cast.own else
                f"the model {read_card(cast.bundle).name}, {len(cast.own)} photos of who may enter, {len(cast.other)} of others")


def _wheel(into: Path) -> Path:
    _pip("wheel", "--no-deps", "-w", str(into), str(TREE))
    (wheel,) = into.glob("pawlatch-*.whl")
    return wheel


def _with_dependencies(wheel: Path, suite: str, root: Path) -> Path:
    """A root with an environment that holds all that the wheel with its extras pi and web needs; made once for each list of these."""
    has_wheel = suite == "bookworm"
    packages = PACKAGES if has_wheel else (*PACKAGES, *COMPILERS)
    wanted = (TREE / "pyproject.toml").read_text().partition("[project.scripts]")[0]
    tarball = CACHE / f"machine-{suite}-{hashlib.sha256((wanted + str(packages)).encode()).hexdigest()[:8]}.tar"
    if tarball.is_file():
        root.mkdir()
        run_apart(["tar", "-C", str(root), "--numeric-owner", "-xf", str(tarball)])
        return root
    build_root(suite, include=packages, into=root)
    wheels = root / "wheels"
    _pip("download", "--only-binary=:all:", *PLATFORMS, "--implementation=cp", f"--python-version={SUITES[suite]}", "-d", str(wheels),
         f"{wheel}[web]", "gpiozero", *(["lgpio"] if has_wheel else ["setuptools", "wheel"]))  # [pi] would be that of this desktop's Python
    if not has_wheel:
        _pip("download", "--no-deps", "--no-binary=lgpio", "-d", str(wheels), "lgpio>=0.2.2")
    run_inside(root, ["python3", "-m", "venv", "/opt/pawlatch"])
    run_inside(root, ["/opt/pawlatch/bin/pip", "install", "-q", "--no-index", "--find-links", "/wheels", "pawlatch[pi,web]", "lgpio"],
               environment={"PYPI": "1"})  # so that lgpio is built with its library in it
    shutil.rmtree(wheels)
    unfinished = tarball.with_name(f"{os.getpid()}-{tarball.name}")
    run_apart(["tar", "-C", str(root), "--numeric-owner", "--exclude=./dev/*", "--exclude=./proc/*", "--exclude=./run/*", "-cf",
               str(unfinished), "."])
    unfinished.rename(tarball)
    return root


def _pip(*arguments: str) -> None:
    done = subprocess.run([sys.executable, "-m", "pip", arguments[0], "-q", *arguments[1:]], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise HostError(f"pip {arguments[0]} failed: " + "\n".join(done.stdout.splitlines()[-8:]))


def _furnish(root: Path, kernel: Kernel, cast: Cast) -> None:
    """What an owner's machine has beside pawlatch, and the stage: agent, camera, its cast."""
    for source in kernel.modules(*EARLY, *LATER):
        place = root / source.relative_to(kernel.folder)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, place)
    subprocess.run(["depmod", "-b", root, kernel.release], check=True, stderr=subprocess.DEVNULL)
    stage = root / "opt" / "stage"
    shutil.copytree(GUEST, stage)
    (stage / "cast").write_text("nobody\n")
    publish(cast.bundle, root / "opt" / "model")
    publish(cast.bundle, root / "opt" / "newer", deploy="float32")
    for who in ("own", "other"):
        (stage / who).mkdir()
        for number, photo in enumerate(getattr(cast, who)):
            shutil.copy(photo, stage / who / f"{number:03}{photo.suffix}")
    files = {
        "etc/pawlatch/door.toml": (GUEST / "door.toml").read_text(),
        "etc/fstab": "",
        "etc/hostname": "porch\n",
        "etc/machine-id": "uninitialized\n",
        "etc/modules-load.d/stage.conf": "".join(f"{name}\n" for name in LATER),
        "etc/modprobe.d/stage.conf": "options v4l2loopback video_nr=0 exclusive_caps=1 card_label=stage\n",
        "etc/systemd/journald.conf.d/stage.conf": "[Journal]\nStorage=persistent\nRateLimitIntervalSec=0\n",
        # Raspberry Pi OS has these rules
        "etc/udev/rules.d/60-stage.rules": 'SUBSYSTEM=="gpio", KERNEL=="gpiochip*", GROUP="gpio", MODE="0660"\n'
                                           'SUBSYSTEM=="virtio-ports", ATTR{name}=="stage", SYMLINK+="stage-port"\n',
        **{f"etc/systemd/system/{name}.service": f"[Unit]\nDescription={name}\n[Service]\n{body}"
           for name, body in _UNITS.items()},
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def _initramfs(kernel: Kernel) -> bytes:
    modules = kernel.modules(*EARLY)
    files = {"bin/busybox": (kernel.folder / "bin" / "busybox").read_bytes(),
             "init": _INIT.format(modules=" ".join(path.name for path in modules)).encode(),
             **{f"modules/{path.name}": path.read_bytes() for path in modules}}
    return gzip.compress(b"".join(_newc(files)), 1)


def _newc(files: dict[str, bytes]) -> Iterator[bytes]:
    """A cpio archive as the kernel reads it: Documentation/driver-api/early-userspace/buffer-format.rst."""
    entries = [("bin", 0o40755, b""), ("modules", 0o40755, b""), *((name, 0o100755, data) for name, data in files.items()),
               ("TRAILER!!!", 0, b"")]
    for number, (name, mode, data) in enumerate(entries, 1):
        path = name.encode() + b"\0"
        fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(path), 0)
        head = b"070701" + b"".join(b"%08X" % field for field in fields) + path
        yield head + bytes(-len(head) % 4) + data + bytes(-len(data) % 4)
