"""One decoded frame to a decision: pawlatch's whole way against the bare interpreter, and against what others would write.

    python tests/bench/frame.py model/edge [--runs 300] [--cpu] [--json]

The bundle must hold int8, float32, onnx_int8 and onnx_float32 of one model (`convert --int8 --onnx-int8 model/` makes them). Every row
classifies the same moving pictures, BGR as a camera's decoder gives them, with one thread where it does not say two; the rows take turns, ten frames at a time in one
run, so that a noisy moment falls on all of them alike and each finds the processor's caches as it leaves them itself.

- invoke: the bare interpreter, its input already in place
- pawlatch: gate, fit of the gate's box, inference, stranger score, policy, door (`pawlatch.commands.bench.decisions`)
- pawlatch two threads: the same as `run` does it where nothing else is said
- pawlatch whole: with one thread again and without a box, as for a camera's first frame: the whole picture is shrunk
- the others end with the scores: no gate, no policy, no door. Pillow, INTER_AREA and MediaPipe anti-alias, the plain resize does not

`--cpu` takes the processes' processor time instead of the clock on the wall: the ratios stay what they are where others use the machine too.

Pillow is left out where it is not installed. MediaPipe brings another OpenCV, so it runs as a process of its own: PAWLATCH_MEDIAPIPE names the
python of a virtual environment with mediapipe 1.2; it is asked for its ten frames when its turn comes, and times them itself.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from itertools import chain, cycle, islice
from pathlib import Path

import cv2
import numpy as np

from pawlatch.card import read_bundle
from pawlatch.classify import Classifier
from pawlatch.commands.bench import POSES, decisions, moving_frames
from pawlatch.gate import Gate, GateOptions
from pawlatch.timing import interleaved_ms

SIZES_HW = {"640": (480, 640), "1080p": (1080, 1920)}
AT_A_TIME = 10
LIMITS = {"pawlatch 640": 1.15, "pawlatch 1080p": 1.25,  # times the bare invoke
          "pawlatch two threads 640": 1.15, "pawlatch two threads 1080p": 1.25}
PLAIN_LIMIT = 1.15  # times the ONNX Runtime row of the same picture size
ALIASING = ("onnx int8 plain", "invoke")

MEDIAPIPE_PROGRAM = """
import json, sys, time
import cv2, mediapipe as mp, numpy as np
from mediapipe.tasks.python import BaseOptions, vision

options = vision.ImageClassifierOptions(base_options=BaseOptions(model_asset_path=sys.argv[1]))
frames = dict(np.load(sys.argv[2]))
with vision.ImageClassifier.create_from_options(options) as classifier:
    print("ready", flush=True)
    for line in sys.stdin:
        size, runs, clock = line.split()
        now = getattr(time, clock)
        taken = []
        for index in range(int(runs) + 1):
            frame = frames[size][index % len(frames[size])]
            start = now()
            classifier.classify(mp.Image(image_format=mp.ImageFormat.SRGB, data=cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)))
            taken.append((now() - start) * 1e3)
        print(json.dumps(taken[1:]), flush=True)
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--runs", type=int, default=300, help="frames of each row (default 300)")
    parser.add_argument("--cpu", action="store_true", help="processor time instead of wall time")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    bundle, card = read_bundle(args.bundle)
    files = {name: bundle / entry.name for name, entry in card.files.items()}
    frames = {size: list(islice(moving_frames(hw), 2 * POSES - 1)) for size, hw in SIZES_HW.items()}
    calls, skipped = rows(bundle, files, card.input.size_hw, frames)
    with MediaPipe.opened(files["int8"], frames, skipped) as mediapipe:
        taken = measured(calls, mediapipe, args.runs, "process_time" if args.cpu else "perf_counter")
    p50 = {name: float(np.median(ms)) for name, ms in taken.items()}
    p10 = {name: float(np.percentile(ms, 10)) for name, ms in taken.items()}
    verdicts = judged(p50)
    if args.json:
        print(json.dumps({"p50_ms": p50, "p10_ms": p10, "skipped": skipped, "verdicts": verdicts}))
        return 0 if all(verdicts.values()) else 1
    print(f"{'':<24}{'p50 ms':>9}{'p10 ms':>9}{'of invoke':>11}{'p10':>7}")
    for name in taken:
        print(f"{name:<24}{p50[name]:>9.2f}{p10[name]:>9.2f}{p50[name] / p50['invoke']:>11.2f}{p10[name] / p10['invoke']:>7.2f}")
    for name, reason in skipped.items():
        print(f"{name:<24} left out: {reason}")
    for claim, holds in verdicts.items():
        print(f"{'yes' if holds else 'NO ':<4}{claim}")
    return 0 if all(verdicts.values()) else 1


def judged(p50: dict[str, float]) -> dict[str, bool]:
    """What is claimed, and whether it holds in this run."""
    claims = {f"{name} within {limit} of invoke": p50[name] <= limit * p50["invoke"] for name, limit in LIMITS.items()}
    for size in SIZES_HW:
        ours = p50[f"pawlatch {size}"]
        for name, ms in p50.items():
            if name.endswith(f" {size}") and not name.startswith(("pawlatch", *ALIASING)):
                claims[f"pawlatch {size} ahead of {name}"] = ours < ms
        claims[f"pawlatch {size} within {PLAIN_LIMIT} of onnx int8 plain {size}"] = ours <= PLAIN_LIMIT * p50[f"onnx int8 plain {size}"]
    return claims


