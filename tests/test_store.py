"""The run folder in one process: what is written, read back, refused, resumed and repaired."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from toys import Averages, Iterates, Odd, Train, contents, experiment

from limen import store
from limen.errors import InputError, StoreError
from limen.run import Goals
from limen.store import blocks, session
from limen.types import Event, Mark, Memory, Point, Probe, Record, State, Status, Value


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of sixty steps that nothing disturbed."""
    return store.record(tmp_path_factory.mktemp("whole") / "run", experiment()).folder


@pytest.fixture
def part(tmp_path: Path) -> Path:
    """A run of forty steps with checkpoints at 30 and 40, to be damaged and taken up to sixty."""
    run = store.record(tmp_path / "run", experiment(40), checkpoint_freq=10)
    assert sorted(path.name for path in run.folder.glob("checkpoints/*")) == ["30.pt", "40.pt"]
    return run.folder


def at_step(step: int, act: Any) -> Any:
    """Listen for the first record of `step`."""

    def listen(event: Event) -> None:
        if isinstance(event, Record) and event.step == step and event.probe == "train":
            act()

    return listen


BEGAN_AGAIN = (
    "resumed at step 0: no usable checkpoint, so the run began again; "
    "what was there was set aside in set_aside/1"
)


def stop() -> None:
    raise RuntimeError("stopped by the test\nwith a second line")


def test_what_was_recorded_reads_back(whole: Path) -> None:
    run = store.open_run(whole)
    assert (run.status, run.why) == (Status.FINISHED, "all 60 steps done")
    assert sorted(run.names()) == ["count", "eigs", "iterates", "train_loss"]
    loss, eigs, rows = run.series("train_loss"), run.series("eigs"), run.series("iterates")
    assert loss.steps.tolist() == list(range(60))
    assert loss.steps.dtype == np.int64
    np.testing.assert_allclose(loss.t, 0.05 * np.arange(60), rtol=1e-12)
    assert (eigs.values.shape, eigs.values.dtype, eigs.steps[-1]) == ((20, 2), np.float64, 57)
    assert (rows.values.shape, rows.values.dtype, rows.steps[-1]) == ((30, 100_000), np.float32, 58)
    assert loss.values[0] == pytest.approx(10.4919, abs=1e-4)
    assert run.summary() == {"step": 59, "train_loss": loss.values[-1], "count": 19}
    assert run.threshold == pytest.approx(76)
    assert run.spec == {}
    assert run.info["experiment"]["dynamics"] == {"name": "heavy", "lr": 0.05, "beta": 0.9}


def test_a_name_that_was_not_recorded_is_refused_with_the_nearest(whole: Path) -> None:
    with pytest.raises(InputError, match="Did you mean 'train_loss'"):
        store.open_run(whole).series("train_los")


def test_blocks_are_cut_by_shape_alone(whole: Path) -> None:
    # 4 MiB hold ten rows of 100 000 float32; every second step has one.
    assert sorted(path.name for path in whole.glob("series/iterates/*")) == [
        "0.safetensors",
        "20.safetensors",
        "40.safetensors",
    ]


def test_reading_needs_no_torch(whole: Path) -> None:
    code = (
        "import sys; from limen import store; run = store.find_runs(sys.argv[1])[0];"
        "run.series('iterates'), run.series('eigs'); assert 'torch' not in sys.modules, 'torch'"
    )
    subprocess.run([sys.executable, "-c", code, str(whole)], check=True)


def test_published_tensors(whole: Path) -> None:
    loaded = {path.name: torch.load(path) for path in whole.glob("*_final")}
    assert {name: tuple(x.shape) for name, x in loaded.items()} == {
        "train_loss_final": (60,),
        "test_loss_final": (60,),
        "train_acc_final": (60,),
        "test_acc_final": (60,),
        "eigs_final": (20, 2),
        "iterates_final": (30, 100_000),
    }
    assert all(x.dtype == torch.float32 for x in loaded.values())
    assert loaded["test_acc_final"].isnan().all()
    run = store.open_run(whole)
    np.testing.assert_array_equal(
        loaded["train_loss_final"], run.series("train_loss").values.astype(np.float32)
    )
    np.testing.assert_array_equal(loaded["eigs_final"], run.series("eigs").values.astype(np.float32))
    np.testing.assert_array_equal(loaded["iterates_final"], run.series("iterates").values)


