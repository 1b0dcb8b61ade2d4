"""One after the other, what an owner's door goes through; each trial says whether the pin did as it must, and what was seen."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.device.machine.emulator import Machine
from tests.device.machine.history import History, read_console, unwritten
from tests.device.machine.image import Disk
from tests.device.machine.kernel import Kernel
from tests.device.machine.table import Check
from tests.device.roots import HostError

PIN = 17
SETTINGS = "/etc/pawlatch/door.toml"
PAWLATCH = "/opt/pawlatch/bin/pawlatch"
INSTALL = f"{PAWLATCH} service install --config {SETTINGS} && systemctl daemon-reload && systemctl restart --no-block pawlatch"
SLOW = {"virt": 1.5, "raspi3b": 3.0}  # how much longer everything may take there
SECRET = "s3cret-of-the-owner"
Outcome = tuple[bool, str]


class Trials:
    """A machine, what was checked of it, and all lives of its pin so far."""

    def __init__(self, kernel: Kernel, disk: Disk, folder: Path, *, kind: str, say: Callable[[str], object]) -> None:
        self._kernel, self._disk, self._folder, self._kind, self._say = kernel, disk, folder, kind, say
        self.checks: list[Check] = []
        self._boots = 0
        self._rises: list[float] = []  # of the last life; a board without a clock begins each at the same hour, so lives are told apart by row
        self._counted = self._missing = 0  # unlocks in the journal, and rises without one, up to its end
        self._risen = 0  # rises in all lives that are over

    def all(self) -> list[Check]:
        """Everything, in an order in which each trial leaves the door as the next one needs it."""
        with self._on() as machine:
            self._check("a start: the line stays low, and there is no readiness before the first picture", lambda: self.start(machine))
            self._check("a stranger: the line stays low, the visit is written down", lambda: self.stranger(machine))
            self._check("the right animal: the line rises, and falls once it has gone", lambda: self.own(machine))
            self._check("the camera stops while the door is open: the line falls", lambda: self.camera_stops(machine))
            self._check("the camera's device goes and comes back: the door works again", lambda: self.opens_again(machine))
            self._check("SIGKILL while open: the line falls, the door starts again", lambda: self.killed(machine))
            self._check("SIGSTOP while open: the watchdog ends it, the line falls, the door starts again", lambda: self.stopped(machine))
            self._check("SIGKILL while open and settings that are refused: no restart raises the line",
                        lambda: self.broken_settings(machine, "sed -i s/unlock_s.*/unlock_s=-1/"))
            self._check("SIGKILL while open and settings that are no TOML: the line falls, no restart raises it",
                        lambda: self.broken_settings(machine, "sed -i 1s/.*/[[[/"))
            self._check("the disk is full: nothing opens that is not written down", lambda: self.disk_full(machine))
            self._check("the page unlocks, and a newer model takes over, within the unit's bounds", lambda: self.page(machine))
            self._check("`systemd-analyze security`", lambda: self.security(machine))
            self._check("no secret in the logs", lambda: self.secrets(machine))
            self._check("sabotage, a unit without ExecStopPost and ExecStartPre: the trial of SIGKILL goes red",
                        lambda: self.sabotage(machine))
            self._check("the power goes in the middle of an unlock", lambda: self.power_goes(machine))
        with self._on() as machine:
            self._check("power again: the line is low from power-on, the journal holds every unlock", lambda: self.power_again(machine))
            self._check("the power goes once more, in the middle of writing", lambda: self.power_goes(machine, writing=True))
        with self._on() as machine:
            self._check("power again, once more", lambda: self.power_again(machine))
            self._check("the right animal, after all that", lambda: self.own(machine))
            self._check("every rise of the line in all lives has an unlock of its own in the journal", lambda: self.all_written(machine))
        return self.checks

    def start(self, machine: Machine) -> Outcome:
        waits = self._until(machine, lambda: self.shown(machine, "SubState") == "start", 300)
        threading.Event().wait(10)
        early = self.shown(machine, "ActiveState")
        self.cast(machine, "nobody")
        machine.run("systemctl start stage-camera")
        ready = self._until(machine, lambda: self.shown(machine, "ActiveState") == "active", 120)
        history = self.history(machine)
        return (waits and early == "activating" and ready and not history.moves,
                f"{early} without a picture, {self.shown(machine, 'ActiveState')} with it; the line moved {len(history.moves)} times")

    def stranger(self, machine: Machine) -> Outcome:
        before, events = self.history(machine), self.events(machine)
        self.cast(machine, "other")
        threading.Event().wait(15 * SLOW[self._kind])
        self.cast(machine, "nobody")
        seen = self._until(machine, lambda: self.events(machine) != events, 60)
        return seen and self.history(machine).moves == before.moves, f"visits written down: {', '.join(self.events(machine))}"

    def own(self, machine: Machine) -> Outcome:
        opened = self.open(machine)
        self.cast(machine, "nobody")
        shut = self._until(machine, lambda: not self.history(machine).is_high, 90)
        return opened and shut, self.last_move(machine)

    def camera_stops(self, machine: Machine) -> Outcome:
        opened = self.open(machine)
        machine.run("systemctl stop stage-camera; echo '<5>mark: camera' > /dev/kmsg")
        shut = self._until(machine, lambda: not self.history(machine).is_high, 60)
        return (opened and shut and self._until(machine, lambda: "camera" in self.shown(machine, "StatusText"), 30),
                f"low {self.history(machine).high_after(self.history(machine).marks['camera']):.1f} s later; status: {self.shown(machine, 'StatusText')}")

    def opens_again(self, machine: Machine) -> Outcome:
        self.cast(machine, "nobody")
        machine.run("until modprobe -r v4l2loopback; do sleep 1; done; test ! -e /dev/video0")  # once the door lets go of it: unplugged
        threading.Event().wait(5)
        machine.run("modprobe v4l2loopback; udevadm settle; systemctl start stage-camera")
        ready = self._until(machine, lambda: self.shown(machine, "StatusText") == "locked", 120)
        opened, seen = self.own(machine)
        return ready and opened, seen

    def killed(self, machine: Machine) -> Outcome:
        return self._ended(machine, "kill", "systemctl kill -s KILL --kill-whom=main pawlatch")

    def stopped(self, machine: Machine) -> Outcome:
        return self._ended(machine, "stop", "systemctl kill -s STOP --kill-whom=main pawlatch")

    def broken_settings(self, machine: Machine, change: str) -> Outcome:
        machine.run(f"cp -p {SETTINGS} /opt/stage/door.toml")
        opened = self.open(machine)
        restarts = int(self.shown(machine, "NRestarts"))
        machine.run(f"{change} {SETTINGS}; systemctl kill -s KILL --kill-whom=main pawlatch; echo '<5>mark: broken' > /dev/kmsg")
        threading.Event().wait(40 * SLOW[self._kind])  # own animal before the camera all the time
        history = self.history(machine)
        high_s = history.high_after(history.marks["broken"])
        rises = sum(move.is_high for move in history.moves if move.time_s > history.marks["broken"])
        tried = int(self.shown(machine, "NRestarts")) - restarts
        machine.run(f"cp -p /opt/stage/door.toml {SETTINGS}; systemctl restart --no-block pawlatch")
        self.cast(machine, "nobody")
        back = self._until(machine, lambda: self.shown(machine, "StatusText") == "locked", 120)
        return (opened and high_s < 30 * SLOW[self._kind] and rises == 0 and tried > 0 and back,
                f"low {high_s:.1f} s later, {tried} restarts meanwhile, none raised it; {'back' if back else 'not back'} with good settings")

    def disk_full(self, machine: Machine) -> Outcome:
        machine.run("fallocate -l $(df --output=avail -k / | tail -1)K /fill; sync", check=False)
        self.cast(machine, "own")
        threading.Event().wait(30 * SLOW[self._kind])
        status = self.shown(machine, "StatusText")
        self.cast(machine, "nobody")
        missing = unwritten(self.history(machine).rises_unix_s(), self.unlocks(machine))
        left = machine.run("df --output=avail -k / | tail -1").strip()
        machine.run("rm /fill; sync")
        back = self._until(machine, lambda: self.shown(machine, "StatusText") == "locked", 60)
        opened, _ = self.own(machine)
        return (not missing and back and opened,
                f"{left} KB left: {status}; {len(missing)} rises not written; with room again it opens")

    def page(self, machine: Machine) -> Outcome:
        """What the owner's browser asks for: it opens once, and the model that is published (the same, in float32) decides from then on."""
        with self._settings(machine, f"printf '[web]\\nport = 8090\\n[update]\\nurl = \"/opt/newer\"\\ncheck_s = 0\\n' >> {SETTINGS}; "
                                     "chown -R pawlatch /opt/model"):
            self.cast(machine, "nobody")
            served = self._until(machine, lambda: "the page: http" in machine.run("journalctl -b -u pawlatch --no-pager"), 90)
            ready = served and self._until(machine, lambda: self.shown(machine, "StatusText") == "locked", 120)
            exposure = self.security(machine)[1]
            owner = f"/opt/pawlatch/bin/python /opt/stage/owner.py 8090 $({PAWLATCH} web token --config {SETTINGS})"
            rises, pid = len(self.history(machine).rises_unix_s()), self.shown(machine, "MainPID")
            machine.run(f"{owner} unlock")
            opened = self._until(machine, lambda: len(self.history(machine).rises_unix_s()) > rises, 30)
            named = "the page (session" in self._rows(machine, "SELECT verdict FROM unlocking ORDER BY rowid")[-1]
            shut = self._until(machine, lambda: not self.history(machine).is_high, 60)
            told = machine.run(f"{owner} install", timeout_s=900)
            said = re.search(r"Decides (.*?) Its file .* Published (.*?) Storage", told)
            again, _ = self.own(machine)
            machine.run(f"{PAWLATCH} model rollback --config {SETTINGS}")  # as slow as an emulator is, float32 would not do for what comes
            undone = self._until(machine, lambda: ", int8" in machine.run("journalctl -b -u pawlatch --no-pager | grep ': opens for ' | tail -1"), 60)
            same = self.shown(machine, "MainPID") == pid
        back = self._until(machine, lambda: self.shown(machine, "StatusText") == "locked", 120)
        decides, published = said.groups() if said else ("?", told[-300:])
        return (ready and opened and named and shut and "is installed" in published and "float32" in decides and again and undone and same
                and back,
                f"opened for the page, the journal names it; {published}; decided then: {decides}; rolled back; {exposure}")

    def security(self, machine: Machine) -> Outcome:
        said = machine.run("systemd-analyze security --no-pager pawlatch", check=False)
        found = re.search(r"Overall exposure level for pawlatch.service: (\d+\.\d+) (\w+)", said)
        (self._folder / f"security-{self._kind}.txt").write_text(said)
        return found is not None and float(found[1]) <= 2.0, found[0] if found else said[-200:]

    def secrets(self, machine: Machine) -> Outcome:
        """A page with a token, and a camera's password, for one start of the service."""
        with self._settings(machine, f"sed -i 's|^uri.*|uri = \"rtsp://owner:{SECRET}@127.0.0.1:1/a\"|' {SETTINGS}; "
                                     f"printf '[show]\\nport = 8080\\ntoken = \"{SECRET}\"\\n' >> {SETTINGS}"):
            spoke = self._until(machine, lambda: "what the door sees: http://127.0.0.1:8080" in machine.run("journalctl -u pawlatch --no-pager"), 90)
            spoke = spoke and self._until(machine, lambda: "rtsp://127.0.0.1:1/a: " in machine.run("journalctl -u pawlatch --no-pager"), 30)
            found = int(machine.run(f"journalctl --no-pager | grep -v agent.py | grep -c {SECRET}", check=False) or 0)
        back = self._until(machine, lambda: self.shown(machine, "StatusText") == "locked", 120)
        lines = int(machine.run("journalctl -u pawlatch --no-pager | wc -l"))
        return spoke and back and found == 0, f"{found} in {lines} lines of the service's log; a page's token and a camera's password were set"

    def sabotage(self, machine: Machine) -> Outcome:
        unit = "/run/systemd/system/pawlatch.service.d"
        machine.run(f"mkdir -p {unit}; printf '[Service]\\nExecStartPre=\\nExecStopPost=\\nRestart=no\\n' > {unit}/sabotage.conf; "
                    "systemctl daemon-reload")
        ok, seen = self._ended(machine, "sabotage", "systemctl kill -s KILL --kill-whom=main pawlatch", within_s=20)
        still = self.history(machine).is_high
        machine.run(f"rm -r {unit}; systemctl daemon-reload; systemctl restart --no-block pawlatch")
        self.cast(machine, "nobody")
        back = self._until(machine, lambda: self.shown(machine, "StatusText") == "locked", 120)
        return not ok and still and back and not self.history(machine).is_high, f"red, as it must be: {seen}"

    def power_goes(self, machine: Machine, *, writing: bool = False) -> Outcome:
        if writing:
            machine.run("systemd-run -q sh -c 'while :; do dd if=/dev/zero of=/opt/stage/other bs=64k count=100 conv=fsync; done'")
        opened = self.open(machine)
        machine.cut()
        return opened, f"cut while the line was high, {len(self.history(machine).rises_unix_s())} unlocks in this life"

    def power_again(self, machine: Machine) -> Outcome:
        self.cast(machine, "nobody")
        machine.run("systemctl start stage-camera")
        ready = self._until(machine, lambda: self.shown(machine, "ActiveState") == "active", 300)
        threading.Event().wait(5)
        moved, missing = len(self.history(machine).moves), self.unwritten(self._rises, self.unlocks(machine))
        return (ready and missing == 0 and moved == 0,
                f"the line moved {moved} times before the first verdict; {len(self._rises)} rises in the life before, {missing} not in the journal")

    def all_written(self, machine: Machine) -> Outcome:
        rises, unlocks = self.history(machine).rises_unix_s(), self.unlocks(machine)
        self.unwritten(rises, unlocks)
        whole = machine.run("/opt/pawlatch/bin/python -c 'import sqlite3; print(sqlite3.connect(\"/var/lib/pawlatch/journal.sqlite3\")"
                            ".execute(\"PRAGMA integrity_check\").fetchone()[0])'").strip()
        return (self._missing == 0 and whole == "ok",
                f"{self._risen + len(rises)} rises, {len(unlocks)} unlocks written, {self._missing} missing; integrity check: {whole}")

    def unwritten(self, rises: list[float], unlocks: list[float]) -> int:
        """How many rises of one life the journal has not; the unlocks of lives before it were counted then."""
        missing = len(unwritten(rises, unlocks[self._counted:]))
        self._counted, self._missing = len(unlocks), self._missing + missing
        return missing

    def open(self, machine: Machine) -> bool:
        """Let the right animal come; whether the line rises. It is left there."""
        if not self._until(machine, lambda: not self.history(machine).is_high, 60):
            return False
        self.cast(machine, "nobody")
        threading.Event().wait(4 * SLOW[self._kind])
        rises = len(self.history(machine).rises_unix_s())
        self.cast(machine, "own")
        return self._until(machine, lambda: len(self.history(machine).rises_unix_s()) > rises, 90)

    def cast(self, machine: Machine, who: str) -> None:
        machine.run(f"echo {who} > /opt/stage/cast.new; mv /opt/stage/cast.new /opt/stage/cast")

    def shown(self, machine: Machine, name: str) -> str:
        return machine.run(f"systemctl show pawlatch -P {name}").strip()

    def events(self, machine: Machine) -> list[str]:
        return self._rows(machine, "SELECT label FROM event")

    def unlocks(self, machine: Machine) -> list[float]:
        return self._rows(machine, "SELECT unix_s FROM unlocking ORDER BY rowid")

    def history(self, machine: Machine) -> History:
        return read_console(machine.pins_text(), pin=PIN)

    def _rows(self, machine: Machine, query: str) -> list[Any]:
        """The first column of what the journal answers."""
        return list(json.loads(machine.run("/opt/pawlatch/bin/python -c 'import json, sqlite3; print(json.dumps([row[0] for row in sqlite3.connect("
                                           f"\"/var/lib/pawlatch/journal.sqlite3\").execute(\"{query}\")]))'")))

    def last_move(self, machine: Machine) -> str:
        moves = self.history(machine).moves[-2:]
        if len(moves) < 2:
            return "the line did not move"
        return f"high for {moves[1].time_s - moves[0].time_s:.1f} s" if moves[0].is_high else "still high"

    def _ended(self, machine: Machine, mark: str, command: str, *, within_s: float = 90) -> Outcome:
        """End the process while the door is open; the animal stays."""
        opened = self.open(machine)
        restarts, pid = int(self.shown(machine, "NRestarts")), self.shown(machine, "MainPID")
        machine.run(f"{command}; echo '<5>mark: {mark}' > /dev/kmsg")
        self._until(machine, lambda: self.shown(machine, "MainPID") not in (pid, "0"), within_s)
        history = self.history(machine)
        high_s = history.high_after(history.marks[mark])
        self.cast(machine, "nobody")
        again = self._until(machine, lambda: self.shown(machine, "ActiveState") == "active", within_s)
        tried = int(self.shown(machine, "NRestarts")) - restarts
        return (opened and 0 < high_s < 60 and again and tried == 1,
                f"high for {high_s:.1f} s more, {tried} restarts, then {self.shown(machine, 'ActiveState')}")

    @contextmanager
    def _settings(self, machine: Machine, change: str) -> Iterator[None]:
        """The service with other settings, and afterwards with those that it had."""
        machine.run(f"cp -p {SETTINGS} /opt/stage/door.toml; {change}; {INSTALL}")
        try:
            yield
        finally:
            machine.run(f"cp -p /opt/stage/door.toml {SETTINGS}; {INSTALL}")

    def _until(self, machine: Machine, is_so: Callable[[], bool], timeout_s: float) -> bool:
        return machine.wait_for(is_so, timeout_s=timeout_s * SLOW[self._kind])

    @contextmanager
    def _on(self) -> Iterator[Machine]:
        """Power."""
        self._boots += 1
        began_s = time.monotonic()
        with Machine(self._kernel, self._disk, self._folder, kind=self._kind, number=self._boots) as machine:
            machine.wait_until_up()
            self._say(f"boot {self._boots}: up after {time.monotonic() - began_s:.0f} s")
            yield machine
        self._rises = self.history(machine).rises_unix_s()
        self._risen += len(self._rises)

    def _check(self, name: str, trial: Callable[[], Outcome]) -> None:
        began_s = time.monotonic()
        try:
            ok, seen = trial()
        except HostError as error:
            ok, seen = False, f"it broke off: {error}"
        self.checks.append(Check(name, ok, seen, time.monotonic() - began_s))
        self._say(f"{'holds' if ok else 'DOES NOT HOLD'}  {self.checks[-1].took_s:4.0f} s  {name}: {seen}")
