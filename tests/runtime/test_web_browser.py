"""The page in a real browser: looked at, clicked on, with and without JavaScript, and beside pages that mean no good."""

from __future__ import annotations

import os
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
import pytest

pytest.importorskip("uvicorn", reason="the page needs the web extra")
pytest.importorskip("starlette", reason="the page needs the web extra")

from pawlatch.cli import main
from pawlatch.frame import CameraState
from pawlatch.journal import Journal, JournalOptions
from pawlatch.panel import Answer, Held, Wish
from pawlatch.panel import Visitor as SeenVisitor
from pawlatch.states import Cause, DoorState
from pawlatch.web.options import WebOptions
from pawlatch.web.server import Page

from . import page_kit, test_run
from .broker import until
from .browser import Browser
from .page_kit import folder_with_token

panel, loop, token = page_kit.panel, page_kit.loop, page_kit.token
porches, settings, start = test_run.porches, test_run.settings, test_run.start
SCREENS = {"phone": (390, 844), "small": (320, 568), "wide": (1280, 800)}


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    with Browser(tmp_path_factory.mktemp("chromium")) as browser:
        yield browser


@pytest.fixture
def browser(chromium, request):
    """A browser that knows nobody yet. With PAWLATCH_SCREENSHOTS=DIR each test leaves its last view there, for people."""
    chromium.call("Network.clearBrowserCookies")
    chromium.call("Emulation.setScriptExecutionDisabled", value=False)
    chromium.look()
    chromium.messages.clear()
    yield chromium
    if folder := os.environ.get("PAWLATCH_SCREENSHOTS"):
        chromium.screenshot(Path(folder) / f"{request.node.name.replace('/', '-')}.png")
    chromium.open("about:blank")


@pytest.fixture
def url(loop, tmp_path, token):
    with Page(WebOptions(port=0), loop.panel, tmp_path / "journal") as page:
        yield page.url.rstrip("/")


def log_in(browser: Browser, url: str, token: str) -> None:
    browser.open(f"{url}/login")
    browser.type("#token", token)
    browser.click(".login button")
    assert browser.run("document.querySelector('#now h1') !== null"), browser.run("document.body.innerText")


def text(browser: Browser) -> str:
    return browser.run("document.body.innerText")


def wait_for(browser: Browser, words: str) -> None:
    browser.until(f"document.body?.innerText.includes({words!r})")


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("screen", SCREENS)
def test_it_fits_every_screen_in_light_and_dark(browser, url, token, loop, tmp_path, screen, dark):
    """Nothing sticks out, fingers find each button, text can be read on its ground, and no style is missing."""
    width, height = SCREENS[screen]
    loop.show(visitor=SeenVisitor("other", 0.83, "a" * 200), faults={Cause.JOURNAL: "x" * 300}, held=Held(True, 30.0, "anna"))
    browser.look(width=width, height=height, dark=dark)
    log_in(browser, url, token)
    for path in ("/", "/machine"):
        browser.open(url + path)
        assert browser.run("document.documentElement.scrollWidth") <= width
        small = browser.run("""[...document.querySelectorAll("button, select, nav a")].filter(it => {
            const box = it.getBoundingClientRect(); return box.height < 44 || box.width < 44;}).map(it => it.outerHTML)""")
        assert small == []
        assert browser.run(CONTRASTS) == []
        shot = tmp_path / "shot.png"
        browser.screenshot(shot)
        assert (cv2.imread(str(shot)).mean() < 90) == dark
    assert browser.messages == []


CONTRASTS = """(() => {
  const paint = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const over = (colour, ground) => {
    paint.fillStyle = `rgb(${ground})`; paint.fillRect(0, 0, 1, 1); paint.fillStyle = colour; paint.fillRect(0, 0, 1, 1);
    return [...paint.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const light = rgb => rgb.map(v => v / 255).map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
  const ground = it => it ? over(getComputedStyle(it).backgroundColor, ground(it.parentElement)) : [255, 255, 255];
  return [...document.querySelectorAll("h1, h2, p, a, button:enabled, dt, dd, strong, label")]
    .filter(it => it.innerText && it.checkVisibility()).map(it => {
      const back = ground(it), [a, b] = [light(over(getComputedStyle(it).color, back)), light(back)].sort((x, y) => y - x);
      return [Math.round(100 * (a + .05) / (b + .05)) / 100, it.outerHTML.slice(0, 80)];
    }).filter(([ratio]) => ratio < 4.5);
})()"""


