"""The floors of the house: no file imports from a floor above its own; and what else no file may do."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "limen"

FLOORS = (
    ("types", "errors", "registry", "randomness", "digest", "linalg", "ode"),
    ("objectives", "data", "models", "symmetry", "collapse", "streams"),
    ("dynamics", "probes"),
    ("run", "config", "toys"),
    ("store", "catalogue", "ensemble", "sweep", "launch", "git"),
    ("analysis", "plots", "report"),
    ("cli", "recipes", "__main__"),
)
FLOOR = {name: floor for floor, names in enumerate(FLOORS) for name in names}
STRANGERS = {frozenset({"dynamics", "probes"})}
HEAVY = {"limen": {"torch", "pydantic", "matplotlib"}, "limen.cli.main": {"torch", "pydantic", "matplotlib"}}


def imports(source: str, module: str) -> Iterator[tuple[int, str]]:
    """Line and absolute name of every import in `source`, the file of `module`, type-checking ones too."""
    package = module.split(".")
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level] if node.level else []
            start = ".".join([*base, *([node.module] if node.module else [])])
            if start == "limen":  # `from limen import run` names a module, or what limen/__init__ exports
                yield from ((node.lineno, f"limen.{alias.name}") for alias in node.names)
            else:
                yield node.lineno, start


def part(module: str) -> str:
    """`limen.data.digits` is of the part `data`; `limen` itself of none."""
    names = module.split(".")
    return names[1] if len(names) > 1 else ""


def offences(source: str, module: str) -> list[str]:
    """What is wrong with the imports of one file."""
    own = part(module)
    if own == "":  # limen/__init__.py stands above all
        return []
    if own not in FLOOR:
        return [f"{module}: {own!r} has no floor; add it to FLOORS (DESIGN.md says what belongs where)"]
    found = []
    for line, name in imports(source, module):
        if name.split(".")[0] != "limen" or name == "limen.__version__":
            continue
        other = part(name)
        if other not in FLOOR:
            found.append(f"{module}:{line} imports {name}, which has no floor")
        elif FLOOR[other] > FLOOR[own]:
            found.append(f"{module}:{line} (floor {FLOOR[own]}) imports {name} (floor {FLOOR[other]})")
        elif frozenset({own, other}) in STRANGERS:
            found.append(f"{module}:{line} imports {name}: {own} and {other} never import each other")
        elif own == "types":
            found.append(f"{module}:{line} imports {name}: types imports nothing of ours")
    return found


def modules() -> list[tuple[str, Path]]:
    """Dotted name and path of every file of the package; a package's own name ends in `__init__`."""
    paths = sorted(SOURCE.rglob("*.py"))
    return [(".".join(("limen", *path.relative_to(SOURCE).with_suffix("").parts)), path) for path in paths]


def as_part(module: str) -> str:
    return module if module != "limen.__init__" else "limen"


def tracked() -> list[Path]:
    """Files of the repository, or of its source distribution where there is no git."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    if listed.returncode == 0:
        return [
            path for name in listed.stdout.decode().split("\0") if name and (path := ROOT / name).is_file()
        ]
    return [
        path for folder in ("src", "tests", "docs") for path in (ROOT / folder).rglob("*") if path.is_file()
    ]


def test_no_file_imports_from_a_floor_above_its_own():
    found = [bad for name, path in modules() for bad in offences(path.read_text("utf-8"), as_part(name))]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("limen.data.digits", "from limen.store.files import write"),
        ("limen.data.digits", "def f():\n    import limen.run"),
        ("limen.linalg.krylov", "from ..objectives import Supervised"),
        ("limen.run", "from limen import plots"),
        ("limen.run", "from . import cli"),
        ("limen.types", "from limen.errors import InputError"),
        ("limen.probes.eigs", "from limen.dynamics.gd import GD"),
        ("limen.dynamics.gd", "if TYPE_CHECKING:\n    from limen.probes import Eigs"),
        ("limen.store.files", "from limen import SharpnessTracker"),
        ("limen.attic.old", "import torch"),
    ],
)
def test_a_planted_offence_is_found(module, source):
    assert len(offences(source, module)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("limen.run", "from limen.types import State\nimport torch"),
        ("limen.data.digits", "from limen.data import Dataset\nfrom . import _arrays"),
        ("limen.registry", "from limen.errors import InputError"),
        ("limen.cli.main", "from limen import __version__, plots"),
        ("limen", "from limen.cli import main"),
    ],
)
def test_a_downward_import_is_let_through(module, source):
    assert offences(source, module) == []


def test_plots_and_reports_never_import_torch():
    above = [
        (name, path) for name, path in modules() if part(as_part(name)) in ("analysis", "plots", "report")
    ]
    assert above
    found = [
        f"{name}:{line}"
        for name, path in above
        for line, imported in imports(path.read_text("utf-8"), name)
        if imported.split(".")[0] == "torch"
    ]
    assert found == []


def test_drawing_loads_no_torch_and_no_pyplot():
    code = "import sys, limen.plots; print(*{'torch', 'matplotlib.pyplot'} & set(sys.modules))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.split() == []


def test_tensors_are_made_like_w_and_never_sent_to_cuda_by_name():
    found = [str(path) for _, path in modules() if ".cuda(" in path.read_text("utf-8")]
    assert found == []


@pytest.mark.parametrize("module", HEAVY)
def test_start_up_imports_nothing_heavy(module):
    code = f"import sys, {module}; print(*sys.modules)"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.split(".")[0] for name in shown.stdout.split()}
    assert "limen" in loaded
    assert loaded.isdisjoint(HEAVY[module])


# In pieces, so that this file is not one of its own findings.
UNWANTED = re.compile(
    "|".join(
        [
            r"(?<![\w.])/(?:wo" + r"rk|ho" + r"me|ro" + r"ot|Us" + r"ers)/\w",
            r"(?:files\.)?python" + r"hosted\.org",
            r"\bpypi" + r"\.org",
            r"download\.py" + r"torch\.org",
            r"--(?:extra-)?ind" + r"ex-url[ =]",
        ]
    )
)


def unwanted(text: str) -> list[str]:
    return [found.group() for found in UNWANTED.finditer(text)]


def test_no_file_names_a_machine_path_or_a_registry():
    found = []
    for path in tracked():
        content = path.read_bytes()
        if b"\0" not in content:
            hits = unwanted(content.decode("utf-8", errors="replace"))
            found += [f"{path.relative_to(ROOT)}: {hit}" for hit in hits]
    assert not found, "\n".join(found)


def test_a_planted_path_or_host_is_found():
    assert unwanted("see /wo" + "rk/main") == ["/wo" + "rk/m"]
    assert unwanted("https://pypi" + ".org/simple") == ["pypi" + ".org"]
    assert unwanted("results/work/x and a/home/b") == []
