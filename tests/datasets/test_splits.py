from __future__ import annotations

import csv
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradprom.datasets import load_dataset
from gradprom.datasets.sample import Dataset, Sample
from gradprom.datasets.splits import apply_split, groups_in_both, write_split
from gradprom.errors import UserError


def blank() -> np.ndarray:
    return np.zeros((20, 20, 1), np.uint8)


def dataset(train: list[str], test: list[str], groups: dict[str, str] | None = None) -> Dataset:
    parts = (
        tuple(Sample(id=name, read_image=blank, group=(groups or {}).get(name)) for name in p) for p in (train, test)
    )
    return Dataset("folder", 1, *parts)


def ids(part: tuple[Sample, ...]) -> list[str]:
    return [sample.id for sample in part]


NAMES = st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=2, max_size=20, unique_by=str.strip)


@given(NAMES, st.data())
def test_a_written_split_comes_back_from_whatever_split_it_is_applied_to(names: list[str], data: st.DataObject) -> None:
    cut, other = (data.draw(st.integers(1, len(names) - 1)) for _ in range(2))
    order = data.draw(st.permutations(names))
    written = dataset(names[:cut], names[cut:])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "split.csv"
        write_split(written, path)
        back = apply_split(dataset(order[:other], order[other:]), path)
        again = path.with_name("again.csv")
        write_split(back, again)
        assert again.read_bytes() == path.read_bytes()
    assert set(ids(back.train)) == set(names[:cut])
    assert set(ids(back.test)) == set(names[cut:])
    assert len(back.train + back.test) == len(names)


def test_the_file_is_sorted_plain_csv_and_its_folder_is_made(tmp_path: Path) -> None:
    path = tmp_path / "new" / "split.csv"
    write_split(dataset(["b", "c,d"], ["a", "é"]), path)
    assert path.read_bytes() == 'id,part\r\na,test\r\nb,train\r\n"c,d",train\r\né,test\r\n'.encode()
    assert list(path.parent.iterdir()) == [path]


def test_samples_come_in_the_files_own_order_with_all_they_had(tmp_path: Path) -> None:
    before = load_dataset("brain_mr")
    path = tmp_path / "split.csv"
    write_split(before, path)
    after = apply_split(before, path)
    assert ids(after.train) == sorted(ids(before.train))
    assert set(after.test) == set(before.test)
    assert (after.name, after.channels, after.mask_classes) == (before.name, before.channels, before.mask_classes)


def test_the_order_of_lines_does_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "split.csv"
    path.write_text("id,part\nd,train\nc,test\nb,train\na,test\n", encoding="utf-8")
    back = apply_split(dataset(["c", "d", "a"], ["b"]), path)
    assert (ids(back.train), ids(back.test)) == (["b", "d"], ["a", "c"])


def test_reads_what_spreadsheets_write(tmp_path: Path) -> None:
    path = tmp_path / "split.csv"
    path.write_bytes("\ufeffpart,why,id\r\n train ,,a\r\ntest,held out,  b\r\n".encode())
    assert ids(apply_split(dataset(["b", "a"], []), path).test) == ["b"]


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        (["a,train", "b,test"], r"every image of dataset folder to be named, 2 of 4 are not, 'c' first"),
        (["a,train", "b,test", "c,test", "d,train", "y,test", "x,test"], r"has no 2 of these 6, 'y' first"),
        (["a,train", "b,test", "c,val", "d,"], r"2 of 4 have another, 'c' first with 'val'"),
        (["a,train", "b,test", "c,test", "d,train", "a,train"], r"expected each image once, found 'a' twice"),
        (["a,train", "b,train", "c,train", "d,train"], r"found none in test"),
        (["a,test", "b,test", "c,test", "d,test"], r"found none in train"),
        (["a,train", "b,test", "c,train", "d,train"], r"1 patients are in both, 'p1' first"),
    ],
)
def test_a_file_that_does_not_fit(lines: list[str], sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "split.csv"
    path.write_text("\n".join(["id,part", *lines]), encoding="utf-8")
    whole = dataset(
        ["a", "b"], ["c", "d"], groups={"a": "p1", "b": "p1", "c": "p2", "d": "p2"} if "b,test" in lines else {}
    )
    with pytest.raises(UserError, match=sentence) as refused:
        apply_split(whole, path)
    assert str(refused.value).startswith(f"{path}: ")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [("name,part\na,train\n", "expected the columns id, and part"), ("", "found none"), ("\0\xff", "CSV|columns")],
)
def test_a_file_that_is_no_such_table(text: str, sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "split.csv"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError, match=sentence):
        apply_split(dataset(["a"], ["b"]), path)


def test_what_is_not_named_is_left_out_where_a_line_says_so(tmp_path: Path) -> None:
    path = tmp_path / "split.csv"
    path.write_text("id,part\nd,train\n*,none\na,test\n", encoding="utf-8")
    part = apply_split(dataset(["a", "b", "c"], ["d"]), path)
    assert (ids(part.train), ids(part.test)) == (["d"], ["a"])
    path.write_text("id,part\nd,train\n*,none\na,test\nx,test\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"has no 1 of these 3, 'x' first"):  # what is named must be there all the same
        apply_split(dataset(["a", "b", "c"], ["d"]), path)
    path.write_text("id,part\nd,train\n*,train\na,test\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"has no 1 of these 3, '\*' first"):
        apply_split(dataset(["a", "b", "c"], ["d"]), path)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"offical: expected a file of columns id and part, found none"):
        apply_split(dataset(["a"], ["b"]), tmp_path / "offical")


def test_ids_that_cannot_be_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "split.csv"
    write_split(dataset(["a", "a "], ["b"]), path)
    with pytest.raises(UserError, match="two samples of one id"):
        apply_split(dataset(["a", "a "], ["b"]), path)


def test_groups_of_neither_or_one_side_are_left_alone() -> None:
    whole = dataset(["a", "b", "e"], ["c", "d"], groups={"a": "p2", "b": "p1", "c": "p1", "d": "p2"})
    assert groups_in_both(whole.train, whole.test) == ["p1", "p2"]
    assert groups_in_both(whole.train[2:], whole.test) == []


def test_a_file_is_what_load_dataset_splits_by(own_images: Path, tmp_path: Path) -> None:
    path = tmp_path / "split.csv"
    drawn = load_dataset("folder", own_images, test_fraction=0.5, split_seed=3)
    write_split(drawn, path)
    again = load_dataset("folder", own_images, split=str(path))
    assert ids(again.test) == sorted(ids(drawn.test))
    with path.open(encoding="utf-8") as file:
        assert {row["id"] for row in csv.DictReader(file) if row["part"] == "train"} == set(ids(again.train))


@pytest.mark.realdata
def test_the_shipped_model_s_list_takes_the_images_under_cc0_alone(real_isic: Path) -> None:
    with (real_isic / "metadata.csv").open(encoding="utf-8") as file:
        free = {row["isic_id"] for row in csv.DictReader(file) if row["licence"] == "CC0"}
    path = Path(__file__).parents[2] / "examples" / "dermoscopy_split.csv"
    taken = load_dataset("isic2018", real_isic, split=str(path))
    assert set(ids(taken.train)) | set(ids(taken.test)) == free
    assert (len(taken.train), len(taken.test)) == (365, 91)
    labels = [sum(sample.label == 0 for sample in part) for part in (taken.train, taken.test)]
    assert labels == [91, 23]  # a fifth of the melanomas is tested on