def test_published_on_the_way_and_snapshot(tmp_path: Path) -> None:
    seen = {}

    def listen(event: Event) -> None:
        if isinstance(event, Mark) and (tmp_path / "r" / "train_loss").exists():
            seen[event.step] = len(torch.load(tmp_path / "r" / "train_loss"))

    spec = {"neigs": 3, "nproj": 0}
    toy = experiment(10, probes=[Train()])
    run = store.record(tmp_path / "r", toy, spec=spec, save_freq=4, save_model=True, listen=listen)
    assert seen == {4: 4, 5: 4, 6: 4, 7: 4, 8: 8, 9: 8, 10: 8}
    assert run.spec == spec
    assert torch.load(run.folder / "eigs_final").shape == (0, 3)
    assert torch.load(run.folder / "iterates_final").shape == (0, 0)
    assert list(torch.load(run.folder / "snapshot_final")) == ["w"]


@pytest.mark.parametrize("first", [1, 20, 33, 59])
def test_resumed_equals_uninterrupted(tmp_path: Path, whole: Path, first: int) -> None:
    store.record(tmp_path / "run", experiment(first))
    run = store.record(tmp_path / "run", experiment(60), resume=True)
    assert (run.status, run.notes) == (Status.FINISHED, [])
    assert run.info["resumed"][0]["step"] == first
    assert contents(run.folder) == contents(whole)


def test_resume_after_an_exception(tmp_path: Path, whole: Path) -> None:
    folder = tmp_path / "run"
    with pytest.raises(RuntimeError, match="stopped by the test"):
        store.record(folder, experiment(), listen=at_step(41, stop))
    run = store.open_run(folder)
    assert run.status is Status.FAILED
    assert run.why == "RuntimeError: stopped by the test; --resume goes on from the last checkpoint"
    assert len(torch.load(folder / "train_loss_final")) == 42
    resumed = store.record(folder, experiment(), resume=True)
    assert resumed.info["resumed"][0]["step"] == 41
    assert contents(folder) == contents(whole)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_run_at_the_next_boundary(
    tmp_path: Path, whole: Path, number: signal.Signals
) -> None:
    before = [signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)]
    run = store.record(
        tmp_path / "run", experiment(), listen=at_step(17, lambda: signal.raise_signal(number))
    )
    assert run.status is Status.INTERRUPTED
    assert run.why == f"{number.name} before step 18; --resume goes on"
    assert len(torch.load(run.folder / "train_loss_final")) == 18
    assert [signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)] == before
    store.record(run.folder, experiment(), resume=True)
    assert contents(run.folder) == contents(whole)


@pytest.mark.parametrize(
    ("first", "second", "word"),
    [
        (signal.SIGINT, signal.SIGINT, "Ctrl-C"),
        (signal.SIGTERM, signal.SIGTERM, "SIGTERM"),
        (signal.SIGINT, signal.SIGTERM, "SIGTERM"),
    ],
)
def test_a_second_signal_ends_the_run_at_once(
    tmp_path: Path, whole: Path, first: signal.Signals, second: signal.Signals, word: str
) -> None:
    heard: list[str] = []

    def press_twice() -> None:
        signal.raise_signal(first)
        assert heard == ["stopping after this step; once more to stop at once"]
        signal.raise_signal(second)
        raise AssertionError("the second signal has not raised")

    with pytest.raises(KeyboardInterrupt):
        store.record(tmp_path / "run", experiment(), listen=at_step(17, press_twice), tell=heard.append)
    assert len(heard) == 1
    run = store.open_run(tmp_path / "run")
    assert run.status is Status.INTERRUPTED
    assert run.why == f"a second signal to stop, {word}; --resume goes on from the last checkpoint"
    assert len(torch.load(run.folder / "train_loss_final")) == 18
    store.record(run.folder, experiment(), resume=True)
    assert contents(run.folder) == contents(whole)


