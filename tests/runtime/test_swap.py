"""Another model while the door works: good ones are taken, bad ones are refused once, half ones are waited for."""

from __future__ import annotations

import gc
import json
import shutil
import threading
import weakref
from collections.abc import Callable
from pathlib import Path

import pytest

from pawlatch.card import CARD_NAME, read_card
from pawlatch.classify import Classifier
from pawlatch.errors import ModelCardError
from pawlatch.swap import ModelSlot


class Turns:
    """A loop that turns a second at a time, and waits for the slot's thread after each turn."""

    def __init__(self, slot: ModelSlot) -> None:
        self.slot, self.now_s = slot, 0.0

    def __call__(self, n: int = 3) -> Classifier | None:
        for _ in range(n):
            self.slot.poll(self.now_s)
            self.slot.close()
            self.now_s += 1.0
        return self.slot.take()


@pytest.fixture
def slot(tiny_bundle) -> ModelSlot:
    return ModelSlot(Classifier(tiny_bundle), folder=tiny_bundle, load=lambda: Classifier(tiny_bundle))


@pytest.fixture
def turns(slot) -> Turns:
    turning = Turns(slot)
    assert turning() is None
    return turning


def change_card(bundle: Path, change: Callable[[dict], object] = lambda card: card.update(name="new")) -> None:
    card = json.loads((bundle / CARD_NAME).read_text())
    change(card)
    new = bundle / ".new"
    new.write_text(json.dumps(card))
    new.replace(bundle / CARD_NAME)


def test_the_same_card_is_no_news(turns, tiny_bundle, caplog):
    (tiny_bundle / CARD_NAME).touch()
    assert turns() is None
    change_card(tiny_bundle, lambda card: None)
    assert turns() is None
    assert turns.slot.refusal is None
    assert not caplog.messages


def test_a_new_card_is_taken_between_two_frames(turns, slot, tiny_bundle):
    before = slot.current
    change_card(tiny_bundle, lambda card: card.update(name="new", deploy="float32"))
    taken = turns()
    assert taken is slot.current is not before
    assert (taken.card.name, taken.variant) == ("new", "float32")
    assert turns() is None  # once


def test_the_old_model_is_let_go(turns, slot, tiny_bundle):
    old = weakref.ref(slot.current)
    change_card(tiny_bundle)
    assert turns() is not None
    gc.collect()
    assert old() is None


def test_a_model_folder_is_watched_at_its_edge(tiny_bundle, tmp_path):
    model = tmp_path / "model"
    shutil.copytree(tiny_bundle, model / "edge")
    turns = Turns(ModelSlot(Classifier(model), folder=model, load=lambda: Classifier(model)))
    assert turns() is None
    change_card(model / "edge")
    assert turns().card.name == "new"


def damage_model(bundle: Path) -> None:
    (bundle / read_card(bundle).files["int8"].name).write_bytes(b"rotten")
    change_card(bundle)


def lose_model(bundle: Path) -> None:
    (bundle / read_card(bundle).files["int8"].name).unlink()
    change_card(bundle)


def lose_answers(bundle: Path) -> None:
    shutil.rmtree(bundle / "selftest")
    change_card(bundle)


def exchange_models(bundle: Path) -> None:
    """The card vouches for what is no int8 model of these answers."""
    def say_float_is_int8(card: dict) -> None:
        card["files"]["int8"] = card["files"]["float32"]
    change_card(bundle, say_float_is_int8)


def lose_selftest_and_invent_a_label(bundle: Path) -> None:
    change_card(bundle, lambda card: card.update(parity={}, labels=[*card["labels"], "more"]))


def cut_card(bundle: Path) -> None:
    path = bundle / CARD_NAME
    path.write_bytes(path.read_bytes()[:100])


def exchange_photos(bundle: Path) -> None:
    shutil.copyfile(bundle / "selftest" / "own.jpg", bundle / "selftest" / "other.jpg")
    change_card(bundle)


@pytest.mark.parametrize(("spoil", "told"), [
    (damage_model, "is not the file its card vouches for"),
    (lose_model, "is missing; copy the whole folder"),
    (lose_answers, "self-test of int8 failed"),
    (exchange_models, "self-test of int8 failed"),
    (exchange_photos, "becomes other pixels here"),
    (lose_selftest_and_invent_a_label, "the card has 4 labels, but the model gives 3 scores"),
    (cut_card, "is not a usable card"),
    (lambda bundle: (bundle / CARD_NAME).unlink(), "holds no pawlatch.json"),
    (shutil.rmtree, "is none"),
])
def test_a_bad_bundle_is_refused_once_and_the_old_model_goes_on(turns, slot, tiny_bundle, tmp_path, caplog, spoil, told):
    good = shutil.copytree(tiny_bundle, tmp_path / "good")
    before = slot.current
    spoil(tiny_bundle)
    assert turns(5) is None
    assert slot.current is before
    assert told in slot.refusal
    (message,) = caplog.messages
    assert told in message
    assert "tiny goes on" in message
    shutil.copytree(good, tiny_bundle, dirs_exist_ok=True)
    change_card(tiny_bundle)
    assert turns().card.name == "new"
    assert slot.refusal is None


