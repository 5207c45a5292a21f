"""Viewers as the publisher sees them, and their mailboxes."""

from __future__ import annotations

import asyncio
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.streams.media.audience import KEY_FRAMES_APART_S, Audience
from deployments.streams.media.packets import EncodedPacket
from deployments.streams.webrtc.mailbox import MAX_WAITING, Mailbox


def packet(number: int, *, key: bool, template: str = "a") -> EncodedPacket:
    return EncodedPacket(number.to_bytes(2, "big"), number, number, 1, Fraction(1, 25), key, template)


def test_an_audience_is_wanted_while_somebody_is_in_it() -> None:
    audience, taken, empty = Audience(), [], []
    audience.when_empty(lambda: empty.append(True))
    assert not audience.wanted
    leave_one, leave_two = audience.join(taken.append), audience.join(taken.append)
    audience.offer(packet(0, key=True))
    assert len(taken) == 2
    leave_one()
    leave_one()
    assert audience.wanted
    assert empty == []
    leave_two()
    assert not audience.wanted
    assert empty == [True]


@given(st.lists(st.tuples(st.booleans(), st.floats(0.01, 1.0)), max_size=60))
def test_key_frames_come_when_asked_for_but_not_all_too_often(steps: list[tuple[bool, float]]) -> None:
    now, due, wished = 0.0, [], False
    audience = Audience(lambda: now)
    for wish, pause in steps:
        if wish:
            audience.want_key_frame()
            wished = True
        if audience.key_frame_due():
            assert wished
            due.append(now)
            wished = False
        now += pause
    assert all(later - earlier >= KEY_FRAMES_APART_S for earlier, later in pairwise(due))
    now += KEY_FRAMES_APART_S
    assert audience.key_frame_due() == wished, "no wish is forgotten"


@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.integers(0, 3)), max_size=150))
def test_a_mailbox_never_has_what_can_not_be_decoded(steps: list[tuple[bool, bool, int]]) -> None:
    async def run() -> None:
        wishes: list[bool] = []
        mailbox = Mailbox(lambda: wishes.append(True))
        put, got, template = 0, [], "a"
        for number, (key, changes, takes) in enumerate(steps):
            template = {"a": "b", "b": "a"}[template] if changes else template
            mailbox.put(packet(number, key=key, template=template))
            put += 1
            for _ in range(takes):
                try:
                    got.append(await asyncio.wait_for(mailbox.take(), 0))
                except TimeoutError:
                    break
        for before, after in zip([None, *got], got, strict=False):
            follows = before is not None and after.pts == before.pts + 1 and after.template == before.template
            assert follows or after.key_frame
        assert put - mailbox.dropped - len(got) in range(MAX_WAITING + 1)

    asyncio.run(run())


@pytest.mark.parametrize("lost", [MAX_WAITING, MAX_WAITING + 5])
def test_who_is_too_slow_goes_on_with_a_key_frame(lost: int) -> None:
    async def run() -> None:
        wishes: list[bool] = []
        mailbox = Mailbox(lambda: wishes.append(True))
        for number in range(lost + 1):
            mailbox.put(packet(number, key=number == 0))
        assert wishes
        assert mailbox.dropped == lost + 1
        mailbox.put(packet(lost + 1, key=True))
        assert (await mailbox.take()).pts == lost + 1

    asyncio.run(run())