def test_an_error_of_the_users_code_is_not_taken_for_the_disks(tmp_path: Path) -> None:
    def no_file() -> None:
        raise FileNotFoundError(2, "No such file", "mine.csv")

    with pytest.raises(FileNotFoundError, match=r"mine\.csv"):
        store.record(tmp_path / "run", experiment(small=True), listen=at_step(3, no_file))
    assert store.open_run(tmp_path / "run").why.startswith("FileNotFoundError: [Errno 2]")


def test_a_run_in_a_thread(tmp_path: Path, whole: Path) -> None:
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(store.record, tmp_path / "run", experiment()).result().status is Status.FINISHED
    assert contents(tmp_path / "run") == contents(whole)


def test_resume_of_nothing_starts(tmp_path: Path) -> None:
    assert store.record(tmp_path / "run", experiment(3), resume=True).status is Status.FINISHED


def test_resume_of_a_finished_run_leaves_it_untouched(part: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in part.rglob("*") if path.is_file() and path.suffix}
    assert store.record(part, experiment(30), resume=True).why == "all 40 steps done"
    assert store.record(part, experiment(40), resume=True).why == "all 40 steps done"
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_a_goal_ends_the_run_and_may_be_moved(tmp_path: Path, whole: Path) -> None:
    folder = tmp_path / "run"
    run = store.record(folder, experiment(stop=Goals(loss_goal=0.1)), spec={"loss_goal": 0.1})
    assert run.status is Status.FINISHED
    assert "is below the goal 0.1 at step" in run.why
    n = len(torch.load(folder / "train_loss_final"))
    assert n == run.series("train_loss").steps[-1] + 1 < 60
    again = store.record(folder, experiment(stop=Goals(loss_goal=0.1)), spec={"loss_goal": 0.1}, resume=True)
    assert again.info["resumed"] == []
    store.record(folder, experiment(), resume=True)
    assert contents(folder) == contents(whole)


def test_diverged(tmp_path: Path) -> None:
    run = store.record(tmp_path / "run", experiment(lr=1000.0))
    assert run.status is Status.DIVERGED
    assert "not finite at step" in run.why
    loss = run.series("train_loss")
    assert loss.values[-1] == np.inf
    assert torch.load(run.folder / "train_loss_final")[-1] == torch.inf
    assert len(loss.values) == len(torch.load(run.folder / "train_loss_final"))
    assert store.record(run.folder, experiment(lr=1000.0), resume=True).status is Status.DIVERGED
    with pytest.raises(StoreError, match=r"diverged .*--overwrite discards"):
        store.record(run.folder, experiment(lr=1000.0))


def test_lines_are_strict_json(tmp_path: Path) -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    run = store.record(tmp_path / "run", experiment(3, probes=[Train(), Odd()]))
    for name in ("scalars.jsonl", "timing.jsonl", "run.json"):
        text = (run.folder / name).read_text()
        for part in [text] if name == "run.json" else text.splitlines():
            json.loads(part, parse_constant=refuse)
    last = json.loads((run.folder / "scalars.jsonl").read_text().splitlines()[-1])
    assert last["values"] == {"odd": ["nan", "inf", "-inf", 0.1], "lone": "-inf", "flag": True}
    np.testing.assert_array_equal(run.series("odd").values[-1], [np.nan, np.inf, -np.inf, 0.1])
    assert run.series("lone").values.tolist() == [-np.inf] * 3


def test_a_torn_record_is_cut(part: Path, whole: Path) -> None:
    with (part / "scalars.jsonl").open("a") as file:
        file.write('{"probe": "train", "step": 40, "t": 2.0, "val')
    assert store.open_run(part).series("train_loss").steps[-1] == 39
    run = store.record(part, experiment(), resume=True)
    assert (run.info["resumed"][0]["step"], run.notes) == (40, [])
    assert contents(part) == contents(whole)


def test_missing_records_send_the_run_back(part: Path, whole: Path) -> None:
    os.truncate(part / "scalars.jsonl", (part / "scalars.jsonl").stat().st_size - 5)
    run = store.record(part, experiment(), resume=True)
    assert run.notes == [
        "resumed at step 30: records before checkpoint 40.pt are damaged or missing, so it was skipped",
        "resumed at step 30: what was recorded from step 30 on was set aside in set_aside/1",
    ]
    assert contents(part) == contents(whole)


