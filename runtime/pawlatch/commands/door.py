"""`pawlatch run`: the door itself."""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import get_args

from pawlatch.board import BoardWatch
from pawlatch.commands.arguments import positive, whole
from pawlatch.commands.fronts import FRONTS, open_fronts, opened_show, opened_updater, say
from pawlatch.commands.session import Clock, Mind, Session, Wishes
from pawlatch.config import Config, read_config
from pawlatch.decide import POLICIES
from pawlatch.door import Cause, Door, Transition
from pawlatch.driven import driving
from pawlatch.errors import PawlatchError
from pawlatch.journal import Journal
from pawlatch.latch import RecordingLatch, latch_options, open_latch
from pawlatch.ledger import Ledger
from pawlatch.loop import signals
from pawlatch.overlay import clock_text
from pawlatch.panel import Panel
from pawlatch.replay import ClipClock
from pawlatch.rules import Mode
from pawlatch.sensors import open_sensors
from pawlatch.service import Notifier
from pawlatch.show import Show, show_address

QUIET = (Cause.STARTED, Cause.VERDICT, Cause.TIME, Cause.STOP, Cause.END, Cause.EXCEPTION, Cause.RELOAD, Cause.REQUEST)


def run(argv: list[str]) -> int:
    """Watch a camera and work the latch until the source ends, or SIGTERM or SIGINT comes.

    SIGHUP locks, reads the settings and the model again, and goes on; where they are bad, with the old ones.
    """
    args = _arguments(argv)
    config = begun = _settings(args)
    clock: Clock = ClipClock() if args.fast else _stopwatch()
    wishes = Wishes()
    with (
        signals(stop=(wishes.end,), lock=(wishes.begin_again,)),
        Notifier.from_environment() as notifier, ExitStack() as held,
    ):
        board = BoardWatch() if args.fast else held.enter_context(BoardWatch())  # a clip is judged alike on every machine
        mind: Mind | None = None
        show: Show | None = None
        panel = held.enter_context(closing(Panel()))
        panel.board = lambda: board.board
        has_fronts = False
        while True:
            with _locked_door(config, args, clock, panel) as (door, ledger):
                mind = mind or Mind.opened(config)
                show = show or opened_show(begun, held)
                panel.updater = panel.updater or opened_updater(begun, args.config, held)
                has_fronts = has_fronts or open_fronts(begun, panel, held)
                session = Session(config, mind, door, ledger, clock=clock, notifier=notifier, show=show, wishes=wishes,
                                   board=board, panel=panel if has_fronts else None)
                session.watch(paced=not args.fast, wait=args.config is not None, record=args.record)
            if wishes.ends or not wishes.begins_again:
                notifier.stopping()
                return 0
            wishes.begins_again = False
            notifier.reloading()
            config, mind = _read_again(args, config, mind)
            for name in FRONTS:
                if getattr(config, name) != getattr(begun, name):
                    say(f"[{name}] is read at the start alone: what has changed there counts from the next one")


@contextmanager
def _locked_door(config: Config, args: argparse.Namespace, clock: Clock, panel: Panel) -> Iterator[tuple[Door, Ledger | None]]:
    """A door that is locked before anything else is opened, and locked again however it is left."""
    with ExitStack() as stack:
        stack.enter_context(driving(config.latch))
        latch = stack.enter_context(closing(open_latch(config.latch, clock=clock)))
        latch.lock()
        ledger = None
        if latch.is_real or args.config or args.journal:
            journal = stack.enter_context(Journal(config.journal, clock=clock))
            for notice in journal.notices:
                say(notice)
            ledger = Ledger(journal)
        sensors = stack.enter_context(open_sensors(config.door.sensors))

        def moved(transition: Transition) -> None:
            _tell(transition)
            panel.moved(transition)
            if ledger is not None:
                ledger.journal.transition(transition)

        door = stack.enter_context(Door(
            latch, options=config.door, clock=clock, on_transition=moved, on_unlock=ledger.unlocking if ledger else None,
            passage=sensors.passage, reed=sensors.reed,
        ))
        yield door, ledger
    if isinstance(door.driven, RecordingLatch):
        say(f"latch: {door.driven}")


def _arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="pawlatch run", description="Watch a camera and open the door for the animals that may pass.")
    add = parser.add_argument
    add("bundle", type=Path, nargs="?", help="the folder model/edge (or model/); default: what --config says")
    add("--config", type=Path, metavar="door.toml", help="all settings of a door; the other options go before it")
    add("--camera", metavar="URI",
        help="0 (default), /dev/video0, picamera, rtsp://…, http://…, clip.mp4, a folder of pictures, scene:demo")
    add("--latch", metavar="URI", help="log (default): moves nothing, tells what would; gpio:17, servo:18")
    add("--mode", choices=get_args(Mode), help="observe (default) only tells what it would have done; armed moves a real latch")
    add("--policy", choices=POLICIES, help="what decides (default evidence)")
    add("--variant", help="instead of the one the card deploys")
    add("--threads", type=whole, help="for inference (default 2)")
    add("--unlock-s", type=positive, metavar="S",
        help="how long the door stays open; up to three times that while the animal stays (default 5)")
    add("--journal", type=Path, metavar="DIR", help="keep visits there; without it they are kept with --config or a real latch")
    add("--show", metavar="[HOST:]PORT", help="what the door sees, for a browser; on this machine alone without HOST")
    add("--record", type=Path, metavar="CLIP.webm", help="keep what was seen, verdicts drawn in")
    add("--fast", action="store_true", help="do not wait for a clip's own time; each frame in turn")
    args = parser.parse_args(argv)
    if args.bundle is None and args.config is None:
        parser.error("name a bundle, as model/edge, or settings with --config door.toml")
    return args


def _settings(args: argparse.Namespace) -> Config:
    """What the file says, and the command line before it."""
    config = Config() if args.config is None else read_config(args.config)
    if args.latch is not None:
        config = dataclasses.replace(config, latch=latch_options(args.latch))
    host, port = (None, None) if args.show is None else show_address(args.show)
    return (
        config.with_("model", bundle=args.bundle, variant=args.variant, threads=args.threads)
        .with_("camera", uri=args.camera)
        .with_("decision", policy=args.policy)
        .with_("door", mode=args.mode, unlock_s=args.unlock_s)
        .with_("journal", folder=args.journal)
        .with_("show", host=host, port=port)
    )


def _read_again(args: argparse.Namespace, config: Config, mind: Mind) -> tuple[Config, Mind]:
    """The settings and the model as they are on the disk now; the old ones where those are bad."""
    try:
        new = _settings(args)
        return new, Mind.opened(new)
    except PawlatchError as error:
        say(f"settings and model stay as they were: {error}")
        return config, mind


def _tell(transition: Transition) -> None:
    """Faults, lockouts and a person's hand; what visits and unlocks are, the loop tells."""
    if transition.cause in QUIET:
        return
    detail = f": {transition.detail}" if transition.detail else ""
    say(f"{clock_text(transition.time_s):>9}  {transition.after.value}, {transition.cause.value}{detail}")


def _stopwatch() -> Clock:
    """Monotonic seconds since now."""
    began_s = time.monotonic()
    return lambda: time.monotonic() - began_s
