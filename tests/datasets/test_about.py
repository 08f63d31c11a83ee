from __future__ import annotations

import re
from pathlib import Path

import pytest

from gradprom.datasets import DATASET_NAMES, load_dataset
from gradprom.datasets.about import ABOUT
from gradprom.errors import UserError


def test_every_dataset_is_described() -> None:
    assert set(ABOUT) == set(DATASET_NAMES)


@pytest.mark.parametrize("name", sorted(set(DATASET_NAMES) - {"folder"}))
def test_published_datasets_can_be_cited(name: str) -> None:
    about = ABOUT[name]
    references = about.cite.split("; ")
    for reference in references:
        assert re.fullmatch(r"\w+ et al\. (19|20)\d\d, (doi:10\.\d{4,}/\S+|arXiv:\d{4}\.\d{5})", reference)
    assert about.licence
    assert about.images
    if name != "brain_mr":
        assert re.fullmatch(r"https://[\w.-]+/\S*", about.where)


def test_the_embedded_dataset_is_as_described() -> None:
    about, dataset = ABOUT["brain_mr"], load_dataset("brain_mr")
    assert about.images == len(dataset.train) + len(dataset.test)
    assert about.tasks == ("segmentation",)
    assert dataset.mask_classes
    assert not dataset.classes


@pytest.mark.parametrize("name", sorted(set(DATASET_NAMES) - {"brain_mr"}))
def test_the_layout_names_what_the_loader_asks_for(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as refused:
        load_dataset(name, tmp_path)
    first = re.match(r"[A-Za-z0-9_-]+", ABOUT[name].layout)
    assert first is not None
    # Slide_NN stands for Slide_01 and so on
    assert first[0].replace("NN", "") in str(refused.value)
