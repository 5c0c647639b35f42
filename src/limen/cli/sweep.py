"""`limen sweep`: many points, on this machine or a cluster; what is done is not run again."""

from __future__ import annotations

import sys
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from cyclopts import App, Parameter

from limen.errors import InputError

if TYPE_CHECKING:
    from limen.sweep.cost import Timed
    from limen.sweep.drive import Work
    from limen.sweep.executors.choose import Wish
    from limen.sweep.plan import Plan, Sweep
    from limen.sweep.study import Standing
    from limen.sweep.work import Outcome

HELP = """Run a command over many values.

WORDS are a command, its words in their order, and name=values: 0.05,0.1,0.2 or 0..7 (both ends) or
log:1e-3:1:7 or linear:0.1:0.5:5. `--name values` is the same as `name=values`. Or -f FILE says it in YAML.
Each point is a run folder of its own. The same sweep again skips what is finished and goes on with the rest.
"""

EXAMPLE = """Example, 24 runs:
  limen sweep gd digits fc-tanh mse lr=0.05,0.1,0.2 seed=0..7 max_steps=200"""

USAGE = "Usage: limen sweep [OPTIONS] COMMAND WORDS… NAME=VALUES…   or   limen sweep -f FILE [OPTIONS]"

FOLDER = Parameter(help="Folder of a study, as `limen sweep` prints it.")


def register(app: App) -> None:
    """Add the command and its subcommands."""
    group = App(name="sweep", help=HELP, usage=USAGE, help_epilogue=EXAMPLE)
    group.default(sweep)
    group.command(status)
    group.command(cancel)
    app.command(group)


def sweep(
    *words: Annotated[str, Parameter(help="What to run, and the values.", allow_leading_hyphen=True)],
    file: Annotated[str | None, Parameter(name=["--file", "-f"], help="YAML file with the sweep.")] = None,
    name: Annotated[
        str | None, Parameter(help="Of the study's folder (default: made from the points).")
    ] = None,
    executor: Annotated[
        Literal["local", "slurm", "ray"], Parameter(help="Where: processes here, Slurm, or Ray.")
    ] = "local",
    workers: Annotated[
        int | None, Parameter(help="Points at a time (default: a core or a GPU each).")
    ] = None,
    threads: Annotated[int, Parameter(help="Threads of each; they enter the rounding.")] = 1,
    ensemble: Annotated[
        Literal["off", "on", "auto"],
        Parameter(
            help="Let points that differ in numbers only advance together; off: bit for bit the command."
        ),
    ] = "off",
    dry_run: Annotated[bool, Parameter(help="Print the plan and its cost, and run nothing.")] = False,
    yes: Annotated[bool, Parameter(help="More than 5000 points are meant.")] = False,
    quiet: Annotated[bool, Parameter(help="Print only what went wrong.")] = False,
    slurm: Annotated[
        dict[str, str] | None,
        Parameter(
            help="Of the jobs: --slurm.partition P --slurm.timeout_min 60; --slurm.cluster local to try."
        ),
    ] = None,
    ray: Annotated[dict[str, str] | None, Parameter(help="--ray.address of a cluster.")] = None,
) -> int:
    """Run a command over many values."""
    from limen.sweep import drive, study
    from limen.sweep.cost import Question, estimate
    from limen.sweep.executors.choose import Wish, choose
    from limen.sweep.plan import expand
    from limen.sweep.work import Place

    wish = Wish(executor, workers, threads, {"slurm": slurm, "ray": ray}.get(executor) or {})
    plan = expand(_asked(words, file, name), many=yes)
    work = drive.work_of(plan)
    refused = [study.Standing(each.label, study.REFUSED, each.reason, None) for each in plan.refused]
    if not quiet:
        print("\n".join(_plan(plan, work)), flush=True)

    def timing() -> Timed:
        timed = estimate(Question(plan.points[work.pending[0]].spec, threads, Place()))
        if not quiet:
            print(_cost(plan, work, timed, wish, ensemble), flush=True)
        return timed

    if dry_run or not plan.points:
        if work.pending:
            timing()
        _failures(refused, quiet=False)
        return drive.exit_status(each.state for each in refused)
    with study.driving(plan) as held:
        if work.pending:
            timed = timing()
            manner = drive.Manner(threads, timed.matmul, ensemble)
            with (
                choose(wish, plan, timed, len(work.pending), plan.folder / "logs") as pool,
                Bar(len(work.pending), quiet=quiet) as bar,
            ):
                drive.Driver(plan, held, pool, manner, bar.count, bar.tell).run()
        elif not quiet:
            print("nothing to do: every point is done")
    return _table(held.standings(), quiet=quiet)


