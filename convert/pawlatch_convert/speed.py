"""How fast a variant is, and how much memory it needs, in a process of its own: none of ours stands in its way.

The process runs this file as a script, so that it imports the runtime and nothing else: no TensorFlow lies in its memory.
"""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, Self

import numpy as np

from pawlatch.classify import Classifier
from pawlatch.errors import EngineError, PawlatchError
from pawlatch.image import Image

LEAST_RUNS, LONGEST_MS = 15, 1500.0  # a slow variant is timed for a second and a half, and 15 times at least
WARM_UP = 5  # the first inferences set up caches and threads
AT_THREADS = 2  # where variants are held against each other
TIMEOUT_S = 300


@dataclass(frozen=True)
class Speed:
    """One variant's latency and memory on this machine.

    `latency_ms` holds for each thread count the median and the 95th percentile of one `Classifier.predict`; `load_ms` is
    what opening the first `Classifier` took, the engine's import included; `peak_mb` the most memory (resident, 10⁶ bytes)
    that the whole process ever had: Python, NumPy, OpenCV, the engine and the model.
    """

    latency_ms: Mapping[int, tuple[float, float]]
    load_ms: float
    peak_mb: float

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; JSON's keys are texts."""
        return {**asdict(self), "latency_ms": {str(threads): list(pair) for threads, pair in self.latency_ms.items()}}

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Self:
        """What `to_dict` gave."""
        latency_ms = {int(threads): (float(p50), float(p95)) for threads, (p50, p95) in raw["latency_ms"].items()}
        return cls(latency_ms, float(raw["load_ms"]), float(raw["peak_mb"]))


def measure_speed(bundle: Path, variant: str, *, threads: Sequence[int] = (1, 2), runs: int = 40,
                  pixels: Image | None = None) -> Speed:
    """Time the runtime's `Classifier` in a new process.

    Args:
        bundle: the folder with the card and the files.
        variant: which of them.
        threads: the counts to time one after the other; more than the machine has cores are fine.
        runs: inferences timed for each count, after some that are not.
        pixels: what to classify, uint8 (H, W, 3) of the model's input size; None for noise of a fixed seed.

    Raises:
        EngineError: the variant does not run there; the message is the process's own.
    """
    counts = ",".join(map(str, threads))
    command = [sys.executable, "-P", __file__, str(bundle), variant, counts, str(runs)]  # -P: import nothing from its folder
    given = b"" if pixels is None else pixels.tobytes()
    try:
        done = subprocess.run(command, input=given, capture_output=True, timeout=TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise EngineError(f"{variant} was not done after {TIMEOUT_S} s; it is too slow to be timed here") from error
    if done.returncode == 0:
        return Speed.from_dict(json.loads(done.stdout))
    said = done.stdout.decode().strip() or f"its process ended with status {done.returncode}: {_last_line(done.stderr)}"
    raise EngineError(f"{variant} does not run: {said}")


def _last_line(output: bytes) -> str:
    return (output.decode(errors="replace").strip().splitlines() or ["it said nothing"])[-1]


# ---------------------------------------------------------------------------------------------- in that process


def _main(bundle: str, variant: str, threads: str, runs: str) -> int:
    try:
        speed = _measure(Path(bundle), variant, [int(count) for count in threads.split(",")], int(runs))
    except PawlatchError as error:
        sys.stdout.write(str(error))
        return 1
    json.dump(speed.to_dict(), sys.stdout)
    return 0


def _measure(bundle: Path, variant: str, threads: Sequence[int], runs: int) -> Speed:
    latency_ms, load_ms = {}, 0.0
    given = sys.stdin.buffer.read()
    for count in threads:
        start = perf_counter()
        classifier = Classifier(bundle, variant=variant, threads=count)
        load_ms = load_ms or (perf_counter() - start) * 1e3  # later ones find the engine in memory
        latency_ms[count] = _latency_ms(classifier, _pixels(given, classifier.card.input.size_hw), runs)
    return Speed(latency_ms, load_ms, _peak_mb())


def _latency_ms(classifier: Classifier, fitted_rgb: Image, runs: int) -> tuple[float, float]:
    times_ms: list[float] = []
    while len(times_ms) < WARM_UP + runs and (len(times_ms) < LEAST_RUNS or sum(times_ms) < LONGEST_MS):
        start = perf_counter()
        classifier.predict(fitted_rgb)
        times_ms.append((perf_counter() - start) * 1e3)
    p50, p95 = np.percentile(times_ms[WARM_UP:], [50, 95])
    return float(p50), float(p95)


def _pixels(given: bytes, size_hw: tuple[int, int]) -> Image:
    if not given:
        return np.random.default_rng(0).integers(0, 256, (*size_hw, 3), np.uint8)
    return np.frombuffer(given, np.uint8).reshape(*size_hw, 3)


def _peak_mb() -> float:
    """Linux's VmHWM. Not getrusage's ru_maxrss: there that of a child begins at what its parent had when it started it."""
    if sys.platform == "darwin":
        import resource  # bytes, and of the process alone

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) * 1024 / 1e6