def test_the_state_and_the_picture_keep_fresh_by_themselves(browser, url, token, loop):
    log_in(browser, url, token)
    browser.until("document.getElementById('live').naturalWidth === 64")
    loop.show(state=DoorState.FAULT, faults={Cause.CAMERA: "somebody hung a towel over it"}, camera=CameraState.COVERED)
    wait_for(browser, "somebody hung a towel over it")
    loop.show(state=DoorState.UNLOCKED, is_unlocked=True, faults={})
    wait_for(browser, "It locks by itself.")
    assert browser.messages == []  # among others, nothing that the content policy refused


def test_what_changed_while_a_button_had_the_focus_is_shown_once_it_has_gone(browser, url, token, loop):
    """A button is not taken away from under a finger; but the state that was not shown then is not lost."""
    loop.show(held=Held(False, 60.0, "anna"))
    log_in(browser, url, token)
    wait_for(browser, "anna holds it locked")
    browser.run("document.querySelector('#now button').focus()")
    loop.show(faults={Cause.CAMERA: "somebody hung a towel over it"})
    browser.until("performance.getEntriesByType('resource').filter(it => it.name.endsWith('/now')).length > 2")
    assert "a towel" not in text(browser)
    browser.run("document.activeElement.blur()")
    wait_for(browser, "somebody hung a towel over it")


def test_unlocking_end_to_end(browser, settings, porches, start, tmp_path):
    """From the token to the latch that moved and the journal that names who: the whole process, and a browser without scripts."""
    config = settings("armed", "unlock_s = 60.0\n[web]\nport = 0")
    assert main(["web", "token", "--config", str(config)]) == 0
    process = start("--config", config)
    url = process.until("the page: ").rpartition(" ")[2].rstrip("/")
    process.until("opens for own")
    token = folder_with_token(tmp_path / "journal")  # a new one holds at once
    browser.call("Emulation.setScriptExecutionDisabled", value=True)
    log_in(browser, url, token)
    assert "Locked" in text(browser)
    browser.click(".acts button.open")
    assert "Unlock the door?" in text(browser)
    assert set(settings.moves()) == {"lock"}
    browser.click(".confirm button")
    assert "Open for 60 s." in text(browser)
    assert "Held open" in text(browser)
    assert settings.moves()[-1] == "unlock"
    browser.click(".acts button.locked")
    assert settings.moves()[-1] == "lock"
    porches.who = "own"
    process.until("own 1.00")
    with Journal.open_read(tmp_path / "journal") as journal:
        (asked,) = [event for event in journal.events() if event.label == "_person"]
        moves = [move for move in journal.transitions() if "the page (session " in move.detail]
    assert "127.0.0.1) holds it open for 60 s" in asked.reason
    assert {move.after for move in moves} == {"held", "locked"}


def test_holding_a_mode_and_logging_out(browser, url, token, loop):
    log_in(browser, url, token)
    keep = "form.hold:has(input[value='hold locked'])"
    browser.run(f"document.querySelector({keep + ' select'!r}).value = '28800'")
    browser.click(f"{keep} button")
    assert "Done." in text(browser)
    browser.click(".modes button[value=off]")
    assert [(each.wish, each.for_s, each.mode) for each in loop.asked] == [(Wish.HOLD_LOCKED, 28800.0, None), (Wish.MODE, None, "off")]
    browser.open(f"{url}/machine")
    browser.click("form[action='/logout'] button")
    browser.open(f"{url}/")
    assert browser.run("location.pathname") == "/login"


@pytest.mark.parametrize("screen", SCREENS)
def test_a_visits_picture_is_whole(browser, url, token, tmp_path, clock, stay, screen):
    """An animal at the edge of the porch is not cut off where one is asked who it was."""
    with Journal(JournalOptions(folder=tmp_path / "journal"), clock=clock) as journal:
        journal.visit(stay(0.0, own=0.9))
        journal.flush()
    width, height = SCREENS[screen]
    browser.look(width=width, height=height)
    log_in(browser, url, token)
    for path in ("/", "/visits", "/visits/1"):
        browser.open(url + path)
        picture = "document.querySelector('img[src$=\"/best.jpg\"]')"
        browser.run(f"{picture}.scrollIntoView()")
        browser.until(f"{picture}.naturalWidth > 0")
        assert browser.run(f"""(() => {{
            const it = {picture}, ratio = it.clientWidth / it.clientHeight * it.naturalHeight / it.naturalWidth;
            return getComputedStyle(it).objectFit === "contain" ? 1 : Math.min(ratio, 1 / ratio)}})()""") > 0.98


def test_a_visit_is_labelled_with_one_click(browser, url, token, tmp_path, clock, stay):
    with Journal(JournalOptions(folder=tmp_path / "journal"), clock=clock) as journal:
        journal.visit(stay(0.0, own=0.9))
        journal.flush()
        log_in(browser, url, token)
        browser.open(f"{url}/visits")
        browser.until("document.querySelector('.thumb img').naturalWidth > 0")
        browser.click(".labels button[value=_other]")
        assert "Visit 1 was a stranger." in text(browser)
    with Journal.open_read(tmp_path / "journal") as journal:
        assert journal.events()[0].truth == "_other"


