"""Bundles over a real TLS line, from servers that are honest, broken, and hostile."""

from __future__ import annotations

import http.server
import json
import shutil
import signal
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pawlatch import cli
from pawlatch.bundle import installed
from pawlatch.card import CARD_NAME
from pawlatch.delivery import STAGING
from pawlatch.errors import UpdateError
from pawlatch.fetch import Source
from pawlatch.files import sha256

Answer = Callable[[http.server.BaseHTTPRequestHandler], object]


class Server:
    """Serves a folder; `answers` holds what is to be done instead for some names."""

    def __init__(self, certificate: tuple[Path, Path] | None) -> None:
        self.folder, self.answers, self.asked = Path(), {}, []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(handler) -> None:  # noqa: N805
                name = handler.path.removeprefix("/edge/")
                self.asked.append(name)
                if name in self.answers:
                    self.answers[name](handler)
                elif (self.folder / name).is_file():
                    send(handler, (self.folder / name).read_bytes())
                else:
                    handler.send_error(404)

            def log_message(handler, *_: object) -> None:  # noqa: N805
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.url = f"{'https' if certificate else 'http'}://localhost:{self._server.server_port}/edge"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(30)


def send(handler: http.server.BaseHTTPRequestHandler, data: bytes, *, length: int | None = None) -> None:
    handler.send_response(200)
    if length != -1:
        handler.send_header("Content-Length", str(len(data) if length is None else length))
    handler.end_headers()
    try:
        handler.wfile.write(data)
    except OSError:  # the other side has had enough
        handler.close_connection = True


def redirect(to: str) -> Answer:
    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.send_response(302)
        handler.send_header("Location", to)
        handler.end_headers()

    return answer


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is absent; it makes the server's certificate")
    folder = tmp_path_factory.mktemp("tls")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-keyout",
         folder / "key.pem", "-out", folder / "cert.pem", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"],
        check=True, capture_output=True)
    return folder / "cert.pem", folder / "key.pem"


