"""What a reply keeps alive: nothing that it is done with."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest

from deployments.detector.port import DetectReply
from deployments.errors import DetectorUnavailable
from deployments.link.pending import LinkReply
from engines.types import Detections

FOUND = DetectReply(Detections.empty(), 0.0, 0.05, 1)


class _Sent:
    """What waits for a reply and holds it, as the pipeline does."""

    def __init__(self) -> None:
        self.reply = LinkReply()
        self.picture = np.zeros(8, np.uint8)
        self.told = 0

    def settled(self) -> None:
        self.told += 1


@pytest.mark.parametrize("early", [False, True])
@pytest.mark.parametrize("outcome", [FOUND, DetectorUnavailable("gone")])
def test_who_waited_goes_without_the_help_of_the_cycle_collector(early: bool, outcome: DetectReply | Exception) -> None:
    gc.collect()
    gc.disable()
    try:
        sent = _Sent()
        gone, reply_error = weakref.ref(sent), None
        if early:
            sent.reply.settle(outcome)
        sent.reply.when_settled(sent.settled)
        if not early:
            sent.reply.settle(outcome)
        assert sent.told == 1
        try:
            sent.reply.result(0.0)
        except DetectorUnavailable as error:
            reply_error = error
        assert (reply_error is not None) is isinstance(outcome, Exception)
        reply_error = None
        del sent
        assert gone() is None
    finally:
        gc.enable()