# ------------------------------------------------------------------------------------------------ other pages

@pytest.fixture
def other_page(tmp_path):
    """`other_page(url)`: a page from elsewhere, which sends a form to the door as soon as it is looked at. Its port."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    handler = partial(SimpleHTTPRequestHandler, directory=folder)
    handler.func.log_message = lambda *_: None
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()

    def make(url: str, path: str = "/ask") -> int:
        (folder / "index.html").write_text(
            f'<form method="post" action="{url}{path}"><input name="wish" value="lock"><input name="form" value="x"></form>'
            "<script>addEventListener('load', () => setTimeout(() => document.forms[0].submit(), 0))</script>")
        return server.server_port

    yield make
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(("host", "words"), [("localhost", "Log in"), ("127.0.0.1", "This form was sent by another page")])
def test_another_page_sends_forms_in_vain(browser, url, token, loop, other_page, host, words, monkeypatch):
    """From another site the browser keeps the cookie back; from another port of the same one it sends it, and the door refuses."""
    monkeypatch.setattr("pawlatch.web.sessions.Session.is_form", lambda self, text: True)  # had it guessed the word
    log_in(browser, url, token)
    port = other_page(url)
    browser.run(f"location.href = 'http://{host}:{port}/index.html'")
    browser.until(f"location.origin === {url!r}")
    wait_for(browser, words)
    assert loop.asked == []


def test_without_the_guard_another_page_would_lock_the_door(browser, url, token, loop, other_page, monkeypatch):
    """Sabotage of the test before: from the same site, and nobody looks where a form comes from."""
    monkeypatch.setattr("pawlatch.web.sessions.Session.is_form", lambda self, text: True)
    monkeypatch.setattr("pawlatch.web.desk.is_from_here", lambda headers: True)
    log_in(browser, url, token)
    browser.run(f"location.href = 'http://127.0.0.1:{other_page(url)}/index.html'")
    browser.until(f"location.origin === {url!r} && document.readyState !== 'loading'")
    until(lambda: bool(loop.asked))


def test_a_strange_name_for_our_address_shows_nothing(browser, url, token):
    """DNS rebinding: the browser takes evil.example for this machine."""
    browser.open(url.replace("127.0.0.1", "evil.example") + "/login")
    assert "not the door's" in text(browser)
    assert browser.run("document.querySelector('form')") is None


def test_nobody_frames_it(browser, url, other_page, tmp_path):
    port = other_page(url)
    (tmp_path / "elsewhere" / "index.html").write_text(f'<iframe src="{url}/login" width="400" height="400"></iframe>')
    browser.open(f"http://127.0.0.1:{port}/index.html")
    browser.until("document.readyState === 'complete'")
    tree = browser.call("Page.getFrameTree")["frameTree"]
    (frame,) = tree["childFrames"]
    assert frame["frame"]["url"].startswith("chrome-error:") or frame["frame"].get("unreachableUrl")


def test_what_the_door_says_runs_nothing(browser, url, token, loop):
    """Not in the page, not in the part that a script puts into it, not by a handler in an attribute."""
    hostile = "<img src=x onerror='window.pwned=1'><script>window.pwned=1</script>"
    log_in(browser, url, token)
    loop.show(held=Held(True, 5.0, hostile), faults={Cause.MODEL: hostile}, model=hostile)
    loop.answer = lambda request: Answer(False, hostile)
    wait_for(browser, "window.pwned=1")
    browser.click(".acts button.locked")
    wait_for(browser, "onerror")
    assert browser.run("window.pwned") is None
    assert browser.run("document.querySelector('img[src=x]')") is None


def test_even_unescaped_the_content_policy_stops_it(browser, loop, tmp_path, token):
    """The second wall: with escaping gone, the browser still runs nothing that did not come as a file of the page."""
    with Page(WebOptions(port=0), loop.panel, tmp_path / "journal") as page:
        page.desk._pages.autoescape = False
        url = page.url.rstrip("/")
        log_in(browser, url, token)
        loop.show(held=Held(True, 5.0, "<img src=/absent onerror='window.pwned=1'><script>window.pwned=1</script>"))
        browser.open(f"{url}/")
        browser.until("document.querySelector('img[src=\"/absent\"]') !== null")
        browser.until("document.querySelector('img[src=\"/absent\"]').complete")
        assert browser.run("window.pwned") is None
        assert any("Content Security Policy" in message for message in browser.messages)
        browser.open("about:blank")
