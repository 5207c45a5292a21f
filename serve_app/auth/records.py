"""Keys and audit entries: what is stored of them, and what the API shows."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from deployments.streams.spec import Label
from serve_app.auth.roles import Allowance, Principal, Role

Text = Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f]*$")]


class Quotas(BaseModel):
    """What a key may take; null: as much as it likes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    streams: int | None = Field(
        default=None, ge=0, le=100_000, description="Streams that there may be among those it sees, to create another."
    )
    requests_per_minute: int | None = Field(default=None, ge=1, le=1_000_000)
    event_streams: int | None = Field(
        default=None, ge=0, le=10_000, description="Detections and live videos that it may keep open at once."
    )


class KeySpec(BaseModel):
    """A key as it is asked for."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Text = Field(description="Whose it is or what for; shown in the audit log.")
    role: Role
    labels: dict[Label, Label] = Field(
        default_factory=dict, max_length=32, description="Only streams with all of these are seen; none: every stream."
    )
    quotas: Quotas = Quotas()

    @model_validator(mode="after")
    def _admins_see_all(self) -> KeySpec:
        if self.role is Role.ADMIN and self.labels:
            raise ValueError("an admin makes keys, so labels can't limit it: leave them out, or take another role")
        return self


class KeyView(KeySpec):
    """A key as it is shown: without its secret."""

    id: str = Field(description="The part between `rsk_` and the secret.")
    created_at: float = Field(description="Unix time, seconds.")
    created_by: str = Field(description="Id of who made it, such as `key:7f00ab12cd34`.")

    def principal(self) -> Principal:
        """Who calls with it."""
        allowance = Allowance(**self.quotas.model_dump())
        return Principal(f"key:{self.id}", self.name, self.role, self.labels, allowance, since=self.created_at)


class NewKey(KeyView):
    """A key that was just made, with its secret."""

    key: str = Field(description="Send it as `Authorization: Bearer`. It is shown this once.")


class KeyRecord(KeyView):
    """A key as it is stored."""

    digest: str = Field(pattern=r"^[0-9a-f]{64}$")

    def view(self) -> KeyView:
        """What is shown of it."""
        return KeyView.model_validate(self.model_dump(exclude={"digest"}))


class AuditEntry(BaseModel):
    """One change."""

    model_config = ConfigDict(frozen=True)

    number: int = Field(description="Counts the changes.")
    at: float = Field(description="Unix time, seconds.")
    by: str = Field(description="Id of who made it: `key:...`, `jwt:...`, or `anyone` where the API asks nobody.")
    name: str = Field(description="The name of that key or token at the time.")
    action: str = Field(description="Such as `stream.create`, `stream.patch`, `key.delete`, `model.swap`.")
    target: str = Field(description="Id of the stream or key, or name of the model.")
    from_generation: int | None = Field(default=None, description="Of the stream's spec before; null for none.")
    to_generation: int | None = Field(default=None, description="And after.")
