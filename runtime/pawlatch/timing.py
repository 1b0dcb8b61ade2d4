"""Times that can be held against each other on a machine that is never quite idle."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from time import perf_counter


def interleaved_ms(calls: Mapping[str, Callable[[], object]], *, runs: int, at_a_time: int = 1,
                   longest_s: float = float("inf"), clock: Callable[[], float] = perf_counter) -> dict[str, list[float]]:
    """Milliseconds of `runs` calls of each, in turn, so that a noisy moment falls on all of them alike.

    With `at_a_time` more than one, each begins its turn with a call that is not timed, and so finds the processor's caches as
    it would leave them itself. After `longest_s` no further turn begins. `clock` is in seconds.
    """
    taken: dict[str, list[float]] = {name: [] for name in calls}
    began_s = perf_counter()
    for call in calls.values():
        call()
    for done in range(0, runs, at_a_time):
        for name, call in calls.items():
            if at_a_time > 1:
                call()
            taken[name] += [_ms(call, clock) for _ in range(min(at_a_time, runs - done))]
        if perf_counter() - began_s > longest_s:
            break
    return taken


def _ms(call: Callable[[], object], clock: Callable[[], float]) -> float:
    start = clock()
    call()
    return (clock() - start) * 1e3
