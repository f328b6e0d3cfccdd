"""What answers have in common."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError


def no_nul(value: str) -> str:
    """PostgreSQL's text cannot hold NUL."""
    if "\0" in value:
        raise PydanticCustomError("nul", "holds a NUL character", {"send": "Send text without it."})
    return value


ModelVersionNumber = Annotated[int, Field(description="Version of the model.", examples=[1])]


Slots = Annotated[
    list[str | None], Field(description="Lead in each model input slot; null: empty.", examples=[["MLII", "V1"]])
]


NextPageToken = Annotated[
    str | None,
    Field(description="Send as page_token, with the same filters, for the next page; null: this is the last."),
]


class Response(BaseModel):
    """An answer."""

    model_config = ConfigDict(frozen=True)
