"""Checkpoints of unknown make: tensors and plain containers come through, and nothing they name is ever run."""

from __future__ import annotations

import collections
import contextlib
import io
import os
import pickle
import zipfile
from dataclasses import dataclass

import pytest
import torch
from torch import nn

from limen.errors import DataError
from limen.models.checkpoint import read_plain, read_weights


class Evil:
    """Unpickled as it is written, it makes a folder."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


@dataclass
class Stranger:
    number: int


class StrangeList(list):
    pass


def test_what_torch_saves_comes_back(tmp_path):
    base = torch.arange(12.0)
    content = {
        "float": torch.randn(3, 4, dtype=torch.float64),
        "strided": base[1::2].view(2, 3).T,
        "shared": base[3:],
        "half": torch.randn(5).half(),
        "bfloat": torch.randn(5).bfloat16(),
        "flags": torch.tensor([True, False]),
        "count": torch.tensor(7),
        "empty": torch.empty(0, 3),
        "parameter": nn.Parameter(torch.randn(2)),
        "ordered": collections.OrderedDict(a=1, b=[2, (3, "x", None, True, 0.5)]),
        "dtype": torch.float16,
        "size": torch.Size([2, 3]),
        "device": torch.device("cpu"),
        "set": {1, 2},
        "bytes": b"\x00\xff",
    }
    torch.save(content, tmp_path / "c.pt")
    read = read_plain(tmp_path / "c.pt")
    assert read.keys() == content.keys()
    for name in ("float", "strided", "shared", "half", "bfloat", "flags", "count", "empty", "parameter"):
        assert read[name].dtype == content[name].dtype
        assert torch.equal(read[name], content[name].detach())
        assert type(read[name]) is torch.Tensor
    assert read["ordered"] == {"a": 1, "b": [2, (3, "x", None, True, 0.5)]}
    assert (read["dtype"], read["size"], read["device"], read["set"]) == (
        torch.float16,
        (2, 3),
        "cpu",
        {1, 2},
    )


def test_a_malicious_pickle_runs_nothing(tmp_path):
    evil = tmp_path / "evil"
    torch.save({"state": {"model": {"module.w": torch.ones(2)}, "rng": Evil(evil)}}, tmp_path / "c.pt")
    weights = read_weights(tmp_path / "c.pt")
    assert not evil.exists()
    assert weights.keys() == {"w"}
    assert read_plain(tmp_path / "c.pt")["state"].keys() == {"model"}
    torch.load(tmp_path / "c.pt", weights_only=False)  # the control: plain unpickling does run it
    assert evil.exists()


@pytest.mark.parametrize(
    "opcodes",
    [
        b"cposix\nsystem\n(S'touch {path}'\ntR.",
        b"(S'touch {path}'\nios\nsystem\n.",
        b"c__builtin__\neval\n(S'open({path!r}, 1)'\ntR.",
        b"cbuiltins\ngetattr\n(cos\nsystem\nS'__call__'\ntR(S'touch {path}'\ntR.",
        b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x0atouch hurt\x85R.",
        b"cnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\n(S'O'\ntRS'cos\\nsystem\\n.'\ntR.",
        b"ctorch.hub\nload\n(S'x'\nS'y'\ntR.",
        b"ctorch\nload\n(S'x'\ntR.",
        b"ctorch._utils\n_rebuild_tensor_v2\n(dS'__code__'\nI1\nsb.",
    ],
)
def test_no_opcode_reaches_code(tmp_path, monkeypatch, opcodes):
    monkeypatch.chdir(tmp_path)
    hurt = tmp_path / "hurt"
    data = opcodes.replace(b"{path!r}", repr(str(hurt)).encode()).replace(b"{path}", str(hurt).encode())
    with zipfile.ZipFile(tmp_path / "c.pt", "w") as archive:
        archive.writestr("archive/data.pkl", data)
    before = torch._utils._rebuild_tensor_v2.__code__
    with contextlib.suppress(DataError):
        read_plain(tmp_path / "c.pt")
    assert not hurt.exists()
    assert torch._utils._rebuild_tensor_v2.__code__ is before


def test_what_is_not_plain_is_dropped_and_the_rest_stays(tmp_path):
    strange = {
        "a": 1,
        "b": Stranger(3),
        "c": [StrangeList([4]), 5],
        "d": nn.Linear(2, 2),
        "e": (Stranger(1), 6),
    }
    torch.save(strange, tmp_path / "c.pt")
    assert read_plain(tmp_path / "c.pt") == {"a": 1, "c": [5], "e": (6,)}


def test_a_container_that_holds_itself_is_read(tmp_path):
    loop = {"x": 1}
    loop["self"] = loop
    ring = [2]
    ring.append(ring)
    torch.save({"loop": loop, "ring": ring}, tmp_path / "c.pt")
    read = read_plain(tmp_path / "c.pt")
    assert read["loop"]["self"] is read["loop"]
    assert read["ring"] == [2]


@pytest.mark.parametrize("nest", [(), ("state", "model"), ("state_dict",), ("model",), ("net",)])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_weights_are_found_where_checkpoints_keep_them(tmp_path, nest, prefix):
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    content = {prefix + name: x for name, x in net.state_dict().items()}
    for key in reversed(nest):
        content = {key: content, "epoch": 3}
    torch.save(content, tmp_path / "c.pt")
    weights = read_weights(tmp_path / "c.pt")
    assert weights.keys() == net.state_dict().keys()
    assert all(torch.equal(weights[name], x) for name, x in net.state_dict().items())


def test_what_is_no_checkpoint_is_refused_by_name(tmp_path):
    path = tmp_path / "c.pt"
    with pytest.raises(DataError, match=r"c\.pt: expected a checkpoint, but: No such file"):
        read_plain(path)
    path.write_bytes(b"not an archive")
    with pytest.raises(DataError, match=r"c\.pt: expected a checkpoint as torch\.save"):
        read_plain(path)
    path.write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(DataError, match="cannot be read"):
        read_plain(path)
    torch.save({"step": 3}, path)
    with pytest.raises(DataError, match="found none"):
        read_weights(path)


def test_a_torn_file_is_refused(tmp_path):
    buffer = io.BytesIO()
    torch.save({"w": torch.randn(1000)}, buffer)
    whole = buffer.getvalue()
    for end in range(0, len(whole) - 1, 97):
        (tmp_path / "c.pt").write_bytes(whole[:end])
        with pytest.raises(DataError):
            read_plain(tmp_path / "c.pt")


def test_a_tensor_cannot_reach_beyond_its_numbers(tmp_path):
    content = (
        b"ctorch._utils\n_rebuild_tensor_v2\n((S'storage'\nctorch\nFloatStorage\nS'0'\nS'cpu'\nI2\ntQ"
        b"I0\n(I1000\nt(I1\ntI00\ndtR."
    )
    with zipfile.ZipFile(tmp_path / "c.pt", "w") as archive:
        archive.writestr("a/data.pkl", content)
        archive.writestr("a/data/0", b"\0" * 8)
    with pytest.raises(DataError):
        read_plain(tmp_path / "c.pt")
