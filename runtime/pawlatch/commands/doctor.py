"""`pawlatch doctor`: looks at everything that a door depends on, and says what to do about what is wrong."""

from __future__ import annotations

import argparse
import dataclasses
import importlib.metadata
import json
import platform
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from pawlatch import __version__
from pawlatch.board import read_board
from pawlatch.camera import CameraState, open_camera
from pawlatch.card import ModelCard, read_bundle, verified_file
from pawlatch.checks import (
    Finding,
    check_boot,
    check_clock,
    check_device,
    check_disk,
    check_memory_limit,
    check_opencv,
    check_power,
    check_temperature,
)
from pawlatch.classify import Classifier
from pawlatch.config import Config, read_config
from pawlatch.errors import PawlatchError
from pawlatch.gate import Gate, GateResult, Refusal
from pawlatch.latch import open_latch
from pawlatch.listening import LOCAL_HOSTS
from pawlatch.live import is_live
from pawlatch.model import choose
from pawlatch.mqtt.options import MqttOptions, read_code
from pawlatch.quiet import quiet
from pawlatch.rules import arming_doubts, check_labels
from pawlatch.selftest import selftest
from pawlatch.sensors import open_sensors
from pawlatch.unit import UNIT, doubts, is_untouched, needs_of, program_path, unit_text

PACKAGES = ("numpy", "opencv-python-headless", "ai-edge-litert", "onnxruntime", "gpiozero", "paho-mqtt",
            "tensorflow", "tf_keras", "tf2onnx", "onnx")
LOOK_S, WAIT_S = 3.0, 10.0  # at the camera, and for its first frame
LOOK_FRAMES = 30  # of a clip
MOVE_S = 1.0  # for which the latch is unlocked, so that it is heard
USER = "pawlatch"


def doctor(argv: list[str]) -> int:
    """Print what was found; status 1 where something is wrong.

    Raises:
        ModelCardError: BUNDLE is none.
    """
    parser = argparse.ArgumentParser(
        prog="pawlatch doctor", description="Look at all that a door depends on, and say what to do about what is wrong.",
        epilog="It moves the latch only after asking. Exit status: 0 all is well, 1 something is wrong, 2 bad use.",
    )
    parser.add_argument("bundle", type=Path, nargs="?", help="the folder model/edge (or model/)")
    parser.add_argument("--config", type=Path, metavar="door.toml", help="the door's settings: its camera, latch and disk, too")
    parser.add_argument("--yes", action="store_true", help="move the latch without asking")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of lines")
    args = parser.parse_args(argv)
    versions = _versions()
    if not args.json:
        print(f"pawlatch {__version__}, Python {platform.python_version()}, {platform.system()} {platform.machine()}")
        for package, version in versions.items():
            print(f"  {package:<24} {version}")
    found = []
    for finding in _findings(args):
        found.append(finding)
        if not args.json:
            print(finding, flush=True)
    wrong = [finding.check for finding in found if finding.level == "bad"]
    if args.json:
        print(json.dumps({"ok": not wrong, "pawlatch": __version__, "python": platform.python_version(), "versions": versions,
                          "findings": [dataclasses.asdict(finding) for finding in found]}, ensure_ascii=False))
    elif wrong:
        print(f"{len(wrong)} of {len(found)} checks failed: {', '.join(wrong)}", file=sys.stderr)
    return 1 if wrong else 0


def _findings(args: argparse.Namespace) -> Iterator[Finding]:
    config = None
    yield check_opencv()
    if args.config is not None:
        try:
            config = read_config(args.config)
        except PawlatchError as error:
            yield Finding("config", "bad", str(error))
        else:
            yield Finding("config", "ok", f"{args.config}, mode {config.door.mode}")
    if args.bundle is not None or config is not None:
        yield from _model(args.bundle, config)
    if config is not None:
        yield from _door(config, args)
    keeps_hours = config is not None and bool(config.door.hours or any(rule.hours for rule in config.door.labels.values()))
    yield check_clock(datetime.now(), needed=keeps_hours)
    board = read_board()
    yield check_power(board)
    yield check_temperature(board)


