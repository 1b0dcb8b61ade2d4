"""`pawlatch run`: the door itself."""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from pawlatch.attendant import Attendant
from pawlatch.board import UNKNOWN, BoardWatch
from pawlatch.camera import CameraState, open_camera
from pawlatch.classify import Classifier
from pawlatch.commands.arguments import positive, whole
from pawlatch.commands.fronts import FRONTS, open_fronts, opened_show, opened_updater, say
from pawlatch.commands.visits import headline, visit_line
from pawlatch.config import Config, read_config
from pawlatch.decide import POLICIES, Policy, policy_from_card, policy_to_json
from pawlatch.door import Cause, Door, Transition
from pawlatch.driven import driving
from pawlatch.errors import EngineError, PawlatchError
from pawlatch.gate import Gate
from pawlatch.journal import Journal, Setting
from pawlatch.latch import RecordingLatch, latch_options, open_latch
from pawlatch.ledger import Ledger
from pawlatch.loop import Step, Watch, signals
from pawlatch.model import cache_folder, open_model
from pawlatch.overlay import ClipWriter, clock_text, draw, draw_silent
from pawlatch.panel import Answer, Held, Panel, Request, View, Visitor, Wish
from pawlatch.replay import ClipClock
from pawlatch.rules import Mode, arming_doubts, check_labels
from pawlatch.selftest import selftest_once
from pawlatch.sensors import open_sensors
from pawlatch.service import Notifier
from pawlatch.show import Show, show_address
from pawlatch.swap import ModelSlot
from pawlatch.visit import Visit

Clock = Callable[[], float]

QUIET = (Cause.STARTED, Cause.VERDICT, Cause.TIME, Cause.STOP, Cause.END, Cause.EXCEPTION, Cause.RELOAD, Cause.REQUEST)


@dataclass(frozen=True, eq=False)
class _Mind:
    """What decides: a model and its policy."""

    classifier: Classifier
    policy: Policy

    @classmethod
    def of(cls, classifier: Classifier, config: Config) -> _Mind:
        """Raises PawlatchError where the model does not go with the settings."""
        check_labels(config.door.labels, classifier.card.labels)
        return cls(classifier, policy_from_card(classifier.card, classifier.variant, config.decision))

    @classmethod
    def opened(cls, config: Config) -> _Mind:
        """Raises PawlatchError where the model does not open, fails its self-test, or does not go with the settings."""
        classifier = open_model(config.model)
        report = selftest_once(classifier, state=cache_folder() / "selftest.json")
        if not report.ok:
            raise EngineError(str(report))
        return cls.of(classifier, config)


class _Wishes:
    """What signals asked for: heard at any time, also while there is nothing yet that could be told to stop."""

    def __init__(self) -> None:
        self.ends = self.begins_again = False
        self._tell: Callable[[Cause], object] = lambda cause: None

    def end(self) -> None:
        """SIGTERM, SIGINT."""
        self.ends = True
        self._tell(Cause.STOP)

    def begin_again(self) -> None:
        """SIGHUP."""
        self.begins_again = True
        self._tell(Cause.RELOAD)

    def tell(self, stop: Callable[[Cause], object]) -> None:
        """Whom to tell from now on, and of what was asked before."""
        self._tell = stop
        if self.ends or self.begins_again:
            stop(Cause.STOP if self.ends else Cause.RELOAD)


