"""URLs of sources and outputs: secrets split off, shown only redacted, checked against the policy.

A camera's URL may hold credentials as user info, as query parameters, as ``name=value`` in its path, or, with RTMP,
as a stream key at the path's end. `split_credentials` takes them out on entry and `join_credentials` puts them back
at the one moment the URL is opened, so that what lies between can be shown and logged as it is. Fragments are cut
off: no server ever gets them.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote, unquote, unquote_plus, urlencode, urlsplit, urlunsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr

_WORDS, _ENDINGS, _NAMES = "pass|pwd|psw|secret|token|key|auth|sig|credential|jwt|streamid", "pas|pw", "p"

SECRET_PARAMETER = re.compile(rf"{_WORDS}|(?:{_ENDINGS})$|^(?:{_NAMES})$", re.IGNORECASE)
"""Parameters that are taken for secrets, such as ``passphrase`` and ``streamid`` (SRT), ``token``, or ``loginpas`` of
some cameras."""

MASK = "***"
"""What stands for a secret in the path of a URL that is shown."""

_AFTER_SCHEME = re.compile(r"://(?:(?!://)\S)*")
_SCHEME = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]*:")
_BESIDE = re.compile(r"(&|;(?=[^=&;]+=))")
"""Between parameters; a ``;`` that none follows belongs to a value."""

_NUMBERS_AFTER = re.compile(r"(?:_[a-z]+=\d+(?:\.\w+)?)*$", re.IGNORECASE)
"""What may follow a password that ends at a ``_``, as in ``_channel=1_stream=0.sdp``: no more of it is shown."""

_SECRET_IN_TEXT = re.compile(
    rf"(?P<name>(?:[?&;/]|=[^=&;/\s]*_)"
    rf"(?:[^=&;/\s]*(?:{_WORDS})[^=&;\s]*|[^=&;/\s]*(?:{_ENDINGS})|(?:{_NAMES}))=)[^&\s]+",
    re.IGNORECASE,
)


class Credentials(BaseModel):
    """The secret parts of a URL."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    username: SecretStr | None = None
    password: SecretStr | None = None
    path: SecretStr | None = Field(default=None, description="The path as it is opened, where it holds secrets.")
    parameters: SecretStr | None = Field(
        default=None, description="The rest of the query as it is opened, where it holds secrets within parameters."
    )
    query: dict[str, SecretStr] = Field(default_factory=dict, description="Secret query parameters by name.")
    secret: SecretStr | None = Field(
        default=None, min_length=16, description="Webhooks only: the key that signs what is sent."
    )

    def revealed(self) -> dict[str, Any]:
        """As JSON has them. Never log or show the result."""
        found: dict[str, Any] = {}
        for name, value in self:
            if isinstance(value, SecretStr):
                found[name] = value.get_secret_value()
            elif value:
                found[name] = {key: secret.get_secret_value() for key, secret in value.items()}
        return found


def split_credentials(url: str) -> tuple[str, Credentials | None]:
    """Split ``url`` into what may be shown, its scheme in small letters as FFmpeg takes it, and its secrets.

    The secrets are None where it has none.

    Raises ValueError, which quotes nothing of the URL, where it can't be told what is secret.
    """
    url = _SCHEME.sub(lambda scheme: scheme[0].lower(), url)
    try:
        parts = urlsplit(url)
    except ValueError:
        raise ValueError("this is no URL") from None
    if _is_unreadable(url):
        raise ValueError(
            "user name and password in a URL must be percent-encoded: write %2F for /, %40 for @, %3F for ?"
        )
    user_info, _, host = parts.netloc.rpartition("@")
    username, colon, password = user_info.partition(":")
    shown: list[str] = []  # as they were written: a camera need not take another spelling for the same
    secret: dict[str, SecretStr] = {}
    for parameter in parts.query.split("&"):
        name, _, value = parameter.partition("=")
        if SECRET_PARAMETER.search(unquote_plus(name)) and len(_BESIDE.split(parameter)) == 1:
            secret[unquote_plus(name)] = SecretStr(unquote_plus(value))
        else:
            shown.append(parameter)
    path, rest = _masked(parts.scheme, parts.path), "&".join(shown)
    query = _masked_parameters(rest)
    if not user_info and not secret and path == parts.path and query == rest:
        return url.partition("#")[0] if host else url, None
    clean = urlunsplit((parts.scheme, host, path, query, ""))
    return clean, Credentials(
        username=SecretStr(unquote(username)) if user_info else None,
        password=SecretStr(unquote(password)) if colon else None,
        path=SecretStr(parts.path) if path != parts.path else None,
        parameters=SecretStr(rest) if query != rest else None,
        query=secret,
    )


