"""`pawlatch run` from process start to the first decision and the end, against a bare script that invokes the same model once.

    python tests/bench/start.py model/edge [--repeat 10] [--cpu] [--json]

The camera is a folder with one picture, read by the real reader thread; the first frame is always classified, and after it the run ends.
The bare script imports NumPy, OpenCV and LiteRT, loads the same int8 file and invokes it once. Both are whole processes, their ends included;
they take turns, and the first turn, which fills the disk's cache and finds out what `run` remembers between starts, is not counted.
`journal` is `run` with a journal in a temporary folder. Memory is the most that was resident; this process must stay small for that.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import NamedTuple

START_LIMIT, MEMORY_LIMIT_MB = 3.5, 50.0  # times the bare script, and megabytes over it

BARE = """
import sys
import cv2, numpy
from ai_edge_litert.interpreter import Interpreter
interpreter = Interpreter(model_path=sys.argv[1], num_threads=1)
interpreter.allocate_tensors()
given = interpreter.get_input_details()[0]
interpreter.set_tensor(given["index"], numpy.zeros(given["shape"], given["dtype"]))
interpreter.invoke()
"""

PICTURE = """
import sys
import cv2, numpy
picture = numpy.random.default_rng(0).integers(0, 256, (480, 640, 3), numpy.uint8)
cv2.imwrite(sys.argv[1], cv2.GaussianBlur(picture, (0, 0), 3) * 3)
"""


class Spent(NamedTuple):
    """What a process took from its start to its end."""

    wall_s: float
    cpu_s: float
    peak_mb: float


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--repeat", type=int, default=10)
    parser.add_argument("--cpu", action="store_true", help="judge by processor time, which hardly depends on who else uses the machine")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    edge = args.bundle / "edge" if (args.bundle / "edge" / "pawlatch.json").is_file() else args.bundle
    model = edge / json.loads((edge / "pawlatch.json").read_text())["files"]["int8"]["name"]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "pictures").mkdir()
        subprocess.run([sys.executable, "-c", PICTURE, folder / "pictures" / "0.png"], check=True)
        os.environ["XDG_CACHE_HOME"] = str(folder)
        run = [Path(sysconfig.get_path("scripts")) / "pawlatch", "run", edge, "--variant", "int8", "--threads", "1",
               "--camera", folder / "pictures"]
        ways = {"bare": [sys.executable, "-c", BARE, model], "run": run, "journal": [*run, "--journal", folder / "journal"]}
        taken = {way: [] for way in ways}
        for turn in range(args.repeat + 1):
            for way, command in ways.items():
                one = run_measured(command)
                if turn:
                    taken[way].append(one)
    rows = {way: Spent(*(median(column) for column in zip(*spents, strict=True))) for way, spents in taken.items()}
    spent = "cpu_s" if args.cpu else "wall_s"
    verdicts = {f"{way}: {claim}": holds for way in ("run", "journal")
                for claim, holds in judged(rows[way], rows["bare"], by=spent).items()}
    if args.json:
        print(json.dumps({"rows": {way: row._asdict() for way, row in rows.items()}, "verdicts": verdicts}))
        return 0 if all(verdicts.values()) else 1
    print(f"{'':<10}{'wall s':>8}{'cpu s':>8}{'peak MB':>9}{'times':>8}{'MB over':>9}")
    for way, row in rows.items():
        print(f"{way:<10}{row.wall_s:>8.3f}{row.cpu_s:>8.3f}{row.peak_mb:>9.1f}{getattr(row, spent) / getattr(rows['bare'], spent):>8.2f}"
              f"{row.peak_mb - rows['bare'].peak_mb:>9.1f}")
    for claim, holds in verdicts.items():
        print(f"{'yes' if holds else 'NO ':<4}{claim}")
    return 0 if all(verdicts.values()) else 1


def judged(row: Spent, bare: Spent, *, by: str = "wall_s") -> dict[str, bool]:
    return {f"at most {START_LIMIT} times as long": getattr(row, by) <= START_LIMIT * getattr(bare, by),
            f"at most {MEMORY_LIMIT_MB:g} MB more": row.peak_mb - bare.peak_mb <= MEMORY_LIMIT_MB}


def run_measured(command) -> Spent:
    start = time.monotonic()
    process = subprocess.Popen([str(part) for part in command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    wall_s = time.monotonic() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(map(str, command))} ended with status {process.returncode}")
    return Spent(wall_s, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


if __name__ == "__main__":
    sys.exit(main())
