"""The page as its server gives it: who may see what, and what becomes of forms."""

from __future__ import annotations

import re
import sqlite3
import time
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("uvicorn", reason="the page needs the web extra")
pytest.importorskip("starlette", reason="the page needs the web extra")

from pawlatch.cli import main
from pawlatch.errors import ConfigError, OutputError
from pawlatch.frame import CameraState
from pawlatch.journal import Journal, JournalOptions, Setting
from pawlatch.panel import Answer, Held, Request, Wish
from pawlatch.panel import Visitor as SeenVisitor
from pawlatch.records import JournalReader
from pawlatch.states import Cause, DoorState
from pawlatch.web import guard, pauses, sessions
from pawlatch.web.options import WebOptions
from pawlatch.web.server import Page

from . import page_kit
from .broker import until
from .page_kit import DEADLINE_S, FORM, Visitor, folder_with_token, next_jpeg, stream_of

panel, loop, token = page_kit.panel, page_kit.loop, page_kit.token
NOON = datetime(2026, 11, 23, 12).astimezone()
READ = ["/", "/now", "/visits", "/visits/1", "/visits/1/best.jpg", "/machine", "/confirm", "/live.mjpg", "/live.jpg"]
ACT = ["/ask", "/confirm", "/visits/1/label", "/install", "/logout"]


@pytest.fixture
def folder(tmp_path) -> Path:
    return tmp_path / "journal"


@pytest.fixture
def page(panel, loop, folder, token):
    with Page(WebOptions(port=0, fps=30.0), panel, folder) as it:
        yield SimpleNamespace(page=it, desk=it.desk, port=int(it.url.rstrip("/").rpartition(":")[2]), panel=panel, loop=loop)


@pytest.fixture
def owner(page, token) -> Visitor:
    return Visitor(page.port, token)


@pytest.fixture
def stranger(page) -> Visitor:
    return Visitor(page.port)


@pytest.fixture
def three(folder, token, clock, stay):
    """Visits 1 to 3: the own animal at noon, a stranger an hour later, the own animal on the next day."""
    with Journal(JournalOptions(folder=folder), clock=clock, wall=lambda: NOON + timedelta(seconds=clock())) as journal:
        journal.describe(Setting("armed", "garden", "int8", "0" * 64, ("own",), "evidence", {}))
        for start_s, how in ((0.0, {"own": 0.9, "unlock_at": 3}), (3600.0, {"other": 0.8}), (86400.0, {"own": 0.7})):
            clock.now_s = start_s
            visit = stay(start_s, before=lambda visit, now_s, verdict: journal.unlocking(now_s, verdict, visit), **how)
            clock.now_s = visit.end_s
            journal.visit(visit)
        journal.flush()
    return folder


def listed(answer) -> list[int]:
    return [int(number) for number in re.findall(r'id="visit-(\d+)"', answer.text)]


# ------------------------------------------------------------------------------------------------ who may come in

def test_nothing_is_shown_to_strangers(stranger, three):
    for path in READ:
        answer = stranger.get(path)
        assert (answer.status, answer.location, answer.body) == (303, "/login", b""), path


def test_nothing_is_done_for_strangers(page, stranger, three):
    for path in ACT:
        answer = stranger.post(path, {"wish": "unlock", "label": "own"}, follow=False)
        assert (answer.status, answer.location) == (303, "/login"), path
        assert page.loop.asked == [], path


def test_each_address_there_is_asks_for_a_session_or_is_meant_not_to(page):
    """A new address that forgets to ask is found here: it is neither in READ nor in ACT."""
    app = page.page._server.config.loaded_app
    routes = {(route.path, method) for route in app._app.routes for method in route.methods}
    public = {("/login", "GET"), ("/login", "POST"), ("/healthz", "GET"), ("/metrics", "GET"), ("/page.css", "GET"),
              ("/page.js", "GET"), ("/paw.svg", "GET")}
    known = {(re.sub(r"\{id:number\}", "1", re.sub(r"\{kind\}", "best", path)), method) for path, method in routes
             if method != "HEAD"}
    assert known - public == {(path, "GET") for path in READ} | {(path, "POST") for path in ACT}


