"""Run by a Python that has Home Assistant: its core with the MQTT integration and nothing else, steered by lines of JSON.

Arguments: a folder of its own, the broker's port, a free port for its page. Each line of the standard input is a command, answered by a line:

    {"states": null}                                          all states: {entity_id: [state, attributes]}
    {"call": ["lock", "unlock", {"entity_id": …, "code": …}]}  null, or what the service raised
    {"automation": {…}}                                       null, or what is wrong with it
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from homeassistant import auth, bootstrap, config_entries, loader
from homeassistant.components.automation.config import async_validate_config_item
from homeassistant.core import HomeAssistant
from homeassistant.setup import async_setup_component


async def main(folder: Path, port: int, page_port: int) -> None:
    (folder / "configuration.yaml").touch()
    hass = HomeAssistant(str(folder))
    hass.config.skip_pip = True
    loader.async_setup(hass)
    hass.config_entries = config_entries.ConfigEntries(hass, {})
    await loader.async_get_custom_components(hass)
    await bootstrap.async_load_base_functionality(hass)
    hass.auth = await auth.auth_manager_from_config(hass, [{"type": "homeassistant"}], [])
    settings = {"http": {"server_host": "127.0.0.1", "server_port": page_port}}
    for name in ("homeassistant", "persistent_notification", "http"):
        assert await async_setup_component(hass, name, settings), name
    await hass.async_start()
    entry = config_entries.ConfigEntry(
        data={"broker": "127.0.0.1", "port": port, "discovery": True, "protocol": "5"}, discovery_keys={}, domain="mqtt",
        entry_id="broker", minor_version=2, options={}, source="user", subentries_data=(), title="broker", unique_id=None, version=1)
    await hass.config_entries.async_add(entry)
    await hass.async_block_till_done()
    print(json.dumps(str(entry.state)), flush=True)
    reader = asyncio.StreamReader()
    await hass.loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        print(json.dumps(await answer(hass, json.loads(line)), default=str), flush=True)
    await hass.async_stop(force=True)


async def answer(hass: HomeAssistant, command: dict) -> object:
    if "states" in command:
        return {state.entity_id: [state.state, dict(state.attributes)] for state in hass.states.async_all()}
    try:
        if "automation" in command:
            await async_validate_config_item(hass, "", command["automation"])
            return None
        domain, service, data = command["call"]
        await hass.services.async_call(domain, service, data, blocking=True)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
