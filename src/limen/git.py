"""The state of the repository that a run was started in."""

from __future__ import annotations

import os
import subprocess

SECONDS = 5


def state() -> dict[str, str | bool] | None:
    """Return the commit of the working directory's repository and whether tracked files differ from it.

    None where there is no repository, no commit, or no git that answers soon: a run needs none.
    """
    commit = _git("rev-parse", "--verify", "HEAD")
    changes = _git("status", "--porcelain", "--untracked-files=no") if commit else None
    return {"commit": commit.strip(), "dirty": bool(changes)} if commit and changes is not None else None


def _git(*words: str) -> str | None:
    # no lock: what only looks must not be in the way of the user's own git
    surroundings = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
    try:
        done = subprocess.run(
            ["git", *words], capture_output=True, text=True, timeout=SECONDS, env=surroundings, check=True
        )
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return None
    return done.stdout
