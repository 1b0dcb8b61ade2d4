"""Whom a visit of the demo is put down to."""

from __future__ import annotations

from pawlatch.commands.demo import Segment, _row


def test_a_visit_that_outlasts_who_it_opened_for_is_still_theirs(stay):
    segments = [Segment("biscuit", 10.0, 10.5, True), Segment("another dog", 11.5, 13.0, False)]
    assert _row(stay(10.0, own=0.9, unlock_at=4, frames=22), segments, {}).came == "biscuit"
    assert _row(stay(10.0, own=0.9, frames=4), segments, {}).came == "biscuit"
    assert _row(stay(11.5, other=0.9, frames=12), segments, {}).came == "another dog"
