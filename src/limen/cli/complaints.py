"""What went wrong, as one message on standard error."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Iterable, Sequence

import cyclopts

from limen.errors import LimenError, nearest
from limen.registry.own import describe, place_of

BUG, USAGE, INTERRUPTED = 1, 2, 130

TRACEBACK = "LIMEN_TRACEBACK"
"""Environment variable; set, it shows where an error came from."""

SHOW = f"{TRACEBACK}=1 shows the traceback."


def complain(error: BaseException, words: Sequence[str]) -> int:
    """Say on standard error what went wrong with the command line `words`, and return the exit status."""
    if os.environ.get(TRACEBACK):
        traceback.print_exception(error)
    status, message = _judge(error, words)
    notes = getattr(error, "__notes__", [])  # what the store could not do while it closed the run
    print("\n".join([f"limen: {message}", *notes]), file=sys.stderr)
    return status


def _judge(error: BaseException, words: Sequence[str]) -> tuple[int, str]:
    """Return the exit status and the message."""
    match error:
        case LimenError():
            where = place_of(error.__cause__) if error.__cause__ is not None else None
            told = where is None or where in str(error)
            return error.exit_code, str(error) if told else f"{error} (At {where}.)"
        case cyclopts.CycloptsError():
            return USAGE, _usage(error, words)
        case KeyboardInterrupt():
            return INTERRUPTED, "interrupted"
    if (place := place_of(error)) is not None:
        return BUG, f"your code failed at {place}: {describe(error)}. Mend it there; {SHOW}"
    if _out_of_memory(error):
        return BUG, (
            f"out of memory: {describe(error)}. "
            "Lower --physical_batch_size, --abridged_size or --neigs, take less data or a smaller network, "
            "or choose another --device."
        )
    if isinstance(error, OSError):
        file = f"{error.filename}: " if error.filename else ""
        return BUG, f"{file}{error.strerror or describe(error)}. {SHOW}"
    return BUG, f"this is a bug in limen: {describe(error)}. {SHOW} Please report it with them."


def _out_of_memory(error: BaseException) -> bool:
    # by name: torch may not be imported for the sake of a message
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or "can't allocate memory" in str(error)
    )


def _usage(error: cyclopts.CycloptsError, words: Sequence[str]) -> str:
    """Return the message for a command line that cannot be understood."""
    command = " ".join(["limen", *(error.command_chain or ())])
    more = f"`{command} --help` says what there is."
    match error:
        case cyclopts.UnknownCommandError(unused_tokens=[word, *_]):
            option = word.startswith("-")
            known = [name for name in error.app or () if name.startswith("-") == option]
            kind = "option" if option else "command"
            return f"unknown {kind} {word!r}.{nearest(word, known)} There are: {', '.join(known)}. {more}"
        case cyclopts.UnknownOptionError():
            given = (error.token.keyword or error.token.value).split("=")[0]
            known = _options(error.argument_collection) if given.startswith("--") else []
            close = nearest("--" + given.lstrip("-").replace("-", "_"), known).replace("'", "")
            return f"unknown option {given}.{close} {more}"
        case cyclopts.UnusedCliTokensError(unused_tokens=[word, *_]):
            if commands := [name for name in error.app or () if not name.startswith("-")]:
                return f"unknown command {word!r}.{nearest(word, commands)} {more}"
            if flag := _flag_before(word, words):
                return f"{flag.lstrip('-')}: expected True or False, or no word after it, got {word!r}."
            return f"unexpected argument {word!r}: {command} does not take it there. {more}"
        case cyclopts.CoercionError(argument=argument) if argument is not None:
            value = argument.tokens[-1].value if error.token is None else error.token.value
            return f"{_name(argument)}: expected {_expected(argument)}, got {value!r}."
        case cyclopts.RepeatArgumentError(token=token):
            return f"{(token.keyword or token.value).lstrip('-')}: expected once, given twice. Keep one."
        case cyclopts.MissingArgumentError(argument=argument) if argument is not None:
            return f"{(error.keyword or argument.name).lstrip('-')}: expected a value, got none. {more}"
        case cyclopts.ArgumentOrderError(argument=argument) if argument is not None:
            given = error.prior_positional_or_keyword_supplied_as_keyword_arguments[0].name
            return (
                f"the word {error.token!r} has no place, since {given} was given as an option. "
                f"Leave one of the two out, or give {argument.name} as an option too. {more}"
            )
    return f"{' '.join(str(error).split())} {more}"


def _options(arguments: Iterable[cyclopts.Argument]) -> list[str]:
    return [name for argument in arguments for name in argument.names if name.startswith("--")]


def _name(argument: cyclopts.Argument) -> str:
    return argument.name.lstrip("-")


def _expected(argument: cyclopts.Argument) -> str:
    choices = argument.get_choices(force=True)
    if choices:
        return " or ".join(choices)
    option = argument.name
    named = {bool: "True or False", dict: f"single values, as in {option}.width 400"}
    return next(
        (text for kind, text in named.items() if kind.__name__ in str(argument.hint)), "another value"
    )


def _flag_before(word: str, words: Sequence[str]) -> str | None:
    """Return the option just before `word` on the command line, if one is."""
    position = list(words).index(word) if word in words else 0
    before = words[position - 1] if position > 0 else ""
    return before if before.startswith("--") and "=" not in before else None
