"""What the proof costs: `convert` from start to bundle, against the bare converter calls for the same files in one process.

    python tests/bench/convert_time.py model/ [--int8] ...

`model/` is a folder that `train` wrote; the flags are those of `convert`. Prints both times and their ratio; both processes start
Python and import TensorFlow. The bare calls calibrate as their documentation shows, on the photos that train kept.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter

BARE = """
import sys, tempfile
from itertools import islice
from pathlib import Path

import numpy as np
import tensorflow as tf

from pawlatch.card import read_card
from pawlatch.image import fit, read_image

model, names = sys.argv[1], sys.argv[2].split(",")
card = read_card(Path(model))
files = sorted((Path(model) / "assets.extra" / "calibration").rglob("*.png"))
photos = [fit(read_image(file), card.input.size_hw, policy=card.input.fit)[np.newaxis].astype(np.float32) for file in files]
loaded = tf.saved_model.load(model)
function = loaded.signatures["serving_default"]
(name,) = function.structured_input_signature[1]


def tflite(**settings):
    converter = tf.lite.TFLiteConverter.from_saved_model(model)
    for key, value in settings.items():
        target = converter.target_spec if key.startswith("supported") else converter
        setattr(target, key, value)
    converter.convert()


def batches(most=None):
    return lambda: ({name: photo} for photo in islice(photos, most))


default, ops = [tf.lite.Optimize.DEFAULT], tf.lite.OpsSet
calls = {
    "float32": lambda: tflite(),
    "float16": lambda: tflite(optimizations=default, supported_types=[tf.float16]),
    "int8_dynamic": lambda: tflite(optimizations=default),
    "int8": lambda: tflite(optimizations=default, representative_dataset=batches(),
                           supported_ops=[ops.TFLITE_BUILTINS_INT8], inference_input_type=tf.uint8),
    "int16x8": lambda: tflite(optimizations=default, representative_dataset=batches(20), supported_ops=[
        ops.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8]),
}
for each in names:
    if each in calls:
        calls[each]()
if set(names) - set(calls):
    import onnx
    import tf2onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    spec = [tf.TensorSpec((1, *card.input.size_hw, 3), tf.float32, name=name)]
    call = tf.function(lambda pixels: function(**{name: pixels}), input_signature=spec)
    graph, _ = tf2onnx.convert.from_function(call, input_signature=spec, opset=17)

    class Reader(CalibrationDataReader):
        def __init__(self):
            self.rest = iter(photos)

        def get_next(self):
            photo = next(self.rest, None)
            return None if photo is None else {graph.graph.input[0].name: photo}

    if "onnx_int8" in names:
        with tempfile.TemporaryDirectory() as folder:
            quantize_static(graph, str(Path(folder) / "int8.onnx"), Reader(), quant_format=QuantFormat.QDQ, per_channel=True,
                            activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8)
"""


def timed(command: list[str]) -> tuple[float, str]:
    """Seconds that a command takes, and what it prints."""
    start = perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"})
    if done.returncode not in (0, 1):
        raise SystemExit(done.stderr)
    return perf_counter() - start, done.stdout


def main(model: str, *flags: str) -> None:
    """Run both and compare."""
    call = "import sys; from pawlatch.cli import convert; sys.exit(convert())"
    with tempfile.TemporaryDirectory() as folder:
        ours, printed = timed([sys.executable, "-c", call, model, "-o", f"{folder}/edge", "--json", *flags])
    peak_mb = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e3
    variants = json.loads(printed)["variants"]
    names = [entry["variant"] for entry in variants]
    bare, _ = timed([sys.executable, "-c", BARE, model, ",".join(names)])
    climbed = [f"{entry['variant']} by {entry['rung']}" for entry in variants if entry["rung"] != "bare"]
    print(f"{', '.join(names)}{'; beyond the first rung: ' + ', '.join(climbed) if climbed else ''}")
    print(f"bare converter calls {bare:.1f} s; convert, with the proof, {ours:.1f} s: {ours / bare:.2f} times; peak {peak_mb:.0f} MB")


if __name__ == "__main__":
    if len(sys.argv) < 2 or not Path(sys.argv[1]).is_dir():
        raise SystemExit(__doc__)
    main(*sys.argv[1:])