def _door(config: Config, args: argparse.Namespace) -> Iterator[Finding]:
    """What only a door with settings has."""
    uri = config.camera.uri
    if uri == "picamera" or uri.isdigit() or uri.startswith("/dev/video"):
        yield check_device("camera node", "video*", "video")
    yield _camera(config)
    if config.latch.kind in ("gpio", "servo"):
        yield check_device("pins", "gpiochip*", "gpio")
    if config.latch.kind == "gpio" and config.latch.pin is not None:
        yield check_boot(config.latch.pin, active_high=config.latch.active_high)
    yield _latch(config, agreed=args.yes)
    yield check_disk(config.journal.folder, megabytes=config.journal.megabytes)
    if config.mqtt.host is not None:
        yield _broker(config.mqtt)
    if UNIT.is_file():
        yield from _service(config, args.config.absolute())
        yield check_memory_limit()


def _model(bundle: Path | None, config: Config | None) -> Iterator[Finding]:
    """Every file of the bundle: its hash, whether it loads, and the self-test; then whether it goes with the settings.

    Raises:
        ModelCardError: a bundle that was named on the command line is none.
    """
    folder = bundle or (config.model.bundle if config else Path())
    try:
        folder, card = read_bundle(folder)
    except PawlatchError as error:
        if bundle is not None:
            raise
        yield Finding("model", "bad", str(error))
        return
    yield Finding("model", "ok", f"{folder}: {card.name}, labels {', '.join(card.labels)}; "
                                 f"unlocks for {', '.join(card.unlock) or 'nothing'}")
    for name in card.files:
        yield _variant(folder, card, name)
    if config is not None:
        yield from _suits(folder, card, config)


def _variant(folder: Path, card: ModelCard, name: str) -> Finding:
    deployed = ", deployed" if name == card.deploy else ""
    try:
        if card.files[name].format == "onnx" and not deployed and find_spec("onnxruntime") is None:
            verified_file(folder, card, name)
            return Finding(name, "skipped", "whole, but ONNX Runtime is not here", 'to use it: pip install "pawlatch[onnx]"')
        with quiet():
            classifier = Classifier(folder, variant=name)
            classifier(np.full((*card.input.size_hw, 3), 128, np.uint8))
            report = selftest(classifier)
    except PawlatchError as error:
        return Finding(name, "bad", str(error))
    if not report.ok:
        return Finding(name, "bad", str(report))
    return Finding(name, "ok" if report.photos else "note", f"whole{deployed}; {report}")


def _suits(folder: Path, card: ModelCard, config: Config) -> Iterator[Finding]:
    try:
        check_labels(config.door.labels, card.labels)
        choice = choose(folder, card, engine=config.model.engine, threads=config.model.threads)
        variant = config.model.variant or choice.variant
    except PawlatchError as error:
        yield Finding("rules", "bad", str(error))
        return
    for doubt in arming_doubts(card, variant, config.door):
        yield Finding("arming", "bad" if config.door.mode == "armed" and not card.unlock else "note", doubt)


def _camera(config: Config) -> Finding:
    """Whether the camera gives frames, how many, and whether they can be believed."""
    try:
        frames, state = _looked(config)
    except PawlatchError as error:
        return Finding("camera", "bad", str(error), _if_running())
    if not frames:
        return Finding("camera", "bad", f"no frame within {WAIT_S:g} s, {state.value}", "check its cable, power and address")
    size_hw, seen = frames[-1][1:]
    if (bad := next((each for each in (state, seen.camera) if each is not CameraState.OK), None)) is not None:
        return Finding("camera", "bad", f"it is {bad.value}", "clean it, uncover it, or restart it")
    elapsed_s = frames[-1][0] - frames[0][0]
    fps = (len(frames) - 1) / elapsed_s if elapsed_s > 0 else 0.0
    told = f"{size_hw[1]}×{size_hw[0]}, {fps:.1f} frames a second"
    if seen.refusal in (Refusal.DARK, Refusal.FLAT, Refusal.BLURRED):
        return Finding("camera", "note", f"{told}, but {seen.reason}", "look at it with: pawlatch run --show 8080")
    if config.camera.fps is not None and fps < 0.5 * config.camera.fps:
        return Finding("camera", "note", f"{told}; {config.camera.fps:g} were asked for", "ask for less, or give it light")
    return Finding("camera", "ok", told)


