"""The bridge between a door's panel and an MQTT broker: what is, goes out; what is asked, comes in.

Three threads: the link's works the network; one looks at the panel and leaves the newest payloads with the link; one asks
the door, which may take seconds. The door's loop knows none of them.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Self

import cv2
import numpy as np

from pawlatch.image import Image
from pawlatch.keepsake import jpeg
from pawlatch.limits import MINUTE_S, Tally
from pawlatch.listening import LOCAL_HOSTS
from pawlatch.mqtt import discovery
from pawlatch.mqtt.commands import COMMAND_TOPICS, WHO, Codes, Doorman, Heard, RefusedError, Task, opens_more
from pawlatch.mqtt.link import Link
from pawlatch.mqtt.options import MqttOptions, read_code
from pawlatch.panel import Panel, Request, SeenVisit, Wish

logger = logging.getLogger(__name__)

LOOK_S, PAUSE_S = 0.5, 0.1  # how often to look where nothing changes, and how long to let changes come together
SILENT_S = 15.0  # of the loop, after which its state is not known: it hangs
MOST_ORDERS, WAIT_S = 8, 2.0  # that wait, and for how long such as let somebody in
MOST_A_MINUTE = 10  # but for locking: each may cost the door's loop a write to the disk
LONGEST_SIDE_PX = 960  # of a picture
_JOIN_S = 10.0  # more than a request may take


class Bridge:
    """Speaks MQTT for a door until it is closed; a context manager.

    Raises:
        ConfigError: the password, the code or a certificate cannot be read.
    """

    def __init__(self, options: MqttOptions, panel: Panel, *, clock: Callable[[], float] = time.monotonic,
                 wall_s: Callable[[], float] = time.time) -> None:
        self._options, self._panel = options, panel
        self._code = read_code(options)
        self._doorman = Doorman(Codes(self._code, clock=clock), wall_s=wall_s, clock=clock)
        self._birth = f"{options.discovery_prefix}/status"
        self._link = Link(options, will=(self._topic("availability"), discovery.OFFLINE), on_message=self._heard,
                          topics=(self._birth, *(self._topic(name) for name in COMMAND_TOPICS)), clock=clock)
        self._refusals, self._tally, self._clock = _Sparing(clock), Tally(MOST_A_MINUTE, within_s=MINUTE_S), clock
        self._orders: queue.Queue[tuple[Request | Task, float] | None] = queue.Queue(MOST_ORDERS)
        self._answer = ""
        self._seen_visits = 0
        self._stopped = threading.Event()
        self._threads = [threading.Thread(target=self._look, name="mqtt states", daemon=True),
                         threading.Thread(target=self._obey, name="mqtt orders", daemon=True)]

    @property
    def is_up(self) -> bool:
        """Whether the broker is there."""
        return self._link.is_up

    def close(self) -> None:
        """Say goodbye and end. May be called twice."""
        if self._stopped.is_set():
            return
        self._stopped.set()
        self._link.close()
        with suppress(queue.Full):  # full: then it is awake
            self._orders.put_nowait(None)
        for thread in self._threads:
            if thread.is_alive():
                thread.join(_JOIN_S)
                if thread.is_alive():
                    logger.error("the thread %s does not end", thread.name)

    def __enter__(self) -> Self:
        if not self._options.tls and self._options.host not in LOCAL_HOSTS:
            logger.warning("MQTT is not encrypted: whoever reads along learns the password and the code; write tls = true")
        self._link.__enter__()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def _topic(self, name: str) -> str:
        return f"{self._options.base}/{name}"

    # --------------------------------------------------------------------------------------------------------- outwards

    def _look(self) -> None:
        version, is_broken = 0, False
        while not self._stopped.is_set():
            version = self._panel.wait(version, LOOK_S)
            try:
                self._leave()
                is_broken = False
            except Exception:  # a picture or a sensor that fails: the next look may go well, and the door goes on in any case
                logger.log(logging.DEBUG if is_broken else logging.ERROR, "the door cannot be told by MQTT", exc_info=True)
                is_broken = True
            self._stopped.wait(LOOK_S if self._panel.is_closed else PAUSE_S)

    def _leave(self) -> None:
        """Leave with the link what is now; the availability last, so that nobody sees an old state as a new one."""
        panel, keep = self._panel, self._link.keep
        if not panel.view.model:  # the loop has not begun: nothing is known yet
            return
        view, board = panel.view, None if panel.board is None else panel.board()
        updates = None if panel.updater is None else panel.updater.status
        features = discovery.Features(
            modes=view.modes, has_code=self._code is not None, is_code_digits=self._code is not None and self._code.isdigit(),
            has_power=board is not None and board.undervoltage is not None,
            has_temperature=board is not None and board.temperature_c is not None,
            has_updates=updates is not None)
        keep(discovery.discovery_topic(self._options), discovery.as_bytes(discovery.discovery(self._options, features)))
        keep(self._topic("state"), discovery.as_bytes(discovery.state(view, board=board, answer=self._answer)))
        if updates is not None:
            keep(self._topic("update"), discovery.as_bytes(discovery.update(updates)))
        for seen in panel.visits:
            if seen.number > self._seen_visits:
                self._seen_visits = seen.number
                self._tell_visit(seen)
        is_known = panel.silent_s < SILENT_S and not panel.is_closed
        keep(self._topic("availability"), (discovery.ONLINE if is_known else discovery.OFFLINE).encode())

    def _tell_visit(self, seen: SeenVisit) -> None:
        told = discovery.as_bytes(discovery.visit(seen))
        self._link.keep(self._topic("visit"), told)
        self._link.tell(self._topic("event"), told)
        if self._options.pictures and seen.visit.best_bgr is not None:
            self._link.keep(self._topic("picture"), _picture(seen.visit.best_bgr))

    # ---------------------------------------------------------------------------------------------------------- inwards

    def _heard(self, heard: Heard) -> None:
        """In the link's thread: nothing here may wait."""
        if heard.topic == self._birth:
            if heard.payload == discovery.ONLINE.encode():
                self._link.again()
            return
        name = heard.topic.removeprefix(f"{self._options.base}/")
        try:
            order = self._doorman.order(Heard(name, heard.payload, heard.is_retained))
            if not _locks(order):
                self._count()
            self._orders.put_nowait((order, self._clock()))
        except RefusedError as refusal:
            self._answer = str(refusal)
            self._refusals.warn(f"MQTT: {name if name in COMMAND_TOPICS else 'a message'} is not obeyed: {refusal}")
        except queue.Full:
            self._refusals.warn(f"MQTT: {name} is not obeyed: too much is asked at once")

    def _count(self) -> None:
        now_s = self._clock()
        if self._tally.is_full(now_s):
            raise RefusedError(f"{MOST_A_MINUTE} orders came within a minute, and no more are taken")
        self._tally.add(now_s)

    def _obey(self) -> None:
        while (waiting := self._orders.get()) is not None and not self._stopped.is_set():
            order, heard_s = waiting
            try:
                if opens_more(order) and self._clock() - heard_s > WAIT_S:
                    self._answer = "it waited too long behind other orders; nothing was done"
                else:
                    self._answer = self._done(order)
            except Exception:  # whatever one order does to this thread, the next "lock" must be heard
                logger.exception("an order by MQTT failed")
                self._answer = "it failed; the door's log says why"

    def _done(self, order: Request | Task) -> str:
        """Do it; a sentence on how it went."""
        if isinstance(order, Request):
            answer = self._panel.ask(order)
            logger.info("MQTT asked to %s: %s", order.wish.value, answer.text)
            return answer.text
        if order is Task.INSTALL:
            if self._panel.updater is None:
                return "nobody looks for newer models here"
            self._panel.updater.install(WHO)
            return "the model is being installed"
        return self._snapshot()

    def _snapshot(self) -> str:
        if not self._options.pictures:
            return "pictures = false: none is sent"
        if (draw := self._panel.picture) is None:
            return "there is no picture yet"
        self._link.keep(self._topic("snapshot"), _picture(draw()))
        return "a picture was taken"


