"""README, docs and examples speak of what there is: every subcommand, no option, link, test or message that does not exist."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pawlatch.cli import COMMANDS

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
FILES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "examples").rglob("*.md"))]
PAGES = {path: path.read_text(encoding="utf-8") for path in FILES}
TABLE = re.compile(r"^\|.*\|$", re.MULTILINE)
CODE = "\n".join([
    *(code for page in PAGES.values() for code in re.findall(r"```\n(.*?)```", page, re.DOTALL)),
    *(code for page in PAGES.values() for row in TABLE.findall(page) for code in re.findall(r"`(pawlatch .*?)`", row)),
])


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_stands_in_the_readme(name):
    assert re.search(rf"(pawlatch |`){name}\b", README)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_in_the_docs_exists(name):
    if COMMANDS[name].extra == "convert":
        pytest.importorskip("tensorflow", reason="needs the convert extra")
    lines = re.findall(rf"(?:^|[;&|] |do |sudo )(?:pawlatch )?{name} (.*?)(?:#|;|$)", CODE, re.MULTILINE)
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


def links(page: str) -> list[str]:
    """Where a page's links and pictures lead, but those to other sites; code is no link."""
    text = re.sub(r"```.*?```", "", page, flags=re.DOTALL)
    found = [*re.findall(r"\]\(([^)\s]+)\)", text), *re.findall(r'(?:src|href)="([^"]+)"', text)]
    return [link for link in found if not re.match(r"[a-z]+:", link)]


def headings(page: str) -> set[str]:
    """The anchors that GitHub gives a page's headings."""
    titles = re.findall(r"^#+ (.*)$", page, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def broken(path: Path, page: str) -> list[str]:
    wrong = []
    for link in links(page):
        file, _, anchor = link.partition("#")
        target = (path.parent / file).resolve() if file else path
        if not target.exists() or (anchor and anchor not in headings(target.read_text(encoding="utf-8"))):
            wrong.append(link)
    return wrong


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_somewhere(path):
    assert broken(path, PAGES[path]) == []


def test_a_link_that_leads_nowhere_is_noticed():
    page = "[a](docs/gone.md) [b](#what-is-where) [c](#nowhere) ![d](docs/door.jpg) [e](https://example.org)\n## What is where"
    assert broken(ROOT / "README.md", page + README) == ["docs/gone.md", "#nowhere"]


def test_every_page_can_be_found_from_the_readme():
    seen, ahead = set(), [ROOT / "README.md"]
    while ahead:
        path = ahead.pop()
        if path not in seen:
            seen.add(path)
            ahead += [to for link in links(PAGES[path]) if (to := (path.parent / link.partition("#")[0]).resolve()) in PAGES]
    assert set(PAGES) == seen


def untold_tests(page: str) -> list[str]:
    """Tests that a page names, with the file they should stand in, and do not."""
    named = re.findall(r"\[`(test_\w+)`\]\(\.\./(tests/[\w/]+\.py)\)", page)
    assert len(named) == len(re.findall(r"`test_\w+`", page)), "a test is named as [`test_…`](../tests/….py)"
    return [test for test, file in named if f"def {test}(" not in (ROOT / file).read_text(encoding="utf-8")]


def test_the_tests_that_prove_the_safety_model_exist():
    page = PAGES[ROOT / "docs" / "safety.md"]
    assert untold_tests(page) == []
    for row in TABLE.findall(page.split("## What it does not")[0])[2:]:
        assert "`test_" in row, row
    assert untold_tests("[`test_nothing`](../tests/runtime/test_docs.py)") == ["test_nothing"]


def said_by_the_program() -> list[str]:
    """Every text in the program's source, with … where a value goes in."""
    said = []
    for folder in ("runtime", "train", "convert"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.JoinedStr):
                    said.append("".join(part.value if isinstance(part, ast.Constant) else "…" for part in node.values))
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    said.append(node.value)
    return said


def is_said(message: str, said: list[str]) -> bool:
    """Whether the message's parts stand in one text of the program, in this order; what is … there may be anything."""
    pattern = re.compile(".*".join(map(re.escape, message.split("…"))), re.DOTALL)
    return any(pattern.search(text) for text in said)


def test_the_messages_in_the_troubleshooting_are_the_programs():
    rows = [row.strip("|").split("|") for row in TABLE.findall(PAGES[ROOT / "docs" / "troubleshooting.md"])]
    messages = [message for row in rows for message in re.findall(r"`(.*?)`", row[2])]
    said = said_by_the_program()
    assert len(messages) > 30
    assert [message for message in messages if not is_said(message, said)] == []
    assert not is_said("the door is stuck in …", said)
    assert not is_said("pin … is in the moon", said)