def measured(calls, mediapipe, runs, clock):
    """Blocks of AT_A_TIME in turn; MediaPipe's blocks come between them. `clock` is a function of `time`."""
    taken = {name: [] for name in calls}
    for _ in range(max(1, runs // AT_A_TIME)):
        for name, call in calls.items():
            taken[name] += interleaved_ms({name: call}, runs=AT_A_TIME, at_a_time=AT_A_TIME, clock=getattr(time, clock))[name]
        for name, ms in mediapipe.block(AT_A_TIME, clock).items():
            taken.setdefault(name, []).extend(ms)
    return taken


def rows(bundle, files, size_hw, frames):
    """What is called once for each frame, by the name of its row, and what cannot be measured here."""
    calls, skipped = {"invoke": bare_invoke(files["int8"], size_hw)}, {}
    others = {"litert area": litert_area(files["int8"], size_hw), "onnx int8 plain": onnx_plain(files["onnx_int8"], size_hw),
              "opencv dnn float32": opencv_dnn(files["onnx_float32"], size_hw)}
    try:
        others["litert pillow"] = litert_pillow(files["int8"], size_hw)
    except ImportError:
        skipped["litert pillow"] = "Pillow is not installed"
    for size, pictures in frames.items():
        for suffix, threads, gate in (("", 1, None), (" two threads", 2, None), (" whole", 1, Gate(GateOptions(crop=False)))):
            steps = decided(bundle, pictures, gate, threads)
            calls[f"pawlatch{suffix} {size}"] = steps.__next__
        for name, classify in others.items():
            calls[f"{name} {size}"] = over(classify, pictures)
    return calls, skipped


def decided(bundle, pictures, gate, threads):
    """pawlatch's steps; each must come to a decision, or its time says nothing."""
    classifier = Classifier(bundle, variant="int8", threads=threads)
    for step in decisions(classifier, chain(pictures, cycle(pictures[1:])), gate=gate):  # the first is the empty place
        if step.verdict is None:
            raise SystemExit(f"the gate refused a frame of the benchmark: {step.gate.reason}")
        yield step


def over(classify, pictures):
    turn = cycle(pictures)
    return lambda: classify(next(turn))


# --------------------------------------------------------------------------------------------------- what others would write


def interpreter(path):
    from ai_edge_litert.interpreter import Interpreter

    engine = Interpreter(model_path=str(path), num_threads=1)
    engine.allocate_tensors()
    return engine, engine.get_input_details()[0]["index"], [output["index"] for output in engine.get_output_details()]


def bare_invoke(path, size_hw):
    engine, given, _ = interpreter(path)
    engine.set_tensor(given, np.random.default_rng(0).integers(0, 256, (1, *size_hw, 3), np.uint8))
    return engine.invoke


def with_litert(path, shrink):
    engine, given, outputs = interpreter(path)

    def classify(frame):
        engine.set_tensor(given, shrink(frame)[np.newaxis])
        engine.invoke()
        return [engine.get_tensor(output) for output in outputs]

    return classify


def litert_area(path, size_hw):
    def shrink(frame):
        return cv2.cvtColor(cv2.resize(frame, size_hw[::-1], interpolation=cv2.INTER_AREA), cv2.COLOR_BGR2RGB)

    return with_litert(path, shrink)


def litert_pillow(path, size_hw):
    from PIL import Image

    def shrink(frame):
        whole = Image.fromarray(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB))
        return np.asarray(whole.resize(size_hw[::-1], Image.Resampling.BILINEAR))

    return with_litert(path, shrink)


def onnx_plain(path, size_hw):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    dtype = np.uint8 if "uint8" in session.get_inputs()[0].type else np.float32

    def classify(frame):
        pixels = cv2.cvtColor(cv2.resize(frame, size_hw[::-1]), cv2.COLOR_BGR2RGB)
        return session.run(None, {name: pixels[np.newaxis].astype(dtype, copy=False)})

    return classify


def opencv_dnn(path, size_hw):
    net = cv2.dnn.readNetFromONNX(str(path))

    def classify(frame):
        pixels = cv2.cvtColor(cv2.resize(frame, size_hw[::-1]), cv2.COLOR_BGR2RGB)
        net.setInput(pixels[np.newaxis].astype(np.float32))
        return net.forward()

    return classify


class MediaPipe:
    """Its ImageClassifier in a process of its own, or nothing."""

    def __init__(self, process, sizes):
        self._process, self._sizes = process, sizes

    @classmethod
    def opened(cls, model, frames, skipped):
        python = os.environ.get("PAWLATCH_MEDIAPIPE")
        if python is None:
            skipped["mediapipe"] = "PAWLATCH_MEDIAPIPE names no python with mediapipe 1.2"
            return cls(None, ())
        with tempfile.NamedTemporaryFile(suffix=".npz") as file:
            np.savez(file.name, **{size: np.stack(pictures) for size, pictures in frames.items()})
            process = subprocess.Popen([python, "-c", MEDIAPIPE_PROGRAM, str(model), file.name], text=True,
                                       stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
            if process.stdout.readline().strip() != "ready":
                raise SystemExit(f"{python} does not run mediapipe on {model}")
        return cls(process, frames)

    def block(self, runs, clock):
        """Milliseconds of so many frames of each size."""
        taken = {}
        for size in self._sizes:
            self._process.stdin.write(f"{size} {runs} {clock}\n")
            self._process.stdin.flush()
            taken[f"mediapipe {size}"] = json.loads(self._process.stdout.readline())
        return taken

    def __enter__(self):
        return self

    def __exit__(self, *raised):
        if self._process is not None:
            self._process.stdin.close()
            self._process.wait()


if __name__ == "__main__":
    sys.exit(main())
