"""Inside the machine: runs what the host asks for, one JSON object a line, and answers in the same way.

The port is a virtual one, or the one that the kernel's command line names, so that neither the console nor a network is needed.
Every two seconds the kernel's log, which is the console, is told the time of the wall, since the pins' changes stand there by the
kernel's own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
import tty
from pathlib import Path
from typing import Any


def main(port: str) -> None:
    named = [word.removeprefix("stage=") for word in Path("/proc/cmdline").read_text().split() if word.startswith("stage=")]
    port = named[0] if named else port
    while not Path(port).exists():
        time.sleep(0.1)
    with os.fdopen(os.open(port, os.O_RDWR | os.O_NOCTTY), "r+b", buffering=0) as file:
        if os.isatty(file.fileno()):
            tty.setraw(file.fileno())  # which forgets what came before: so the clock, by which the host knows us, begins after it
        threading.Thread(target=tell_time, daemon=True).start()
        rest = b""
        while True:
            some = os.read(file.fileno(), 65536)
            if not some:  # the host's end is not open yet
                time.sleep(0.1)
            rest += some
            *lines, rest = rest.split(b"\n")
            for line in lines:
                if line.startswith(b"{"):
                    file.write(json.dumps(answer(json.loads(line))).encode() + b"\n")


def answer(asked: dict[str, Any]) -> dict[str, Any]:
    try:
        done = subprocess.run(["sh", "-c", asked["run"]], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              timeout=asked["timeout_s"])
        return {"id": asked["id"], "status": done.returncode, "said": done.stdout.decode(errors="replace")}
    except subprocess.TimeoutExpired:
        return {"id": asked["id"], "status": -1, "said": f"took over {asked['timeout_s']} s"}


def tell_time() -> None:
    while True:
        Path("/dev/kmsg").write_text(f"<5>clock: {time.time():.3f}\n")
        time.sleep(2)


if __name__ == "__main__":
    main(sys.argv[1])
