"""arm64 Debian roots on a Linux desktop, and commands inside them on a Raspberry Pi's core.

    python tests/device/roots.py bookworm /tmp/pi                      # build (or take from the cache) and unpack
    python tests/device/roots.py bookworm /tmp/pi --core pi4 -- python3 -c 'import platform; print(platform.machine())'

Roots are Debian's own packages (mmdebstrap), each made once and kept as a tarball in $PAWLATCH_DEVICE_CACHE (default
~/.cache/pawlatch-device). Needs root, and: apt-get install qemu-user-static mmdebstrap arch-test

The host stays as it was: a command runs in a mount, process and (from Linux 6.7 on, which keeps foreign binaries' interpreters apart for
each user namespace) user namespace of its own. What is mounted there ends with it. An older kernel has one table for all, and qemu is
entered there if it is absent.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CACHE = Path(os.environ.get("PAWLATCH_DEVICE_CACHE", Path.home() / ".cache" / "pawlatch-device"))
SUITES = {"bookworm": "3.11", "trixie": "3.13"}  # Debian's, with its Python
BASE = ("ca-certificates", "python3", "python3-venv", "python3-pip")
TOOLS = {"qemu-aarch64-static": "qemu-user-static", "mmdebstrap": "mmdebstrap", "arch-test": "arch-test", "unshare": "util-linux"}
BINFMT = Path("/proc/sys/fs/binfmt_misc")
QEMU = Path("/usr/lib/binfmt.d/qemu-aarch64.conf")  # flag F: the interpreter is opened when it is entered, so it works in a chroot


class HostError(Exception):
    """This machine cannot do it; the message says what is missing."""


@dataclass(frozen=True)
class Core:
    """A board's processor: what qemu emulates, and what Linux says of it. Without that, XNNPACK is left out, or crashes."""

    qemu: str
    part: str
    variant: str
    revision: str
    features: str
    model: str
    max_khz: int

    def cpuinfo(self, cores: int = 4) -> str:
        one = (f"BogoMIPS\t: 108.00\nFeatures\t: {self.features}\nCPU implementer\t: 0x41\nCPU architecture: 8\n"
               f"CPU variant\t: {self.variant}\nCPU part\t: {self.part}\nCPU revision\t: {self.revision}\n\n")
        return "".join(f"processor\t: {number}\n{one}" for number in range(cores)) + f"Model\t\t: {self.model}\n"


_V8 = "fp asimd evtstrm crc32 cpuid"
CORES = {
    "pi4": Core("cortex-a72", "0xd08", "0x0", "3", _V8, "Raspberry Pi 4 Model B Rev 1.5", 1_800_000),
    "pi5": Core("cortex-a76", "0xd0b", "0x4", "1", "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm "
                "lrcpc dcpop asimddp", "Raspberry Pi 5 Model B Rev 1.0", 2_400_000),
    "zero2": Core("cortex-a53", "0xd03", "0x0", "4", _V8, "Raspberry Pi Zero 2 W Rev 1.0", 1_000_000),
}


def check_host() -> None:
    """Raises: HostError: not Linux, not root, or a tool is missing (the message holds the line to type)."""
    if sys.platform != "linux":
        raise HostError(f"arm64 programs are emulated by qemu-user, which needs Linux, not {sys.platform}")
    missing = [package for tool, package in TOOLS.items() if shutil.which(tool) is None]
    if missing:
        raise HostError(f"missing on this machine; type: sudo apt-get install -y --no-install-recommends {' '.join(missing)}")
    if os.geteuid() != 0:
        raise HostError("a root file system holds files of root; run this with sudo")


def build_root(suite: str, *, include: Sequence[str] = (), into: Path) -> Path:
    """Unpack an arm64 root of a Debian suite into a new folder `into`; minutes the first time, seconds after that.

    `include` are Debian packages beside Python, its venv and pip.

    Raises:
        HostError: see `check_host`; or mmdebstrap failed, whose last lines the message holds.
    """
    check_host()
    tarball = _tarball(suite, (*BASE, *include))
    into.mkdir(parents=True)
    run_apart(["tar", "-C", str(into), "--numeric-owner", "--exclude=./dev/*", "-xf", str(tarball)])
    return into


def run_inside(root: Path, command: Sequence[str], *, core: Core = CORES["pi4"], binds: Mapping[Path, str] | None = None,
               environment: Mapping[str, str] | None = None, **how: Any) -> subprocess.CompletedProcess[str]:
    """Run a command in a root as on a board with `core`; `how` goes to `subprocess.Popen`, and so does `timeout_s`.

    `binds` are folders of the host and where they are seen inside (the place is made if absent).
    """
    facts = root / "run" / "pi"
    _write_facts(facts, core)
    inside = str(root)
    steps = [f"mount -t proc proc {inside}/proc", f"mount --rbind /dev {inside}/dev", f"mount -t tmpfs tmpfs {inside}/sys",
             f"mkdir -p {inside}/sys/devices/system", f"cp -r {facts}/cpu {inside}/sys/devices/system/",
             f"mount --bind {facts}/cpuinfo {inside}/proc/cpuinfo"]
    for source, place in (binds or {}).items():
        steps += [f"mkdir -p {shlex.quote(inside + place)}", f"mount --bind {shlex.quote(str(source))} {shlex.quote(inside + place)}"]
    variables = {"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "HOME": "/root", "LANG": "C.UTF-8", "QEMU_CPU": core.qemu,
                 **(environment or {})}
    return run_apart(["chroot", inside, "env", "-i", *(f"{key}={value}" for key, value in variables.items()), *command],
                     before=steps, **how)


