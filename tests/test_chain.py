"""Chains of degradations in words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradprom._chain import PRESETS, chain_scale, chain_sigma, describe_chain, parse_chain
from gradprom.errors import UserError

STRENGTHS = st.one_of(
    st.floats(0, 1).map(lambda value: f"{value:g}"),
    st.tuples(st.floats(0, 0.4), st.floats(0.5, 1)).map(lambda ends: f"{ends[0]:g}-{ends[1]:g}"),
)
FIXED = st.one_of(
    st.floats(0, 1).map(lambda sigma: f"gaussian {sigma:g}"),
    st.floats(0, 1).map(lambda rate: f"poisson {rate:g}"),
    st.tuples(st.integers(0, 49), st.floats(0.01, 10)).map(lambda p: f"blur {2 * p[0] + 1} {p[1]:g}"),
    st.sampled_from((2, 3, 4, 8)).map(lambda scale: f"downsample {scale}"),
)
DRAWN = st.tuples(
    st.sampled_from(("", "maybe 0.25 ", "maybe 1e-05 ")), st.sampled_from(("gaussian", "poisson", "blur 5")), STRENGTHS
).map(lambda parts: "".join(parts[:2]) + " " + (parts[2] if parts[1] != "blur 5" else "0.3-2"))
LINKS = st.one_of(FIXED, DRAWN)


@given(st.lists(LINKS, min_size=1, max_size=4), st.sampled_from((" + ", "+", "  +\t")))
def test_what_is_described_is_what_was_said(links: list[str], plus: str) -> None:
    text = plus.join(links)
    assert describe_chain(text) == " + ".join(links)
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
    others = ("none", "poisson 0.1", "gaussian 0.1 + gaussian 0.1", "gaussian 0.1 + downsample 2")
    for other in (*others, "gaussian 0-0.1", "maybe 0.5 gaussian 0.1"):
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
        ("gaussian 0.3-0.1", "has sigma 0.3-0.1: expected a range whose first number is the smaller"),
        ("poisson 0.1-0.1", "first number is the smaller"),
        ("poisson 0.1000001-0.1000002", "first number is the smaller"),
        ("gaussian 0--0.1", "gaussian followed by sigma"),
        ("gaussian -0.1-0.1", "gaussian followed by sigma"),
        ("gaussian 0.1-inf", "gaussian followed by sigma"),
        ("gaussian 0.1-1e999", "finite"),
        ("gaussian 0–0.3", "gaussian followed by sigma"),
        ("blur 3-5 1", "has kernel 3-5: expected one number"),
        ("blur 3 0-2", "above 0"),
        ("downsample 2-4", "has scale 2-4: expected one number"),
        ("maybe 0.5 downsample 2", "leave out maybe"),
        ("maybe gaussian 0.1", "maybe gaussian: expected a share of the images between 0 and 1"),
        ("maybe", "expected a share"),
        ("maybe 0 gaussian 0.1", "expected a share"),
        ("maybe 1 gaussian 0.1", "expected a share"),
        ("maybe 0.9999999 gaussian 0.1", "expected a share"),
        ("maybe nan gaussian 0.1", "expected a share"),
        ("maybe 0.5", "'' is unknown"),
        ("maybe 0.5 maybe 0.5 gaussian 0.1", "'maybe' is unknown"),
        ("maybe 0.5 challenging", "'challenging' is unknown"),
    ],
)
def test_what_cannot_be_understood_is_refused_in_one_sentence(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as raised:
        parse_chain(text)
    assert "\n" not in str(raised.value)