def _locks(order: Request | Task) -> bool:
    return isinstance(order, Request) and order.wish is Wish.LOCK


class _Sparing:
    """Warns, but not without end: a broker that sends nonsense must not fill the disk."""

    def __init__(self, clock: Callable[[], float], *, most: int = 10, within_s: float = 600.0) -> None:
        self._clock, self._most, self._within_s = clock, most, within_s
        self._since_s, self._count = float("-inf"), 0

    def warn(self, text: str) -> None:
        now_s = self._clock()
        if now_s - self._since_s > self._within_s:
            if self._count > self._most:
                logger.warning("MQTT: %d more were not obeyed", self._count - self._most)
            self._since_s, self._count = now_s, 0
        self._count += 1
        if self._count <= self._most:
            logger.warning("%s%s", text, "; such messages are only counted for a while" if self._count == self._most else "")


def _picture(image_bgr: Image) -> bytes:
    """A JPEG of moderate size."""
    scale = LONGEST_SIDE_PX / max(image_bgr.shape[:2])
    if scale < 1:
        size_wh = (round(image_bgr.shape[1] * scale), round(image_bgr.shape[0] * scale))
        image_bgr = np.asarray(cv2.resize(image_bgr, size_wh, interpolation=cv2.INTER_AREA), np.uint8)
    return jpeg(image_bgr)
