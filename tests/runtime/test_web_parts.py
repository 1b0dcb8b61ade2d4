"""The page's parts that need no server: tokens, sessions, pauses, options, and what a service needs for it."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from pawlatch.cli import main
from pawlatch.config import Config
from pawlatch.errors import ConfigError, OutputError
from pawlatch.panel import Request, Wish
from pawlatch.unit import needs_of
from pawlatch.web import pauses, sessions
from pawlatch.web.options import WebOptions
from pawlatch.web.pauses import Pauses
from pawlatch.web.sessions import Sessions
from pawlatch.web.tokens import Tokens

UNLOCK = Request(Wish.UNLOCK, "somebody")


def test_a_token_is_printed_once_and_only_its_hash_is_kept(tmp_path, capsys):
    folder = tmp_path / "journal"
    assert main(["web", "token", "--journal", str(folder)]) == 0
    token = capsys.readouterr().out.strip()
    assert len(token) >= 43  # 256 bits in base64
    file = folder / "page.token"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert token not in file.read_text()
    tokens = Tokens(folder)
    assert tokens.is_token(token, "page")
    assert not tokens.is_token(token, "metrics")
    assert not tokens.is_token("", "page", "metrics")
    assert main(["web", "token", "--journal", str(folder), "--metrics"]) == 0
    other = capsys.readouterr().out.strip()
    assert tokens.is_token(other, "page", "metrics")
    assert not tokens.is_token(other, "page")


def test_the_settings_name_the_folder(tmp_path, capsys):
    (tmp_path / "door.toml").write_text('[journal]\nfolder = "kept"')
    assert main(["web", "token", "--config", str(tmp_path / "door.toml")]) == 0
    assert Tokens(tmp_path / "kept").is_token(capsys.readouterr().out.strip(), "page")


def test_beside_a_service_it_is_the_services_folder(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("pawlatch.journal_options.SERVICE_FOLDER", tmp_path)
    (tmp_path / "door.toml").write_text("[web]\nport = 8090\n")  # names no folder: the service has its own
    assert main(["web", "token", "--config", str(tmp_path / "door.toml")]) == 0
    told = capsys.readouterr()
    assert Tokens(tmp_path).is_token(told.out.strip(), "page")
    assert str(tmp_path) in told.err


@pytest.mark.parametrize("text", ["", "sha256:", "sha256:00", "md5:" + "0" * 64, "\xff", "0" * 64])
def test_a_damaged_token_opens_nothing(tmp_path, text):
    (tmp_path / "page.token").write_text(text, encoding="latin-1")
    assert Tokens(tmp_path).hash("page") is None
    assert not Tokens(tmp_path).is_token("", "page")


@pytest.mark.parametrize("folder", ["file", "file/journal"])
def test_a_folder_that_cannot_be_written_is_named(tmp_path, capsys, folder):
    (tmp_path / "file").write_text("")
    assert main(["web", "token", "--journal", str(tmp_path / folder)]) == 2
    told = capsys.readouterr()
    assert "file" in told.err
    assert "--journal" in told.err
    assert told.out == ""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a file somebody else's")
def test_by_sudo_the_file_is_the_services_and_root_follows_no_link():
    with tempfile.TemporaryDirectory() as name:
        outer = Path(name)
        outer.chmod(0o755)
        folder, treasure = outer / "journal", outer / "treasure"
        folder.mkdir()
        treasure.write_text("root's")
        treasure.chmod(0o600)
        os.chown(folder, 65534, 65534)
        Tokens(folder).new("page")
        assert (folder / "page.token").stat().st_uid == 65534
        for link in (folder / "metrics.token", folder / f".metrics.token.{os.getpid()}.part"):
            link.symlink_to(treasure)
        with pytest.raises(OutputError):
            Tokens(folder).new("metrics")
        assert (treasure.read_text(), treasure.stat().st_uid, os.geteuid()) == ("root's", 0, 0)


def test_the_file_is_its_owners_from_the_first_byte_on(tmp_path, monkeypatch):
    """Also under the widest umask, and also before it has its name."""
    modes = []
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda number: (modes.append(stat.S_IMODE(os.fstat(number).st_mode)), fsync(number)))
    before = os.umask(0)
    try:
        Tokens(tmp_path).new("page")
    finally:
        os.umask(before)
    assert modes == [0o600]


def test_sessions_end_by_idleness_by_age_by_a_new_token_and_by_logging_out(clock):
    book = Sessions(clock)
    idle, old, other, gone = (book.begin("hash") for _ in range(4))
    assert book.find(old.id, "hash") is old
    assert book.find("nobody's", "hash") is None
    assert book.find(None, "hash") is None
    assert book.find(other.id, "another hash") is None
    assert book.find(other.id, "hash") is None  # ended for good
    book.end(gone)
    book.end(gone)
    assert book.find(gone.id, "hash") is None
    while clock.now_s < sessions.LIFE_S:
        assert book.find(old.id, "hash") is old
        clock.now_s += sessions.IDLE_S
    clock.now_s += 1
    assert book.find(idle.id, "hash") is None
    assert book.find(old.id, "hash") is None


def test_sessions_are_bounded_and_the_idlest_makes_room(clock):
    book = Sessions(clock)
    first, second = book.begin("hash"), book.begin("hash")
    for _ in range(5 * sessions.MOST):
        clock.now_s += 1
        assert book.find(first.id, "hash") is first
        book.begin("hash")
    assert len(book) == sessions.MOST
    assert book.find(second.id, "hash") is None


def test_a_confirmation_is_of_its_session_once_and_soon(clock):
    book = Sessions(clock)
    mine, theirs = book.begin("hash"), book.begin("hash")
    word = mine.propose(UNLOCK, 0.0).id
    theirs.propose(UNLOCK, 0.0)
    assert theirs.confirm(word, 1.0) is None
    assert mine.confirm("", 1.0) is None
    assert mine.confirm(word, 30.0) is UNLOCK
    assert mine.confirm(word, 30.0) is None
    late = mine.propose(UNLOCK, 0.0).id
    assert mine.confirm(late, 30.1) is None
    replaced = mine.propose(UNLOCK, 40.0).id
    mine.propose(UNLOCK, 41.0)
    assert mine.confirm(replaced, 42.0) is None


def test_wrong_tokens_cost_ever_more_time_up_to_a_bound(clock):
    these = Pauses(clock)
    waited = []
    for _ in range(12):
        these.wrong("192.0.2.1")
        waited.append(these.left_s("192.0.2.1"))
        clock.now_s += waited[-1]
        assert these.left_s("192.0.2.1") == 0
    assert waited[: pauses.FREE] == [0] * pauses.FREE
    assert waited[pauses.FREE : pauses.FREE + 4] == [1, 2, 4, 8]
    assert max(waited) == pauses.LONGEST_S
    these.right("192.0.2.1")
    these.wrong("192.0.2.1")
    assert these.left_s("192.0.2.1") == 0


def test_one_address_does_not_keep_out_another_until_there_are_very_many(clock):
    these = Pauses(clock)
    for _ in range(10):
        these.wrong("192.0.2.1")
    assert these.left_s("192.0.2.1") > 0
    assert these.left_s("192.0.2.2") == 0
    for number in range(10_000):
        these.wrong(f"198.51.{number // 256}.{number % 256}")
    assert len(these) == pauses.ADDRESSES
    assert these.left_s("192.0.2.2") == pauses.LONGEST_TOGETHER_S


def test_very_many_keep_nobody_out_who_came_in_from_there_before(clock):
    """Or whoever has some addresses, and tries at the end of each pause, would keep the owner out for good."""
    these = Pauses(clock)
    these.right("192.0.2.2")
    for number in range(10_000):
        these.wrong(f"198.51.{number // 256}.{number % 256}")
    assert these.left_s("192.0.2.2") == 0
    assert these.left_s("192.0.2.3") > 0
    for _ in range(pauses.FREE + 1):
        these.wrong("192.0.2.2")
    assert these.left_s("192.0.2.2") == pauses.FIRST_S  # its own wrong ones count as ever
    for number in range(10_000):
        these.right(f"198.51.{number // 256}.{number % 256}")
    assert len(these._known) == pauses.ADDRESSES


def test_a_network_of_addresses_counts_as_one(clock):
    these = Pauses(clock)
    for number in range(10):
        these.wrong(f"2001:db8:0:1::{number:x}")
    assert these.left_s("2001:db8:0:1:ffff::1") > 0
    assert these.left_s("2001:db8:0:2::1") == 0
    for _ in range(10):
        these.wrong("::ffff:192.0.2.1")
    assert these.left_s("::ffff:192.0.2.1") > 0
    assert these.left_s("::ffff:192.0.2.2") == 0


def test_options_have_bounds():
    for wrong, message in (
        ({"port": 70000}, "port must be"), ({"port": -1}, "port must be"), ({"host": ""}, "host must be"),
        ({"host": "a..b"}, "host must be"), ({"host": "x" * 64}, "host must be"), ({"host": "a\0b"}, "host must be"),
        ({"names": ("Door",)}, "small letters"), ({"names": ("http://door",)}, "names must be"), ({"fps": 0.0}, "fps must be"),
        ({"fps": float("nan")}, "fps must be"), ({"key": Path("key.pem")}, "certificate must be set too"),
        ({"certificate": Path("page.pem")}, "key must be set too"),
    ):
        with pytest.raises(ConfigError, match=message):
            WebOptions(**wrong)
    assert WebOptions(port=0, names=("door.home.arpa", "porch")).names == ("door.home.arpa", "porch")


def test_a_service_may_listen_where_the_page_does():
    def needs(**web):
        config = Config().with_("model", bundle=Path("/opt/model/edge")).with_("camera", uri="/dev/video0")
        return needs_of(config.with_("web", **web), program=Path("/usr/bin/pawlatch"), config_path=Path("/etc/door.toml"))

    without, local, network = needs(), needs(port=8090), needs(port=8090, host="0.0.0.0")
    assert "AF_INET" not in without.families
    assert (local.is_local, network.is_local) == (True, False)
    assert {"AF_INET", "AF_INET6"} <= set(local.families)
    secured = needs(port=8090, certificate=Path("/etc/page.pem"), key=Path("/etc/page.key"))
    assert {Path("/etc/page.pem"), Path("/etc/page.key")} <= set(secured.reads)


def test_a_door_without_a_page_imports_nothing_of_it():
    told = subprocess.run(
        [sys.executable, "-c", "import sys, pawlatch.commands.door; print(*sorted(sys.modules))"],
        capture_output=True, text=True, timeout=60, check=True).stdout.split()
    assert not {"uvicorn", "starlette", "jinja2", "anyio", "ssl", "asyncio"} & set(told)


def test_a_page_without_its_extra_tells_what_to_type(tmp_path):
    """Exit status 2, before any latch is asked to open, and the line that helps."""
    (tmp_path / "uvicorn.py").write_text("raise ImportError('no uvicorn here', name='uvicorn')")
    bundle = Path(__file__).parents[1] / "fixtures" / "tiny"
    (tmp_path / "door.toml").write_text(f'[model]\nbundle = "{bundle}"\n[camera]\nuri = "scene:empty?fps=1"\n'
                                        '[journal]\nfolder = "journal"\n[web]\nport = 0')
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    program = "import sys; from pawlatch.cli import main; sys.exit(main(['run', '--config', sys.argv[1]]))"
    told = subprocess.run([sys.executable, "-c", program, str(tmp_path / "door.toml")], capture_output=True, text=True,
                          timeout=60, env={**os.environ, "PYTHONPATH": path}, check=False)
    assert told.returncode == 2, told.stderr
    assert 'pip install "pawlatch[web]"' in told.stderr