def test_the_token_lets_in_and_the_cookie_is_kept_from_scripts_and_other_pages(page, stranger, token):
    assert stranger.post("/login", {"token": "wrong"}).status == 401
    assert stranger.cookie == ""
    answer = stranger.post("/login", {"token": token}, follow=False)
    assert (answer.status, answer.location) == (303, "/")
    assert {"HttpOnly", "SameSite=strict", "Path=/"} <= set(answer.cookie.split("; "))
    assert "Max-Age" not in answer.cookie
    assert "Locked" in stranger.get("/").text
    assert token not in stranger.cookie


def test_without_a_token_nobody_logs_in(panel, loop, tmp_path):
    with Page(WebOptions(port=0), panel, tmp_path / "journal") as page:
        stranger = Visitor(int(page.url.rstrip("/").rpartition(":")[2]))
        assert not page.has_token
        assert "pawlatch web token" in stranger.get("/login").text
        assert stranger.post("/login", {"token": ""}).status == 401
        assert stranger.get("/").status == 303


def test_a_new_token_ends_the_sessions_of_the_old_one(owner, folder):
    assert owner.get("/").status == 200
    folder_with_token(folder)
    assert owner.get("/").location == "/login"


def test_a_stolen_cookie_is_of_no_use_after_logging_out(page, owner, token):
    """As long as its owner is logged in, it is as good as the owner's: that is what HttpOnly, SameSite and TLS are for."""
    thief = Visitor(page.port)
    thief.cookie = owner.cookie
    assert thief.get("/").status == 200
    assert thief.post("/ask", {"wish": "lock", "form": "guessed"}).status == 403
    thief.get("/")
    owner.post("/logout")
    for path in READ:
        assert thief.get(path).location == "/login"
    assert thief.post("/ask", {"wish": "lock"}, follow=False).location == "/login"
    assert page.loop.asked == []
    assert Visitor(page.port, token).get("/").status == 200


def test_logging_out_everywhere_ends_a_thief_elsewhere(page, token):
    one, other = Visitor(page.port, token), Visitor(page.port, token)
    one.post("/logout", {"all": "1"})
    assert other.get("/").location == "/login"


def test_who_is_logged_out_sees_no_more_of_the_stream(page, owner):
    answer = stream_of(owner)
    assert next_jpeg(answer)
    owner.post("/logout")
    until_s = time.monotonic() + DEADLINE_S
    while next_jpeg(answer):
        assert time.monotonic() < until_s
    until(lambda: page.desk.stream.viewers == 0)  # the server's side hears of it a moment later


def test_who_is_logged_out_while_a_form_comes_in_asks_for_nothing_more(page, owner, monkeypatch):
    """A thief could keep forms half sent, and outlive the logout by them."""
    read_form = guard.read_form

    async def logged_out_meanwhile(request):
        page.desk.sessions.end_all()
        return await read_form(request)

    monkeypatch.setattr("pawlatch.web.desk.read_form", logged_out_meanwhile)
    assert owner.post("/ask", {"wish": "lock"}, follow=False).location == "/login"
    assert page.loop.asked == []


def test_without_the_second_look_the_form_would_be_carried_out(page, owner, monkeypatch):
    """Sabotage of the test before: a session that is found however it ended."""
    read_form, found = guard.read_form, page.desk.sessions.find

    async def logged_out_meanwhile(request):
        session = found(request.cookies["pawlatch"], page.desk.tokens.hash("page"))
        page.desk.sessions.end_all()
        monkeypatch.setattr(page.desk.sessions, "find", lambda *_: session)
        return await read_form(request)

    monkeypatch.setattr("pawlatch.web.desk.read_form", logged_out_meanwhile)
    assert owner.post("/ask", {"wish": "lock"}, follow=False).location == "/"
    assert [request.wish for request in page.loop.asked] == [Wish.LOCK]


def test_an_idle_session_ends(page, owner, monkeypatch):
    monkeypatch.setattr(sessions, "IDLE_S", -1.0)
    assert owner.get("/").location == "/login"