def test_a_damaged_line_is_named_and_mended(part: Path, whole: Path) -> None:
    text = (part / "scalars.jsonl").read_bytes()
    (part / "scalars.jsonl").write_bytes(text[:900] + b"\0\0\0" + text[903:])
    with pytest.raises(StoreError, match=r"damaged: .*--resume"):
        store.open_run(part).names()
    run = store.record(part, experiment(), resume=True)
    assert run.notes[-1] == BEGAN_AGAIN
    assert contents(part) == contents(whole)


@pytest.mark.parametrize("size", [0, 10, 1500])
def test_a_truncated_checkpoint_is_skipped(part: Path, whole: Path, size: int) -> None:
    os.truncate(part / "checkpoints" / "40.pt", size)
    run = store.record(part, experiment(), resume=True)
    assert run.info["resumed"][0]["step"] == 30
    assert "checkpoint 40.pt cannot be read" in run.notes[0]
    assert contents(part) == contents(whole)


def test_without_a_checkpoint_the_run_begins_again(part: Path, whole: Path) -> None:
    for path in part.glob("checkpoints/*.pt"):
        path.unlink()
    run = store.record(part, experiment(), resume=True)
    assert run.notes == [BEGAN_AGAIN]
    assert contents(part) == contents(whole)


def everything(folder: Path) -> dict[str, bytes]:
    """All that a run folder holds of a run, its manifest and lock left out."""
    found = [path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")]
    return {str(path.relative_to(folder)): path.read_bytes() for path in found if path.name != "run.json"}


def flip_a_byte(folder: Path) -> None:
    text = (folder / "scalars.jsonl").read_bytes()
    (folder / "scalars.jsonl").write_bytes(text[:900] + b"\0" + text[901:])


def truncate_the_checkpoints(folder: Path) -> None:
    for path in folder.glob("checkpoints/*.pt"):
        os.truncate(path, 1500)


@pytest.mark.parametrize("damage", [flip_a_byte, truncate_the_checkpoints])
def test_a_run_that_has_to_begin_again_is_set_aside_whole(part: Path, damage: Any) -> None:
    damage(part)
    before = everything(part)
    told: list[str] = []
    with pytest.raises(RuntimeError, match="stopped"):
        store.record(part, experiment(), resume=True, listen=at_step(3, stop), tell=told.append)
    assert told[-1] == BEGAN_AGAIN
    assert everything(part / "set_aside" / "1") == before
    assert store.record(part, experiment(), resume=True).info["resumed"][1]["step"] == 3
    damage(part)
    store.record(part, experiment(70), resume=True)
    assert everything(part / "set_aside" / "1") == before
    assert (part / "set_aside" / "2" / "scalars.jsonl").exists()
    assert [run.folder for run in store.find_runs(part)] == [part]


def test_what_lies_after_a_damaged_checkpoint_is_set_aside(part: Path, whole: Path) -> None:
    os.truncate(part / "checkpoints" / "40.pt", 1500)
    before = everything(part)
    told: list[str] = []
    store.record(part, experiment(), resume=True, tell=told.append)
    assert "set aside in set_aside/1" in told[-1]
    kept = everything(part / "set_aside" / "1")
    assert kept["checkpoints/40.pt"] == before["checkpoints/40.pt"]
    assert kept["series/iterates/20.safetensors"] == before["series/iterates/20.safetensors"]
    assert before["scalars.jsonl"].endswith(kept["scalars.jsonl"])
    assert json.loads(kept["scalars.jsonl"].splitlines()[0])["step"] == 30
    assert contents(part) == contents(whole)


def test_a_resume_without_damage_sets_nothing_aside(part: Path) -> None:
    def look() -> None:
        assert len(torch.load(part / "train_loss_final")) == 40

    store.record(part, experiment(), resume=True, listen=at_step(45, look))
    assert len(torch.load(part / "train_loss_final")) == 60
    assert not (part / "set_aside").exists()


def test_overwrite_leaves_what_was_set_aside(part: Path) -> None:
    truncate_the_checkpoints(part)
    store.record(part, experiment(), resume=True)
    kept = everything(part / "set_aside")
    store.record(part, experiment(3), overwrite=True)
    assert everything(part / "set_aside") == kept


@pytest.mark.parametrize(
    ("where", "error"),
    [
        ("torch.load", MemoryError()),
        ("torch.load", torch.OutOfMemoryError("CUDA out of memory")),
        ("torch.load", RuntimeError("DefaultCPUAllocator: can't allocate memory: 99 bytes")),
        ("torch.load", OSError(errno.EIO, "Input/output error")),
        ("pathlib.Path.read_bytes", OSError(errno.EIO, "Input/output error")),
        ("pathlib.Path.read_bytes", OSError(errno.EMFILE, "Too many open files")),
    ],
)
def test_a_checkpoint_that_the_machine_cannot_load_is_no_damaged_one(
    part: Path, monkeypatch: pytest.MonkeyPatch, where: str, error: BaseException
) -> None:
    before = everything(part)

    def fail(*given: Any, **more: Any) -> Any:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(where, fail)
        with pytest.raises(StoreError, match=r"Nothing was changed\. .*--resume goes on"):
            store.record(part, experiment(), resume=True)
    assert everything(part) == before
    assert store.record(part, experiment(), resume=True).info["resumed"][0]["step"] == 40


def test_records_that_the_disk_does_not_give_are_no_damaged_ones(
    part: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = everything(part)

    def fail(path: Path) -> list[int]:
        raise OSError(errno.EIO, "Input/output error", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(blocks, "steps_of", fail)
        with pytest.raises(StoreError, match=r"cannot be read \(Input/output error\)\. Nothing was changed"):
            store.record(part, experiment(), resume=True)
    assert everything(part) == before


@pytest.mark.parametrize("content", [{"a": 1}, [1, 2], "text"])
def test_another_file_in_a_checkpoints_place_is_skipped(part: Path, whole: Path, content: Any) -> None:
    torch.save(content, part / "checkpoints" / "50.pt")
    with zipfile.ZipFile(part / "checkpoints" / "51.pt", "w") as archive:
        archive.writestr("mine.txt", "mine")
    run = store.record(part, experiment(), resume=True)
    assert run.info["resumed"][0]["step"] == 40
    assert (part / "set_aside" / "1" / "checkpoints" / "51.pt").exists()
    assert contents(part) == contents(whole)


def test_a_flipped_byte_in_a_checkpoint_is_found(part: Path, whole: Path) -> None:
    path = part / "checkpoints" / "40.pt"
    with zipfile.ZipFile(path) as archive:
        tensor = archive.read(next(name for name in archive.namelist() if name.endswith("/data/0")))
    data = bytearray(path.read_bytes())
    data[data.index(tensor) + 1] ^= 1
    path.write_bytes(data)
    run = store.record(part, experiment(), resume=True)
    assert (run.info["resumed"][0]["step"], "checksum" in run.notes[0]) == (30, True)
    assert contents(part) == contents(whole)


@pytest.mark.parametrize(("block", "step"), [("40", 40), ("0", 0)])
def test_a_truncated_block_is_recorded_anew(tmp_path: Path, whole: Path, block: str, step: int) -> None:
    # The checkpoint at 45 counts on block 40, the one at 40 does not.
    folder = store.record(tmp_path / "run", experiment(45), checkpoint_freq=10).folder
    path = folder / "series" / "iterates" / f"{block}.safetensors"
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(StoreError, match=r"block .*--resume"):
        store.open_run(folder).series("iterates")
    run = store.record(folder, experiment(), resume=True)
    assert run.info["resumed"][0]["step"] == step
    assert contents(folder) == contents(whole)


def test_a_checkpoint_of_an_overwritten_run_is_not_taken(part: Path, whole: Path) -> None:
    info = json.loads((part / "run.json").read_text())
    (part / "run.json").write_text(json.dumps({**info, "id": "another"}))
    run = store.record(part, experiment(), resume=True)
    assert run.info["resumed"][0]["step"] == 0
    assert "it belongs to another run" in run.notes[0]
    assert contents(part) == contents(whole)


def test_an_existing_run_is_refused(part: Path) -> None:
    before = contents(part)
    with pytest.raises(StoreError, match=r"finished .*--resume with a larger max_steps .*--overwrite"):
        store.record(part, experiment(60))
    with pytest.raises(RuntimeError, match="stopped"):
        store.record(part, experiment(60), resume=True, listen=at_step(50, stop))
    with pytest.raises(StoreError, match=r"failed .*--resume goes on with it, --overwrite"):
        store.record(part, experiment(60))
    assert contents(part).keys() == before.keys() | {"series/iterates/40.safetensors"}


def test_overwrite_deletes_only_limens_files(part: Path, whole: Path) -> None:
    mine = [part / "notes.txt", part / "series" / "iterates" / "figure.png", part / "checkpoints" / "best.pt"]
    for path in mine:
        path.write_text("mine")
    run = store.record(part, experiment(20, small=True), overwrite=True)
    assert run.info["resumed"] == []
    assert all(path.read_text() == "mine" for path in mine)
    assert run.names() == ["train_loss", "eigs", "count"]
    assert not (part / "iterates_final").exists()
    store.record(part, experiment(60), overwrite=True)
    assert contents(part) == contents(whole)


def test_files_of_the_published_script_are_not_overwritten_unasked(tmp_path: Path) -> None:
    torch.save(torch.ones(3), tmp_path / "train_loss_final")
    with pytest.raises(StoreError, match=r"train_loss_final but no run\.json"):
        store.record(tmp_path, experiment(3))
    assert len(torch.load(tmp_path / "train_loss_final")) == 3
    store.record(tmp_path, experiment(4), overwrite=True)
    assert len(torch.load(tmp_path / "train_loss_final")) == 4


def test_another_experiment_cannot_be_resumed(part: Path) -> None:
    with pytest.raises(StoreError, match=r"dynamics\.lr = 0\.05, asked is 0\.06.*another folder"):
        store.record(part, experiment(60, lr=0.06), resume=True)
    with pytest.raises(
        StoreError, match=r"probes\.iterates = \S+ 2\}, asked is nothing\. Give probes\.iterates"
    ):
        store.record(part, experiment(60, small=True), resume=True)


@pytest.mark.parametrize(
    ("was", "asked", "message"),
    [
        ({"nproj": 2, "max_steps": 3}, {"nproj": 0, "max_steps": 60}, "Give --nproj 2 as it was, or choose"),
        (
            {"above": None, "nproj": 2},
            {"above": 0.5, "nproj": 3},
            "Give --nproj 2 as it was, leave out --above,",
        ),
        (
            {"model": {"width": 3}},
            {"model": {"width": 4, "depth": 2}},
            "--model.width 3 as it was, leave out",
        ),
        ({"above": None}, {"above": 0.5}, "Leave out --above, or choose"),
        ({"max_steps": 3}, {"max_steps": 60}, "Give probes.iterates as it was"),
    ],
)
def test_a_refusal_names_the_options(tmp_path: Path, was: Any, asked: Any, message: str) -> None:
    store.record(tmp_path / "run", experiment(3), spec=was)
    with pytest.raises(StoreError, match=re.escape(message)):
        store.record(tmp_path / "run", experiment(60, small=True), spec=asked, resume=True)


def test_other_data_cannot_be_resumed(tmp_path: Path) -> None:
    store.record(tmp_path / "run", experiment(3), info={"data_hash": "aa"})
    with pytest.raises(StoreError, match="data_hash = aa, the data now give bb"):
        store.record(tmp_path / "run", experiment(5), info={"data_hash": "bb"}, resume=True)


def test_other_surroundings_are_noted(part: Path) -> None:
    info = json.loads((part / "run.json").read_text())
    info["threads"], info["versions"]["torch"], info["physical_batch_size"] = 97, "1.0", 10
    (part / "run.json").write_text(json.dumps(info))
    told: list[str] = []
    run = store.record(part, experiment(50), info={"physical_batch_size": 20}, resume=True, tell=told.append)
    assert len(run.notes) == 3
    assert told == run.notes
    assert any("physical_batch_size was 10, now 20" in note for note in run.notes)
    assert any('versions.torch was "1.0"' in note for note in run.notes)
    assert any("threads was 97" in note for note in run.notes)


def test_one_writer(tmp_path: Path) -> None:
    said: list[str] = []

    def second() -> None:
        with pytest.raises(StoreError) as caught:
            store.record(tmp_path / "run", experiment(), resume=True)
        said.append(str(caught.value))

    store.record(tmp_path / "run", experiment(10, small=True), listen=at_step(5, second))
    assert len(said) == 1
    assert f"process {os.getpid()} on " in said[0]
    assert str(tmp_path / "run") in said[0]


def test_a_reader_sees_a_prefix_while_the_run_goes_on(
    tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "FLUSH_SECONDS", 0.0)
    final, seen = store.open_run(whole), []
    early: list[store.Run] = []

    def look(event: Event) -> None:
        if isinstance(event, Mark) and event.step % 7 == 5:
            run = store.open_run(tmp_path / "run")
            early[:] = early or [run]
            assert run.status is Status.RUNNING
            for name in run.names():
                now, then = run.series(name), final.series(name)
                np.testing.assert_array_equal(now.values, then.values[: len(now.values)])
            seen.append(run.summary()["step"])

    store.record(tmp_path / "run", experiment(), listen=look)
    assert seen == list(range(4, 60, 7))
    assert early[0].series("train_loss").steps[-1] == 59  # a run opened once reads on


def test_a_run_that_was_left_open_reads_as_interrupted(part: Path) -> None:
    info = json.loads((part / "run.json").read_text())
    (part / "run.json").write_text(json.dumps({**info, "status": "running"}))
    run = store.open_run(part)
    assert (run.status, run.why) == (
        Status.INTERRUPTED,
        "the process ended without closing the run; --resume goes on",
    )
    with pytest.raises(StoreError, match="interrupted"):
        store.record(part, experiment())


def test_find_runs(tmp_path: Path) -> None:
    for name in ("b", "a/c"):
        store.record(tmp_path / name, experiment(2, small=True))
    for name, text in (("torn", '{"format": 1, "id'), ("foreign", "{}"), ("future", None)):
        (tmp_path / name).mkdir()
        text = text or (tmp_path / "b/run.json").read_text().replace('"format": 1', '"format": 99')
        (tmp_path / name / "run.json").write_text(text)
    runs = store.find_runs(tmp_path)
    assert [run.folder.relative_to(tmp_path).as_posix() for run in runs] == [
        "a/c",
        "b",
        "foreign",
        "future",
        "torn",
    ]
    assert [run.status for run in runs] == [Status.FINISHED] * 2 + [Status.FAILED] * 3
    assert "upgrade limen" in runs[3].why
    assert runs[4].names() == []
    assert store.find_runs(tmp_path / "nowhere") == []
    with pytest.raises(StoreError, match="no run in"):
        store.open_run(tmp_path / "a")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("spec", [1], r"spec: expected a mapping, got \[1\]"),
        ("experiment", "x", "experiment: expected a mapping"),
        ("threshold", "large", "threshold: expected a number or null"),
        ("threshold", [2], "threshold: expected a number or null"),
        ("max_steps", "many", "max_steps: expected a whole number"),
        ("reached", 2.5, "reached: expected a whole number"),
        ("status", ["finished"], "status: expected text"),
        ("why", 3, "why: expected text"),
        ("resumed", 3, "resumed: expected a list"),
        ("resumed", [{"step": 3}], "resumed: expected a list"),
        ("resumed", [{"step": 3, "notes": [4]}], "resumed: expected a list"),
    ],
)
def test_a_manifest_of_other_types_is_refused(part: Path, key: str, value: Any, message: str) -> None:
    info = json.loads((part / "run.json").read_text())
    (part / "run.json").write_text(json.dumps(info | {key: value}))
    with pytest.raises(StoreError, match=message):
        store.open_run(part)
    assert [run.status for run in store.find_runs(part)] == [Status.FAILED]


@pytest.mark.parametrize(
    "line",
    [
        '{"probe": "x", "step": "5", "t": 0.0, "values": {}}',
        '{"probe": "x", "step": 5, "t": 0.0, "values": {"train_loss": "low"}}',
        '{"probe": "x", "step": 5, "t": 0.0, "values": {"train_loss": {"a": 1}}}',
        '{"probe": "x", "step": 5, "t": 0.0, "values": {"eigs": [[1.0]]}}',
    ],
)
def test_a_line_of_other_types_is_damaged(part: Path, line: str) -> None:
    with (part / "scalars.jsonl").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(StoreError, match="is damaged"):
        store.open_run(part).summary()


def test_records_that_are_no_file_are_refused(part: Path) -> None:
    (part / "scalars.jsonl").unlink()
    (part / "scalars.jsonl").mkdir()
    (part / "scalars.jsonl" / "x").touch()
    with pytest.raises(StoreError, match=r"scalars\.jsonl cannot be read"):
        store.open_run(part).names()
    with pytest.raises(StoreError, match=r"cannot be read .*Nothing was changed"):
        store.record(part, experiment(), resume=True)


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"cannot be written .*choose another folder"):
        store.record(tmp_path / "file" / "run", experiment())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"resume": True, "overwrite": True}, "exclude each other"),
        ({"checkpoint_freq": 0}, "checkpoint_freq must be at least 1"),
        ({"save_freq": -2}, "save_freq must be at least 1"),
        ({"spec": {"w": torch.ones(2)}}, "spec is stored with the run as JSON"),
        ({"info": {"status": "fine"}}, "info says status"),
    ],
)
def test_bad_options_leave_no_trace(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        store.record(tmp_path / "run", experiment(3), **options)
    assert list(tmp_path.iterdir()) == []


class Bad(Probe):
    """Records what it is given, step by step, and keeps it in its memory."""

    name = "bad"

    def __init__(self, *values: Any, key: str = "x", memory: Any = None) -> None:
        self.values, self.key, self.memory = values, key, memory

    def measure(
        self, point: Point, step: int, state: State, memory: Memory
    ) -> tuple[dict[str, Value], Memory]:
        return {self.key: self.values[step % len(self.values)]}, {"kept": self.memory}


@pytest.mark.parametrize(
    ("probe", "message"),
    [
        (Bad("text"), "expected numbers, lists of numbers and tensors, got x: str"),
        (Bad(1.0, key="../x"), "'bad' records '../x'"),
        (Bad(torch.ones(2), torch.ones(3)), r"at step 1: .* expected \[2\] float32, got \[3\] float32"),
        (Bad(1.0, memory=np.ones(2)), "a probe's memory or the state holds something else"),
        (Bad(1.0, memory=lambda: 0), "a probe's memory or the state holds something else"),
    ],
)
def test_values_that_cannot_be_kept(tmp_path: Path, probe: Probe, message: str) -> None:
    toy = experiment(4, probes=[Train(), probe])
    with pytest.raises(InputError, match=message):
        store.record(tmp_path / "run", toy, checkpoint_freq=2)
    assert store.open_run(tmp_path / "run").status is Status.FAILED
    assert not (tmp_path / "x").exists()


def test_every_type_of_tensor_reads_back(tmp_path: Path) -> None:
    kinds = [torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.bool]
    probes = [Bad(torch.tensor([[1, 0], [0, 1]]).to(kind), key=f"k{i}") for i, kind in enumerate(kinds)]
    for i, probe in enumerate(probes):
        probe.name = f"bad{i}"
    run = store.record(tmp_path / "run", experiment(2, probes=probes))
    stored = [run.series(f"k{i}").values for i in range(len(kinds))]
    assert [str(x.dtype) for x in stored] == ["float64", "float16", "float32", "int64", "bool"]
    assert all((x == np.eye(2)).all() and x.shape == (2, 2, 2) for x in stored)


def test_toys_need_their_memory() -> None:
    """The comparisons above would miss a lost memory if the toy's records did not depend on it."""
    toy = experiment(40, probes=[Train(), Averages(), Iterates(3)])
    events = list(toy.run())
    mark = next(event for event in events if isinstance(event, Mark) and event.step == 20)
    fresh = Mark(20, mark.state, toy.begin().memory)
    eigs = [
        [
            event.values["eigs"]
            for event in toy.run(start)
            if isinstance(event, Record) and event.probe == "averages"
        ]
        for start in (mark, fresh)
    ]
    assert eigs[0] != eigs[1]
