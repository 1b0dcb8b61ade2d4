"""Wrong tokens cost time: each makes the pause longer in which nothing more is tried, for its address and for all together.

Who came in from an address before waits there for its own wrong tokens alone: strangers who try at the end of each pause, from
many addresses, would else keep an owner out for good. While a pause lasts, the right token is not looked at either, so that
nobody learns from the answer. Who is logged in already notices nothing of it. The tables are bounded: of many addresses, the
oldest are forgotten.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

FREE, FREE_TOGETHER = 3, 20  # wrong tokens without a pause: anybody mistypes
FIRST_S, LONGEST_S = 1.0, 60.0  # a pause doubles
LONGEST_TOGETHER_S = 10.0  # so that strangers cannot keep an owner out for long
FORGIVEN_S = 900.0  # after which an address is as new
ADDRESSES = 256


@dataclass
class _Count:
    wrong: int = 0
    last_s: float = 0.0
    until_s: float = 0.0

    def add(self, now_s: float, *, free: int, longest_s: float) -> None:
        if now_s - self.last_s > FORGIVEN_S:
            self.wrong = 0
        self.wrong, self.last_s = self.wrong + 1, now_s
        if self.wrong > free:
            self.until_s = now_s + min(longest_s, FIRST_S * 2.0 ** min(30, self.wrong - free - 1))


class Pauses:
    """To be used from one thread; `clock` is monotonic."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._together = _Count()
        self._by_address: OrderedDict[str, _Count] = OrderedDict()
        self._known: OrderedDict[str, None] = OrderedDict()  # whence somebody came in

    def __len__(self) -> int:
        return len(self._by_address)

    def left_s(self, address: str) -> float:
        """For how long nothing of this address is tried; 0 where it may try."""
        key = _network(address)
        together_s = 0.0 if key in self._known else self._together.until_s
        return max(0.0, max(self._by_address.get(key, _Count()).until_s, together_s) - self._clock())

    def wrong(self, address: str) -> None:
        """It tried, and was wrong."""
        now_s, key = self._clock(), _network(address)
        self._by_address.setdefault(key, _Count()).add(now_s, free=FREE, longest_s=LONGEST_S)
        self._by_address.move_to_end(key)
        while len(self._by_address) > ADDRESSES:
            self._by_address.popitem(last=False)
        self._together.add(now_s, free=FREE_TOGETHER, longest_s=LONGEST_TOGETHER_S)

    def right(self, address: str) -> None:
        """It knew the token."""
        key = _network(address)
        self._by_address.pop(key, None)
        self._known[key] = None
        self._known.move_to_end(key)
        while len(self._known) > ADDRESSES:
            self._known.popitem(last=False)


def _network(address: str) -> str:
    """One host: of IPv6 its network, in which it may choose addresses as it likes."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv4Address):
        return address
    return str(parsed.ipv4_mapped or ipaddress.IPv6Network((parsed, 64), strict=False))
