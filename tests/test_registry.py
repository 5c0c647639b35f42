"""Plug-ins by name, read from their source; values by annotation; the user's own code."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable
from typing import Annotated, Any, Literal

import pytest
from annotated_types import Ge, Gt, Interval, Le, Lt
from pydantic import NonNegativeInt, PositiveFloat, PositiveInt

from limen import registry
from limen.errors import InputError
from limen.registry import own, source, values

Even = values.Rule("an even number", lambda number: number % 2 == 0)


@pytest.mark.parametrize(
    ("annotation", "value", "read"),
    [
        (int, "12", 12),
        (int, "1e5", 100_000),
        (int, 1e3, 1000),
        (int, "-3", -3),
        (int, "9007199254740993", 9007199254740993),  # more digits than a float has
        (float, "0.05", 0.05),
        (float, 2, 2.0),
        (bool, "False", False),
        (bool, "true", True),
        (bool, True, True),
        (str, "a", "a"),
        (dict[str, Any], {1: 2}, {"1": 2}),
        (Literal["a", "b"], "b", "b"),
        (int | None, None, None),
        (Annotated[int | None, Ge(1)], "3", 3),
        (Annotated[int | None, Ge(1)], None, None),
        (Annotated[int, Ge(1)] | None, "1", 1),
        (Annotated[int, Even], "4", 4),
        (PositiveInt, "4", 4),
        (tuple[int, ...], ["1", 2], (1, 2)),
        (list[float], [1], [1.0]),
    ],
)
def test_values_are_read_by_their_annotation(annotation, value, read):
    found = values.read(annotation, value)
    assert found == read
    assert type(found) is type(read)


@pytest.mark.parametrize(
    ("annotation", "value", "message"),
    [
        (int, "x", "expected a whole number, got 'x'."),
        (int, "1.5", "expected a whole number, got 1.5."),
        (int, True, "expected a whole number, got True."),
        (int, "inf", "expected a whole number, got inf."),
        (int, [1], "expected a whole number, got [1]."),
        (int, None, "expected a whole number, got None."),
        (Annotated[int, Ge(0)], -1, "expected a whole number of at least 0, got -1."),
        (Annotated[int, Interval(ge=1, le=9)], "10", "expected a whole number from 1 to 9, got 10."),
        (Annotated[int, Le(9)], "10", "expected a whole number of at most 9, got 10."),
        (Annotated[float, Gt(0), Lt(1)], "1", "expected a finite number above 0 and below 1, got 1."),
        (float, "nan", "expected a finite number, got nan."),
        (float, False, "expected a finite number, got False."),
        (float, 10**400, "expected a finite number, got 1000"),
        (Annotated[int | None, Ge(1)], 0, "expected a whole number of at least 1, got 0."),
        (Annotated[int, Even], "3", "expected an even number, got 3."),
        (Annotated[int, Even], "x", "expected an even number, got 'x'."),
        (bool, "maybe", "expected True or False, got 'maybe'."),
        (bool, 1, "expected True or False, got 1."),
        (str, 3, "expected text, got 3."),
        (dict[str, Any], "3", "expected a mapping such as {width: 400}, got 3."),
        (Literal["a", "b"], "c", "expected a or b, got 'c'."),
        (PositiveFloat, "-1", "expected a finite number above 0, got -1."),
        (NonNegativeInt, "-1", "expected a whole number of at least 0, got -1."),
        (tuple[int, ...], "x", "expected a valid tuple, got 'x'."),
    ],
)
def test_values_that_do_not_fit_are_refused_in_words(annotation, value, message):
    with pytest.raises(values.Mismatch) as refusal:
        values.read(annotation, value)
    assert str(refusal.value).startswith(message)


def test_a_type_that_nobody_knows_how_to_read_lets_values_through():
    class Strange:
        pass

    assert values.read(Strange, 3) == 3


PLUGIN = '''
"""Nets of a kind: net-<size>.

