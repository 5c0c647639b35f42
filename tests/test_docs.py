"""The documentation is true: its Python runs, and its `limen` commands exit as they say."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^(?P<mark>`{3,}|~{3,})(?P<info>.*)$")
EXIT = re.compile(r"^# exits (\d+)\b")
PROMPT = "$ limen "


@dataclass(frozen=True)
class Block:
    """One fenced block: language, text, where its text begins, and whether `<!-- slow -->` precedes it."""

    language: str
    text: str
    line: int
    slow: bool


def blocks(page: str) -> list[Block]:
    """All fenced blocks of a page; a block that is not closed is an error."""
    found: list[Block] = []
    opened: tuple[str, str, int, bool] | None = None
    inside: list[str] = []
    before = ""  # the last line of prose that is not blank
    for number, line in enumerate(page.splitlines(), 1):
        fence = FENCE.match(line.strip())
        if opened is None:
            if fence:
                opened = (fence["mark"], fence["info"].strip(), number + 1, before == "<!-- slow -->")
                inside = []
            before = line.strip() or before
        elif fence and fence["mark"].startswith(opened[0]) and not fence["info"].strip():
            found.append(Block(opened[1], "\n".join(inside) + "\n", opened[2], opened[3]))
            opened, before = None, ""
        else:
            inside.append(line)
    assert opened is None, f"the block opened on line {opened[2] - 1} is never closed"  # type: ignore[index]
    return found


def commands(console: str) -> list[tuple[int, list[str], int]]:
    """Offset, arguments and exit code of every `$ limen …`; a trailing backslash continues a line."""
    found: list[tuple[int, list[str], int]] = []
    lines = console.splitlines()
    index = 0
    while index < len(lines):
        start, line = index, lines[index]
        while line.endswith("\\") and index + 1 < len(lines):
            index += 1
            line = line[:-1] + lines[index].strip()
        index += 1
        if line.startswith(PROMPT):
            found.append((start, shlex.split(line[len(PROMPT) :], comments=True), 0))
        elif (states := EXIT.match(line.strip())) and found:
            found[-1] = (*found[-1][:2], int(states[1]))
    return found


def execute(page: Path, chosen: list[Block]) -> None:
    """Run the blocks in their order, in one namespace; tracebacks point at the line of the page."""
    namespace: dict[str, object] = {"__name__": "__main__"}
    for block in chosen:
        if block.language == "python":
            code = compile("\n" * (block.line - 1) + block.text, str(page), "exec")
            exec(code, namespace)
        elif block.language == "console":
            from limen.cli.main import main

            for offset, arguments, expected in commands(block.text):
                code = main(arguments)
                where = f"{page.name}:{block.line + offset}: limen {shlex.join(arguments)}"
                assert code == expected, f"{where} exited {code}, the page says {expected}"


def runnable(page: Path) -> list[Block]:
    return [block for block in blocks(page.read_text("utf-8")) if block.language in ("python", "console")]


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_page_is_true(page, elsewhere):
    execute(page, [block for block in runnable(page) if not block.slow])


@pytest.mark.slow
@pytest.mark.parametrize(
    "page", [page for page in PAGES if any(b.slow for b in runnable(page))], ids=lambda page: page.name
)
def test_page_is_true_with_its_long_blocks(page, elsewhere):
    execute(page, runnable(page))


def test_readme_shows_python_and_commands():
    assert {block.language for block in runnable(ROOT / "README.md")} == {"python", "console"}


EXAMPLE = """\
# Title

```python
a = 1
```

```bash
exit 1
```

<!-- slow -->

```console
$ limen gd digits fc-tanh \\
    mse 0.1 3  # a comment
step 3
$ limen gd digits fc-tanh mse -1 3
# exits 2
$ make demo
```
"""


def test_blocks_and_commands_are_read():
    python, bash, console = blocks(EXAMPLE)
    assert (python.language, python.text, python.line, python.slow) == ("python", "a = 1\n", 4, False)
    assert (bash.language, console.slow) == ("bash", True)
    assert commands(console.text) == [
        (0, ["gd", "digits", "fc-tanh", "mse", "0.1", "3"], 0),
        (3, ["gd", "digits", "fc-tanh", "mse", "-1", "3"], 2),
    ]


def test_a_block_that_fails_fails_the_page_at_its_line(tmp_path):
    page = tmp_path / "page.md"
    with pytest.raises(ZeroDivisionError) as raised:
        execute(page, blocks("text\n\n```python\nx = 1\nx / 0\n```\n"))
    assert (str(raised.traceback[-1].path), raised.traceback[-1].lineno + 1) == (str(page), 5)


def test_an_open_block_is_refused():
    with pytest.raises(AssertionError, match="line 1 is never closed"):
        blocks("```python\nx = 1\n")
