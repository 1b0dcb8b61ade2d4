"""Which engine runs here: measured once, remembered, and never another precision."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path

import pytest

from pawlatch.card import read_bundle
from pawlatch.errors import ConfigError, ModelCardError
from pawlatch.model import ModelOptions, cache_folder, choose, open_model

needs_onnx = pytest.mark.skipif(find_spec("onnxruntime") is None, reason="ONNX Runtime is an extra of the device")
TWO = {"float32", "onnx_float32"}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """An empty cache of its own."""
    monkeypatch.delenv("CACHE_DIRECTORY", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "pawlatch" / "engines.json"


@pytest.fixture
def bundle(tiny_bundle):
    """The tiny bundle, which deploys a precision that both engines can run."""
    _, card = read_bundle(tiny_bundle)
    replace(card, deploy="float32").write(tiny_bundle)
    return tiny_bundle


class Stopwatch:
    """Stands for the process that measures: says what a test wants it to, and counts how often it was asked."""

    def __init__(self, monkeypatch):
        self.asked = 0
        self.says = '{"float32": 2.0, "onnx_float32": 1.0}'
        self.status = 0
        monkeypatch.setattr("pawlatch.model.find_spec", lambda name: find_spec("json"))  # every engine is installed
        monkeypatch.setattr("subprocess.run", self.run)

    def run(self, command, **_):
        self.asked += 1
        return subprocess.CompletedProcess(command, self.status, self.says, "")


@pytest.fixture
def stopwatch(monkeypatch):
    return Stopwatch(monkeypatch)


def chosen(bundle, **options):
    return choose(*read_bundle(bundle), **options)


@needs_onnx
def test_both_engines_are_measured_in_a_process_and_one_is_taken(bundle, cache):
    choice = chosen(bundle, threads=1)
    assert set(choice.latency_ms) == TWO
    assert all(ms > 0 for ms in choice.latency_ms.values())
    assert choice.variant in TWO
    (latency_ms,) = json.loads(cache.read_text()).values()
    assert latency_ms == choice.latency_ms
    assert open_model(ModelOptions(bundle, threads=1)).variant == choice.variant


@pytest.mark.parametrize(("onnx_ms", "variant", "reason"), [
    (1.0, "onnx_float32", "the faster engine here (float32 2 ms, onnx_float32 1 ms)"),
    (1.9, "float32", "what the card deploys; onnx_float32 is not clearly faster here"),
    (3.0, "float32", "what the card deploys; onnx_float32 is not clearly faster here"),
])  # fmt: skip
def test_the_other_engine_must_be_clearly_faster(bundle, stopwatch, onnx_ms, variant, reason):
    stopwatch.says = json.dumps({"float32": 2.0, "onnx_float32": onnx_ms})
    choice = chosen(bundle)
    assert choice.variant == variant
    assert reason in choice.reason


def test_a_bundle_that_deploys_onnx_may_run_in_litert(bundle, stopwatch):
    _, card = read_bundle(bundle)
    replace(card, deploy="onnx_float32").write(bundle)
    stopwatch.says = '{"float32": 1.0, "onnx_float32": 2.0}'
    assert chosen(bundle).variant == "float32"


def test_it_is_measured_once(bundle, stopwatch):
    assert chosen(bundle) == chosen(bundle)
    assert stopwatch.asked == 1
    stopwatch.says = '{"float32": 1.0, "onnx_float32": 2.0}'
    assert chosen(bundle, fresh=True).variant == "float32"
    assert chosen(bundle).variant == "float32"
    assert stopwatch.asked == 2


def test_other_files_threads_versions_or_machines_are_measured_again(bundle, stopwatch, monkeypatch):
    chosen(bundle)
    chosen(bundle, threads=1)
    assert stopwatch.asked == 2
    folder, card = read_bundle(bundle)
    files = {**card.files, "onnx_float32": replace(card.files["onnx_float32"], sha256="0" * 64)}
    choose(folder, replace(card, files=files))
    assert stopwatch.asked == 3
    monkeypatch.setattr("pawlatch.model.platform.machine", lambda: "another")
    chosen(bundle)
    assert stopwatch.asked == 4


def test_another_version_of_an_engine_is_measured_again(bundle, stopwatch, monkeypatch, tmp_path):
    package = tmp_path / "site" / "onnxruntime"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    monkeypatch.setattr("pawlatch.model.find_spec", lambda name: ModuleSpec(name, None, origin=str(package / "__init__.py")))
    for times, version in enumerate(("1.0", "1.1"), start=1):
        folder = tmp_path / "site" / f"onnxruntime-{version}.dist-info"
        folder.mkdir()
        chosen(bundle)
        chosen(bundle)
        assert stopwatch.asked == times
        folder.rmdir()


def test_only_the_newest_choices_are_kept(bundle, stopwatch, cache):
    for threads in range(1, 31):
        chosen(bundle, threads=threads)
    kept = list(json.loads(cache.read_text()))
    assert len(kept) == 16
    assert "threads=30 " in kept[-1]


@pytest.mark.parametrize("content", ["", "[]", "{", '{"a": 1}', '{"a": {"b": "c"}}'])
def test_a_cache_that_is_none_is_measured_again(bundle, stopwatch, cache, content):
    cache.parent.mkdir(parents=True)
    cache.write_text(content)
    assert chosen(bundle).variant == chosen(bundle).variant == "onnx_float32"
    assert stopwatch.asked == 1


def test_what_could_not_be_kept_is_not_measured(bundle, stopwatch, cache):
    cache.parent.parent.mkdir(parents=True)
    cache.parent.write_text("a file where the folder should be")
    assert chosen(bundle).variant == "float32"
    assert stopwatch.asked == 0


def test_a_process_that_fails_leaves_what_the_card_deploys_and_is_not_tried_again(bundle, stopwatch, caplog):
    stopwatch.status, stopwatch.says = 1, "ONNX Runtime cannot load it"
    assert chosen(bundle).variant == chosen(bundle).variant == "float32"
    assert stopwatch.asked == 1
    assert "could not be compared: ONNX Runtime cannot load it" in caplog.text


def test_a_process_that_hangs_leaves_what_the_card_deploys(bundle, stopwatch, monkeypatch):
    def hang(command, **_):
        raise subprocess.TimeoutExpired(command, 60)

    monkeypatch.setattr("subprocess.run", hang)
    assert chosen(bundle).variant == "float32"


def test_another_precision_is_never_taken(tiny_bundle, stopwatch):
    choice = chosen(tiny_bundle)  # it deploys int8 and has onnx_float32, but no onnx_int8
    assert choice.variant == "int8"
    assert stopwatch.asked == 0


def test_an_engine_that_is_not_installed_is_not_measured(bundle, stopwatch, monkeypatch):
    monkeypatch.setattr("pawlatch.model.find_spec", lambda name: None if name == "onnxruntime" else find_spec("json"))
    choice = chosen(bundle)
    assert (choice.variant, stopwatch.asked) == ("float32", 0)
    assert "onnxruntime is not installed" in choice.reason


@needs_onnx
@pytest.mark.parametrize(("engine", "variant"), [("litert", "float32"), ("onnx", "onnx_float32")])
def test_a_named_engine_is_taken_unmeasured(bundle, cache, engine, variant):
    assert open_model(ModelOptions(bundle, engine=engine)).variant == variant
    assert not cache.exists()


def test_a_named_engine_without_a_file_of_the_precision_is_refused(tiny_bundle):
    with pytest.raises(ModelCardError, match="has no int8 for onnx, only float32, int8, onnx_float32; leave engine = auto"):
        open_model(ModelOptions(tiny_bundle, engine="onnx"))


def test_a_named_variant_is_taken_as_it_is(bundle, stopwatch):
    assert open_model(ModelOptions(bundle, variant="int8")).variant == "int8"
    assert stopwatch.asked == 0


def test_a_bundle_that_deploys_nothing_asks_for_a_variant(bundle):
    _, card = read_bundle(bundle)
    replace(card, deploy=None).write(bundle)
    with pytest.raises(ModelCardError, match=r"no variant of .* was promoted; name one of float32"):
        open_model(ModelOptions(bundle))


@pytest.mark.parametrize(("options", "words"), [
    ({"engine": "tensorrt"}, "engine must be one of auto, litert, onnx, got 'tensorrt'"),
    ({"threads": 0}, "threads must be 1 to 64, got 0"),
    ({"threads": 65}, "threads must be 1 to 64, got 65"),
    ({"variant": "int8", "engine": "onnx"}, "a variant has its engine, but both are named"),
])  # fmt: skip
def test_settings_out_of_bounds_are_refused(options, words):
    with pytest.raises(ConfigError, match=words):
        ModelOptions(**options)


def test_under_systemd_the_units_cache_directory_is_used(monkeypatch, tmp_path):
    monkeypatch.setenv("CACHE_DIRECTORY", f"{tmp_path}:/var/cache/other")
    assert cache_folder() == tmp_path
    monkeypatch.delenv("CACHE_DIRECTORY")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "pawlatch"
