"""`pawlatch bench --report`: what a board's owner sends, what must not be in it, and the table that it fills."""

from __future__ import annotations

import getpass
import importlib.util
import json
import math
import os
import platform
import socket
from pathlib import Path

import pytest

from pawlatch import machine
from pawlatch.benchreport import HEADER, read_report
from pawlatch.commands.bench import bench
from pawlatch.errors import OutputError, ReportError
from pawlatch.machine import cpu, emulation, machine_facts

SCRIPT = Path(__file__).parents[1] / "bench" / "board_table.py"
DOCS = Path(__file__).parents[2] / "docs" / "boards.md"
PI4 = "processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xd08\n\nHardware\t: BCM2835\nSerial\t\t: 10000000deadbeef\nModel\t\t: Raspberry Pi 4\n"
X86 = "processor\t: 0\nvendor_id\t: GenuineIntel\nmodel name\t: Intel(R) Xeon(R) Processor @ 2.10GHz\nflags\t\t: fpu\n"


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A report of the fixture's bundle, as the command wrote it, and where that bundle lies."""
    folder = tmp_path_factory.mktemp("owner-of-a-cat")
    bundle = Path(__file__).parents[1] / "fixtures" / "tiny"
    assert bench([str(bundle), "--runs", "5", "--report", str(folder / "board.json")]) == 0
    return folder / "board.json"


@pytest.fixture
def report(written):
    return json.loads(written.read_text(encoding="utf-8"))


@pytest.fixture
def root(tmp_path):
    """`root("proc/cpuinfo", text)`: a file of a system that is not this one."""

    def write(name, text):
        path = tmp_path / "root" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return tmp_path / "root"

    return write


def test_it_holds_what_makes_boards_comparable(report, written):
    assert read_report(written) == report
    assert report["machine"]["architecture"] == platform.machine()
    assert report["machine"]["kernel"] == platform.release()
    assert {"pawlatch", "python", "numpy"} <= report["versions"].keys()
    assert (report["bundle"]["variant"], report["bundle"]["size_hw"]) == ("int8", [32, 32])
    assert len(report["bundle"]["sha256"]) == 64
    assert list(report["threads"]) == [str(n) for n in (1, 2, 4) if n <= (os.cpu_count() or 1)]
    assert {"fit", "float32", "int8"} <= report["threads"]["1"]["rows"].keys()
    assert report["threads"]["1"]["frames"].keys() == {"inference", "640×480", "1920×1080"}
    assert report["cold_start_s"] > 0
    assert 20 < report["peak_mb"] < 150  # of `run`, not of this process
    assert report["board"]["before"].keys() == {"temperature_c", "undervoltage", "throttled", "is_hot"}


def test_it_says_nothing_of_whose_board_it_is(written):
    text = written.read_text(encoding="utf-8")
    private = {socket.gethostname(), str(Path.home()), str(Path.cwd()), str(written.parent), written.parent.name, '"/'}
    if len(getpass.getuser()) > 3:
        private.add(getpass.getuser())
    assert not [word for word in private if word in text]


