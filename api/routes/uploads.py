"""Posting recordings."""

from typing import Annotated, Any

from fastapi import APIRouter, Header, Path, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException

from api.answers import in_utc
from api.audit import ADMIN_UPLOADS
from api.deps import Services, ServicesDep, Uploader
from api.openapi import answers
from api.problems import RefusedError
from api.schemas.recordings import Upload
from api.uploads import UploadedFile, Uploads
from configs.errors import RequestError, UnavailableError

_FORM: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {
                        "file": {
                            "type": "array",
                            "minItems": 1,
                            "items": {"type": "string", "format": "binary"},
                            "description": "WFDB (.hea with .dat and .atr), EDF or CSV; or a .zip of them.",
                        }
                    },
                },
                "encoding": {"file": {"contentType": "application/octet-stream"}},
            }
        },
    }
}

router = APIRouter(tags=["recordings"])


@router.post(
    "/recordings", status_code=202, response_model=Upload, responses=answers(408, 409, 413, 415, 422, 503),
    openapi_extra=_FORM, dependencies=[ADMIN_UPLOADS],
)  # fmt: skip
async def upload_recordings(
    services: ServicesDep,
    principal: Uploader,
    request: Request,
    response: Response,
    idempotency_key: Annotated[
        str | None,
        Header(
            min_length=1,
            max_length=200,
            pattern=r"^[\x21-\x7e]+$",
            description="The same key with the same files again is the same upload.",
        ),
    ] = None,
) -> Upload:
    """Takes recordings, and ingests them in the background: ask GET /uploads/{upload_id} how far that is.

    Files are written to disk as they come. A recording is in whole or not at all; the same content twice adds nothing.
    """
    uploads = _uploads(services)
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        raise RefusedError("unsupported-media-type", "Send multipart/form-data, each file in a part named file.")
    try:
        form = await request.form(max_files=services.settings.max_upload_files, max_fields=10)
    except HTTPException as error:
        if isinstance(error, RefusedError):
            raise
        raise RequestError("body", f"is no multipart form ({error.detail})", "Send one, as curl -F does.") from error
    try:
        files = []
        for name, value in form.multi_items():
            if name != "file" or not isinstance(value, UploadFile):
                raise RequestError(name[:50], "is no part of this form", "Send each file in a part named file.")
            files.append(UploadedFile(value.filename or "", value.file))
        row, _ = await run_in_threadpool(uploads.accept, files, principal, idempotency_key)
    finally:
        await form.close()
    response.headers["Location"] = f"/uploads/{row['upload_id']}"
    return _upload(row)


@router.get("/uploads/{upload_id}", responses=answers(404, 422, 503))
def get_upload(
    services: ServicesDep,
    principal: Uploader,
    upload_id: Annotated[str, Path(pattern="^[0-9a-f]{32}$", examples=["0f8e3a52c1d94e6b8a7f00112233aabb"])],
) -> Upload:
    """What became of posted recordings."""
    return _upload(_uploads(services).upload(upload_id, principal))


def _uploads(services: Services) -> Uploads:
    if services.uploads is None:
        raise UnavailableError("uploads", "are not taken here", "Start the service with python -m api.")
    return services.uploads


def _upload(row: dict[str, Any]) -> Upload:
    return Upload.model_validate({name: in_utc(row).get(name) for name in Upload.model_fields})
