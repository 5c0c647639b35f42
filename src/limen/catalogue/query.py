"""Questions to the table: expressions of its columns, checked word by word, evaluated by SQLite.

Nothing but literals, columns, operators and a few functions passes the check; behind it the connection is made
read-only and may read this one table.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from limen.errors import InputError, nearest

TOKEN = re.compile(
    r"""\s*(?:
      (?P<text>'(?:[^']|'')*')
    | (?P<quoted>"[^"]*")
    | (?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)
    | (?P<name>[^\W\d]\w*(?:[./+-]\w+)*)
    | (?P<operator>==|!=|<>|<=|>=|\|\||[=<>+\-*/%(),])
    )""",
    re.VERBOSE,
)
KEYWORDS = {
    *("and", "or", "not", "in", "is", "null", "like", "glob", "between", "true", "false"),
    *("case", "when", "then", "else", "end", "desc", "asc"),
}
SPELLINGS = {
    "none": "null",
    "true": "1",  # `is true` asks SQLite for any number but 0
    "false": "0",
    "/": "* 1.0 /",
    **dict.fromkeys(("=", "=="), "is"),
    **dict.fromkeys(("!=", "<>"), "is not"),
}
"""Python's word for nothing, its division (SQLite's drops what is behind the point of whole numbers), and its equality:
nothing equals nothing, and differs from all else."""

COMPARISONS = {"<", "<=", ">", ">=", "=", "==", "!=", "<>", "is", "in", "like", "glob", "between"}
BETWEEN = {"and", "or", ",", "case", "when", "then", "else", "end"}
"""What stands between one comparison and the next."""

FUNCTIONS = (
    "abs", "coalesce", "exp", "ifnull", "iif", "instr", "length", "like", "glob", "ln", "log10", "lower", "ltrim",
    "max", "min", "nullif", "pow", "replace", "round", "rtrim", "sqrt", "substr", "trim", "upper",
)  # fmt: skip


@dataclass(frozen=True)
class Query:
    """One question.

    Attributes:
        known: columns of the table.
        columns: what to return of each run.
        where: which runs.
        sort: in which order.
        limit: how many.
    """

    known: Collection[str]
    columns: Sequence[str]
    where: str | None = None
    sort: str | None = None
    limit: int | None = None

    def run(self, db: sqlite3.Connection) -> list[tuple[Any, ...]]:
        """Return the rows.

        Raises:
            InputError: a column is unknown, or an expression is none.
        """
        statement = (
            f"SELECT {', '.join(self._expression(text, 'columns') for text in self.columns)} FROM runs"
        )
        if self.where is not None:
            statement += f" WHERE ({self._expression(self.where, 'where')})"
        order = [] if self.sort is None else [self._order(text) for text in split(self.sort)]
        statement += f" ORDER BY {', '.join([*order, 'run'])} LIMIT ?"
        db.execute("PRAGMA query_only = ON")
        db.set_authorizer(_allow)
        try:
            return db.execute(statement, (-1 if self.limit is None else self.limit,)).fetchall()
        except sqlite3.Error as error:
            asked = [self.where, self.sort, *self.columns]
            shown = "; ".join(text for text in asked if text)
            raise InputError(
                f"expected expressions such as lr > 0.1 and status == 'finished', got {shown!r} ({error})."
            ) from None
        finally:
            db.set_authorizer(None)
            db.execute("PRAGMA query_only = OFF")

    def _order(self, text: str) -> str:
        """Return an expression with its direction; those without a value come last."""
        bare = re.sub(r"\s+(desc|asc)\s*$", "", text, flags=re.IGNORECASE)
        direction = "DESC" if re.search(r"\sdesc\s*$", text, flags=re.IGNORECASE) else "ASC"
        return f"{self._expression(bare, 'sort')} {direction} NULLS LAST"

    def _expression(self, text: str, where: str) -> str:
        """Return `text` as SQLite may have it.

        Raises:
            InputError: it holds something else than literals, columns, operators and the functions above.
        """
        written, depth = [], 0
        tokens = list(_tokens(text, where))
        _check_comparisons(tokens, text, where)
        for kind, token in tokens:
            if kind == "name":
                written.append(self._name(token, where))
                continue
            if kind == "quoted":
                bare = token[1:-1]
                escaped = bare.replace("'", "''")
                token = token if self._column(bare) is not None else f"'{escaped}'"
            depth += (token == "(") - (token == ")")
            if depth < 0:
                break
            written.append(SPELLINGS.get(token, token))
        if depth or not written:
            wrong = "a parenthesis is not closed, or not opened" if depth else "it is empty"
            raise InputError(f"{where}: expected an expression, got {text!r}: {wrong}.")
        return f"({' '.join(written)})" if where != "where" else " ".join(written)

    def _name(self, token: str, where: str) -> str:
        """Return a word of an expression; `a/b` is a column of this name if there is one, else a quotient."""
        ends = [match.start() for match in re.finditer(r"[./+-]", token)]
        for end in (len(token), *reversed(ends)):
            column = self._column(token[:end])
            if column is not None:
                rest = token[end:]
                return f'"{column}"' + (f" {self._expression(rest, 'where')}" if rest else "")
        lower = token.lower()
        if lower in KEYWORDS or lower in FUNCTIONS or lower in SPELLINGS:
            return SPELLINGS.get(lower, lower)
        raise InputError(
            f"{where}: no column {token!r}.{nearest(token, self.known)} Text stands in quotes: '{token}'. "
            f"There are: {', '.join(sorted(self.known))}."
        )

    def _column(self, name: str) -> str | None:
        lower = name.lower()
        return next((column for column in self.known if column.lower() == lower), None)


def _check_comparisons(tokens: Sequence[tuple[str, str]], text: str, where: str) -> None:
    """Refuse what SQL reads in another way than Python: `a < b < c`, `a == not b`."""
    compared, last = [False], ""
    for kind, token in tokens:
        word = token.lower() if kind in ("name", "operator") else ""
        if word == "not" and last in COMPARISONS - {"is"}:
            raise InputError(
                f"{where}: expected a value after {last!r}, got 'not' in {text!r}. Use parentheses."
            )
        if word in COMPARISONS:
            if compared[-1]:
                raise InputError(
                    f"{where}: expected comparisons one by one, as in `0.01 < lr and lr < 0.07`, got several in a row "
                    f"in {text!r}. Put `and` between them, or parentheses around one."
                )
            compared[-1] = True
        elif word in BETWEEN:
            compared[-1] = False
        elif word == "(":
            compared.append(False)
        elif word == ")" and len(compared) > 1:
            compared.pop()
        last = word


def split(text: str) -> list[str]:
    """Return the expressions of a list, which commas outside of parentheses and quotes separate.

    >>> split("lr, max(a, b), 'x,y'")
    ['lr', 'max(a, b)', "'x,y'"]
    """
    pieces, depth, start = [], 0, 0
    for match in re.finditer(r"'(?:[^']|'')*'|\"[^\"]*\"|[(),]", text):
        depth += (match.group() == "(") - (match.group() == ")")
        if match.group() == "," and depth == 0:
            pieces.append(text[start : match.start()])
            start = match.end()
    return [piece.strip() for piece in (*pieces, text[start:])]


def _tokens(text: str, where: str) -> Iterator[tuple[str, str]]:
    place = 0
    while text[place:].strip():
        match = TOKEN.match(text, place)
        if match is None:
            raise InputError(
                f"{where}: expected an expression such as lr > 0.1 and status == 'finished', "
                f"got {text!r}, which cannot be read from {text[place:].strip()[:20]!r} on."
            )
        yield str(match.lastgroup), match.group().strip()
        place = match.end()


def _allow(action: int, first: str | None, second: str | None, *_: object) -> int:
    """Let a query read the table of runs and call the functions above; nothing else."""
    allowed = (
        action == sqlite3.SQLITE_SELECT
        or (action == sqlite3.SQLITE_READ and first == "runs")
        or (action == sqlite3.SQLITE_FUNCTION and second in FUNCTIONS)
    )
    return sqlite3.SQLITE_OK if allowed else sqlite3.SQLITE_DENY
