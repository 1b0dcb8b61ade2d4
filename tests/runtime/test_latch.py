from __future__ import annotations

import logging

import pytest

from pawlatch.errors import LatchError
from pawlatch.latch import LOCKED, UNLOCKED, RecordingLatch, open_latch


def test_keeps_each_move_with_its_time(clock):
    latch = RecordingLatch(clock=clock)
    latch.lock()
    clock.now_s = 2.5
    latch.unlock()
    latch.close()
    assert latch.history == [(0.0, LOCKED), (2.5, UNLOCKED), (2.5, LOCKED)]
    latch.assert_states([LOCKED, UNLOCKED, LOCKED])


def test_a_command_that_moves_nothing_is_not_history():
    latch = RecordingLatch()
    for command in (latch.lock, latch.lock, latch.close, latch.close):
        command()
    latch.assert_states([LOCKED])


def test_assert_states_goes_red_and_tells_what_happened():
    latch = RecordingLatch(clock=lambda: 1.0)
    latch.unlock()
    with pytest.raises(AssertionError, match=r"expected the latch to go locked; it went unlocked at 1\.0 s"):
        latch.assert_states([LOCKED])


def test_log_latch_logs_its_moves(caplog):
    with caplog.at_level(logging.INFO, logger="pawlatch"):
        open_latch("log").lock()
    assert [record.getMessage() for record in caplog.records] == ["latch locked"]


def test_unknown_latch_is_refused_with_what_exists():
    with pytest.raises(LatchError, match=r"the latches are: log; got 'gpio:17'"):
        open_latch("gpio:17")
