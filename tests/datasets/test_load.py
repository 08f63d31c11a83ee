from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from gradprom.datasets import DATASET_NAMES, load_dataset
from gradprom.errors import UserError


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("isic", {}, f"'isic' is unknown: choose one of {', '.join(DATASET_NAMES)}"),
        ("brain_mr", {"root": "somewhere"}, "takes no root, found 'somewhere'"),
        ("brain_mr", {"channels": 2}, "channels is 2: expected 1"),
        ("brain_mr", {"test_fraction": 1.0}, "test_fraction is 1.0"),
    ],
)
def test_bad_arguments(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_dataset(name, **options)


def test_names_cost_nothing_to_import() -> None:
    code = "import sys, gradprom.datasets; print({'torch', 'numpy', 'PIL', 'nilearn'} & set(sys.modules))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "set()"
