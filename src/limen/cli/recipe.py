"""`limen recipe`: whole experiments."""

from __future__ import annotations

from typing import Annotated

from cyclopts import App, Parameter


def register(app: App) -> None:
    """Add the command."""
    app.command(recipe)


def recipe(
    name: Annotated[str | None, Parameter(help="Which; without it they are listed.")] = None,
    *,
    dataset: Annotated[
        str | None, Parameter(help="Data set (default: the first that the recipe names).")
    ] = None,
    results: Annotated[
        str | None, Parameter(help="Folder of results (default: $RESULTS, else results).")
    ] = None,
    data_dir: Annotated[
        str | None, Parameter(help="Folder of data sets (default: $DATASETS, $DATA_DIR, else a cache).")
    ] = None,
    quiet: Annotated[bool, Parameter(help="No progress bar and no messages.")] = False,
) -> int:
    """List the recipes, or run one and print the paths of its figures."""
    import importlib
    import pkgutil

    from limen import recipes
    from limen.errors import InputError, nearest

    known = sorted(module.name for module in pkgutil.iter_modules(recipes.__path__))
    if name is None:
        width = max(map(len, known))
        for each in known:
            module = importlib.import_module(f"limen.recipes.{each}")
            print(f"{each.ljust(width)}  {str(module.__doc__).splitlines()[0]}")
            print(f"{' ' * width}  data sets: {', '.join(module.DATASETS)}")
        return 0
    if name not in known:
        raise InputError(f"unknown recipe {name!r}.{nearest(name, known)} There are: {', '.join(known)}.")
    module = importlib.import_module(f"limen.recipes.{name}")
    figures = module.recipe(dataset or module.DATASETS[0], results=results, data_dir=data_dir, quiet=quiet)
    for figure in figures:
        print(figure)
    return 0 if figures else 1
