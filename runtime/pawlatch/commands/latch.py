"""`pawlatch latch`: lock from outside, ask, try out. It starts fast, and reads no more of door.toml than it needs."""

from __future__ import annotations

import argparse
import re
import shutil
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from pawlatch.driven import forget, left_driven
from pawlatch.errors import LatchError, PawlatchError
from pawlatch.latch import LatchOptions, latch_options, open_latch
from pawlatch.sensors import Sensor, SensorOptions, open_sensors
from pawlatch.tables import parse, read_toml

PINCTRL_S = 5.0


def latch(argv: list[str]) -> int:
    """Lock the latch, tell its state, or try it out; status 1: it is unlocked, or the trial failed or was called off."""
    parser = argparse.ArgumentParser(
        prog="pawlatch latch", description="Lock the latch from outside (a killed program leaves a pin as it was), or try it.")
    parser.add_argument("what", choices=("lock", "state", "test"),
                        help="lock: lock and leave it so; state: ask, without moving; test: unlock for a moment, then lock")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--config", type=Path, metavar="door.toml", help="its tables [latch] and [door.sensors]")
    source.add_argument("--latch", metavar="URI", help="log, gpio:17, gpio:17?active_high=false&drive=pulse, servo:18")
    parser.add_argument("--else", dest="otherwise", metavar="URI",
                        help="the latch that lock locks where --config cannot be read: a slip in it leaves no door open")
    parser.add_argument("--yes", action="store_true", help="test without asking")
    parser.add_argument("--for-s", type=float, default=2.0, metavar="S", help="how long test unlocks (default 2, at most 30)")
    args = parser.parse_args(argv)
    if args.otherwise is not None and (args.what != "lock" or args.config is None):
        parser.error("--else goes with lock --config")
    left = left_driven() if args.what == "lock" and args.config is not None else None
    try:
        options = _options(args.config, args.latch)
    except PawlatchError as error:
        if args.otherwise is None:
            _lock(left)
            raise
        print(f"{error}\nso it is the latch {args.otherwise} that is locked", file=sys.stderr)
        options = latch_options(args.otherwise)
    if args.what == "lock":
        _lock(left, options)
        return 0
    if args.what == "state":
        return _state(options)
    if not 0 < args.for_s <= 30:
        parser.error(f"--for-s must be above 0 and at most 30, got {args.for_s}")
    return _test(options, _sensors(args.config), for_s=args.for_s, yes=args.yes)


def _options(config: Path | None, uri: str | None) -> LatchOptions:
    """Only its own table: a slip in another one keeps no latch from being locked."""
    if config is None:
        return latch_options(uri or "log")
    return parse(LatchOptions, read_toml(config).get("latch", {}), name="latch", folder=config.absolute().parent)


def _sensors(config: Path | None) -> SensorOptions:
    """Those that a test asks."""
    if config is None:
        return SensorOptions()
    door = read_toml(config).get("door", {})
    sensors = door.get("sensors", {}) if isinstance(door, dict) else {}
    return parse(SensorOptions, sensors, name="door.sensors", folder=config.absolute().parent)


def _lock(*latches: LatchOptions | None) -> None:
    """Lock each, whatever becomes of the others; then none is left driven."""
    failures = []
    for options in dict.fromkeys(each for each in latches if each is not None):
        try:
            with closing(open_latch(options)) as opened:
                opened.lock()
            print(f"{_name(options)}: locked")
        except LatchError as error:
            failures.append(error)
    if failures:
        raise failures[0]
    forget()


def _state(options: LatchOptions) -> int:
    if options.kind == "log":
        print("log: moves nothing, so it is locked")
        return 0
    if options.kind != "gpio" or options.pin is None:
        raise LatchError(f"only a latch at a pin can be asked for its state, got {_name(options)}; look at the bolt")
    is_high = _level(options.pin)
    unlocked = is_high == options.active_high
    print(f"{_name(options)}: {'unlocked' if unlocked else 'locked'} (the pin is {'high' if is_high else 'low'})")
    return 1 if unlocked else 0


def _level(pin: int) -> bool:
    """Whether a pin is high. Asking gpiozero would make it an input; Raspberry Pi OS's own `pinctrl` leaves it as it is."""
    import subprocess

    program = shutil.which("pinctrl")
    if program is None:
        raise LatchError("asking a pin for its state takes pinctrl, which Raspberry Pi OS has; "
                         "type: sudo apt install raspi-utils")
    try:
        done = subprocess.run([program, "get", str(pin)], capture_output=True, text=True, timeout=PINCTRL_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise LatchError(f"pinctrl does not answer: {error}; run it by hand: pinctrl get {pin}") from error
    said = re.search(rf"^\s*{pin}:.*\|\s*(hi|lo)\b", done.stdout, re.MULTILINE)  # " 17: op -- pd | hi // GPIO17 = output"
    if done.returncode != 0 or said is None:
        answer = (done.stderr or done.stdout).strip() or "nothing"
        raise LatchError(f"pinctrl must tell whether pin {pin} is high, and said: {answer}; run it by hand: pinctrl get {pin}")
    return said[1] == "hi"


def _test(options: LatchOptions, sensors: SensorOptions, *, for_s: float, yes: bool) -> int:
    if not yes and not _agreed(f"This unlocks {_name(options)} for {for_s:g} s. Is nobody's finger or tail near it? [y/N] "):
        print("nothing was moved")
        return 1
    with closing(open_latch(options)) as opened, open_sensors(sensors) as sensed:  # however this ends, `closing` locks
        settle_s = sensors.jam_s if sensed.reed is not None else 0.0
        follows = [
            _move(opened.lock, "locked", sensed.reed, wait_s=settle_s),
            _move(opened.unlock, "unlocked", sensed.reed, wait_s=for_s) or sensors.reed_on == "flap",
            _move(opened.lock, "locked", sensed.reed, wait_s=settle_s),
        ]
    return 0 if all(follows) else 1


def _move(command: Callable[[], None], state: str, reed: Sensor | None, *, wait_s: float) -> bool:
    """Give a command, wait, and say what the reed switch says; False where that is something else."""
    command()
    print(f"told to be {state}", flush=True)
    threading.Event().wait(wait_s)
    if reed is None:
        return True
    sensed = "locked" if reed() else "unlocked"
    print(f"  the reed switch says {sensed}{'' if sensed == state else ': look at the bolt and the wiring'}", flush=True)
    return sensed == state


def _agreed(question: str) -> bool:
    if not sys.stdin.isatty():
        raise LatchError("a test moves the latch, so it asks first, and nobody is here to answer; add --yes")
    return input(question).strip().lower() in ("y", "yes")


def _name(options: LatchOptions) -> str:
    if options.kind == "command":
        return f"command {options.lock[0]}"
    return options.kind if options.pin is None else f"{options.kind}:{options.pin}"
