"""Sessions, health and problems, as they are answered."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from api.schemas.common import Response


class SessionRequest(BaseModel):
    """Signs in a browser."""

    model_config = ConfigDict(extra="forbid")

    key: str = Field(min_length=1, max_length=8192, description="An API key, or an OIDC token.")


class Session(Response):
    """Who is signed in."""

    name: str = Field(examples=["ana"])
    role: str = Field(examples=["reviewer"])
    site: str = Field(examples=["main"])
    scopes: list[str] = Field(examples=[["read", "review"]])
    csrf_token: str = Field(description="Send as X-CSRF-Token with POST and DELETE; empty: not needed.")


class PartState(Response):
    """State of one thing the service needs."""

    state: Literal["ok", "missing"]
    problem: str | None = Field(default=None, description="What is wrong with it.")
    model_version: int | None = Field(default=None, description="Of the model: the version that answers.")


class Live(Response):
    """The process answers."""

    status: Literal["live"] = "live"


class Ready(Response):
    """Everything the service needs is there."""

    status: Literal["ready"] = "ready"
    parts: dict[str, PartState] = Field(description="warehouse, results and model.")


class ParameterProblem(Response):
    """What is wrong with one parameter."""

    parameter: str = Field(examples=["min_score"])
    problem: str = Field(examples=["is not a number"])
    send: str = Field(description="What to send instead.", examples=["Send a number, for example 2.5."])


class Problem(Response):
    """Problem details, RFC 9457 (application/problem+json)."""

    type: str = Field(description="Which problem; stable.", examples=["urn:ecg:problem:invalid-request"])
    title: str = Field(description="The same for every problem of this type.", examples=["Invalid request"])
    status: int = Field(description="HTTP status.", examples=[422])
    detail: str = Field(
        description="What is wrong this time, and what to do.",
        examples=["min_score: is not a number. Send a number, for example 2.5."],
    )
    instance: str = Field(description="Path that was asked for.", examples=["/anomalies"])
    request_id: str = Field(description="Also in the X-Request-ID header and in the log.")
    errors: list[ParameterProblem] | None = Field(default=None, description="Each parameter that is wrong (422).")
    parts: dict[str, PartState] | None = Field(default=None, description="State of each part (not ready).")
