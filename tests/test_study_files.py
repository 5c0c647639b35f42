"""The study files that come with limen."""

from __future__ import annotations

from pathlib import Path

import pytest

from limen.cli.main import main
from limen.cli.sweep import _asked
from limen.sweep import plan

STUDIES = sorted((Path(__file__).parent.parent / "configs" / "studies").glob("*.yaml"))


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_each_names_its_runs_and_none_is_refused(path: Path) -> None:
    asked = plan.expand(_asked((), str(path), None))
    assert asked.folder.name == path.stem
    assert len(asked.points) in (12, 15)
    assert not asked.refused


def test_there_are_some_and_a_wrong_key_is_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert len(STUDIES) == 7
    whole = STUDIES[0].read_text(encoding="utf-8").replace("../", f"{STUDIES[0].parent.parent}/")
    (tmp_path / "s.yaml").write_text(whole.replace("grid:", "gird:"), encoding="utf-8")
    assert main(["sweep", "-f", str(tmp_path / "s.yaml"), "--dry_run"]) == 2
    assert "Did you mean 'grid'" in capsys.readouterr().err