def _masked(scheme: str, path: str) -> str:
    """A path with its secrets masked."""
    segments = path.split("/")
    if scheme.lower() in ("rtmp", "rtmps") and len(segments) > 2 and segments[-1]:
        segments[-1] = MASK
    return "/".join(map(_masked_parameters, segments))


def _masked_parameters(text: str) -> str:
    return "".join(map(_masked_parameter, _BESIDE.split(text)))


def _masked_parameter(parameter: str) -> str:
    """``name=value``, with the value masked where it is secret; further ones may follow it, each after a ``_``."""
    name, _, value = parameter.partition("=")
    if value and SECRET_PARAMETER.search(unquote(name)):
        after = _NUMBERS_AFTER.search(value)
        return f"{name}={MASK}{after[0] if after is not None and after.start() else ''}"
    own, _, further = value.partition("_")
    return f"{name}={own}_{_masked_parameter(further)}" if "=" in further else parameter


def _is_unreadable(url: str) -> bool:
    """Whether a raw ``/``, ``?`` or ``#`` in a password cut the authority short: ``rtsp://user:pa/ss@camera/1``."""
    authority = _authority(url)
    return "@" in url and "@" not in authority and ":" in authority and not authority.startswith("[")


def _authority(url: str) -> str:
    return re.split(r"[/?#]", url.partition("://")[2], maxsplit=1)[0]


def join_credentials(url: str, credentials: Credentials | None) -> str:
    """The URL to open. Never log or store the result."""
    if credentials is None:
        return url
    parts = urlsplit(url)
    netloc = parts.netloc
    if credentials.username is not None or credentials.password is not None:
        username = credentials.username.get_secret_value() if credentials.username is not None else ""
        user_info = quote(username, safe="")
        if credentials.password is not None:
            user_info += ":" + quote(credentials.password.get_secret_value(), safe="")
        netloc = f"{user_info}@{netloc}"
    extra = urlencode({name: value.get_secret_value() for name, value in credentials.query.items()})
    rest = parts.query
    if credentials.parameters is not None:
        real = credentials.parameters.get_secret_value()
        rest = real if _masked_parameters(real) == rest else rest  # as with the path
    query = "&".join(part for part in (rest, extra) if part)
    path = parts.path
    if credentials.path is not None:
        real = credentials.path.get_secret_value()
        path = real if _masked(parts.scheme, real) == path else path  # a new path makes the old one's secrets void
    return urlunsplit((parts.scheme, netloc, path, query, parts.fragment))


def redact(text: str) -> str:
    """Free text, such as an error message, with the secrets of any URL in it replaced by ``***``."""
    return _SECRET_IN_TEXT.sub(r"\g<name>***", _AFTER_SCHEME.sub(lambda found: _without_user_info(found[0]), text))


def _without_user_info(rest: str) -> str:
    if _is_unreadable(rest):
        return "://***"
    user_info, at, _ = _authority(rest).rpartition("@")
    return f"://***{rest[len('://') + len(user_info) :]}" if at else rest


def same_server(left: str, right: str) -> bool:
    """Whether scheme, host and port agree: only then may stored credentials be kept for a new URL."""
    try:
        a, b = urlsplit(left), urlsplit(right)
        return (a.scheme, a.hostname, a.port) == (b.scheme, b.hostname, b.port)
    except ValueError:
        return False