def _looked(config: Config) -> tuple[list[tuple[float, tuple[int, ...], GateResult]], CameraState]:
    """Frames of the camera for a while, as (time_s, size_hw, what the gate says), and its state at the end."""
    gate, live = Gate(config.gate), is_live(config.camera.uri)
    frames: list[tuple[float, tuple[int, ...], GateResult]] = []
    with open_camera(options=config.camera, paced=live) as camera:
        late_s = time.monotonic() + WAIT_S
        for frame in camera.frames(lambda: camera.stop() if time.monotonic() > late_s else None):
            frames.append((frame.time_s, frame.image_bgr.shape[:2], gate(frame)))
            if (not live and len(frames) >= LOOK_FRAMES) or frames[-1][0] - frames[0][0] > LOOK_S:
                break
        return frames, camera.state


def _latch(config: Config, *, agreed: bool) -> Finding:
    """Whether the latch moves, and the reed switch follows. Nothing moves without a yes."""
    if config.latch.kind == "log":
        return Finding("latch", "note", "the latch is log, which moves nothing", "name yours below [latch]")
    if not agreed and not sys.stdin.isatty():
        return Finding("latch", "skipped", "it would have to move, and nobody is here to ask", "add --yes")
    question = f"Shall the latch unlock for {MOVE_S:g} s? Is nobody's finger or tail near it? [y/N] "
    if not agreed:
        print(question, end="", file=sys.stderr, flush=True)
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            return Finding("latch", "skipped", "nothing was moved")
    try:
        with closing(open_latch(config.latch)) as latch, open_sensors(config.door.sensors) as sensors:
            settle = threading.Event()
            latch.lock()
            settle.wait(config.door.sensors.jam_s if sensors.reed else 0)
            locked = sensors.reed is None or sensors.reed()
            latch.unlock()  # however this ends, `closing` locks
            settle.wait(MOVE_S)
            unlocked = sensors.reed is None or config.door.sensors.reed_on == "flap" or not sensors.reed()
            latch.lock()
    except PawlatchError as error:
        return Finding("latch", "bad", str(error), _if_running())
    if not locked or not unlocked:
        when = "unlocked while it was locked" if not locked else "locked while it was unlocked"
        return Finding("latch", "bad", f"the reed switch said {when}", "check the bolt, the switch, and reed_pull_up")
    heard = ", and the reed switch followed" if sensors.reed else "; you should have heard it"
    return Finding("latch", "ok", f"locked, unlocked for {MOVE_S:g} s, locked{heard}")


def _broker(options: MqttOptions) -> Finding:
    """Whether the MQTT broker takes this door."""
    where = f"{options.host}:{options.port_or_default}"
    try:
        from pawlatch.mqtt.link import check  # brings paho-mqtt

        code, trouble = read_code(options), check(options)
    except PawlatchError as error:
        return Finding("mqtt", "bad", str(error))
    if trouble is not None:
        return Finding("mqtt", "bad", f"{where}: {trouble}", "see docs/home-assistant.md")
    if not options.tls and options.host not in LOCAL_HOSTS:
        return Finding("mqtt", "note", f"{where} takes this door, but unencrypted", "write tls = true below [mqtt]")
    unlocks = "unlocks with a code" if code else "unlocks for nobody"
    return Finding("mqtt", "ok", f"{where} takes this door, which {unlocks}")


def _if_running() -> str:
    return "if the door is running, type: sudo systemctl stop pawlatch" if UNIT.is_file() else ""


def _service(config: Config, config_path: Path) -> Iterator[Finding]:
    """Whether the installed unit goes with these settings, and its user can read them."""
    try:
        there, program = UNIT.read_text(), program_path()
        needs = needs_of(config, program=program, config_path=config_path)
        user = next((line.removeprefix("User=") for line in there.splitlines() if line.startswith("User=")), USER)
        text = unit_text(needs, program=program, config_path=config_path, user=user)
    except (PawlatchError, OSError) as error:
        yield Finding("service", "bad", str(error))
        return
    if there == text:
        yield Finding("service", "ok", f"{UNIT} goes with these settings")
    elif is_untouched(there):
        yield Finding("service", "bad", f"{UNIT} was written for other settings, and may not allow what these need",
                      f"type: sudo {program} service install --config {config_path}")
    else:
        yield Finding("service", "note", f"{UNIT} was changed by hand",
                      f"compare: pawlatch service show --config {config_path}")
    for doubt in doubts(needs, user=user):
        yield Finding("service", "bad", doubt)


def _versions() -> dict[str, str]:
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return versions