def run(argv: list[str]) -> int:
    """Watch a camera and work the latch until the source ends, or SIGTERM or SIGINT comes.

    SIGHUP locks, reads the settings and the model again, and goes on; where they are bad, with the old ones.
    """
    args = _arguments(argv)
    config = begun = _settings(args)
    clock: Clock = ClipClock() if args.fast else _stopwatch()
    wishes = _Wishes()
    with (
        signals(stop=(wishes.end,), lock=(wishes.begin_again,)),
        Notifier.from_environment() as notifier, ExitStack() as held,
    ):
        board = BoardWatch() if args.fast else held.enter_context(BoardWatch())  # a clip is judged alike on every machine
        mind: _Mind | None = None
        show: Show | None = None
        panel = held.enter_context(closing(Panel()))
        panel.board = lambda: board.board
        has_fronts = False
        while True:
            with _locked_door(config, args, clock, panel) as (door, ledger):
                mind = mind or _Mind.opened(config)
                show = show or opened_show(begun, held)
                panel.updater = panel.updater or opened_updater(begun, args.config, held)
                has_fronts = has_fronts or open_fronts(begun, panel, held)
                session = _Session(config, mind, door, ledger, clock=clock, notifier=notifier, show=show, wishes=wishes,
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


class _Session:
    """One run of the loop under one set of settings."""

    def __init__(self, config: Config, mind: _Mind, door: Door, ledger: Ledger | None, *, clock: Clock, notifier: Notifier,
                 show: Show | None, wishes: _Wishes, board: BoardWatch, panel: Panel | None) -> None:
        self._wishes, self._panel = wishes, panel
        self._attendant = Attendant(door, folder=None if ledger is None else config.journal.folder)
        self._board, self._strain = board, UNKNOWN.strain
        self._was_armed: bool | None = None  # when it unlocked for the visit that goes on
        self._config, self._mind, self._door, self._ledger = config, mind, door, ledger
        self._clock, self._notifier, self._show = clock, notifier, show

    def watch(self, *, paced: bool, wait: bool, record: Path | None) -> None:
        """Work the door until the camera ends, or a signal comes."""
        config, clock = self._config, self._clock
        with (
            open_camera(options=config.camera, paced=paced, clock=clock, wait=wait) as camera,
            closing(self._slot()) as slot,
            _recorded(record, fps=camera.fps) as keep,
        ):
            watch = Watch(self._mind.classifier, self._mind.policy, self._door, clock=clock, on_visit=self._visited,
                          gate=Gate(config.gate), camera=camera, ledger=self._ledger)

            def turn_over() -> None:
                self._notifier.status("; ".join([self._door.state.value, *self._door.faults.values(), *self._board_trouble()]))
                self._notifier.watchdog()
                slot.poll(clock())
                if self._panel is not None:
                    self._panel.carry_out(self._carry_out)
                    self._panel.publish(self._view(watch))

            def idle() -> None:
                watch.tick()
                turn_over()
                self._publish_silence(camera.state)

            def stop(cause: Cause) -> None:
                watch.stop(cause)
                camera.stop()

            kept = self._attendant.resume()
            self._introduce()
            if kept:
                say(kept)
            frames = camera.frames(idle=idle)
            self._wishes.tell(stop)
            for step in watch.steps(clock.follow(frames) if isinstance(clock, ClipClock) else frames):
                keep(step, self._mind.policy)
                self._tell(step)
                if camera.state is CameraState.OK and not self._door.faults:
                    self._notifier.ready()
                turn_over()
                if (taken := slot.take()) is not None:
                    if taken.threads != self._mind.classifier.threads:
                        say(f"the model runs in {taken.threads} thread{'s' if taken.threads > 1 else ''} now")
                    self._mind = _Mind.of(taken, config)
                    watch.use(taken, self._mind.policy)
                    self._introduce()

    def _slot(self) -> ModelSlot:
        config = self._config
        return ModelSlot(self._mind.classifier, folder=config.model.bundle,
                         load=lambda: open_model(config.model, threads=self._threads()),
                         check=lambda classifier: _Mind.of(classifier, config),
                         suits=lambda classifier: classifier.threads == self._threads())

    def _threads(self) -> int:
        """For the model: as many as are wanted, as long as the board bears it."""
        return self._board.threads(self._config.model.threads)

    def _board_trouble(self) -> tuple[str, ...]:
        """What troubles the board, for the status line; said and written down when it comes, changes or goes."""
        board = self._board.board
        if board.strain != self._strain:
            self._strain = board.strain
            told = f"{board.trouble or 'power and temperature are well again'}; threads: {self._threads()}"
            say(f"{clock_text(self._clock()):>9}  {told}")
            if self._ledger is not None:
                self._ledger.journal.note("board", told)
        return () if board.trouble is None else (board.trouble,)

    def _carry_out(self, request: Request) -> Answer:
        answer = self._attendant.carry_out(request)
        if request.wish is Wish.MODE:
            self._describe()
        return answer

    def _introduce(self) -> None:
        """Say, and write down, who decides from now on."""
        classifier = self._mind.classifier
        say(headline(classifier, self._mind.policy))
        if self._door.options.mode == "armed":
            for doubt in arming_doubts(classifier.card, classifier.variant, self._door.options):
                say(f"armed, but {doubt}")
        self._describe()

    def _describe(self) -> None:
        """Write down who decides, in the mode that is: from elsewhere it can be another one than the settings'."""
        classifier, policy = self._mind.classifier, self._mind.policy
        if self._ledger is not None:
            self._ledger.journal.describe(Setting(
                self._door.options.mode, classifier.card.name, classifier.variant,
                classifier.card.files[classifier.variant].sha256, policy.unlock, policy.name, policy_to_json(policy),
            ))

    def _view(self, watch: Watch) -> View:
        door, classifier, visit, held = self._door, self._mind.classifier, watch.visit, self._door.held
        return View(
            door.state, door.is_unlocked and not door.observes, door.observes, door.options.mode, self._attendant.modes,
            door.faults, None if held is None else Held(held[0].is_open, round(held[1]), held[0].who), watch.camera_state,
            None if visit is None else Visitor(visit.label, round(visit.score, 2), visit.reason),
            classifier.card.name, classifier.variant, classifier.card.files[classifier.variant].sha256,
            classifier.card.labels, self._mind.policy.unlock,
        )

    def _visited(self, visit: Visit) -> None:
        say(visit_line(visit))
        armed, self._was_armed = bool(self._was_armed), None
        if self._panel is not None:
            self._panel.visited(visit, event=None if self._ledger is None else self._ledger.newest, armed=armed)

    def _tell(self, step: Step) -> None:
        policy = self._mind.policy
        if self._was_armed is None and step.visit is not None and step.visit.unlocked:
            self._was_armed = self._door.is_armed
        if self._show is not None:
            self._show.publish(lambda: draw(step, policy=policy))
        if self._panel is not None:
            self._panel.saw(step.took_s)
            self._panel.picture = lambda: draw(step, policy=policy)
        if step.opened and step.verdict is not None:
            did, verdict = "unlocked" if self._door.is_armed else "would have unlocked", step.verdict
            say(f"{clock_text(self._clock()):>9}  {did} for {verdict.label} {verdict.score:.2f}: {verdict.reason}")

    def _publish_silence(self, camera: CameraState) -> None:
        if camera is CameraState.OK:
            return
        door, now_s = self._door.state, self._clock()
        if self._show is not None:
            self._show.publish(lambda: draw_silent(door=door, camera=camera, time_s=now_s))
        if self._panel is not None:
            self._panel.picture = lambda: draw_silent(door=door, camera=camera, time_s=now_s)


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


def _read_again(args: argparse.Namespace, config: Config, mind: _Mind) -> tuple[Config, _Mind]:
    """The settings and the model as they are on the disk now; the old ones where those are bad."""
    try:
        new = _settings(args)
        return new, _Mind.opened(new)
    except PawlatchError as error:
        say(f"settings and model stay as they were: {error}")
        return config, mind


@contextmanager
def _recorded(path: Path | None, *, fps: float) -> Iterator[Callable[[Step, Policy], object]]:
    """Yield what draws a step into the clip `path`, or nothing where there is none."""
    if path is None:
        yield lambda step, policy: None
        return
    with ClipWriter(path, fps=fps) as clip:
        yield lambda step, policy: clip.write(draw(step, policy=policy), step.frame.time_s)


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
