"""Chains of degradations in words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradprom._chain import PRESETS, chain_scale, chain_sigma, describe_chain, parse_chain
from gradprom.errors import UserError

LINKS = st.one_of(
    st.floats(0, 1).map(lambda sigma: f"gaussian {sigma:g}"),
    st.floats(0, 1).map(lambda rate: f"poisson {rate:g}"),
    st.tuples(st.integers(0, 49), st.floats(0.01, 10)).map(lambda p: f"blur {2 * p[0] + 1} {p[1]:g}"),
    st.sampled_from((2, 3, 4, 8)).map(lambda scale: f"downsample {scale}"),
)


@given(st.lists(LINKS, max_size=4), st.sampled_from((" + ", "+", "  +\t")))
def test_what_is_described_is_what_was_said(links: list[str], plus: str) -> None:
    text = plus.join(links)
    assert describe_chain(text) == (" + ".join(links) or "none")
    assert parse_chain(describe_chain(text)) == parse_chain(text)


def test_the_papers_challenging_chain_adds_noise_first_and_the_physical_one_last() -> None:
    names = {preset: [link.name for link in parse_chain(preset)] for preset in PRESETS}
    assert names["challenging"] == ["gaussian", "poisson", "blur"]
    assert names["challenging physical"] == names["challenging"][::-1]
    assert names["none"] == []
    assert set(parse_chain("challenging")) == set(parse_chain("challenging physical"))


def test_scales_multiply_and_the_noise_is_known_where_it_is_all_there_is() -> None:
    assert chain_scale("downsample 2 + gaussian 0.1 + downsample 4") == 8
    assert chain_sigma("gaussian 0.05") == 0.05
    for other in ("none", "poisson 0.1", "gaussian 0.1 + gaussian 0.1", "gaussian 0.1 + downsample 2"):
        assert chain_sigma(other) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rain 3", "'rain' is unknown"),
        ("gaussian", "gaussian followed by sigma"),
        ("gaussian 0.1 0.2", "gaussian followed by sigma"),
        ("gaussian ten", "gaussian followed by sigma"),
        ("gaussian 0.1 +", "'' is unknown"),
        ("gaussian -0.1", "at least 0"),
        ("poisson inf", "finite"),
        ("poisson nan", "finite"),
        ("blur 2 1", "odd"),
        ("blur 3 0", "above 0"),
        ("blur 3.5 1", "odd"),
        ("downsample 5", "2, 3, 4 or 8"),
        ("downsample 2.5", "2, 3, 4 or 8"),
        ("challenging + gaussian 0.1", "'challenging' is unknown"),
    ],
)
def test_what_cannot_be_understood_is_refused_in_one_sentence(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as raised:
        parse_chain(text)
    assert "\n" not in str(raised.value)
