"""The panel: what watchers read, what they ask, and what is never carried out too late."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from pawlatch.camera import CameraState
from pawlatch.panel import KEPT_VISITS, MOST_WAITING, Answer, Panel, Request, View, Wish
from pawlatch.states import Cause, DoorState, Transition

UNLOCK = Request(Wish.UNLOCK, "somebody")


@pytest.fixture
def panel():
    made = Panel()
    yield made
    made.close()


def asking(panel, request=UNLOCK):
    """Ask in a thread; what comes back is in the list once the thread has ended."""
    answers = []
    version = len(panel._waiting)
    thread = threading.Thread(target=lambda: answers.append(panel.ask(request)))
    thread.start()
    while len(panel._waiting) == version and thread.is_alive():
        thread.join(0.001)
    return thread, answers


def test_the_loop_carries_out_what_was_asked_in_order_and_the_asker_hears_of_it(panel):
    done = []

    def act(request):
        done.append(request.wish)
        return Answer(True, "done")

    first = asking(panel, UNLOCK)
    second = asking(panel, Request(Wish.LOCK, "somebody"))
    panel.carry_out(act)
    for thread, answers in (first, second):
        thread.join()
        assert answers == [Answer(True, "done")]
    assert done == [Wish.UNLOCK, Wish.LOCK]
    panel.carry_out(act)
    assert len(done) == 2


def test_what_the_loop_does_not_come_to_in_time_is_never_done(panel, monkeypatch):
    monkeypatch.setattr("pawlatch.panel.ANSWER_S", 0.05)
    answer = panel.ask(UNLOCK)
    assert not answer.is_done
    assert "nothing was done" in answer.text
    panel.carry_out(lambda request: pytest.fail("a door that hung opens for somebody who has gone"))
    assert panel.counts["requests refused"] == 1


def test_without_the_deadline_it_would_be_done(panel, monkeypatch):
    """Sabotage: it is the drop, and nothing else, that keeps a late request from the door."""
    monkeypatch.setattr("pawlatch.panel.ANSWER_S", 0.05)
    monkeypatch.setattr("pawlatch.panel._Pending.begin", lambda self, now_s: True)
    panel.ask(UNLOCK)
    done = []
    panel.carry_out(lambda request: done.append(request) or Answer(True, ""))
    assert done


def test_what_fails_reaches_the_loop_and_the_asker(panel):
    thread, answers = asking(panel)

    def act(request):
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError):
        panel.carry_out(act)
    thread.join()
    assert answers == [Answer(False, "the door failed at it")]


def test_a_flood_is_refused_at_once(panel):
    threads = [asking(panel)[0] for _ in range(MOST_WAITING)]
    assert panel.ask(UNLOCK) == Answer(False, "too much is asked at once; ask again")
    panel.carry_out(lambda request: Answer(True, ""))
    for thread in threads:
        thread.join()


def test_a_closed_panel_tells_those_who_wait_and_those_who_come(panel):
    thread, answers = asking(panel)
    panel.close()
    thread.join()
    assert [*answers, panel.ask(UNLOCK)] == [Answer(False, "the door is stopping")] * 2
    assert panel.wait(0, 60.0) == panel.wait(0, 60.0)  # at once: nothing more will come
    panel.close()


def test_watchers_wake_by_what_changed_and_by_nothing_else(panel):
    version = panel.wait(-1, 0.0)
    panel.publish(View(camera=CameraState.OK))
    changed = panel.wait(version, 60.0)
    assert changed > version
    panel.publish(View(camera=CameraState.OK))
    panel.saw(0.01)
    panel.saw(None)
    assert panel.wait(changed, 0.0) == changed
    assert (panel.counts["frames"], panel.counts["classified"], panel.inference_s) == (2, 1, 0.01)
    panel.moved(Transition(1.0, DoorState.LOCKED, DoorState.FAULT, Cause.CAMERA, "it is black", True))
    assert panel.wait(changed, 60.0) > changed
    assert panel.moves[-1].transition.detail == "it is black"


def test_unlocks_are_counted_when_the_animal_can_pass(panel):
    for is_unlocked in (False, True, True, False, True):
        panel.publish(View(is_unlocked=is_unlocked))
    assert panel.counts["unlocks"] == 2


def test_the_last_visits_are_there(panel, stay):
    visit = stay(10.0, own=0.9, unlock_at=4)
    for number in range(KEPT_VISITS + 3):
        panel.visited(visit, event=number + 40, armed=number % 2 == 0)
    kept = panel.visits
    assert [seen.number for seen in kept] == list(range(4, KEPT_VISITS + 4))
    assert (kept[-1].event, kept[-1].door, kept[-2].door) == (KEPT_VISITS + 42, "opened", "would open")
    assert panel.counts["visits of own"] == KEPT_VISITS + 3


def test_only_the_newest_visits_keep_a_picture(panel, stay):
    """One of 1920×1080 takes six megabytes, and the service may have 400."""
    visit = stay(10.0, own=0.9)
    assert visit.best_bgr is not None
    assert visit.shots
    for _ in range(5):
        panel.visited(visit, event=None, armed=True)
    assert [seen.visit.best_bgr is not None for seen in panel.visits] == [False] * 3 + [True] * 2
    assert not any(seen.visit.shots or seen.visit.kept for seen in panel.visits)
    assert panel.visits[0].visit.label == visit.label


def test_silence_is_counted_from_what_was_left_last(clock):
    panel = Panel(clock=clock)
    clock.now_s = 5.0
    assert panel.silent_s == 5.0
    panel.publish(View())
    clock.now_s = 5.5
    assert panel.silent_s == 0.5
    panel.picture = lambda: np.zeros((4, 4, 3), np.uint8)
    assert panel.picture().shape == (4, 4, 3)