@pytest.fixture
def server(certificate, published, monkeypatch) -> Iterator[Server]:
    """A server with the bundle "new", whose certificate this process and its children trust."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    serving = Server(certificate)
    serving.folder = published("new")
    yield serving
    serving.close()


@pytest.fixture
def plain(published) -> Iterator[Server]:
    """One that does not encrypt."""
    serving = Server(None)
    serving.folder = published("plain")
    yield serving
    serving.close()


@pytest.fixture
def old(published) -> Path:
    return published("old")


def pull(capsys: pytest.CaptureFixture[str], url: object, into: Path, *more: object, status: int = 0) -> str:
    """What `pawlatch model pull` says."""
    before = contents(into)
    assert cli.main(["model", "pull", str(url), "--into", str(into), *map(str, more)]) == status, capsys.readouterr()
    out, err = capsys.readouterr()
    assert status == 0 or contents(into) == before  # whatever went wrong, nothing changed
    return out if status < 2 else err


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_bundle_comes_over_tls_and_only_what_is_not_there_yet(capsys, server, old):
    out = pull(capsys, server.url, old)
    assert "the self-test of int8 passed: 3 photos" in out
    assert installed(old)[1].startswith("new ")
    assert (old / CARD_NAME).read_bytes() == (server.folder / CARD_NAME).read_bytes()
    assert not [name for name in server.asked if "int8" in name]  # the old bundle has it
    assert not (old / STAGING).exists()
    assert "holds new" in pull(capsys, f"{server.url}/{CARD_NAME}", old)  # once more is no news


def test_a_first_bundle_makes_the_folder(capsys, server, tmp_path):
    pull(capsys, server.url, tmp_path / "a" / "edge")
    assert contents(tmp_path / "a" / "edge").keys() == contents(server.folder).keys() | {"origin.json"}


def test_a_certificate_that_nobody_vouches_for(capsys, server, old, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", "/dev/null")
    assert "certificate verify failed" in pull(capsys, server.url, old, status=2)


def flipped(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


def of(server: Server, suffix: str) -> str:
    return next(str(path.relative_to(server.folder)) for path in sorted(server.folder.rglob(f"*{suffix}")))


LIES: dict[str, tuple[str, Callable[[bytes], Answer], str]] = {
    "another file": (".onnx", lambda data: lambda handler: send(handler, flipped(data)), "is not the file its card vouches for"),
    "it stops in the middle": (".onnx", lambda data: lambda handler: send(handler, data[:700], length=len(data)), "stopped after 700 of"),
    "shorter than the card says": (".onnx", lambda data: lambda handler: send(handler, data[:700]), "has 700 bytes, its card says"),
    "longer than the card says": (".onnx", lambda data: lambda handler: send(handler, data + b"x"), "are expected"),
    "endless, and does not say so": (".onnx", lambda data: lambda handler: send(handler, data * 1000, length=-1), "does not end after"),
    "a card without end": (CARD_NAME, lambda data: lambda handler: send(handler, b"[" * (5 << 20), length=-1), "does not end after"),
    "a card that is too deep": (CARD_NAME, lambda data: lambda handler: send(handler, b"[" * 1_000_000), "is not a usable card"),
    "half a card": (CARD_NAME, lambda data: lambda handler: send(handler, data[:700]), "is not a usable card"),
    "a damaged photo": (".jpg", lambda data: lambda handler: send(handler, flipped(data)), "a photo of the self-test, is missing or damaged"),
    "other answers": ("selftest-*.json", lambda data: lambda handler: send(handler, data + b" "), "not the file its card vouches for"),
    "no HTTP": (CARD_NAME, lambda data: lambda handler: handler.wfile.write(b"SSH-2.0-x\r\n\r\n"), "cannot fetch pawlatch.json"),
    "not there": (".jpg", lambda data: lambda handler: handler.send_error(404), "the server answers 404"),
    "a redirect to where nothing is encrypted": (".onnx", lambda data: redirect("http://localhost/x"), "which is not encrypted"),
    "a redirect to a file": (".onnx", lambda data: redirect("file:///etc/passwd"), "is not allowed"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_server_that_lies_changes_nothing(capsys, server, old, lie):
    suffix, answer, told = LIES[lie]
    (old / of(server, ".onnx")).unlink()  # so that it is fetched
    for photo in (old / "selftest").glob("*.jpg"):
        photo.unlink()
    name = of(server, suffix)
    server.answers[name] = answer((server.folder / name).read_bytes())
    assert told in pull(capsys, server.url, old, status=2)


@pytest.mark.parametrize("name", ["../evil-48d7e3f6.tflite", "/etc/evil-48d7e3f6", "a/evil-48d7e3f6", "-evil-48d7e3f6", ".evil-48d7e3f6"])
def test_names_that_lead_elsewhere(capsys, server, old, name):
    card = json.loads((server.folder / CARD_NAME).read_text())
    card["files"]["int8"]["name"] = name
    server.answers[CARD_NAME] = lambda handler: send(handler, json.dumps(card).encode())
    assert "must lie beside its card" in (told := pull(capsys, server.url, old, status=2)) or "would lie outside" in told


def write_photos(server: Server, change: Callable[[list[dict]], object]) -> None:
    """Other photos in the self-test's list, for which the card vouches."""
    card = json.loads((server.folder / CARD_NAME).read_text())
    answers = server.folder / of(server, "selftest-*.json")
    expected = json.loads(answers.read_text())
    change(expected["photos"])
    answers.write_text(json.dumps(expected))
    digest = sha256(answers)
    answers.rename(answers.with_name(f"selftest-{digest[:8]}.json"))
    (server.folder / CARD_NAME).write_text(json.dumps(card | {"parity": {"selftest": digest}}))


@pytest.mark.parametrize(("change", "told"), [
    (lambda photos: photos[0].update(file="../../evil-12345678"), "would lie outside"),
    (lambda photos: photos.extend(photos * 20), "has 63 photos, at most 32 are taken"),
    (lambda photos: photos[0].update(file="82.jpg"), "is not named by its content"),
])
def test_photos_that_are_no_photos_of_a_self_test(capsys, server, old, change, told):
    shutil.copyfile(server.folder / of(server, ".jpg"), server.folder / "selftest" / "82.jpg")
    write_photos(server, change)
    assert told in pull(capsys, server.url, old, status=2)


@pytest.mark.parametrize(("limit", "told"), [("PHOTO_LIMIT", "at most 100 are expected"), ("LIST_LIMIT", "at most 100 are expected"),
                                             ("BUNDLE_LIMIT", "at most 0 MB are taken")])
def test_more_than_is_taken_of_anybody(capsys, server, old, monkeypatch, limit, told):
    monkeypatch.setattr(f"pawlatch.delivery.{limit}", 100)
    assert told in pull(capsys, server.url, old, status=2)


def test_a_server_that_falls_silent_is_left(capsys, server, old, monkeypatch):
    monkeypatch.setattr("pawlatch.fetch.SILENCE_S", 0.2)
    end = threading.Event()
    server.answers[CARD_NAME] = lambda handler: end.wait(60)
    try:
        assert "timed out" in pull(capsys, server.url, old, status=2)
    finally:
        end.set()


