"""One run of a door's loop under one set of settings: what decides, what is told of it, and what is asked of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from pawlatch.attendant import Attendant
from pawlatch.board import UNKNOWN, BoardWatch
from pawlatch.camera import CameraState, open_camera
from pawlatch.classify import Classifier
from pawlatch.commands.fronts import say
from pawlatch.commands.visits import headline, visit_line
from pawlatch.config import Config
from pawlatch.decide import Policy, policy_from_card, policy_to_json
from pawlatch.door import Cause, Door
from pawlatch.errors import EngineError
from pawlatch.gate import Gate
from pawlatch.journal import Setting
from pawlatch.ledger import Ledger
from pawlatch.loop import Step, Watch
from pawlatch.model import cache_folder, open_model
from pawlatch.overlay import ClipWriter, clock_text, draw, draw_silent
from pawlatch.panel import Answer, Held, Panel, Request, View, Visitor, Wish
from pawlatch.replay import ClipClock
from pawlatch.rules import arming_doubts, check_labels
from pawlatch.selftest import selftest_once
from pawlatch.service import Notifier
from pawlatch.show import Show
from pawlatch.swap import ModelSlot
from pawlatch.visit import Visit

Clock = Callable[[], float]


@dataclass(frozen=True, eq=False)
class Mind:
    """What decides: a model and its policy."""

    classifier: Classifier
    policy: Policy

    @classmethod
    def of(cls, classifier: Classifier, config: Config) -> Mind:
        """Raises PawlatchError where the model does not go with the settings."""
        check_labels(config.door.labels, classifier.card.labels)
        return cls(classifier, policy_from_card(classifier.card, classifier.variant, config.decision))

    @classmethod
    def opened(cls, config: Config) -> Mind:
        """Raises PawlatchError where the model does not open, fails its self-test, or does not go with the settings."""
        classifier = open_model(config.model)
        report = selftest_once(classifier, state=cache_folder() / "selftest.json")
        if not report.ok:
            raise EngineError(str(report))
        return cls.of(classifier, config)


class Wishes:
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


class Session:
    """One run of the loop under one set of settings."""

    def __init__(self, config: Config, mind: Mind, door: Door, ledger: Ledger | None, *, clock: Clock, notifier: Notifier,
                 show: Show | None, wishes: Wishes, board: BoardWatch, panel: Panel | None) -> None:
        self._wishes, self._panel = wishes, panel
        self._attendant = Attendant(door, folder=None if ledger is None else config.journal.folder)
        self._board, self._strain = board, UNKNOWN.strain
        self._was_armed = False  # when it last opened for the visit that goes on
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
                    self._mind = Mind.of(taken, config)
                    watch.use(taken, self._mind.policy)
                    self._introduce()

    def _slot(self) -> ModelSlot:
        config = self._config
        return ModelSlot(self._mind.classifier, folder=config.model.bundle,
                         load=lambda: open_model(config.model, threads=self._threads()),
                         check=lambda classifier: Mind.of(classifier, config),
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
        armed, self._was_armed = self._was_armed, False
        if self._panel is not None:
            self._panel.visited(visit, event=None if self._ledger is None else self._ledger.newest, armed=armed)

    def _tell(self, step: Step) -> None:
        policy = self._mind.policy
        if self._show is not None:
            self._show.publish(lambda: draw(step, policy=policy))
        if self._panel is not None:
            self._panel.saw(step.took_s)
            self._panel.picture = lambda: draw(step, policy=policy)
        if step.opened and step.verdict is not None:
            self._was_armed, verdict = self._door.is_armed, step.verdict
            did = "unlocked" if self._was_armed else "would have unlocked"
            say(f"{clock_text(self._clock()):>9}  {did} for {verdict.label} {verdict.score:.2f}: {verdict.reason}")

    def _publish_silence(self, camera: CameraState) -> None:
        if camera is CameraState.OK:
            return
        door, now_s = self._door.state, self._clock()
        if self._show is not None:
            self._show.publish(lambda: draw_silent(door=door, camera=camera, time_s=now_s))
        if self._panel is not None:
            self._panel.picture = lambda: draw_silent(door=door, camera=camera, time_s=now_s)


@contextmanager
def _recorded(path: Path | None, *, fps: float) -> Iterator[Callable[[Step, Policy], object]]:
    """Yield what draws a step into the clip `path`, or nothing where there is none."""
    if path is None:
        yield lambda step, policy: None
        return
    with ClipWriter(path, fps=fps) as clip:
        yield lambda step, policy: clip.write(draw(step, policy=policy), step.frame.time_s)