def status(folder: Annotated[str, FOLDER]) -> int:
    """Say how the points of a study stand; exits as the sweep would."""
    from limen.sweep.study import open_study

    opened = open_study(folder)
    print(opened.content["title"])
    print("a process drives it now" if opened.driven() else "no process drives it now")
    return _table(opened.standings())


def cancel(folder: Annotated[str, FOLDER]) -> int:
    """End a study: what runs stops at its next step, with a checkpoint; the same sweep goes on with it later."""
    from limen.sweep.study import open_study

    opened = open_study(folder)
    opened.cancel()
    print(
        "asked: runs stop at their next step"
        if opened.driven()
        else "no process drives it here; jobs that a cluster may still have end as they begin"
    )
    return 0


def _asked(words: tuple[str, ...], file: str | None, name: str | None) -> Sweep:
    from limen.cli import yaml_file
    from limen.sweep.plan import from_mapping, from_words

    if file is None:
        return from_words(words, name)
    if words:
        raise InputError(f"expected -f FILE or words, got both ({words[0]!r}). Put the words into the file.")
    content = yaml_file.mapping(Path(file))
    shared = content.pop("file", None)
    return from_mapping(content, file, name, None if shared is None else _shared(shared, Path(file)))


def _shared(named: object, study: Path) -> dict[str, Any]:
    """Return the options in the file that a study names, from where the study lies."""
    from limen.cli import yaml_file

    if not isinstance(named, str):
        raise InputError(f"{study}: file: expected the name of a YAML file, got {named!r}.")
    return yaml_file.load(study.parent / Path(named).expanduser())


def _plan(plan: Plan, work: Work) -> list[str]:
    counts = {"done": len(work.done), "to go on with": len(work.begun), "to run": len(work.new)}
    counts["refused"] = len(plan.refused)
    said = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
    return [plan.title, said, *([str(plan.folder)] if plan.points else [])]


def _cost(plan: Plan, work: Work, timed: Timed, wish: Wish, ensemble: str) -> str:
    from limen.sweep.cost import in_words

    specs = [plan.points[number].spec for number in work.pending]
    if timed.trouble:
        return f"cost unknown: {timed.trouble}"
    many, label = wish.at_a_time(len(specs), timed), plan.points[work.pending[0]].label or "it"
    alone = ", each by itself" if ensemble != "off" else ""
    return (
        f"cost: about {in_words(timed.seconds(specs) / many)} with {many} at a time, "
        f"{timed.step * 1e3:.2g} ms a step{alone}, start-up apart (a few timed steps of {label})"
    )


def _table(standings: list[Standing], *, quiet: bool = False) -> int:
    """Print how many points are in each state, and why those that are not finished are not; return the status."""
    from limen.sweep.drive import exit_status
    from limen.sweep.study import counts

    if not quiet:
        print(counts(each.state for each in standings))
    _failures(standings, quiet=quiet)
    return exit_status(each.state for each in standings)


def _failures(standings: list[Standing], *, quiet: bool) -> None:
    """Print a line for each point that has gone wrong; on standard error where nothing else is said."""
    from limen.sweep.study import WAITING

    bad = [each for each in standings if each.state not in ("finished", "running", WAITING)]
    width = max((len(each.state) for each in bad), default=0)
    for each in bad:
        print(
            f"{each.state.ljust(width)}  {each.label or 'the point'}: {each.why}",
            file=sys.stderr if quiet else sys.stdout,
        )


class Bar:
    """Counts points on a terminal, and shows nothing elsewhere."""

    def __init__(self, total: int, *, quiet: bool) -> None:
        from tqdm import tqdm

        hidden = quiet or not sys.stderr.isatty()
        self.quiet = quiet
        self.bar = tqdm(total=total, unit="point", disable=hidden, dynamic_ncols=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.close()

    def count(self, outcome: Outcome) -> None:
        """Take what came of one point."""
        self.bar.set_postfix_str(f"{outcome.status}", refresh=False)
        self.bar.update()

    def tell(self, message: str) -> None:
        """Say something at once on standard error."""
        if not self.quiet:
            self.bar.write(f"limen: {message}", file=sys.stderr)
