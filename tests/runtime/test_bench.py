"""`pawlatch bench`, and that the benchmarks in tests/bench measure what they say."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from itertools import islice
from pathlib import Path

import pytest

from pawlatch.classify import Classifier
from pawlatch.commands.bench import SIZES_HW, bench, decisions, moving_frames
from pawlatch.errors import EngineError
from pawlatch.timing import interleaved_ms

BENCH = Path(__file__).parents[1] / "bench"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def script(name):
    """A file of tests/bench as a module."""
    spec = importlib.util.spec_from_file_location(name, BENCH / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_it_tells_of_variants_frames_and_the_engine(tiny_bundle, capsys):
    pytest.importorskip("onnxruntime", reason="the tiny bundle has an ONNX variant, which needs the onnx extra")
    assert bench([str(tiny_bundle), "--runs", "10", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert set(told["rows"]) == {"fit", "float32", "int8", "onnx_float32"}
    assert told["rows"]["float32"]["ratio"] == pytest.approx(1.0)
    assert set(told["frames"]) == {"inference", "640×480", "1920×1080"}
    assert all(0 < row["p50_ms"] <= row["p95_ms"] for row in (*told["rows"].values(), *told["frames"].values()))
    assert told["engine"]["variant"] == "int8"


def test_it_says_which_engine_the_door_will_take(tiny_bundle, capsys, monkeypatch):
    card = json.loads((tiny_bundle / "pawlatch.json").read_text())
    (tiny_bundle / "pawlatch.json").write_text(json.dumps(card | {"deploy": "float32"}))
    monkeypatch.setattr("pawlatch.model._measured", lambda *_: {"float32": 2.0, "onnx_float32": 1.0})
    pytest.importorskip("onnxruntime", reason="an engine that is not installed is not taken")
    assert bench([str(tiny_bundle), "--runs", "3"]) == 0
    told = capsys.readouterr().out
    assert "engine = auto takes onnx_float32: the faster engine here (float32 2 ms, onnx_float32 1 ms)" in told
    assert "a decoded frame with an animal to the door's decision" in told


def test_a_variant_whose_engine_is_absent_is_a_line_and_not_the_end(tiny_bundle, capsys, monkeypatch):
    def without_onnx(bundle, *, variant, threads):
        if variant.startswith("onnx"):
            raise EngineError(f'{variant} needs ONNX Runtime; type: pip install "pawlatch[onnx]"')
        return Classifier(bundle, variant=variant, threads=threads)

    monkeypatch.setattr("pawlatch.commands.bench.Classifier", without_onnx)
    assert bench([str(tiny_bundle), "--runs", "3"]) == 0
    assert 'onnx_float32   onnx_float32 needs ONNX Runtime; type: pip install "pawlatch[onnx]"' in capsys.readouterr().out
    monkeypatch.setattr("pawlatch.commands.bench.Classifier", lambda bundle, **_: without_onnx(bundle, variant="onnx", threads=1))
    with pytest.raises(EngineError, match=r"none of the variants of .* runs here"):
        bench([str(tiny_bundle)])


@pytest.mark.parametrize("size_hw", SIZES_HW)
def test_every_frame_it_times_comes_to_a_decision(tiny_bundle, size_hw):
    steps = list(islice(decisions(Classifier(tiny_bundle), moving_frames(size_hw)), 300))
    assert [step.gate.reason for step in steps if step.verdict is None] == []


def test_turns_are_counted_and_end_when_they_take_too_long():
    called = []
    taken = interleaved_ms({"a": lambda: called.append("a"), "b": lambda: called.append("b")}, runs=5)
    assert {name: len(ms) for name, ms in taken.items()} == {"a": 5, "b": 5}
    assert called == ["a", "b"] * 6  # the first of each is not counted
    assert {len(ms) for ms in interleaved_ms({"a": int, "b": int}, runs=25, at_a_time=10).values()} == {25}
    assert {len(ms) for ms in interleaved_ms({"a": int}, runs=1000, at_a_time=10, longest_s=0.0).values()} == {10}


def test_a_frame_that_is_too_slow_turns_the_benchmark_red():
    frame = script("frame")
    p50 = {"invoke": 4.0, "pawlatch 640": 4.5, "pawlatch 1080p": 4.9, "pawlatch two threads 640": 3.0,
           "pawlatch two threads 1080p": 3.5, "litert area 640": 5.0, "litert area 1080p": 6.0,
           "onnx int8 plain 640": 4.1, "onnx int8 plain 1080p": 4.4}
    assert len(frame.judged(p50)) == 8
    assert all(frame.judged(p50).values())
    for slow in ({"pawlatch 640": 4.61}, {"pawlatch 1080p": 5.01}, {"litert area 640": 4.4}, {"onnx int8 plain 1080p": 4.2}):
        assert list(frame.judged(p50 | slow).values()).count(False) == 1, slow


def test_a_start_that_is_too_slow_or_too_large_turns_the_benchmark_red():
    start = script("start")
    bare = start.Spent(0.1, 0.1, 60.0)
    assert all(start.judged(start.Spent(0.35, 0.3, 110.0), bare).values())
    assert list(start.judged(start.Spent(0.36, 0.3, 110.0), bare).values()) == [False, True]
    assert list(start.judged(start.Spent(0.35, 0.3, 111.0), bare).values()) == [True, False]


def grown_mb(bundle, *, frames, leak):
    """By how much a process of its own grows: in one that has had much memory before, what is kept finds room without growth."""
    program = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import growth\nfrom pawlatch.classify import Classifier\n"
        "kept, size = [], int(sys.argv[4])\n"
        "readings = growth.resident_mb(Classifier(sys.argv[2], threads=1), int(sys.argv[3]),\n"
        "                              on_frame=lambda frame: kept.append(b'x' * size))\n"
        "print(growth.growth_mb(readings))\n"
    )
    told = subprocess.run([sys.executable, "-c", program, str(BENCH), str(bundle), str(frames), str(leak)],
                          capture_output=True, text=True, timeout=600, check=True)
    return float(told.stdout)


@pytest.mark.slow
def test_memory_does_not_grow(tiny_bundle):
    assert grown_mb(tiny_bundle, frames=12_000, leak=0) <= script("growth").LIMIT_MB


@pytest.mark.slow
def test_memory_that_grows_is_noticed(tiny_bundle):
    assert grown_mb(tiny_bundle, frames=4_000, leak=2000) > script("growth").LIMIT_MB
