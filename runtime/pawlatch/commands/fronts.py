"""Who watches a door from elsewhere, as the settings want it: the picture, the page, MQTT, and what looks for models.

They are opened once, and outlive a reload.
"""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack
from pathlib import Path

from pawlatch.config import Config
from pawlatch.panel import Panel
from pawlatch.show import Show
from pawlatch.updates import Updater

FRONTS = ("show", "web", "mqtt", "update")  # their tables


def say(line: str) -> None:
    """A line of the door's log, which is read while it runs."""
    print(line, flush=True)


def opened_show(config: Config, held: ExitStack) -> Show | None:
    """The picture for a browser, where the settings want it."""
    if config.show.port is None:
        return None
    show = held.enter_context(Show(config.show))
    if not _is_logged():
        say(f"what the door sees: {show.url}")
    else:
        say(f"what the door sees: {show.address}?token=…, with the token of [show], which no log tells")
    return show


def _is_logged() -> bool:
    """Whether what is said goes to systemd's journal, which others may read: JOURNAL_STREAM in systemd.exec(5)."""
    try:
        out = os.fstat(sys.stdout.fileno())
    except OSError:  # no file: a test's, or closed
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{out.st_dev}:{out.st_ino}"


def open_fronts(config: Config, panel: Panel, held: ExitStack) -> bool:
    """Begin to serve the door to those who watch it from elsewhere; whether there are any."""
    return any([_open_bridge(config, panel, held), _open_page(config, panel, held)])


def _open_bridge(config: Config, panel: Panel, held: ExitStack) -> bool:
    if config.mqtt.host is None:
        return False
    from pawlatch.mqtt.client import Bridge  # brings paho-mqtt

    held.enter_context(Bridge(config.mqtt, panel))
    return True


def _open_page(config: Config, panel: Panel, held: ExitStack) -> bool:
    if config.web.port is None:
        return False
    from pawlatch.web.server import Page

    page = held.enter_context(Page(config.web, panel, config.journal.folder))
    say(f"the page: {page.url}" + ("" if page.has_token else "; nobody can log in yet: pawlatch web token"))
    return True


def opened_updater(config: Config, path: Path | None, held: ExitStack) -> Updater | None:
    """What looks for other models, where the settings want it."""
    if config.update.url is None:
        return None
    return held.enter_context(Updater(config.update, bundle=config.model.bundle, config=path, tell=say))
