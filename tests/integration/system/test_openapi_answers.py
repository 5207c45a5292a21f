"""A whole running system answers whatever is sent to it as its OpenAPI document says."""

from __future__ import annotations

import pytest

from tests.support.cluster import Raysight
from tests.support.openapi import ask


@pytest.mark.timeout(180)
@pytest.mark.long
def test_every_answer_is_a_documented_one(raysight: Raysight) -> None:
    ask(raysight.api, 8)