def test_a_bundle_copied_card_first_is_taken_when_its_last_file_is_there(turns, slot, tiny_bundle, tmp_path, caplog):
    new = shutil.copytree(tiny_bundle, tmp_path / "new")
    change_card(new, lambda card: card.update(name="new", deploy="float32"))
    for path in (file := tiny_bundle / read_card(new).files["float32"].name, tiny_bundle / "selftest" / "own.jpg"):
        path.unlink()
    shutil.copyfile(new / CARD_NAME, tiny_bundle / CARD_NAME)
    assert turns() is None
    data = (new / file.name).read_bytes()
    file.write_bytes(data[:1000])  # half of it
    assert turns() is None
    file.write_bytes(data)
    assert turns() is None
    assert "own.jpg" in slot.refusal
    shutil.copyfile(new / "selftest" / "own.jpg", tiny_bundle / "selftest" / "own.jpg")
    assert turns().card.name == "new"
    assert len(caplog.messages) == 3  # each for another reason
    assert slot.refusal is None


def test_a_refused_bundle_that_does_not_change_is_not_tried_again(tiny_bundle):
    loads = []

    def load() -> Classifier:
        loads.append(1)
        return Classifier(tiny_bundle)

    turns = Turns(ModelSlot(Classifier(tiny_bundle), folder=tiny_bundle, load=load))
    turns()
    exchange_models(tiny_bundle)
    turns(20)
    assert len(loads) == 1


def test_who_runs_the_door_may_refuse_a_model(tiny_bundle):
    def check(classifier: Classifier) -> None:
        if "own" not in classifier.card.unlock:
            raise ModelCardError("it opens for nobody")

    slot = ModelSlot(Classifier(tiny_bundle), folder=tiny_bundle, load=lambda: Classifier(tiny_bundle), check=check)
    turns = Turns(slot)
    turns()
    change_card(tiny_bundle, lambda card: card.update(unlock=[]))
    assert turns() is None
    assert slot.refusal == "it opens for nobody"


def test_whatever_a_load_raises_the_door_goes_on(tiny_bundle, caplog):
    def load() -> Classifier:
        raise MemoryError("no room")

    slot = ModelSlot(Classifier(tiny_bundle), folder=tiny_bundle, load=load)
    turns = Turns(slot)
    turns()
    change_card(tiny_bundle)
    assert turns() is None
    assert slot.refusal == "MemoryError: no room"


def test_the_loop_turns_while_a_model_is_loaded(tiny_bundle):
    began, may_end = threading.Event(), threading.Event()

    def load() -> Classifier:
        began.set()
        assert may_end.wait(60)
        return Classifier(tiny_bundle)

    slot = ModelSlot(Classifier(tiny_bundle), folder=tiny_bundle, load=load)
    slot.poll(0.0)
    change_card(tiny_bundle)
    slot.poll(1.0)
    slot.poll(2.0)
    assert began.wait(60)
    for tenth in range(1000):  # the loop goes on with what it has
        slot.poll(2.0 + tenth / 10)
        assert slot.take() is None
    assert slot.is_loading
    may_end.set()
    slot.close()
    assert slot.take().card.name == "new"


def test_a_bundle_that_is_being_written_is_not_read(turns, slot, tiny_bundle, caplog):
    new = tiny_bundle / read_card(tiny_bundle).files["float32"].name
    data = new.read_bytes()
    change_card(tiny_bundle, lambda card: card.update(deploy="float32"))
    for n in range(100, 2000, 100):  # a second's worth at each look
        new.write_bytes(data[:n])
        assert turns(1) is None
    new.write_bytes(data)
    assert turns().variant == "float32"
    assert not caplog.messages


def test_it_looks_once_a_second(turns, slot, tiny_bundle):
    change_card(tiny_bundle)
    turns(1)  # sees it
    for hundredth in range(100):
        slot.poll(turns.now_s - 1 + hundredth / 100)
        assert not slot.is_loading
    assert turns(1).card.name == "new"  # settled
