"""Files of weights: a round trip, and files that are damaged, foreign or hostile."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from gradprom import UserError
from gradprom.weights import read_torch, read_weights, save_weights


class Hostile:
    """Runs a command when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.mark),)


@pytest.fixture
def state() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4)).state_dict()


def same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> bool:
    return found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in expected)


def test_safetensors_round_trip(tmp_path: Path, state) -> None:
    state["transposed"] = torch.rand(3, 4).T
    state["half"] = torch.rand(3).bfloat16()
    save_weights(tmp_path / "w.safetensors", state)
    found = read_weights(tmp_path / "w.safetensors")
    assert same(found, state)
    assert found["half"].dtype == torch.bfloat16
    assert [file.name for file in tmp_path.iterdir()] == ["w.safetensors"]


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("wrapped", [True, False])
def test_pytorch_files(tmp_path: Path, state, zipped: bool, wrapped: bool) -> None:
    torch.save(
        {"state_dict": state, "epoch": 3} if wrapped else state,
        tmp_path / "w.pt",
        _use_new_zipfile_serialization=zipped,
    )
    assert same(read_weights(tmp_path / "w.pt"), state)


@pytest.mark.parametrize("how", ["zip", "legacy", "pickle"])
@pytest.mark.parametrize("read", [read_weights, read_torch])
def test_nothing_in_a_file_is_executed(tmp_path: Path, how: str, read) -> None:
    mark, file = tmp_path / "executed", tmp_path / "w.pt"
    if how == "pickle":
        file.write_bytes(pickle.dumps(Hostile(mark)))
    else:
        torch.save({"state_dict": Hostile(mark)}, file, _use_new_zipfile_serialization=how == "zip")
    with pytest.raises(
        UserError, match=r"w\.pt: is damaged, or holds other things|w\.pt: is damaged or not a PyTorch file"
    ):
        read(file)
    assert not mark.exists()
    if how == "pickle":  # had it been opened, it would have run
        pickle.loads(file.read_bytes())
        assert mark.exists()


@pytest.mark.parametrize("content", [[1, 2], {"a": 1}, {"state_dict": {"a": "b"}}, torch.ones(1)])
def test_plain_data_that_is_no_state_dict_is_refused(tmp_path: Path, content) -> None:
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(UserError, match=r"w\.pt: expected named tensors"):
        read_weights(tmp_path / "w.pt")


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_missing_file_directory_and_empty_file(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(UserError, match=f"w{suffix}: no such file"):
        read_weights(tmp_path / f"w{suffix}")
    (tmp_path / f"w{suffix}").touch()
    with pytest.raises(UserError, match=f"w{suffix}: is damaged"):
        read_weights(tmp_path / f"w{suffix}")
    (tmp_path / f"folder{suffix}").mkdir()
    with pytest.raises(UserError, match=f"folder{suffix}: "):
        read_weights(tmp_path / f"folder{suffix}")


@pytest.mark.parametrize("kind", ["safetensors", "zip", "legacy"])
def test_truncated_files(tmp_path: Path, state, kind: str) -> None:
    file = tmp_path / ("w.safetensors" if kind == "safetensors" else "w.pt")
    if kind == "safetensors":
        save_weights(file, state)
    else:
        torch.save(state, file, _use_new_zipfile_serialization=kind == "zip")
    whole = file.read_bytes()
    for length in np.linspace(1, len(whole) - 1, 25).astype(int):
        file.write_bytes(whole[:length])
        with pytest.raises(UserError, match=f"{file.name}: is damaged"):
            read_weights(file)


@pytest.mark.parametrize("kind", ["safetensors", "zip", "legacy"])
def test_damaged_bytes_raise_nothing_else(tmp_path: Path, state, kind: str) -> None:
    file = tmp_path / ("w.safetensors" if kind == "safetensors" else "w.pt")
    if kind == "safetensors":
        save_weights(file, state)
    else:
        torch.save(state, file, _use_new_zipfile_serialization=kind == "zip")
    whole, rng = file.read_bytes(), np.random.default_rng(0)
    refused = 0
    for _ in range(200):
        damaged = bytearray(whole)
        for place in rng.integers(0, min(len(whole), 700), 3):
            damaged[place] = rng.integers(256)
        file.write_bytes(bytes(damaged))
        try:
            read_weights(file)
        except UserError:
            refused += 1
    assert refused > 50


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, state) -> None:
    save_weights(tmp_path / "w.safetensors", state)
    with pytest.raises(AttributeError):
        save_weights(tmp_path / "w.safetensors", {"a": "not a tensor"})
    assert same(read_weights(tmp_path / "w.safetensors"), state)
    assert [file.name for file in tmp_path.iterdir()] == ["w.safetensors"]


def test_a_full_disk_is_a_sentence_and_leaves_the_old_file(tmp_path: Path, state, full_disk) -> None:
    save_weights(tmp_path / "w.safetensors", state)
    with full_disk(100), pytest.raises(UserError, match=r"w\.safetensors: the file cannot be written \(.+\); check"):
        save_weights(tmp_path / "w.safetensors", {"a": torch.zeros(1000)})
    assert same(read_weights(tmp_path / "w.safetensors"), state)
    assert [file.name for file in tmp_path.iterdir()] == ["w.safetensors"]
