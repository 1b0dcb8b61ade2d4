"""README and docs speak of what there is: every subcommand, and no option that does not exist."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from pawlatch.cli import COMMANDS

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [README, *(page.read_text(encoding="utf-8") for page in sorted((ROOT / "docs").glob("*.md")))]
CODE = "\n".join(code for page in PAGES for code in re.findall(r"```\n(.*?)```", page, re.DOTALL))


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_stands_in_the_readme(name):
    assert re.search(rf"(pawlatch |`){name}\b", README)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_in_the_docs_exists(name):
    if COMMANDS[name].extra == "convert":
        pytest.importorskip("tensorflow", reason="needs the convert extra")
    lines = re.findall(rf"^(?:pawlatch )?{name} (.*?)(?:#|$)", CODE, re.MULTILINE)
    used = {option for line in lines for option in re.findall(r"(?<!\S)--?[a-z][a-z0-9-]*", line)}
    told = subprocess.run(
        [sys.executable, "-c", "from pawlatch.cli import main; raise SystemExit(main())", name, "--help"],
        capture_output=True, text=True, timeout=60,
    )
    assert told.returncode == 0, told.stderr
    assert used <= set(re.findall(r"--?[a-z][a-z0-9-]*", told.stdout))


def test_both_commands_set_themselves_up():
    for marker in ("demo", "tests"):
        (line,) = re.search(rf"<!-- {marker} -->\n```\n(.*?)```", README, re.DOTALL).group(1).splitlines()
        assert line.startswith("python3 -m venv .venv && .venv/bin/pip install ")
