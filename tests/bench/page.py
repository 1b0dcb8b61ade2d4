"""What the page costs a door: its import, its memory, its processor time and frames, with nobody and with three who watch.

    python tests/bench/page.py tests/fixtures/tiny [--seconds 20] [--camera "scene:demo?seed=4&fps=15"]

Each line is a `pawlatch run` of its own, looked at from outside: resident memory, the share of one core (drawing the scene,
which a camera would do by itself, included), frames and pictures a second.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from contextlib import suppress
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlencode

PROGRAM = Path(sysconfig.get_path("scripts")) / "pawlatch"
IMPORTS = ("import time, pawlatch.commands.door as d; t = time.perf_counter(); import pawlatch.web.server; "
           "print(time.perf_counter() - t)")


class Door:
    """A running door, with or without a page, in `folder`."""

    def __init__(self, bundle: Path, camera: str, folder: Path, *, page: bool) -> None:
        web = "[web]\nport = 0" if page else ""
        (folder / "door.toml").write_text(f'[model]\nbundle = "{bundle.absolute()}"\n[camera]\nuri = "{camera}"\n'
                                          f'[journal]\nfolder = "journal"\n{web}\n')
        self.token = subprocess.run([PROGRAM, "web", "token", "--config", folder / "door.toml"], check=True, text=True,
                                    capture_output=True).stdout.strip()
        self._process = subprocess.Popen([PROGRAM, "run", "--config", folder / "door.toml"], text=True,
                                         stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert self._process.stdout is not None
        self.port, self.pictures = 0, 0
        for line in self._process.stdout:
            if line.startswith("the page: "):
                self.port = int(line.split()[2].rstrip("/;").rpartition(":")[2])
            if "opens for" in line:
                break
        self._drain = threading.Thread(target=self._process.stdout.read, daemon=True)
        self._drain.start()

    def watch(self, cookie: str) -> None:
        """Take pictures as they come, until the door ends."""
        connection = HTTPConnection("127.0.0.1", self.port)
        connection.request("GET", "/live.mjpg", headers={"Cookie": cookie})
        answer = connection.getresponse()
        with suppress(OSError):
            while data := answer.read1(1 << 16):
                self.pictures += data.count(b"--frame")

    def log_in(self) -> str:
        connection = HTTPConnection("127.0.0.1", self.port)
        connection.request("POST", "/login", urlencode({"token": self.token}),
                           {"Content-Type": "application/x-www-form-urlencoded"})
        return str(connection.getresponse().getheader("Set-Cookie")).partition(";")[0]

    def frames(self) -> float:
        connection = HTTPConnection("127.0.0.1", self.port)
        connection.request("GET", "/metrics", headers={"Authorization": f"Bearer {self.token}"})
        lines = connection.getresponse().read().decode().splitlines()
        return float(next(line.split()[1] for line in lines if line.startswith("pawlatch_frames_total ")))

    def spent_s(self) -> float:
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def resident_mb(self) -> float:
        pages = int(Path(f"/proc/{self._process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6

    def end(self) -> None:
        self._process.terminate()
        self._process.wait()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--camera", default="scene:demo?seed=4&fps=15")
    args = parser.parse_args()
    imports = min(float(subprocess.run([sys.executable, "-c", IMPORTS], check=True, text=True, capture_output=True).stdout)
                  for _ in range(5))
    print(f"importing it after a door: {imports:.2f} s, the least of five")
    for page, viewers in ((False, 0), (True, 0), (True, 1), (True, 3)):
        with tempfile.TemporaryDirectory() as folder:
            door = Door(args.bundle, args.camera, Path(folder), page=page)
            for _ in range(viewers):
                threading.Thread(target=door.watch, args=(door.log_in(),), daemon=True).start()
            time.sleep(2.0)
            spent_s, frames, pictures, began_s = door.spent_s(), door.frames() if page else 0, door.pictures, time.monotonic()
            time.sleep(args.seconds)
            took_s = time.monotonic() - began_s
            told = f"{(door.frames() - frames) / took_s:5.1f} frames/s, {(door.pictures - pictures) / took_s:5.1f} pictures/s" if page else ""
            print(f"{'page, ' + str(viewers) + ' watch' if page else 'no page':<14} {door.resident_mb():6.1f} MB, "
                  f"{(door.spent_s() - spent_s) / took_s:6.1%} of a core  {told}", flush=True)
            door.end()
    return 0


if __name__ == "__main__":
    sys.exit(main())
