"""From a Spec to a recorded run: what one command does, and each point of a sweep."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

from limen import git, store
from limen.config import Built, Spec, build
from limen.errors import StoreError

if TYPE_CHECKING:
    import torch

    from limen.store import Run
    from limen.store.ranks import First
    from limen.store.session import FilesOf
    from limen.store.writer import Listen, Tell

TRAINING = ("train", "finetune")
"""Commands that publish weights and curves as the published training does."""


def launch(
    spec: Spec,
    *,
    built: Built | None = None,
    resume: bool = False,
    overwrite: bool = False,
    matmul: str | None = None,
    listen: Listen | None = None,
    tell: Tell | None = None,
) -> Run:
    """Run `spec`, record it in its folder, and return the run however it ended.

    Args:
        spec: what to run.
        built: what it becomes, where the caller has built it already.
        resume: go on with an unfinished run; begin where there is none.
        overwrite: discard the run that is there.
        matmul: mode of float32 products for a run that begins; None for the fastest accurate one. A run that goes
            on keeps its own.
        listen: called with every event.
        tell: called with what a user should hear at once.

    Raises:
        InputError: values do not fit the data or the network.
        DataError: data files are missing or damaged.
        StoreError: the folder is taken, or cannot be written.
    """
    built = built or build(spec)
    before = begun(built.folder) if resume else None
    device = built.experiment.objective.device
    info = built.info | surroundings(device, before, matmul)
    if rank() > 0:
        from limen.store.ranks import accompany

        accompany(built.experiment)
        return store.open_run(built.folder)
    first = _first(device)
    listening = [heard for heard in (first, _logger(spec, built), listen) if heard is not None]
    return store.record(
        built.folder,
        built.experiment,
        spec=spec.to_dict(),
        info=info,
        resume=resume,
        overwrite=overwrite,
        checkpoint_freq=built.keeping.checkpoint_freq,
        save_freq=built.keeping.save_freq,
        save_model=built.keeping.save_model,
        files_of=_files(spec, built),
        began=None if first is None else first.begin,
        listen=lambda event: [heard(event) for heard in listening],
        tell=tell,
    )


def _files(spec: Spec, built: Built) -> FilesOf:
    """Return what makes the published files of a spec's command."""
    from limen.store.published import Published
    from limen.store.training_files import TrainingFiles

    if spec.COMMAND not in TRAINING:
        return Published
    return functools.partial(TrainingFiles, experiment=built.experiment, info=built.info)


def rank() -> int:
    """Return this process's place among those that train one network."""
    from limen.objectives.ranks import Ranks

    return Ranks.here().rank


def _first(device: torch.device) -> First | None:
    """Return what leads the other processes, where there are some."""
    from limen.objectives.ranks import Ranks
    from limen.store.ranks import First

    return First(device) if Ranks.here().world > 1 else None


def _logger(spec: Spec, built: Built) -> Listen | None:
    """Return the spec's own logger, if it names one."""
    asked = spec.to_dict().get("loggers", {}).get("wandb")
    if asked is None:
        return None
    from limen.store.wandb_log import WandbLog

    return WandbLog(asked, built.folder, spec.to_dict())


def begun(folder: Path) -> Run | None:
    """Return the run that is to go on; None where there is none, of which `record` speaks where it matters."""
    try:
        return store.open_run(folder)
    except StoreError:
        return None


def surroundings(
    device: torch.device, before: Run | None = None, matmul: str | None = None
) -> dict[str, Any]:
    """Set how `device` computes, and return what run.json says: matmul mode, no ensemble, state of the repository.

    Args:
        device: what the run is on.
        before: the run that goes on, whose mode is kept.
        matmul: mode for a run that begins; None for the fastest accurate one.
    """
    from limen.linalg.matmul import choose_matmul_mode, set_matmul_mode, use_deterministic_kernels

    begun_with = before.info.get("matmul") if before is not None else None
    mode = begun_with or matmul
    used = choose_matmul_mode(device) if mode is None else set_matmul_mode(mode)
    if device.type == "cuda":
        use_deterministic_kernels()
    return {"matmul": used, "ensemble": None, "git": git.state()}
