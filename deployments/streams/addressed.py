"""What parts of a spec with a URL have in common: unknown fields are refused, and secrets are split off on entry."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from deployments.streams.urls import Credentials, split_credentials


class Strict(BaseModel):
    """Refuses unknown fields, never changes, and quotes no input in its errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class Addressed(Strict):
    """A URL whose credentials are split off on entry: they are write-only and never leave in a response."""

    url: str = Field(
        min_length=1, max_length=4096, description="Where; credentials in it are split off and never shown again."
    )
    credentials: Credentials | None = Field(
        default=None, exclude=True, repr=False, description="Write-only: user name, password, secret query parameters."
    )

    @model_validator(mode="before")
    @classmethod
    def _split(cls, data: Any) -> Any:
        if not isinstance(data, dict) or not isinstance(data.get("url"), str):
            return data
        clean, found = split_credentials(data["url"])
        if found is None:
            return {**data, "url": clean}
        given = data.get("credentials")
        if isinstance(given, dict) and "secret" in given:  # which no URL can hold
            return {**data, "url": clean, "credentials": {**found.revealed(), "secret": given["secret"]}}
        return {**data, "url": clean, "credentials": found}