def run_apart(command: Sequence[str], *, before: Sequence[str] = (), timeout_s: float | None = None, check: bool = True,
              **how: Any) -> subprocess.CompletedProcess[str]:
    """Run a command where arm64 programs start by themselves and mounts are nobody else's; `before` are lines of shell.

    Raises:
        subprocess.CalledProcessError: it failed and `check` is on.
        subprocess.TimeoutExpired: it took over `timeout_s` and was killed with all it had started.
    """
    apart = _is_table_private()
    if not apart:
        _enter_in_host_table()
    steps = [f"mount -t binfmt_misc none {BINFMT}", f"cat {QEMU} > {BINFMT}/register"] if apart else []
    script = "\n".join(["set -e", *steps, *before, f"exec {shlex.join(command)}"])
    with ExitStack() as stack:
        waits, go = os.pipe()
        for end in (waits, go):
            stack.callback(_close, end)
        # The shell that waits has no rights yet; the one it starts, after the identities are mapped, is root of its namespace.
        process = stack.enter_context(subprocess.Popen(
            ["unshare", *(["--user"] if apart else []), "--mount", "--pid", "--fork", "--kill-child", "--propagation", "private",
             "sh", "-c", f'read -r _ <&{waits}; exec sh -c "$1" sh', "sh", script],
            pass_fds=[waits], text=True, **how))
        stack.callback(process.kill)
        if apart:
            _map_identities(process)
        os.write(go, b"\n")
        out, err = process.communicate(timeout=timeout_s)
    done = subprocess.CompletedProcess(list(command), process.returncode, out, err)
    if check:
        done.check_returncode()
    return done


def _tarball(suite: str, packages: Sequence[str]) -> Path:
    name = hashlib.sha256(" ".join(sorted(packages)).encode()).hexdigest()[:8]
    tarball = CACHE / f"{suite}-arm64-{name}.tar"
    if tarball.is_file():
        return tarball
    CACHE.mkdir(parents=True, exist_ok=True)
    unfinished = tarball.with_name(f"{os.getpid()}-{tarball.name}")
    try:
        done = run_apart(["mmdebstrap", "--mode=root", "--architectures=arm64", "--variant=minbase", f"--include={','.join(packages)}",
                          suite, str(unfinished)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
        if done.returncode:
            raise HostError(f"mmdebstrap could not make {suite}: " + "\n".join(done.stdout.splitlines()[-8:]))
        unfinished.rename(tarball)
    finally:
        unfinished.unlink(missing_ok=True)
    return tarball


def _write_facts(folder: Path, core: Core, cores: int = 4) -> None:
    """What `run_inside` binds over /proc/cpuinfo and /sys/devices/system/cpu."""
    shutil.rmtree(folder, ignore_errors=True)
    files = {"cpuinfo": core.cpuinfo(cores)}
    files |= {f"cpu/{name}": f"0-{cores - 1}" for name in ("possible", "present", "online")}
    for number in range(cores):
        one = f"cpu/cpu{number}"
        files |= {f"{one}/cpufreq/cpuinfo_max_freq": str(core.max_khz), f"{one}/topology/core_id": str(number),
                  f"{one}/topology/physical_package_id": "0", f"{one}/topology/core_siblings_list": f"0-{cores - 1}",
                  f"{one}/topology/thread_siblings_list": str(number)}
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text + "\n")


def _is_table_private() -> bool:
    major, minor = (int(number) for number in platform.release().split(".")[:2])
    return (major, minor) >= (6, 7)


def _enter_in_host_table() -> None:
    if not (BINFMT / "register").exists():
        subprocess.run(["mount", "-t", "binfmt_misc", "none", BINFMT], check=True)
    if not (BINFMT / "qemu-aarch64").exists():
        (BINFMT / "register").write_bytes(QEMU.read_bytes().strip())


def _map_identities(process: subprocess.Popen[str]) -> None:
    """Let the first 65,536 users and groups be the same inside; `unshare` says by its new namespace that it is time."""
    own = Path("/proc/self/ns/user").readlink()
    while Path(f"/proc/{process.pid}/ns/user").readlink() == own:
        if process.poll() is not None:
            raise HostError("this kernel lets root make no user namespace (see /proc/sys/user/max_user_namespaces)")
        os.sched_yield()
    for name in ("uid_map", "gid_map"):
        Path(f"/proc/{process.pid}/{name}").write_text("0 0 65536\n")


def _close(descriptor: int) -> None:
    os.close(descriptor)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Build an arm64 Debian root, or run a command inside it on a board's core.")
    parser.add_argument("suite", choices=SUITES)
    parser.add_argument("root", type=Path)
    parser.add_argument("--core", choices=CORES, default="pi4")
    words = list(sys.argv[1:] if argv is None else argv)
    options, command = (words[: words.index("--")], words[words.index("--") + 1 :]) if "--" in words else (words, [])
    parser.epilog = "after --: the command to run inside"
    args = parser.parse_args(options)
    try:
        check_host()
        if not args.root.exists():
            build_root(args.suite, into=args.root)
        return run_inside(args.root, command, core=CORES[args.core], check=False).returncode if command else 0
    except HostError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
