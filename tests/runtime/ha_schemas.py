"""Run by a Python that has Home Assistant: judges discovery messages as its MQTT integration would.

Each line of the standard input is a message, answered by a line of JSON: for each component "ok", or what its schema says, or which keys it does not know and would have dropped.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import sys

import voluptuous as vol
from homeassistant.components.mqtt import discovery, schemas
from homeassistant.const import __version__
from homeassistant.core import HomeAssistant
from homeassistant.helpers import frame


def judged(payload: dict) -> dict[str, str]:
    discovery._replace_all_abbreviations(payload)
    verdict = {"": f"Home Assistant {__version__}"}
    try:
        schemas.DEVICE_DISCOVERY_SCHEMA(payload)
    except vol.Invalid as error:
        return {"device": str(error)}
    for key, component in payload["components"].items():
        component = dict(component)
        module = importlib.import_module(f"homeassistant.components.mqtt.{component.pop('platform')}")
        own = set(component)
        discovery._merge_common_device_options(component, payload)
        component["device"], component["origin"] = payload["device"], payload["origin"]
        try:
            accepted = module.DISCOVERY_SCHEMA(component)
            unknown = own - accepted.keys()
            verdict[key] = f"unknown: {', '.join(sorted(unknown))}" if unknown else "ok"
        except vol.Invalid as error:
            verdict[key] = str(error)
    return verdict


async def main() -> None:
    frame.async_setup(HomeAssistant(""))
    for line in sys.stdin:
        print(json.dumps(judged(json.loads(line))), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
