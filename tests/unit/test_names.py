"""Names and patterns: what passes, what is refused, and what covers what."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grafctl import names
from grafctl.errors import Usage

PARTS = st.sampled_from(["aws", "aws2", "us-east-1", "us-east-10", "a", "b"])
DOMAINS = st.lists(PARTS, min_size=1, max_size=3).map("/".join)


@pytest.mark.parametrize("text", ["a", "A9", "orders-1", "migration-work.v1", "a_b", "0", "x" * 128])
def test_names(text: str) -> None:
    assert names.check_name("queue", text) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-a",
        ".a",
        "_a",
        "a b",
        "a/b",
        "a\0",
        "a\n",
        "\na",
        "ä",
        "a*",
        "x" * 129,
        "../a",
        "a\x1b[31m",
        "a;b",
        "$a",
        "a'",
    ],
)
def test_no_names(text: str) -> None:
    with pytest.raises(Usage) as refused:
        names.check_name("queue", text)
    assert "\x1b" not in refused.value.message and "\n" not in refused.value.message


@pytest.mark.parametrize(
    "text", ["aws", "aws/us-east-1", "aws/us-east-1/us-east-1a", "a/b/c", "0", "a.b/c_d", "d" * 63]
)
def test_domains(text: str) -> None:
    assert names.check_domain(text) == text


@pytest.mark.parametrize(
    "text",
    ["", "/", "aws/", "/aws", "aws//a", "a/b/c/d", "AWS", "aws-", "-aws", "aws/-a", "d" * 64, "a b", "a\0", "a\n", "*"],
)
def test_no_domains(text: str) -> None:
    with pytest.raises(Usage):
        names.check_domain(text)


@pytest.mark.parametrize("text", ["aws", "aws/*", "aws/**", "aws/us-east-1/**", "*", "**", "a/b/c"])
def test_patterns(text: str) -> None:
    assert names.check_pattern(text) == text


@pytest.mark.parametrize(
    "text", ["", "/", "/**", "aws*", "aws/us-*", "*/us", "**/a", "aws/***", "aws/**/a", "AWS/**", "!a"]
)
def test_no_patterns(text: str) -> None:
    with pytest.raises(Usage):
        names.check_pattern(text)


COVERS = [
    ("aws", "aws", True),
    ("aws", "aws/us-east-1", True),
    ("aws", "aws/us-east-1/us-east-1a", True),
    ("aws", "aws2", False),
    ("aws/us-east-1", "aws/us-east-10", False),
    ("aws/us-east-1", "aws/us-east-1", True),
    ("aws/us-east-1", "aws/us-east-1/us-east-1a", True),
    ("aws/us-east-1", "aws", False),
    ("aws/us-east-1/us-east-1a", "aws/us-east-1", False),
    ("aws/**", "aws", True),
    ("aws/**", "aws/a/b", True),
    ("aws/**", "gcp/a", False),
    ("aws/*", "aws", False),
    ("aws/*", "aws/a", True),
    ("aws/*", "aws/a/b", False),
    ("aws/a/*", "aws/a/b", True),
    ("aws/a/*", "aws/b/b", False),
    ("*", "aws", True),
    ("*", "aws/a", False),
    ("**", "aws", True),
    ("**", "aws/a/b", True),
]


@pytest.mark.parametrize(("pattern", "domain", "covered"), COVERS)
def test_covers(pattern: str, domain: str, covered: bool) -> None:
    assert names.covers(pattern, domain) is covered


@given(DOMAINS, DOMAINS)
def test_a_domain_covers_itself_and_what_is_inside_it(pattern: str, domain: str) -> None:
    inside = domain == pattern or domain.startswith(pattern + "/")
    assert names.covers(pattern, domain) is inside
    assert names.covers(pattern + "/**", domain) is inside


def test_the_first_cover_is_named() -> None:
    assert names.first_cover(["gcp", "aws/**", "aws"], "aws/a") == "aws/**"
    assert names.first_cover(["gcp"], "aws/a") is None
    assert names.first_cover([], "aws/a") is None


@given(st.text(max_size=80))
def test_what_is_shown_fits_one_line_and_moves_no_cursor(text: str) -> None:
    line = names.shown(text)
    assert line.isprintable() and len(line) < 500
