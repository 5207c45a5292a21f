"""What goes wrong with engines, by what the user has to do.

EngineError
├── PackageError        the model package doesn't fit: mend the package, the message says how
├── EvaluationError     what was asked can't be measured: mend the data set or the command, the message says how
├── InferenceFailed     one batch failed: its frames are lost, the engine goes on
└── EngineDead          the engine can't go on: the replica is replaced
"""

from __future__ import annotations


class EngineError(Exception):
    """Base of everything that engines raise."""


class PackageError(EngineError):
    """A model package can't be used; the message is one line that says what is wrong and how to mend it."""


class EvaluationError(EngineError):
    """An evaluation can't be made; the message is one line that says what is wrong and what to do."""


class InferenceFailed(EngineError):
    """One batch failed; the engine can go on."""


class EngineDead(EngineError):
    """The engine can't go on; its replica has to be replaced."""


def one_line(error: BaseException) -> str:
    """What an error says, without the line ends that ONNX Runtime, CUDA and others put into it."""
    return " ".join(str(error).split())
