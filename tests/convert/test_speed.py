"""Speed and memory come from a process of their own, and the choice of what to deploy from what was measured."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pawlatch.card import read_card
from pawlatch.errors import EngineError
from pawlatch.files import sha256
from pawlatch_convert.speed import TARGETS, Speed, choose_deploy, measure_speed, slower_sentence

SIZES = {"float32": 8_000, "float16": 4_000, "int8_dynamic": 2_300, "int16x8": 2_400, "int8": 2_200,
         "onnx_float32": 8_100, "onnx_int8": 2_500}  # fmt: skip


def speed(p50_ms: float, *, one_thread_ms: float | None = None) -> Speed:
    return Speed({1: (one_thread_ms or p50_ms, 2 * p50_ms), 2: (p50_ms, 2 * p50_ms)}, load_ms=20.0, peak_mb=80.0)


SPEEDS = {"float32": speed(2.0), "float16": speed(2.05), "int8_dynamic": speed(2.5), "int16x8": speed(60.0), "int8": speed(3.0),
          "onnx_float32": speed(1.0), "onnx_int8": speed(4.0)}  # fmt: skip


# ------------------------------------------------------------------------------------------------------ measuring


@pytest.mark.parametrize("variant", ["int8", "onnx_float32"])
def test_each_thread_count_is_timed(tiny_bundle: Path, variant: str) -> None:
    measured = measure_speed(tiny_bundle, variant, threads=(1, 2, 4), runs=5)  # 4 may be more than there are cores
    assert list(measured.latency_ms) == [1, 2, 4]
    assert all(0 < p50 <= p95 for p50, p95 in measured.latency_ms.values())
    assert measured.load_ms > 0
    assert Speed.from_dict(json.loads(json.dumps(measured.to_dict()))) == measured


def test_memory_is_that_of_its_process_and_not_of_ours(tiny_bundle: Path) -> None:
    ballast = np.full(500_000_000, 1, np.uint8)  # a child's ru_maxrss would begin with it
    measured = measure_speed(tiny_bundle, "int8", threads=(1,), runs=1)
    assert ballast[-1] == 1
    assert 20 < measured.peak_mb < 400


def test_its_process_imports_the_runtime_alone(tiny_bundle: Path) -> None:
    from pawlatch_convert import speed

    program = (
        "import runpy, sys; sys.argv = sys.argv[1:]\n"
        "try: runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "except SystemExit: print(); print(*sorted(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, speed.__file__, tiny_bundle, "int8", "1", "1"], capture_output=True, text=True,
        stdin=subprocess.DEVNULL, check=True,
    )  # fmt: skip
    result, modules = done.stdout.splitlines()
    assert json.loads(result)["peak_mb"] > 0
    assert "pawlatch.classify" in modules.split()
    assert {"tensorflow", "onnx", "pawlatch_convert", "pawlatch_train"}.isdisjoint(modules.split())


def test_it_classifies_the_pixels_that_it_is_given(tiny_bundle: Path) -> None:
    measure_speed(tiny_bundle, "int8", threads=(1,), runs=1, pixels=np.zeros((32, 32, 3), np.uint8))
    with pytest.raises(EngineError, match=r"int8 does not run: its process ended with status 1: ValueError: .* into shape"):
        measure_speed(tiny_bundle, "int8", threads=(1,), runs=1, pixels=np.zeros((16, 32, 3), np.uint8))


def test_what_goes_wrong_there_is_said_here(tiny_bundle: Path) -> None:
    with pytest.raises(EngineError, match=r"float16 does not run: .* has no variant 'float16'; choose one of float32, int8"):
        measure_speed(tiny_bundle, "float16")


def test_a_broken_file_with_its_right_hash_is_said_too(tiny_bundle: Path) -> None:
    card = read_card(tiny_bundle)
    path = tiny_bundle / card.files["int8"].name
    path.write_bytes(path.read_bytes()[:1500])
    replace(card, files={**card.files, "int8": replace(card.files["int8"], sha256=sha256(path))}).write(tiny_bundle)
    with pytest.raises(EngineError, match=r"int8 does not run: LiteRT cannot load .*; convert the model again"):
        measure_speed(tiny_bundle, "int8")


def test_a_process_that_dies_is_an_error(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tiny_bundle), os.environ.get("PYTHONPATH", "")]))
    (tiny_bundle / "cv2.py").write_text("import os; os.kill(os.getpid(), 9)")
    with pytest.raises(EngineError, match="int8 does not run: its process ended with status -9"):
        measure_speed(tiny_bundle, "int8")


# ------------------------------------------------------------------------------------------- what follows from it


def test_int8_that_is_slower_is_said_to_be() -> None:
    assert slower_sentence(SPEEDS) == (
        "int8 is slower than float32 on this machine (3 against 2 ms at 2 threads): "
        "a board's processor may rank them otherwise; measure there"
    )


@pytest.mark.parametrize("speeds", [
    {}, {"int8": speed(3.0)}, {"float32": speed(2.0)}, {"int8": speed(2.0), "float32": speed(2.0)},
])  # fmt: skip
def test_int8_that_is_not_slower_or_not_known_is_not(speeds: dict[str, Speed]) -> None:
    assert slower_sentence(speeds) is None


@pytest.mark.parametrize("target", ["pi5", "pi4", "pi-zero2"])
def test_a_board_gets_int8_even_where_it_is_slower_here(target: str) -> None:
    chosen = choose_deploy(SIZES, SPEEDS, SIZES, target)
    assert chosen is not None
    name, reason = chosen
    assert name == "int8"
    assert TARGETS[target] in reason
    assert "int8 3 ms, float32 2 ms" in reason
    assert "not on the board" in reason


def test_without_int8_a_board_gets_the_smallest_that_is_not_far_slower() -> None:
    green = set(SIZES) - {"int8"}
    sizes = {**SIZES, "int16x8": 2_000}  # the smallest, and thirty times slower
    assert (choose_deploy(green, SPEEDS, sizes, "pi5") or ("", ""))[0] == "int8_dynamic"
    assert (choose_deploy(green - {"int8_dynamic"}, SPEEDS, sizes, "pi5") or ("", ""))[0] == "float16"
    chosen = choose_deploy({"int16x8"}, SPEEDS, sizes, "pi5")
    assert chosen is not None
    assert chosen[0] == "int16x8"  # it is all there is


def test_a_busy_machine_that_spoils_the_second_thread_does_not_rule_a_variant_out() -> None:
    speeds = {"float32": speed(0.6), "int8_dynamic": speed(15.8, one_thread_ms=0.7)}
    assert (choose_deploy(speeds, speeds, SIZES, "pi4") or ("", ""))[0] == "int8_dynamic"


def test_a_desktop_gets_the_fastest_and_onnx_is_a_candidate_there_only() -> None:
    chosen = choose_deploy(SIZES, SPEEDS, SIZES, "desktop")
    assert chosen is not None
    assert chosen == ("onnx_float32", "onnx_float32 for a desktop: the fastest here, 1 ms at 2 threads, 0.01 MB")
    assert choose_deploy({"onnx_float32", "onnx_int8"}, SPEEDS, SIZES, "pi5") is None


def test_of_variants_that_are_as_fast_a_desktop_gets_the_smallest() -> None:
    chosen = choose_deploy({"float32", "float16", "int8"}, SPEEDS, SIZES, "desktop")
    assert chosen is not None
    assert chosen[0] == "float16"  # 2.05 against 2.0 ms is noise
    assert "the smallest of the 2 fastest here" in chosen[1]


@pytest.mark.parametrize("target", TARGETS)
def test_where_nothing_is_green_nothing_is_chosen(target: str) -> None:
    assert choose_deploy((), SPEEDS, SIZES, target) is None


@pytest.mark.parametrize("target", ["pi5", "desktop"])
def test_a_variant_of_an_earlier_run_needs_no_measurement(target: str) -> None:
    chosen = choose_deploy({"int8", "float32"}, {"float32": speed(2.0)}, SIZES, target)
    assert chosen is not None
    assert chosen[0] == {"pi5": "int8", "desktop": "float32"}[target]