def test_a_boards_serial_number_stays_there(root):
    root("proc/device-tree/serial-number", "10000000deadbeef\0")
    root("proc/device-tree/model", "Raspberry Pi 4 Model B Rev 1.4\0")
    root("etc/os-release", 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nNAME="Debian"\n')
    root("etc/hostname", "owners-pi")
    root("proc/meminfo", "MemTotal:        3884360 kB\n")
    root("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "ondemand\n")
    facts = machine_facts(root("proc/cpuinfo", PI4))
    assert facts | {"architecture": "", "kernel": "", "cores": 0} == {
        "board": "Raspberry Pi 4 Model B Rev 1.4", "cpu": "Cortex-A72", "architecture": "", "cores": 0, "governor": "ondemand",
        "ram_mb": 3793, "kernel": "", "system": "Debian GNU/Linux 12 (bookworm)"}
    assert "deadbeef" not in str(facts)


@pytest.mark.parametrize(("cpuinfo", "name"), [
    (PI4, "Cortex-A72"), (PI4.replace("0xd08", "0xfff"), "Arm part 0xfff"), (X86, "Intel(R) Xeon(R) Processor @ 2.10GHz"), ("", None),
])
def test_the_processor_has_a_name(root, cpuinfo, name):
    assert cpu(root("proc/cpuinfo", cpuinfo)) == name


def test_a_machine_that_tells_nothing_is_no_error(tmp_path):
    assert machine_facts(tmp_path)["board"] is None
    assert emulation(tmp_path, environ={}) in ([], ["the machine is QEMU's, without KVM"])


def test_an_emulation_shows_itself(root, monkeypatch):
    monkeypatch.setattr(machine, "run_tool", lambda *command: "kvm")
    assert emulation(root("proc/cpuinfo", X86), environ={}) == []
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    assert emulation(root("proc/cpuinfo", X86), environ={}) == ["an Arm program sees an x86 processor"]
    system = root("proc/cpuinfo", PI4)
    assert emulation(system, environ={}) == []
    assert emulation(system, environ={"QEMU_CPU": "cortex-a72"}) == ["QEMU_CPU is set"]
    (system / "proc/thread-self").mkdir()
    (system / "proc/thread-self/exe").symlink_to("/usr/bin/qemu-aarch64-static")
    assert emulation(system, environ={}) == ["QEMU runs this program"]
    monkeypatch.setattr(machine, "run_tool", lambda *command: "qemu")
    assert emulation(root("proc/cpuinfo", X86), environ={})[-1] == "the machine is QEMU's, without KVM"


# ------------------------------------------------------------------------------------------------------ bad use


def test_without_a_file_it_is_printed(tiny_bundle, capsys):
    assert bench([str(tiny_bundle), "--runs", "2", "--report"]) == 0
    assert json.loads(capsys.readouterr().out)["schema"] == 1


@pytest.mark.parametrize("more", [["--json"], ["--threads", "2"]])
def test_what_does_not_go_together_is_bad_use(tiny_bundle, more):
    with pytest.raises(SystemExit) as caught:
        bench([str(tiny_bundle), *more, "--report", "board.json"])
    assert caught.value.code == 2


def test_a_place_that_cannot_be_written_to_is_told_before_anything_is_measured(tiny_bundle, tmp_path, monkeypatch):
    monkeypatch.setattr("pawlatch.commands.bench.choose", lambda *_: pytest.fail("it measures"))
    for place in (tmp_path, tmp_path / "absent" / "board.json"):
        with pytest.raises(OutputError):
            bench([str(tiny_bundle), "--report", str(place)])


def spoil_p50(report):
    report["threads"]["1"]["rows"]["int8"]["p50_ms"] = 1e9


def lose_variant(report):
    del report["threads"]["1"]["rows"]["int8"]


def lose_row_key(report):
    del report["threads"]["1"]["frames"]["640×480"]["p95_ms"]


def lose_variant_of_more_threads(report):
    report["threads"]["4"] = {"rows": {}, "frames": report["threads"]["1"]["frames"]}


@pytest.mark.parametrize(("spoil", "told"), [
    (lambda report: report.pop("bundle"), "lacks bundle"),
    (lambda report: report.update(schema=2), "is of schema 2"),
    (lambda report: report.update(schema=None), "it has no schema"),
    (lambda report: report.update(cold_start_s=-1), "cold_start_s is -1"),
    (lambda report: report.update(peak_mb=math.inf), "peak_mb is inf"),
    (lambda report: report.update(is_emulated=True, emulation=[]), "signs of an emulation and denies it"),
    (lambda report: report.update(threads={}), "no times for one thread"),
    (lambda report: report.update(machine=[]), "cannot be: TypeError"),
    (spoil_p50, "int8 in 1 threads takes"),
    (lose_variant, "no times for int8"),
    (lose_row_key, "KeyError at 'p95_ms'"),
    (lose_variant_of_more_threads, "no times for int8"),
    (lambda report: report["threads"]["1"]["frames"].pop("640×480"), "no times for frames of 640×480"),
    (lambda report: report["bundle"].pop("backbone"), "KeyError at 'backbone'"),
    (lambda report: report["bundle"].update(size_hw=[224]), "IndexError"),
    (lambda report: report["machine"].pop("cpu"), "KeyError at 'cpu'"),
])
def test_nonsense_is_refused(report, tmp_path, spoil, told):
    report |= {"is_emulated": False, "emulation": []}
    spoil(report)
    (tmp_path / "spoiled.json").write_text(json.dumps(report))
    with pytest.raises(ReportError, match=told):
        read_report(tmp_path / "spoiled.json")


@pytest.mark.parametrize("text", ["", "[]", "{", "\0", '{"schema": "1"}'])
def test_what_is_no_report_is_refused(tmp_path, text):
    (tmp_path / "other.json").write_text(text)
    with pytest.raises(ReportError, match="is no report"):
        read_report(tmp_path / "other.json")


# ------------------------------------------------------------------------------------------------------ the table


@pytest.fixture
def table(capsys):
    spec = importlib.util.spec_from_file_location("board_table", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return lambda *paths: (module.main([str(path) for path in paths]), capsys.readouterr())


def test_each_number_of_threads_is_a_row(table, report, tmp_path):
    report |= {"is_emulated": False, "emulation": []}
    report["machine"] |= {"board": "Raspberry Pi 4 Model B", "cpu": "Cortex-A72"}
    (tmp_path / "pi4.json").write_text(json.dumps(report))
    status, said = table(tmp_path / "pi4.json")
    head, rule, *rows = said.out.splitlines()
    assert (status, head, rule) == (0, *HEADER)
    assert len(rows) == len(report["threads"])
    assert {row.count("|") for row in (head, rule, *rows)} == {head.count("|")}
    p50 = report["threads"]["1"]["rows"]["int8"]["p50_ms"]
    assert rows[0].startswith(f"| Raspberry Pi 4 Model B | Cortex-A72 | measured, pawlatch {report['versions']['pawlatch']} | tiny int8, 32 px | 1 | {p50:.1f}, ")


def test_an_emulated_board_is_marked(table, report, tmp_path):
    report |= {"is_emulated": True, "emulation": ["QEMU_CPU is set"]}
    (tmp_path / "qemu.json").write_text(json.dumps(report))
    _, said = table(tmp_path / "qemu.json")
    assert all("| emulated: no speed |" in row for row in said.out.splitlines()[2:])


def test_one_file_that_is_none_ends_it(table, written, tmp_path):
    (tmp_path / "other.json").write_text("{}")
    status, said = table(written, tmp_path / "other.json")
    assert (status, said.out) == (2, "")
    assert "is no report" in said.err


def test_the_page_has_the_tables_columns():
    assert "\n".join(HEADER) in DOCS.read_text(encoding="utf-8")
