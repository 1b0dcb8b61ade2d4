"""What MQTT costs a door: memory, time to import, and processor time beside a loop of ten frames a second.

    python tests/bench/mqtt.py [--seconds 30] [--json]

Two processes, one after the other, each with a door's modules and a panel that is left something new ten times a second. The second
one has a bridge to a mosquitto that this script starts on a free port. Memory is what is resident at the end.
"""

from __future__ import annotations

import argparse
import json
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

LOOP = """
import sys, time, resource, json
import pawlatch.commands.door
from pawlatch.frame import CameraState
from pawlatch.panel import Panel, View, Visitor
port, seconds = int(sys.argv[1]), float(sys.argv[2])
panel, bridge, began_s = Panel(), None, time.perf_counter()
if port:
    from pawlatch.mqtt.client import Bridge
    from pawlatch.mqtt.options import MqttOptions
    bridge = Bridge(MqttOptions(host="127.0.0.1", port=port), panel)
import_ms = 1000 * (time.perf_counter() - began_s)
if bridge:
    bridge.__enter__()
before = resource.getrusage(resource.RUSAGE_SELF)
for turn in range(round(seconds * 10)):
    visitor = Visitor("own", turn % 100 / 100, "because") if turn % 100 < 50 else None
    panel.publish(View(camera=CameraState.OK, model="tiny", visitor=visitor))
    time.sleep(0.1)
after = resource.getrusage(resource.RUSAGE_SELF)
assert bridge is None or bridge.is_up
pages = int(open("/proc/self/statm").read().split()[1])
cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
print(json.dumps({"import_ms": round(import_ms, 1), "resident_mb": round(pages * resource.getpagesize() / 1e6, 1),
                  "cpu_percent": round(100 * cpu_s / seconds, 2)}))
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    program = shutil.which("mosquitto", path="/usr/sbin:/usr/bin")
    if program is None:
        parser.error("needs mosquitto; type: apt-get install mosquitto")
    with tempfile.TemporaryDirectory() as folder:
        port, config = free_port(), Path(folder) / "mosquitto.conf"
        config.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\n")
        broker = subprocess.Popen([program, "-c", config], stderr=subprocess.DEVNULL)
        try:
            wait_for(port)
            alone, bridged = (run(each, args.seconds) for each in (0, port))
        finally:
            broker.kill()
            broker.wait()
    if args.json:
        print(json.dumps({"alone": alone, "bridged": bridged}))
    else:
        print(f"import and setup   {bridged['import_ms']:.0f} ms")
        print(f"memory             {bridged['resident_mb'] - alone['resident_mb']:.1f} MB over {alone['resident_mb']:.1f}")
        print(f"of a core          {bridged['cpu_percent'] - alone['cpu_percent']:.2f} % over {alone['cpu_percent']:.2f}")
    return 0


def run(port: int, seconds: float) -> dict[str, float]:
    done = subprocess.run([sys.executable, "-c", LOOP, str(port), str(seconds)], check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(port: int) -> None:
    for _ in range(100):
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.05)


if __name__ == "__main__":
    raise SystemExit(main())