# ------------------------------------------------------------------------------------------- what follows from it


TARGETS = {
    "pi5": "a Raspberry Pi 5",
    "pi4": "a Raspberry Pi 4",
    "pi-zero2": "a Raspberry Pi Zero 2",
    "desktop": "a desktop",
}
"""What a bundle can be meant for."""

_ALIKE = 1.1  # latencies within a tenth of each other are the same: else the choice would follow the noise
_TOO_SLOW = 2.0  # times the latency of float32: then the variant's kernels are not made for speed


def slower_sentence(speeds: Mapping[str, Speed], reference: str = "float32") -> str | None:
    """That int8 is slower here than the reference at two threads, where it is so."""
    if "int8" not in speeds or reference not in speeds or _p50(speeds["int8"]) <= _p50(speeds[reference]):
        return None
    return (
        f"int8 is slower than {reference} on this machine ({_p50(speeds['int8']):.3g} against "
        f"{_p50(speeds[reference]):.3g} ms at {AT_THREADS} threads): a board's processor may rank them otherwise; measure there"
    )


def choose_deploy(green: Collection[str], speeds: Mapping[str, Speed], sizes: Mapping[str, int],
                  target: str) -> tuple[str, str] | None:
    """Which variant to deploy, and why, in one sentence.

    On a desktop it is the fastest; of those as fast, the smallest. Boards are not measured here, so on a Pi it is int8, and
    without it the smallest of the files that are not far slower than float32 here. ONNX is for desktops only.

    Args:
        green: the variants that may be deployed.
        speeds: what was measured of them on this machine; those kept from an earlier run may be missing.
        sizes: bytes of each green variant's file.
        target: one of `TARGETS`.

    Returns:
        The variant and the reason; None where there is no candidate.
    """
    if target == "desktop":
        return _fastest(green, speeds, sizes)
    return _for_board([name for name in green if not name.startswith("onnx")], speeds, sizes, TARGETS[target])


def _fastest(green: Collection[str], speeds: Mapping[str, Speed], sizes: Mapping[str, int]) -> tuple[str, str] | None:
    measured = [name for name in green if name in speeds]
    if not measured:
        return None
    limit = _ALIKE * min(_p50(speeds[name]) for name in measured)
    alike = [name for name in measured if _p50(speeds[name]) <= limit]
    chosen = _smallest(alike, sizes)
    why = "the fastest here" if len(alike) == 1 else f"the smallest of the {len(alike)} fastest here"
    latency = f"{_p50(speeds[chosen]):.3g} ms at {AT_THREADS} threads"
    return chosen, f"{chosen} for {TARGETS['desktop']}: {why}, {latency}, {_mb(sizes[chosen])}"


def _for_board(candidates: list[str], speeds: Mapping[str, Speed], sizes: Mapping[str, int],
               board: str) -> tuple[str, str] | None:
    if not candidates:
        return None
    if "int8" in candidates:
        chosen, why = "int8", f"it is green, and the board has integer kernels for it; {_mb(sizes['int8'])}"
    else:
        swift = [name for name in candidates if not _is_too_slow(name, speeds)]
        chosen = _smallest(swift or candidates, sizes)
        why = f"int8 is not green, and it is the smallest that is not far slower than float32; {_mb(sizes[chosen])}"
    measured = [f"{name} {_best_ms(speeds[name]):.3g} ms" for name in dict.fromkeys((chosen, "float32")) if name in speeds]
    facts = f" (on this {platform.machine()} machine, not on the board: {', '.join(measured)})" if measured else ""
    return chosen, f"{chosen} for {board}: {why}{facts}"


def _smallest(names: Collection[str], sizes: Mapping[str, int]) -> str:
    return min(names, key=lambda name: (sizes[name], name))


def _is_too_slow(name: str, speeds: Mapping[str, Speed]) -> bool:
    return name in speeds and "float32" in speeds and _best_ms(speeds[name]) > _TOO_SLOW * _best_ms(speeds["float32"])


def _p50(speed: Speed) -> float:
    return speed.latency_ms[AT_THREADS][0]


def _best_ms(speed: Speed) -> float:
    """The median at the best thread count: a busy machine spoils the larger ones, and that is not the variant's doing."""
    return min(p50 for p50, _ in speed.latency_ms.values())


def _mb(size: int) -> str:
    return f"{size / 1e6:.2f} MB"


if __name__ == "__main__":
    sys.exit(_main(*sys.argv[1:]))