@pytest.mark.parametrize("changes", [
    {"sha256": "0" * 64},  # it would replace the file by which the old model runs
    {"sha256": "48d7e3f6"},  # it vouches for little
    {"bytes": -(1 << 60)},  # it makes room on the disk
])
def test_a_name_that_is_not_of_its_content(capsys, server, old, changes):
    card = json.loads((server.folder / CARD_NAME).read_text())
    card["files"]["int8"].update(changes)
    server.answers[CARD_NAME] = lambda handler: send(handler, json.dumps(card).encode())
    assert "is not named by its content" in pull(capsys, server.url, old, status=2)


def test_more_than_the_disk_has(capsys, server, old):
    card = json.loads((server.folder / CARD_NAME).read_text())
    card["files"]["onnx_float32"]["bytes"] = 1 << 60
    server.answers[CARD_NAME] = lambda handler: send(handler, json.dumps(card).encode())
    assert "has room for" in pull(capsys, server.url, old, status=2)


def test_a_model_that_fails_its_self_test_here(capsys, server, old):
    card = json.loads((server.folder / CARD_NAME).read_text())
    card["files"]["int8"] = card["files"]["float32"]  # whole, but it does not say what int8 should
    (server.folder / CARD_NAME).write_text(json.dumps(card))
    assert "the self-test of int8 failed" in pull(capsys, server.url, old, "--even-if-worse", status=2)


def test_a_server_that_drips_is_left(published):
    bundle, times = published("slow"), iter([0.0, 10.0, 4000.0])
    source = Source(str(bundle), clock=lambda: next(times))
    source.read(CARD_NAME, limit=1 << 20)
    with pytest.raises(UpdateError, match="is too slow"):
        source.read(CARD_NAME, limit=1 << 20)


@pytest.mark.parametrize(("url", "told"), [
    ("http://example.org/edge", "is not encrypted"),
    ("https://me:secret@example.org/edge", "must hold no password"),
    ("https://example.org/edge?token=secret", "must hold no password"),
    ("ftp://example.org/edge", "comes from https://"),
    ("https:///edge", "comes from https://"),
])
def test_addresses_that_are_not_taken(capsys, old, url, told):
    err = pull(capsys, url, old, status=2)
    assert told in err
    assert "secret" not in err


def test_without_tls_only_on_this_machine(capsys, plain, old):
    assert "now holds plain" in pull(capsys, plain.url, old)
    Source("http://example.org/edge", allows_plain=True)  # where a signature vouches for the card


def test_what_is_on_this_machine_is_asked_of_no_proxy(capsys, plain, old, monkeypatch):
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert "now holds plain" in pull(capsys, plain.url, old)


def test_from_a_plain_server_a_redirect_to_tls_is_followed(capsys, plain, server, old):
    plain.answers[CARD_NAME] = redirect(f"{server.url}/{CARD_NAME}")
    assert "now holds new" in pull(capsys, plain.url, old)


@pytest.mark.parametrize("place", ["{}", "file://{}"])
def test_a_folder_is_a_source_too(capsys, published, old, place):
    assert "now holds usb" in pull(capsys, place.format(published("usb")), old)


def test_killed_in_the_middle_the_old_bundle_is_whole(capsys, server, old):
    name, arrived, end = of(server, ".onnx"), threading.Event(), threading.Event()
    data = (server.folder / name).read_bytes()
    (old / name).unlink()
    before = contents(old)

    def stall(handler: http.server.BaseHTTPRequestHandler) -> None:
        send(handler, data[:700], length=len(data))
        arrived.set()
        end.wait(60)

    server.answers[name] = stall
    child = subprocess.Popen(
        [sys.executable, "-c", "import sys; from pawlatch.cli import main; sys.exit(main())", "model", "pull", server.url, "--into", old],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        assert arrived.wait(60)
        assert cli.main(["model", "pull", server.url, "--into", str(old)]) == 2  # never two at once
        assert "another update" in capsys.readouterr().err
        child.send_signal(signal.SIGKILL)
        assert child.wait(60) == -signal.SIGKILL
    finally:
        child.kill()
        child.communicate()
        end.set()
    assert {key: value for key, value in contents(old).items() if not key.startswith(STAGING)} == before
    assert (old / STAGING).is_dir()
    del server.answers[name]
    assert "now holds new" in pull(capsys, server.url, old)
    assert not (old / STAGING).exists()
