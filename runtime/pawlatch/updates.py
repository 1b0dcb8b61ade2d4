"""For a door that works: whether another model is published, and installing it when a person says so.

Looking, fetching, testing and the trial run in a process of their own, with a lower priority and not for ever: whatever a model
or a server does to that process, the door goes on with the one it has, and takes the new one as any other (`pawlatch.swap`).
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from pawlatch.errors import ConfigError, PawlatchError, UpdateError

if TYPE_CHECKING:
    import subprocess

logger = logging.getLogger(__name__)

SOONEST_S = 60.0  # between two looks
FIRST_S = 5.0  # before the first one: a door that starts has better things to do
_NICE = 10
_JOIN_S = 2.0  # a door that stops does not wait for a server
_LOOK_S, _PULL_S = 300.0, 7200.0  # a server may drip, and a model may never answer
_SUMMARIES = {"installed": "{version} is installed: {verdict}", "same": "{version} was installed already",
              "worse": "{version} is not taken: {verdict}"}  # by what `pawlatch model pull --json` calls it
_COMPLAINT = "pawlatch: "  # how the command line begins one; libraries write to stderr too
_PROGRAM = "import sys; from pawlatch.cli import main; sys.exit(main())"


@dataclass(frozen=True)
class UpdateOptions:
    """Where other models come from."""

    # https://… of a bundle, or a folder; none: they come by hand
    url: str | None = None
    # only bundles that one of the public keys in this file has signed; none: any
    key: Path | None = None
    # seconds between two looks whether there is another one, from 60 up; 0: never
    check_s: float = 86400.0

    def __post_init__(self) -> None:
        if self.url is not None and not self.url.startswith(("https://", "http://", "file:///", "/")):
            raise ConfigError(f'url must be as "https://example.org/rex/edge", or a folder from / on, got {self.url!r}')
        if self.check_s != 0 and self.check_s < SOONEST_S:
            raise ConfigError(f"check_s must be 0 (never) or at least {SOONEST_S:.0f}, got {self.check_s}")


@dataclass(frozen=True)
class UpdateStatus:
    """What is `installed` (on the disk) and the `latest` that was seen, both as `pawlatch.bundle.version_of` says it.

    `summary` is a sentence for a person; `refusal` why the last look or installation failed.
    """

    installed: str
    latest: str | None
    summary: str
    is_installing: bool
    refusal: str | None


class Updater:
    """Looks now and then what `options.url` has, and installs it when told to. A context manager; nothing here ever waits.

    `config` is the door's settings, by which the new model is judged; the first look comes after `first_s`. `tell` gets a
    sentence where there is something new, in the updater's own thread.
    """

    def __init__(self, options: UpdateOptions, *, bundle: Path, config: Path | None = None, first_s: float = FIRST_S,
                 tell: Callable[[str], object] = logger.info) -> None:
        self._options, self._bundle, self._config, self._tell = options, bundle, config, tell
        self._wait_s: float | None = first_s if options.check_s and options.url else None
        self._status = UpdateStatus("", None, "nobody has looked yet", False, None)
        self._lock, self._wake, self._is_closed = threading.Lock(), threading.Event(), False
        self._child: subprocess.Popen[str] | None = None
        self._note_installed()
        self._thread = threading.Thread(target=self._work, name="updater", daemon=True)
        self._thread.start()

    @property
    def status(self) -> UpdateStatus:
        """As it is now."""
        return self._status

    def install(self, who: str = "a person") -> None:
        """Fetch what is published and, where it is not worse than the model that works here, put it in that one's place."""
        with self._lock:
            if self._status.is_installing or self._is_closed:
                return
            self._status = replace(self._status, is_installing=True, refusal=None, summary="another model is being tried")
        self._tell(f"{who} asked for the model at {self._options.url}")
        self._wake.set()

    def close(self) -> None:
        """End a look, or an installation that has not taken over yet; the old model stays. May be called twice."""
        with self._lock:
            self._is_closed = True
            if self._child is not None:
                self._child.terminate()
        self._wake.set()
        self._thread.join(_JOIN_S)
        if self._thread.is_alive():  # its process is stuck in the disk, say: it changes nothing
            logger.warning("the %s does not end at once; it is left behind", self._thread.name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def _work(self) -> None:
        while True:
            self._wake.wait(self._wait_s)
            self._wake.clear()
            if self._is_closed:
                return
            try:
                if self._status.is_installing:
                    self._install()
                else:
                    self._look()
            except Exception as error:  # whatever it is, the door goes on with the model that it has
                if self._is_closed:
                    return
                refusal = str(error) if isinstance(error, PawlatchError) else f"{type(error).__name__}: {error}"
                logger.warning("no other model: %s", refusal)
                self._note(summary="the last try failed", refusal=refusal, is_installing=False)
            self._wait_s = self._options.check_s or None

    def _look(self) -> None:
        latest = self._said("look", within_s=_LOOK_S)["version"]
        self._note_installed()
        is_news = latest not in (self._status.installed, self._status.latest)
        if is_news:
            self._tell(f"another model is published: {latest}; here is {self._status.installed}")
        summary = "this is what is published" if latest == self._status.installed else f"{latest} is published"
        self._note(latest=latest, summary=summary, refusal=None)

    def _install(self) -> None:
        told = self._said("pull", within_s=_PULL_S)
        self._note_installed()
        verdict = told["trial"]["verdict"] if told["trial"] else told["selftest"]
        summary = _SUMMARIES[told["status"]].format(version=told["version"], verdict=verdict)
        self._tell(summary)
        self._note(latest=told["version"], is_installing=False, summary=summary,
                   refusal=verdict if told["status"] == "worse" else None)

    def _said(self, action: str, *, within_s: float) -> dict[str, Any]:
        """What `pawlatch model` says in a process of its own.

        Raises:
            UpdateError: it refused, or was ended.
        """
        import subprocess

        named = ["--config", str(self._config)] if self._config else []
        key = ["--key", str(self._options.key)] if self._options.key else []
        command = [sys.executable, "-P", "-c", _PROGRAM, "model", action, str(self._options.url), "--into", str(self._bundle),
                   *named, *key, "--json"]
        environment = {name: value for name, value in os.environ.items() if name not in ("NOTIFY_SOCKET", "WATCHDOG_USEC")}
        with self._lock:
            if self._is_closed:
                raise UpdateError("the door is closing")
            child = self._child = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                                   text=True, errors="replace")
            with suppress(OSError):  # it has ended already, or this system has no such file
                os.setpriority(os.PRIO_PROCESS, child.pid, os.getpriority(os.PRIO_PROCESS, 0) + _NICE)
                Path(f"/proc/{child.pid}/oom_score_adj").write_text("1000")  # where memory is short it ends, and not the door
        try:
            out, complaint = child.communicate(timeout=within_s)
        except subprocess.TimeoutExpired as error:
            child.kill()
            child.communicate()
            raise UpdateError(f"it did not end within {within_s / 60:.0f} minutes") from error
        finally:
            with self._lock:
                self._child = None
        status = child.returncode
        if status in (0, 1) and out:
            told: dict[str, Any] = json.loads(out)
            return told
        said = [line.removeprefix(_COMPLAINT) for line in complaint.splitlines() if line.startswith(_COMPLAINT)]
        raise UpdateError(said[-1] if said else f"it ended with status {status}")

    def _note_installed(self) -> None:
        from pawlatch.bundle import installed

        try:
            self._note(installed=installed(self._bundle)[1])
        except PawlatchError as error:
            self._note(installed="", refusal=str(error))

    def _note(self, **changes: Any) -> None:
        with self._lock:
            self._status = replace(self._status, **changes)
