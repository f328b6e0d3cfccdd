"""The audit trail of pages: `dependencies=[READS_STRIP]`."""

from typing import Final

from fastapi import Depends, Request

from api.access import ADMIN
from api.audit import READ_STRIP, note
from api.ui.page import PageDep


def _read(request: Request, page: PageDep) -> None:
    note(request, page.reader, READ_STRIP)


def _admins_review(request: Request, page: PageDep) -> None:
    if page.reader.may(ADMIN):
        note(request, page.reader, "review")


READS_STRIP: Final = Depends(_read)
ADMIN_REVIEWS: Final = Depends(_admins_review)
