"""How the page says things: states, times, sizes, labels."""

from __future__ import annotations

from datetime import date, datetime

from pawlatch.door import PERSON
from pawlatch.frame import CameraState
from pawlatch.overlay import CAMERA_WORDS
from pawlatch.panel import Panel, Request, View, Wish
from pawlatch.records import Event
from pawlatch.states import DoorState

SILENT_S = 15.0  # a loop that leaves nothing for so long hangs, or loads a model
PEOPLE = {"_other": "a stranger", "_empty": "nobody", PERSON: "a person"}
MODES = {"off": "Off", "observe": "Observe", "armed": "Armed"}
_STATES = {
    DoorState.STARTING: ("Locked", "wait", "It is starting."),
    DoorState.LOCKED: ("Locked", "locked", "It opens for those who may pass."),
    DoorState.UNLOCKED: ("Open", "open", "It locks by itself."),
    DoorState.HELD: ("Held open", "held", ""),
    DoorState.LOCKOUT: ("Locked out", "wait", "Too many strangers came; it stays locked for a while."),
    DoorState.FAULT: ("Locked", "wait", "Something is wrong."),
}


def state(panel: Panel) -> tuple[str, str, str]:
    """The door's state for people: a word or two, its tone for the style sheet, and a sentence."""
    view = panel.view
    if panel.is_closed:
        return "Stopping", "wait", "The door's program is on its way out. A door that stops is locked."
    if panel.silent_s > SILENT_S:
        return "No word", "wait", f"The door has said nothing for {span(panel.silent_s)}: it loads a model, or hangs."
    if view.is_jammed:
        return "Jammed", "bad", "The latch does not do as it is told. Look at the door."
    if view.held is not None and not view.held.is_open and view.state is DoorState.LOCKED:
        return "Kept locked", "held", ""
    word, tone, told = _STATES[view.state]
    if view.observes and view.state in (DoorState.UNLOCKED, DoorState.HELD):
        return "Locked", "held", "It would be open now, but it only observes."
    if view.state is DoorState.LOCKED:
        told = _resting(view)
    return word, tone, told


def _resting(view: View) -> str:
    if view.mode == "off":
        return "It is off: it opens for nobody."
    if not view.unlock:
        return "Its model names nobody who may pass."
    names = " or ".join(map(label, view.unlock))
    return f"It writes down when it would open for {names}." if view.observes else f"It opens for {names}."


def camera(state: CameraState) -> str:
    """What the camera does, as a sentence; "" while all is well."""
    return "" if state is CameraState.OK else sentence(CAMERA_WORDS[state])


def label(name: str) -> str:
    """A label as people say it."""
    return PEOPLE.get(name, name)


def choices(view: View, event: Event) -> list[str]:
    """The labels that a person may give a visit: those of the model, a stranger, nobody. None of a person's own unlock."""
    if event.label == PERSON:
        return []
    own = [*view.unlock, *(each for each in view.labels if each not in view.unlock and not each.startswith("_"))]
    return [*own, "_other", "_empty"]


def sentence(text: str) -> str:
    """With a capital and a full stop."""
    return f"{text[:1].upper()}{text[1:]}."


def wish(request: Request) -> str:
    """What was asked, as a question's object."""
    if request.wish is Wish.UNLOCK:
        return "Unlock the door?"
    if request.wish is Wish.MODE:
        return "Let the door open by itself?"
    return f"Hold the door open for {'as long as may be' if request.for_s is None else span(request.for_s)}?"


def span(seconds: float) -> str:
    """A length of time in its largest unit."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 100 * 60:
        return f"{seconds / 60:.0f} min"
    if seconds < 48 * 3600:
        return f"{seconds / 3600:.0f} h"
    return f"{seconds / 86400:.0f} days"


def moment(at: datetime, today: date) -> str:
    """When, as short as may be."""
    if at.date() == today:
        return f"{at:%H:%M}"
    return f"{at.day} {at:%b, %H:%M}" if at.year == today.year else f"{at:%Y-%m-%d %H:%M}"


def size(count: float) -> str:
    """Bytes."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= scale:
            return f"{count / scale:.1f} {unit}"
    return f"{count:.0f} B"
