"""A YAML file that gives what the command line leaves out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from limen.errors import InputError

MERGE = "tag:yaml.org,2002:merge"
OCTAL = re.compile(r"[-+]?0[0-9]+")
"""A number of base 8 in YAML 1.1, and by intent a hash or a number of base 10."""


def load(path: Path) -> dict[str, Any]:
    """Return the options in a YAML file; the command that a stored spec names is not one of them.

    Raises:
        InputError: as `mapping`.
    """
    return {key: value for key, value in mapping(path).items() if key != "command"}


def mapping(path: Path) -> dict[str, Any]:
    """Return the mapping in a YAML file, with hyphens in its keys read as underscores.

    Raises:
        InputError: the file is missing, is not plain YAML, repeats a key, or is not a mapping.
    """
    import yaml

    class Loader(yaml.SafeLoader):
        """Plain data only, no key twice, and digits after a 0 as they are written: 020 is no 16."""

        def construct_yaml_int(self, node: yaml.ScalarNode) -> Any:
            return node.value if OCTAL.fullmatch(node.value) else super().construct_yaml_int(node)

        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
            keys = [self.construct_object(key, deep=True) for key, _ in node.value if key.tag != MERGE]
            _refuse_twins(path, keys)
            return super().construct_mapping(node, deep)

    Loader.add_constructor("tag:yaml.org,2002:int", Loader.construct_yaml_int)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(
            f"config file {path}: expected a YAML file, but there is none. Mend its name."
        ) from None
    except UnicodeDecodeError:
        raise InputError(f"config file {path}: expected YAML text in UTF-8, got other bytes.") from None
    except OSError as error:
        raise InputError(
            f"config file {path}: expected a YAML file, but: {error.strerror or error}."
        ) from None
    try:
        content = yaml.load(text, Loader=Loader)
    except InputError:
        raise
    except yaml.constructor.ConstructorError as error:
        reason = str(error.problem).replace("could not determine a constructor for", "it has")
        raise InputError(
            f"config file {path}: expected plain values, but {reason}{_at(error.problem_mark)}."
        ) from None
    except yaml.MarkedYAMLError as error:
        reason = f"{error.problem or error.context}{_at(error.problem_mark or error.context_mark)}"
        raise InputError(f"config file {path} is not YAML: {reason}. Mend it there.") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        # dates that do not exist, characters that no YAML has, nesting without end
        raise InputError(f"config file {path} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        got = "nothing" if content is None else f"a {type(content).__name__}"
        raise InputError(f"config file {path}: expected a mapping, lines such as `lr: 0.05`, got {got}.")
    named = [(str(key).replace("-", "_"), value) for key, value in content.items()]
    _refuse_twins(path, [key for key, _ in named])
    return dict(named)


def _refuse_twins(path: Path, keys: list[Any]) -> None:
    for twin in _twins(keys):
        raise InputError(f"config file {path}: expected each key once, got {twin!r} twice. Keep one.")


def _twins(keys: list[Any]) -> Iterator[Any]:
    return (key for key in keys if keys.count(key) > 1)


def _at(mark: Any) -> str:
    return f" at line {mark.line + 1}, column {mark.column + 1}" if mark is not None else ""
