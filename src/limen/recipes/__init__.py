"""Recipes: whole experiments, one a file. `limen recipe` lists them.

Each file has `recipe(dataset, *, results, data_dir, quiet) -> list[Path]`, which runs the experiment and returns its
figures, and `DATASETS`, on which it is made. Its docstring gives command, cost and expected result.
"""
