"""The rules of metrics-data-transformer. spec: metrics-data-transformer §2, §3"""

from __future__ import annotations

from typing import Any

import pytest

from transforms.transform_metrics import content_of, new_values, origin_of

METRICS = ("me_averageRating", "me_totalRatingsCount")


def properties(**found: Any) -> dict[str, Any]:
    return {"transactionData": {"properties": found}}


@pytest.mark.parametrize(
    ("event", "values"),
    [
        (properties(me_averageRating={"ov": 4, "nv": 4.25}, name={"nv": "x"}), {"me_averageRating": 4.25}),
        (properties(me_averageRating={"nv": None}), {}),
        (properties(me_averageRating={"nv": 0}), {"me_averageRating": 0}),
        (properties(me_averageRating={"nv": ""}), {"me_averageRating": ""}),
        (properties(me_averageRating={"nv": {"nv": 1}}), {"me_averageRating": {"nv": 1}}),
        (properties(me_averageRating=None), {}),
        (properties(me_averageRating="nv"), {}),
        ({"transactionData": {"properties": "me_averageRating"}}, {}),
        ({"transactionData": ["properties"]}, {}),
        ({}, {}),
    ],
)
def test_new_values(event: dict[str, Any], values: dict[str, Any]) -> None:
    assert new_values(event, METRICS) == values


def test_new_values_stand_in_the_order_of_the_configuration() -> None:
    event = properties(me_totalRatingsCount={"nv": 1}, me_averageRating={"nv": 2})
    assert list(new_values(event, METRICS)) == ["me_averageRating", "me_totalRatingsCount"]


@pytest.mark.parametrize(
    ("content_id", "content"),
    [("do_1", "do_1"), ("do_1.img", "do_1"), ("do_1.img.img", "do_1.img"), ("do_1img", "do_1img")],
)
def test_a_draft_belongs_to_its_content(content_id: str, content: str) -> None:
    assert content_of(content_id) == content


@pytest.mark.parametrize(
    ("content", "origin"),
    [
        ({"origin": "do_2", "originData": {"a": 1}}, "do_2"),
        ({"origin": "do_2", "originData": '{"a": 1}'}, "do_2"),
        ({"origin": "do_2", "originData": "{}"}, None),
        ({"origin": "do_2", "originData": "[1]"}, None),
        ({"origin": "do_2", "originData": "{"}, None),
        ({"origin": "do_2", "originData": {}}, None),
        ({"origin": "do_2"}, None),
        ({"origin": "", "originData": {"a": 1}}, None),
        ({"origin": 2, "originData": {"a": 1}}, None),
        ({}, None),
    ],
)
def test_where_a_content_comes_from(content: dict[str, Any], origin: str | None) -> None:
    assert origin_of(content) == origin
