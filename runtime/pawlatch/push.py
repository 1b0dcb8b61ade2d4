"""A bundle from this machine to a device: copied by scp into a folder of its own there, and pulled from that by the device.

So the device itself checks it, tests it and holds the trial. `ssh` and `scp` are the system's, with the user's own settings and
keys; what they run over there is quoted, and here no shell is between.
"""

from __future__ import annotations

import getpass
import re
import shlex
import shutil
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from pawlatch.bundle import files_of, require_whole
from pawlatch.card import CARD_NAME, read_bundle
from pawlatch.errors import UpdateError
from pawlatch.signature import SIGNATURE_NAME

_TO = re.compile(r"((?:[\w.-]+@)?(?:\w[\w.-]*|\[[0-9a-fA-F:]+\]))(?::(.*))?")  # HOST and BUNDLE
_MADE = re.compile(r"/[\w./-]*/pawlatch-push\.\w+")
_SSH_FAILED = 255  # of ssh itself; what else it gives is the other side's


def push(folder: Path, to: str, *, program: Sequence[str] = ("pawlatch",), arguments: Sequence[str] = ()) -> int:
    """Bring a bundle to `HOST` or `HOST:BUNDLE`; the status of `pawlatch model pull` there. `arguments` go to it.

    Raises:
        ModelCardError: the bundle is not whole.
        UpdateError: the device cannot be reached, or has no pawlatch.
    """
    if not (named := _TO.fullmatch(to)):
        raise UpdateError(f"a device is named as pi, pi@door.local or pi:/var/lib/pawlatch/model/edge, got {to!r}")
    host, into = named[1], (named[2] or "").removeprefix("~/")  # quoted it would be a folder of that name; ssh begins at home
    bundle, card = read_bundle(folder)
    require_whole(bundle, card)
    names = [CARD_NAME, *files_of(bundle, card), *([SIGNATURE_NAME] if (bundle / SIGNATURE_NAME).is_file() else [])]
    made = _over_there(host, ["mktemp", "-d", "/tmp/pawlatch-push.XXXXXXXX"]).strip()
    if not _MADE.fullmatch(made):
        raise UpdateError(f"{host} was asked for a new folder and says {made[:80]!r}")
    try:
        with TemporaryDirectory(prefix="pawlatch-") as scratch:
            for name in names:
                path = Path(scratch, "edge", name)
                path.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(bundle / name, path)
            _run(["scp", "-q", "-B", "-r", "--", str(Path(scratch, "edge")), f"{host}:{made}/edge"], f"cannot copy to {host}")
        command = [*program, "model", "pull", f"{made}/edge", "--origin", f"{getpass.getuser()}@{socket.gethostname()}, pushed",
                   *(["--into", into] if into else []), *arguments]
        status = subprocess.run(["ssh", "-o", "BatchMode=yes", "--", _bare(host), shlex.join(command)], check=False).returncode
    finally:
        _over_there(host, ["rm", "-rf", made])
    if status == _SSH_FAILED:
        raise UpdateError(f"the connection to {host} broke; whether the model was taken, `pawlatch model status` there tells")
    if status == 127:  # of the shell over there
        raise UpdateError(f"{host} does not find {program[0]}; name it with --program /opt/pawlatch/bin/pawlatch")
    return status


def _over_there(host: str, command: Sequence[str]) -> str:
    return _run(["ssh", "-o", "BatchMode=yes", "--", _bare(host), shlex.join(command)], f"cannot reach {host}")


def _bare(host: str) -> str:
    """Brackets are scp's, for the colons of IPv6; ssh takes none."""
    return host.replace("[", "").replace("]", "")


def _run(command: Sequence[str], complaint: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    except FileNotFoundError as error:
        raise UpdateError(f"{complaint}: {command[0]} is not there; type: sudo apt install openssh-client") from error
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"status {done.returncode}"]
        raise UpdateError(f"{complaint}: {said[-1]}; try `ssh {_bare(complaint.split()[-1])}` by hand first")
    return done.stdout