# ------------------------------------------------------------------------------------------------ wrong tokens

def test_a_wrong_token_a_thousand_times(page, owner, stranger, token, monkeypatch):
    """Nobody gets in, nothing grows, next to none are even looked at, and who is logged in notices nothing."""
    looked_at = []
    is_token = page.desk.tokens.is_token
    monkeypatch.setattr(page.desk.tokens, "is_token", lambda text, *kinds: looked_at.append(text) or is_token(text, *kinds))
    statuses = [stranger.post("/login", {"token": f"wrong{number}"}).status for number in range(1000)]
    assert set(statuses) == {401, 429}
    assert statuses[: pauses.FREE] == [401] * pauses.FREE
    assert len(looked_at) < 20
    assert len(page.desk.pauses) == 1
    assert len(page.desk.sessions) == 1
    assert stranger.get("/").location == "/login"
    refused = stranger.post("/login", {"token": token})  # not even the right one, while the pause lasts
    assert refused.status == 429
    assert int(refused.headers["Retry-After"]) >= 1
    assert owner.get("/").status == 200
    assert "Done." in owner.post("/ask", {"wish": "lock"}).text


def test_without_pauses_each_of_a_thousand_would_be_looked_at(page, stranger, monkeypatch):
    """Sabotage: what the test before is worth."""
    monkeypatch.setattr(page.desk.pauses, "left_s", lambda address: 0.0)
    assert {stranger.post("/login", {"token": "wrong"}).status for _ in range(40)} == {401}


# ------------------------------------------------------------------------------------------------ forms from elsewhere