More words.
"""

import torch
from typing import Annotated, Literal as Choice
from annotated_types import Gt
from pydantic import PositiveInt

PATTERN = r"net-(?P<size>\\d+)"
NAMES = ("net-1", "net-2")


def make(*, outputs: int, size: PositiveInt = 1, act: Choice["a", "b"] = "a", x: torch.Tensor = None, free=2 * 3):
    return size
'''


def test_a_plug_in_is_read_from_its_source():
    family = source.read("models", "net", PLUGIN)
    assert family.module == "limen.models.net"
    assert family.summary == "Nets of a kind: net-<size>."
    assert family.names == ("net-1", "net-2")
    assert re.fullmatch(family.pattern, "net-12")
    assert family.annotation("size") == PositiveInt
    assert family.annotation("act") == Literal["a", "b"]
    assert family.annotation("x") is inspect.Parameter.empty  # torch would have to be imported
    assert family.defaults() == {"size": 1, "act": "a", "x": None}


def test_a_plug_in_without_names_is_called_as_its_file():
    family = source.read("data", "pla.in", "\ndef make(*, n: int = 3): ...")
    assert (family.names, family.pattern, family.summary) == (("pla.in",), r"pla\.in", "")


@pytest.mark.parametrize("kind", registry.KINDS)
def test_every_listed_name_is_found_in_its_family(kind):
    assert all(name in registry.find(kind, name)[0].names for name in registry.names(kind))


def test_what_the_source_says_is_what_the_function_takes():
    for kind in ("data", "models", "dynamics"):
        for family in registry.families(kind):
            parameters = inspect.signature(__import__(family.module, fromlist=["make"]).make).parameters
            assert list(parameters) == list(family.arguments)
            found = {key: p.default for key, p in parameters.items() if p.default is not p.empty}
            assert found.items() >= family.defaults().items()


def test_an_id_spells_out_arguments():
    family, spelled = registry.find("models", "fc-relu-depth3")
    assert (family.stem, spelled) == ("fc", {"activation": "relu", "depth": "3"})
    assert registry.find("models", "fc-relu")[1] == {"activation": "relu"}


def test_arguments_get_their_types_and_defaults_are_told_apart():
    typed = registry.check_arguments("models", "fc-tanh", {"width": "1e2"})
    assert typed == {"width": 100}
    assert registry.without_defaults("models", "fc-tanh", {"width": 200, "depth": 3}) == {"depth": 3}
    assert registry.check_arguments("models", "mine:net", {"width": "3"}) == {"width": "3"}


@pytest.fixture
def users(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    names = []

    def write(name, text):
        (tmp_path / f"{name}.py").write_text(text)
        names.append(name)
        return name

    yield write
    for name in names:
        sys.modules.pop(name, None)


def test_a_users_function_gets_what_it_names_with_its_types(users):
    text = "def f(outputs, depth: int, *, act='relu'):\n    return outputs, depth, act\n"
    name = users("guest_plain", text)
    supplied = {"outputs": 3, "input_shape": (1,)}
    assert registry.make("models", f"{name}:f", {"depth": "1e1"}, supplied) == (3, 10, "relu")
    with pytest.raises(InputError, match=r"takes no argument 'dept'\. Did you mean 'depth'"):
        registry.make("models", f"{name}:f", {"dept": "1"}, supplied)
    with pytest.raises(InputError, match=r"needs the argument 'depth'.*--model\.depth"):
        registry.make("models", f"{name}:f", {}, supplied)


def test_a_users_function_may_take_anything(users):
    name = users("guest_open", "def f(**rest):\n    return rest\n")
    assert registry.make("models", f"{name}:f", {"depth": "1"}, {"outputs": 3}) == {"depth": "1"}


def test_annotations_for_the_type_checker_alone_do_no_harm(users):
    text = "from __future__ import annotations\ndef f(x: Nowhere, n: int = 1):\n    return x, n\n"
    name = users("guest_annotated", text)
    assert registry.make("data", f"{name}:f", {"x": "a", "n": "2"}) == ("a", 2)


def test_a_class_is_as_good_as_a_function(users):
    text = "from __future__ import annotations\nclass Net:\n    def __init__(self, n: int):\n        self.n = n\n"
    name = users("guest_class", text)
    assert registry.make("models", f"{name}:Net", {"n": "2"}).n == 2


def test_the_place_of_an_error_is_the_users_line_nearest_to_it(users):
    text = "import json\ndef outer():\n    return inner()\ndef inner():\n    return json.loads('{')\n"
    name = users("guest_failing", text)
    function: Callable[[], Any] = registry.import_function(f"{name}:outer", "model")
    with pytest.raises(ValueError, match="Expecting property name") as failure:
        function()
    assert own.place_of(failure.value) == f"{name}.py, line 5, in inner"
    assert own.place_of(ValueError("elsewhere")) is None


def test_a_function_that_does_not_say_what_it_takes_is_refused():
    with pytest.raises(InputError, match="wrap it in a Python function"):
        registry.make("data", "builtins:max", {})
