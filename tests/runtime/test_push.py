"""`pawlatch model push` to a real sshd on this machine."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pawlatch import cli
from pawlatch.bundle import installed

SSHD = shutil.which("sshd") or "/usr/sbin/sshd"
PROGRAM = "from pawlatch.cli import main; import sys; sys.exit(main())"


@pytest.fixture
def device(tmp_path, monkeypatch) -> Iterator[Path]:
    """A device that is reached as `pi`, with `pawlatch` as the program in the folder that is given."""
    if not Path(SSHD).is_file():
        pytest.skip("sshd is absent: apt install openssh-server")
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / name], check=True)
    shutil.copyfile(tmp_path / "user.pub", tmp_path / "authorized")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    Path("/run/sshd").mkdir(exist_ok=True) if os.getuid() == 0 else None  # Debian's sshd separates its privileges there
    (tmp_path / "sshd").write_text(
        f"ListenAddress 127.0.0.1\nPort {port}\nHostKey {tmp_path}/host\nAuthorizedKeysFile {tmp_path}/authorized\nStrictModes no\n"
        "PasswordAuthentication no\nPermitRootLogin prohibit-password\nUsePAM no\nPidFile none\nSubsystem sftp internal-sftp\n"
        f"SetEnv PYTHONPATH={os.environ.get('PYTHONPATH', '')} HOME={tmp_path}\n")
    (tmp_path / "known").write_text(f"[127.0.0.1]:{port} {(tmp_path / 'host.pub').read_text()}")
    (tmp_path / "ssh").write_text(
        f"Host pi\n HostName 127.0.0.1\n Port {port}\n User {getpass.getuser()}\n IdentityFile {tmp_path}/user\n IdentitiesOnly yes\n"
        f" UserKnownHostsFile {tmp_path}/known\n")
    programs = tmp_path / "bin"  # the system's ssh and scp, with settings of their own
    programs.mkdir()
    for name in ("ssh", "scp"):
        (programs / name).write_text(f'#!/bin/sh\nexec {shutil.which(name)} -F {tmp_path}/ssh "$@"\n')
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    there = tmp_path / "there pawlatch"  # with a space, as a user's folder may have
    there.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{PROGRAM}" "$@"\n')
    there.chmod(0o755)
    with (tmp_path / "log").open("w") as log:
        daemon = subprocess.Popen([SSHD, "-D", "-e", "-f", tmp_path / "sshd"], stderr=log)
    try:
        for _ in range(100):
            with socket.socket() as trying:
                trying.settimeout(5)
                if trying.connect_ex(("127.0.0.1", port)) == 0:
                    break
            if daemon.poll() is not None:
                pytest.skip(f"sshd does not run here: {(tmp_path / 'log').read_text()[-300:]}")
            try:
                daemon.wait(0.1)
            except subprocess.TimeoutExpired:
                continue
        yield there
    finally:
        daemon.terminate()
        daemon.wait(30)


def staged() -> set[str]:
    return {path.name for path in Path("/tmp").glob("pawlatch-push.*")}


def test_the_device_pulls_what_was_pushed(capfd, device, published):
    new, old, before = published("new"), published("old there"), staged()
    (new / "notes.txt").write_text("not for the device")
    pushed = ["model", "push", str(new), f"pi:{old}", "--program", f"'{device}'"]
    assert cli.main(pushed) == 0, capfd.readouterr()
    assert "the self-test of int8 passed" in (out := capfd.readouterr().out)
    assert f"{old} now holds new" in out
    assert installed(old)[1] == installed(new)[1]
    assert not (old / "notes.txt").exists()
    assert cli.main(["model", "status", "--into", str(old)]) == 0
    assert f"from {getpass.getuser()}@{socket.gethostname()}, pushed at 20" in capfd.readouterr().out
    assert staged() == before


def test_what_the_device_refuses_is_the_status_here(capfd, device, published, tmp_path):
    new, old, before = published("new"), published("old"), staged()
    (tmp_path / "key.pub").write_text((tmp_path / "user.pub").read_text())
    (tmp_path / "door.toml").write_text(f'[model]\nbundle = "{old}"\n[update]\nkey = "{tmp_path}/key.pub"\n')
    assert cli.main(["model", "push", str(new), "pi", "--program", f"'{device}'", "--config", str(tmp_path / "door.toml")]) == 2
    assert "must be signed by" in capfd.readouterr().err
    assert installed(old)[1].startswith("old ")
    assert staged() == before
    assert cli.main(["model", "sign", str(new), "--key", str(tmp_path / "user")]) == 0
    assert cli.main(["model", "push", str(new), "pi", "--program", f"'{device}'", "--config", str(tmp_path / "door.toml")]) == 0
    assert installed(old)[1].startswith("new ")


def test_a_device_without_pawlatch_and_one_that_is_not_there(capfd, device, published):
    new, before = published("new"), staged()
    assert cli.main(["model", "push", str(new), "pi", "--program", "/nowhere/pawlatch"]) == 2
    assert "does not find /nowhere/pawlatch" in capfd.readouterr().err
    assert staged() == before
    assert cli.main(["model", "push", str(new), "nobody.invalid"]) == 2
    assert "cannot reach nobody.invalid" in capfd.readouterr().err
    assert cli.main(["model", "push", str(new), "nobody@[::1]:/somewhere"]) == 2
    assert "cannot reach nobody@[::1]: " in capfd.readouterr().err


@pytest.mark.parametrize(("to", "into"), [("pi:~/model/edge", ["--into", "model/edge"]), ("pi:", []),
                                          ("pi:$(id); a b", ["--into", "$(id); a b"])])
def test_what_is_named_there_reaches_the_device_as_one_word(capfd, device, published, tmp_path, to, into):
    (tmp_path / "tell").write_text(f"#!{sys.executable}\nimport sys\nprint(sys.argv[6:])\n")
    (tmp_path / "tell").chmod(0o755)
    assert cli.main(["model", "push", str(published("new")), to, "--program", str(tmp_path / "tell")]) == 0
    assert capfd.readouterr().out == f"{into}\n"


@pytest.mark.parametrize(("answer", "told", "asked"), [
    ("echo /etc", "was asked for a new folder and says '/etc'", 1),
    ('case "$*" in *mktemp*) echo /tmp/pawlatch-push.x;; *pull*) exit 255;; esac', "the connection to pi broke", 3),
])
def test_a_device_that_answers_otherwise(capfd, published, tmp_path, monkeypatch, answer, told, asked):
    for name, text in (("ssh", f'echo "$*" >> {tmp_path}/asked\n{answer}'), ("scp", "true")):
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    assert cli.main(["model", "push", str(published("new")), "pi"]) == 2
    assert told in capfd.readouterr().err
    said = (tmp_path / "asked").read_text().splitlines()
    assert len(said) == asked  # of what is no new folder nothing is deleted
    assert asked == 1 or said[-1].endswith("rm -rf /tmp/pawlatch-push.x")


def test_a_damaged_bundle_does_not_leave_this_machine(capfd, published):
    new = published("new")
    next(new.glob("*.onnx")).write_bytes(b"rotten")
    assert cli.main(["model", "push", str(new), "nobody.invalid"]) == 2
    assert "is not the file its card vouches for" in capfd.readouterr().err


def test_a_bundle_without_a_photo_does_not_leave_this_machine(capfd, published):
    new = published("new")
    next((new / "selftest").glob("*.jpg")).unlink()
    assert cli.main(["model", "push", str(new), "nobody.invalid"]) == 2
    assert "a photo of the self-test, is missing" in capfd.readouterr().err