ELSEWHERE = [
    {"Origin": "http://evil.example"},
    {"Origin": "null"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Origin": "http://127.0.0.1:1"},
    {"Origin": "http://["},
]


def test_a_form_of_another_page_is_refused_even_with_the_right_word(page, owner):
    for headers in ELSEWHERE:
        owner.get("/")
        assert owner.post("/ask", {"wish": "lock"}, **headers).status == 403, headers
        assert page.loop.asked == [], headers


def test_nor_does_another_page_log_anybody_in(page, stranger, token):
    for headers in ELSEWHERE:
        answer = stranger.post("/login", {"token": token}, **headers)
        assert (answer.status, answer.cookie) == (403, None), headers


@pytest.mark.parametrize("word", ["", "guessed", None])
def test_a_form_without_its_word_is_refused(page, owner, three, word):
    for path in ACT:
        owner.form = word or ""
        answer = owner.post(path, {"wish": "lock", "label": "own"} | ({} if word is None else {"form": word}), follow=False)
        assert answer.status == 403, path
        assert page.loop.asked == [], path
        assert owner.get("/").status == 200, path  # and nobody was logged out


def test_the_word_of_another_session_is_refused(page, owner, token):
    other = Visitor(page.port, token)
    assert other.form != owner.form
    owner.form = other.form
    assert owner.post("/ask", {"wish": "lock"}).status == 403


def test_without_the_word_a_form_from_elsewhere_would_be_carried_out(page, owner, monkeypatch):
    """Sabotage: with either guard away, the other one still holds; with both away, nothing does."""
    monkeypatch.setattr(sessions.Session, "is_form", lambda self, text: True)
    assert owner.post("/ask", {"wish": "lock", "form": ""}, Origin="http://evil.example").status == 403
    monkeypatch.setattr("pawlatch.web.desk.is_from_here", lambda headers: True)
    assert owner.post("/ask", {"wish": "lock", "form": ""}, Origin="http://evil.example").status == 200
    assert [request.wish for request in page.loop.asked] == [Wish.LOCK]


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8090", "", "127.0.0.1.evil.example", "localhost.evil.example", "[evil]", "a b"])
def test_a_name_that_a_stranger_points_at_us_is_refused(page, owner, host):
    answer = owner.get("/", Host=host or " ")
    assert answer.status in (400, 421)
    assert "Locked" not in answer.text


def test_the_names_it_goes_by(page, owner):
    own = guard.Guard(None, names=["door.home.arpa"])
    for host in ("localhost", "LOCALHOST:8090", "127.0.0.1", "192.168.1.5:8090", "[::1]:8090", "door.home.arpa"):
        assert own.is_ours(host), host
    assert not own.is_ours("home.arpa")


def test_every_response_has_its_headers(page, owner, stranger, three):
    answers = [stranger.get("/login"), stranger.get("/"), stranger.get("/absent"), stranger.get("/page.css"), owner.get("/"),
               owner.get("/visits/1/best.jpg"), owner.post("/ask", {"form": ""}), stranger.get("/", Host="evil.example")]
    for answer in answers:
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["X-Frame-Options"] == "DENY"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        assert "unsafe" not in answer.headers["Content-Security-Policy"]
        assert answer.headers["Server"] is None


@pytest.mark.parametrize(("body", "headers", "status"), [
    ("x" * (guard.BODY_BYTES + 1), {}, 413),
    ("&".join(f"a{n}=1" for n in range(100)), {}, 400),
    ("\xff", {}, 400),
    ("{}", {"Content-Type": "application/json"}, 415),
])
def test_bodies_that_are_no_small_form_are_refused(page, owner, body, headers, status):
    assert owner._call("POST", "/ask", body, {**FORM, **headers}).status == status
    assert owner._call("POST", "/login", body, {**FORM, **headers}).status in (status, 303)
    assert page.loop.asked == []


# ------------------------------------------------------------------------------------------------ what is asked of the door

def test_unlocking_asks_twice_and_says_who(page, owner):
    page.loop.answer = lambda request: Answer(True, "open for 5 s")
    question = owner.post("/ask", {"wish": "unlock"})
    assert "Unlock the door?" in question.text
    assert page.loop.asked == []
    word = re.search(r'name="confirm" value="([^"]+)"', question.text)[1]
    assert "Open for 5 s." in owner.post("/confirm", {"confirm": word}).text
    (request,) = page.loop.asked
    assert request.wish is Wish.UNLOCK
    assert re.fullmatch(r"the page \(session [0-9a-f]{4}, 127\.0\.0\.1\)", request.who)
    assert "too late, or twice" in owner.post("/confirm", {"confirm": word}).text
    assert len(page.loop.asked) == 1


@pytest.mark.parametrize("word", ["", "guessed"])
def test_a_click_that_was_not_asked_for_opens_nothing(page, owner, word):
    owner.post("/ask", {"wish": "unlock"})
    owner.post("/confirm", {"confirm": word})
    assert page.loop.asked == []


def test_a_late_second_click_opens_nothing(page, owner, monkeypatch):
    monkeypatch.setattr(sessions, "CONFIRM_S", -1.0)
    assert "Nothing waits" in owner.post("/ask", {"wish": "unlock"}).text
    assert page.loop.asked == []


def test_the_second_click_of_another_session_opens_nothing(page, owner, token):
    other = Visitor(page.port, token)
    word = re.search(r'name="confirm" value="([^"]+)"', owner.post("/ask", {"wish": "unlock"}).text)[1]
    other.post("/confirm", {"confirm": word})
    assert page.loop.asked == []


@pytest.mark.parametrize(("fields", "twice", "request_"), [
    ({"wish": "lock"}, False, Request(Wish.LOCK, "")),
    ({"wish": "release"}, False, Request(Wish.RELEASE, "")),
    ({"wish": "hold locked", "for_s": "3600"}, False, Request(Wish.HOLD_LOCKED, "", 3600.0)),
    ({"wish": "hold locked", "for_s": ""}, False, Request(Wish.HOLD_LOCKED, "")),
    ({"wish": "hold open", "for_s": "60"}, True, Request(Wish.HOLD_OPEN, "", 60.0)),
    ({"wish": "mode", "mode": "off"}, False, Request(Wish.MODE, "", mode="off")),
    ({"wish": "mode", "mode": "armed"}, True, Request(Wish.MODE, "", mode="armed")),
])
def test_what_opens_asks_twice_and_nothing_else_does(page, owner, fields, twice, request_):
    answer = owner.post("/ask", fields)
    assert len(page.loop.asked) == (not twice)
    if twice:
        owner.post("/confirm", {"confirm": re.search(r'name="confirm" value="([^"]+)"', answer.text)[1]})
    (asked,) = page.loop.asked
    assert (asked.wish, asked.for_s, asked.mode) == (request_.wish, request_.for_s, request_.mode)


@pytest.mark.parametrize("fields", [{}, {"wish": "open sesame"}, {"wish": "mode", "mode": "wide open"}, {"wish": "mode"},
                                    {"wish": "hold open", "for_s": "ever"}])  # fmt: skip
def test_what_cannot_be_asked_is_refused(page, owner, fields):
    assert owner.post("/ask", fields).status == 400
    assert page.loop.asked == []


def test_a_refusal_is_told(page, owner):
    page.loop.answer = lambda request: Answer(False, "the camera is black")
    answer = owner.post("/ask", {"wish": "release"})
    assert "The camera is black." in answer.text
    assert "The camera is black." not in owner.get("/").text


def test_a_door_that_hangs_keeps_nobody_else_waiting(page, owner, token):
    """A wish waits in a thread: meanwhile others are served."""
    import threading

    begun, go_on = threading.Event(), threading.Event()
    page.loop.answer = lambda request: (begun.set(), go_on.wait(DEADLINE_S), Answer(True, "done"))[2]
    other = Visitor(page.port, token)
    asker = threading.Thread(target=owner.post, args=("/ask", {"wish": "lock"}))
    asker.start()
    assert begun.wait(DEADLINE_S)
    assert other.get("/").status == 200
    go_on.set()
    asker.join(DEADLINE_S)


# ------------------------------------------------------------------------------------------------ what is shown

@pytest.mark.parametrize(("view", "words"), [
    ({}, ["Locked", "It opens for own."]),
    ({"state": DoorState.UNLOCKED, "is_unlocked": True}, ["Open", "It locks by itself."]),
    ({"state": DoorState.UNLOCKED, "observes": True}, ["Locked", "It would be open now"]),
    ({"mode": "off"}, ["It is off"]),
    ({"unlock": ()}, ["nobody who may pass"]),
    ({"state": DoorState.HELD, "is_unlocked": True, "held": Held(True, 42.0, "anna")}, ["Held open", "anna holds it open, for 42 s more", "Release"]),
    ({"held": Held(False, 7200.0, "anna")}, ["Kept locked", "anna holds it locked, for 2 h more"]),
    ({"state": DoorState.LOCKOUT}, ["Locked out"]),
    ({"state": DoorState.FAULT, "faults": {Cause.JOURNAL: "no room on the disk"}}, ["journal", "no room on the disk"]),
    ({"state": DoorState.FAULT, "faults": {Cause.JAMMED: "the bolt stays"}}, ["Jammed", "the bolt stays"]),
    ({"camera": CameraState.COVERED}, ["The camera is covered."]),
    ({"visitor": SeenVisitor("other", 0.83, "not a label that unlocks")}, ["other", "83 %", "not a label that unlocks"]),
])
def test_the_state_is_told_in_words(page, owner, view, words):
    page.loop.show(**view)
    for path in ("/", "/now"):
        text = owner.get(path).text
        for word in words:
            assert word in text, word


def test_a_loop_that_hangs_is_told(page, owner, stranger):
    page.loop.close()
    page.panel._seen_s -= 100
    assert "No word" in owner.get("/now").text
    assert (stranger.get("/healthz").status, stranger.get("/healthz").text) == (503, "not ok\n")


def test_only_modes_that_may_be_asked_for_are_offered(page, owner):
    page.loop.show(modes=("off", "observe"), mode="observe", observes=True)
    text = owner.get("/").text
    assert 'value="observe" aria-pressed="true"' in text
    assert 'value="armed"' not in text
    assert '<button class="open" disabled>' in text


def test_visits_are_listed_filtered_and_turned_over(owner, three, monkeypatch):
    assert listed(owner.get("/visits")) == [3, 2, 1]
    assert listed(owner.get("/visits?seen=own")) == [3, 1]
    assert listed(owner.get("/visits?door=unlocked")) == [1]
    assert listed(owner.get("/visits?door=shut")) == [3, 2]
    assert listed(owner.get("/visits?day=2026-11-23")) == [2, 1]
    assert listed(owner.get("/visits?day=2026-11-24&seen=own")) == [3]
    assert listed(owner.get("/visits?truth=labelled")) == []
    for nonsense in ("day=0001-01-01", "day=9999-12-31", "day=x", "before=-1", "before=x", f"before={10**30}",
                     "before=" + "9" * 5000, "door=x", "seen="):
        assert owner.get(f"/visits?{nonsense}").status == 200
    monkeypatch.setattr("pawlatch.web.visits.PER_PAGE", 2)
    first = owner.get("/visits?day=")
    older = re.search(r'href="(/visits\?[^"]+)" rel="next"', first.text)[1]
    assert (listed(first), listed(owner.get(older))) == ([3, 2], [1])


def test_a_visit_is_shown_with_its_pictures(owner, three):
    text = owner.get("/visits/1").text
    for part in ("after 3 frames", "opened after 0.3 s", "/visits/1/best.jpg", "/visits/1/strip.jpg", "by evidence"):
        assert part in text, part
    for kind in ("best", "strip"):
        answer = owner.get(f"/visits/1/{kind}.jpg")
        assert (answer.headers["Content-Type"], answer.body[:3]) == ("image/jpeg", b"\xff\xd8\xff")
    assert owner.get("/visits/9").status == 404
    for number in (10**18, 2**63, 10**30):
        assert owner.get(f"/visits/{number}").status == 404


@pytest.mark.parametrize("path", ["/visits/{}", "/visits/{}/best.jpg"])
def test_no_number_is_too_long_for_strangers_either(stranger, caplog, path):
    """Python reads no more than 4300 digits; what a stranger sends fills no log."""
    assert stranger.get(path.format("9" * 5000)).status == 404
    assert not caplog.records


def test_one_click_labels_a_visit_and_feeds_the_next_training(owner, three, tmp_path):
    assert owner.get("/visits").text.count("Who was it?") >= 3
    answer = owner.post("/visits/2/label", {"label": "_other", "back": "list", "query": "seen=other"})
    assert "Visit 2 was a stranger." in answer.text
    assert listed(answer) == [2]
    assert 'value="_other" aria-pressed="true"' in answer.text
    owner.post("/visits/1/label", {"label": "own", "back": "visit"})
    owner.post("/visits/3/label", {"label": "own"})
    owner.post("/visits/3/label", {"label": "_empty"})  # the last word holds
    assert main(["events", "--journal", str(three), "-o", str(tmp_path / "photos")]) == 0
    assert {path.name: bool(list(path.iterdir())) for path in (tmp_path / "photos").iterdir()} == {
        "own": True, "_other": True, "_empty": True}
    assert listed(owner.get("/visits?truth=open")) == []


@pytest.mark.parametrize("label", ["", "unicorn", "../../etc", "_person"])
def test_only_labels_that_are_offered_are_taken(owner, three, label):
    assert owner.post("/visits/1/label", {"label": label}).status == 400
    with JournalReader(three) as journal:
        assert journal.events(ids=[1])[0].truth is None
    assert owner.post("/visits/9/label", {"label": "own"}).status == 404


def test_going_back_stays_on_this_page(owner, three):
    for back, query in (("//evil.example", ""), ("list", "//evil.example"), ("list", "x#//evil"), ("list", "seen=a\r\nX: y")):
        answer = owner.post("/visits/1/label", {"label": "own", "back": back, "query": query}, follow=False)
        assert answer.location.startswith("/visits?")
        assert "evil" not in answer.location
        assert "X" not in answer.headers


HOSTILE = '<script>alert(1)</script><img src=x onerror=alert(2)>"\'&{{7*7}}'


def test_what_the_journal_and_the_model_say_is_text(page, owner, three):
    with sqlite3.connect(three / "journal.sqlite3") as database:
        database.execute("UPDATE event SET label = ?, reason = ?", (HOSTILE, HOSTILE))
        database.execute("INSERT INTO truth VALUES (2, ?)", (HOSTILE,))
    page.loop.show(labels=(HOSTILE, "own"), unlock=(HOSTILE,), model=HOSTILE, faults={Cause.MODEL: HOSTILE},
                   visitor=SeenVisitor(HOSTILE, 0.5, HOSTILE), held=Held(True, 5.0, HOSTILE))
    page.loop.answer = lambda request: Answer(False, HOSTILE)
    answers = [owner.get(path) for path in ("/", "/now", "/visits", "/visits/2", "/machine")]
    answers += [owner.post("/ask", {"wish": "release"}), owner.get(f"/visits?seen={HOSTILE.replace(' ', '%20').replace('#', '')}")]
    for answer in answers:
        assert answer.status == 200
        assert "<script>alert" not in answer.text
        assert "<img src=x" not in answer.text
        assert "49" not in re.sub(r'value="[^"]*"', "", answer.text.partition("&lt;script")[2][:200])
    assert "&lt;script&gt;alert(1)" in answers[0].text


def test_without_escaping_it_would_be_more_than_text(page, owner):
    """Sabotage."""
    page.desk._pages.autoescape = False
    page.desk._pages.cache.clear()
    page.loop.show(held=Held(True, 5.0, HOSTILE))
    assert "<script>alert" in owner.get("/now").text


def test_no_address_leads_to_other_files(owner, three):
    for path in (
        "/visits/1/../../page.token", "/visits/1/..%2f..%2fpage.token.jpg", "/visits/1/data.jpg", "/visits/1/%2e%2e.jpg",
        "/visits/../page.token", "/..%2f..%2fetc%2fpasswd", "/templates/base.html", "/page.token", "/visits/-1/best.jpg",
    ):
        answer = owner.get(path)
        assert answer.status in (404, 405), path
        assert "sha256" not in answer.text, path
        assert "root:" not in answer.text, path


def test_not_even_a_journal_that_names_other_files_does(owner, three):
    assert owner.get("/visits/1/best.jpg").status == 200
    for name in ("../page.token", "/etc/passwd", "../../../../etc/passwd", "", "absent.jpg", "."):
        with sqlite3.connect(three / "journal.sqlite3") as database:
            database.execute("UPDATE event SET best = ? WHERE id = 1", (name,))
        answer = owner.get("/visits/1/best.jpg")
        assert answer.status == 404, name
        assert "sha256" not in answer.text, name


def test_nor_a_link_among_the_pictures(owner, three):
    (three / "pictures" / "link.jpg").symlink_to("/etc/passwd")
    with sqlite3.connect(three / "journal.sqlite3") as database:
        database.execute("UPDATE event SET best = 'link.jpg' WHERE id = 1")
    assert owner.get("/visits/1/best.jpg").status == 404


def test_a_journal_that_cannot_be_read_is_told(owner, folder):
    assert "Nobody came yet." in owner.get("/").text
    answer = owner.get("/visits")
    assert answer.status == 503
    assert "There is no journal" in answer.text


def test_the_machine_tells_of_itself(page, owner, three):
    text = owner.get("/machine").text
    assert "3 visits" in text
    assert text.count("not known") == 2
    installed = []
    page.panel.board = lambda: SimpleNamespace(temperature_c=61.4, undervoltage=True, trouble="undervoltage: use another cable")
    status = SimpleNamespace(installed="garden 1", latest="garden 2", summary="garden 2 is published", is_installing=False, refusal=None)
    page.panel.updater = SimpleNamespace(status=status, install=installed.append)
    text = owner.get("/machine").text
    for part in ("61 °C", "too weak", "use another cable", "Install garden 2", "garden 2 is published"):
        assert part in text, part
    assert "is being tried" in owner.post("/install").text
    assert [who.startswith("the page (session ") for who in installed] == [True]
    page.panel.updater = None
    assert "Nobody looks" in owner.post("/install").text


# ------------------------------------------------------------------------------------------------ for other programs

def test_healthz_says_no_more_than_ok(page, stranger):
    assert (stranger.get("/healthz").status, stranger.get("/healthz").text) == (200, "ok\n")
    page.loop.show(faults={Cause.CAMERA: "secret"})
    assert (stranger.get("/healthz").status, stranger.get("/healthz").text) == (503, "not ok\n")


def test_metrics_are_for_those_with_a_token_and_prometheus_reads_them(page, stranger, folder, token, capsys):
    parser = pytest.importorskip("prometheus_client.parser", reason="prometheus_client, of the dev extra, reads metrics")
    assert main(["web", "token", "--metrics", "--journal", str(folder)]) == 0
    scraper = capsys.readouterr().out.strip()
    page.panel.counts.update({"visits": 3, "visits of own": 2, 'visits of "a\\b\nc': 1})
    page.panel.board = lambda: SimpleNamespace(temperature_c=61.4, undervoltage=False)
    page.loop.show(faults={Cause.CAMERA: "covered"}, camera=CameraState.COVERED, state=DoorState.FAULT)
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {scraper}"}):
        assert stranger.get("/metrics", **headers).status == 401
    for good in (scraper, token):
        answer = stranger.get("/metrics", Authorization=f"Bearer {good}")
        assert answer.status == 200
    assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    families = {family.name: family for family in parser.text_string_to_metric_families(answer.text)}
    value = {(sample.name, *sample.labels.values()): sample.value for family in families.values() for sample in family.samples}
    assert value["pawlatch_door_state", "fault"] == 1
    assert sum(count for key, count in value.items() if key[0] == "pawlatch_door_state") == 1
    assert value["pawlatch_visits_total", 'a"'[1:] + 'a\\b\nc'] == 1
    assert value["pawlatch_visits_total", "own"] == 2
    assert value["pawlatch_fault", "camera"] == value["pawlatch_faults",] == 1
    assert value["pawlatch_camera_ok",] == value["pawlatch_undervoltage",] == 0
    assert value["pawlatch_temperature_celsius",] == 61.4
    assert value["pawlatch_inference_seconds_count",] > 0
    assert families["pawlatch_inference_seconds"].type == "summary"
    assert families["pawlatch_frames"].type == "counter"
    assert {"version", "model", "variant", "sha256"} == set(families["pawlatch_build_info"].samples[0].labels)
    assert stranger.post("/login", {"token": scraper}).status == 401  # it opens no page


def test_no_secret_stands_in_an_address_or_a_log(page, owner, token, three, caplog, capfd):
    caplog.set_level("DEBUG")
    answers = [owner.get(path) for path in ("/", "/visits", "/visits/1", "/machine")]
    answers.append(owner.post("/ask", {"wish": "unlock"}))
    secrets = (token, owner.cookie.partition("=")[2], owner.form)
    for answer in answers:
        addresses = [*re.findall(r'(?:href|src|action)="([^"]*)"', answer.text), answer.location]
        assert not [address for address in addresses if any(secret in address for secret in secrets)]
    told = caplog.text + "".join(capfd.readouterr())
    assert not any(secret in told for secret in secrets)


def test_a_port_that_is_taken_or_a_key_that_is_none_is_told(page, panel, folder, tmp_path):
    with pytest.raises(OutputError, match="Address already in use"):
        Page(WebOptions(port=page.port), panel, folder)
    (tmp_path / "page.pem").write_text("no certificate")
    with pytest.raises(ConfigError, match="cannot be used together"):
        Page(WebOptions(port=0, certificate=tmp_path / "page.pem", key=tmp_path / "page.pem"), panel, folder)
    with pytest.raises(ConfigError, match="needs a port"):
        Page(WebOptions(), panel, folder)


def test_on_the_network_without_a_certificate_it_warns(panel, folder, caplog):
    with Page(WebOptions(port=0, host="0.0.0.0"), panel, folder):
        assert "unencrypted" in caplog.text
