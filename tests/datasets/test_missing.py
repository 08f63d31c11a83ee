from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gradprom.datasets import DATASET_NAMES
from gradprom.datasets._missing import refuse_incomplete, remedy
from gradprom.datasets.about import ABOUT
from gradprom.datasets.sample import Dataset, Sample
from gradprom.errors import UserError


def sample(name: str, *files: Path) -> Sample:
    return Sample(name, lambda: np.zeros((20, 20, 1), np.uint8), files=files)


def test_a_sample_knows_what_it_lacks(tmp_path: Path) -> None:
    here, gone = tmp_path / "here.png", tmp_path / "gone.png"
    here.touch()
    (tmp_path / "folder.png").mkdir()
    assert sample("a", here, gone, tmp_path / "folder.png").missing() == [gone, tmp_path / "folder.png"]
    assert sample("b", here).missing() == sample("c").missing() == []


def test_the_first_missing_file_is_named_whatever_its_part(tmp_path: Path) -> None:
    here = tmp_path / "c.png"
    here.touch()
    train = (sample("b", tmp_path / "b.png", here), sample("c", here))
    test = (sample("a", tmp_path / "x.png", tmp_path / "a.png"),)
    with pytest.raises(
        UserError, match=rf"^{tmp_path / 'a.png'}: .* 2 of 3 images incomplete: .*check tnbc ROOT says more"
    ):
        refuse_incomplete(Dataset("tnbc", 1, train, test), "ROOT")
    refuse_incomplete(Dataset("tnbc", 1, train[1:], ()), "ROOT")


@pytest.mark.parametrize("name", [*DATASET_NAMES, "of one's own"])
def test_every_remedy_names_a_source_and_a_way_to_do_without(name: str) -> None:
    about = ABOUT.get(name, ABOUT["folder"])
    assert remedy(name).startswith(f"get them from {about.where}, or ")
    assert remedy(name).endswith(about.without)
