"""Who asks, and what they may do: API keys, OIDC bearer tokens, and the page's sessions."""

import hashlib
import hmac
import math
import re
import secrets
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final
from urllib.parse import urlsplit

from fastapi import Request, Response

from api.oidc import OidcVerifier
from api.paging import Clock
from api.problems import RefusedError
from configs.settings import ApiSettings
from warehouse.store.results import Results

READ, SCORE, REVIEW, UPLOAD, EXPORT, ADMIN = "read", "score", "review", "upload", "export", "admin"
SCOPES_OF_ROLE: Final[Mapping[str, tuple[str, ...]]] = {
    "viewer": (READ, SCORE, EXPORT),
    "reviewer": (READ, SCORE, EXPORT, REVIEW),
    "admin": (READ, SCORE, EXPORT, REVIEW, UPLOAD, ADMIN),
    "device": (UPLOAD,),
}

COOKIE: Final = "ecg_session"
CSRF_HEADER: Final = "X-CSRF-Token"
SAFE_METHODS: Final = ("GET", "HEAD", "OPTIONS")
KEY_CACHE: Final = timedelta(seconds=2)  # how long a revoked key may still be accepted
_KEY = re.compile(r"ecg_([0-9a-f]{12})_([0-9a-f]{64})", re.ASCII)
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class Principal:
    """Who asks.

    Attributes:
        name: shown, and stored with reviews.
        role: viewer, reviewer, admin or device.
        site: whose data they see.
        scopes: what they may do.
        credential: names the key, token or session, for rate limits; empty when nobody has to sign in.
        patients: of a device: pseudonyms it may post recordings of; None for any.
        csrf_token: of a session: what requests that change something must send; empty where none is needed.
    """

    name: str
    role: str
    site: str
    scopes: frozenset[str]
    credential: str = ""
    patients: tuple[str, ...] | None = None
    csrf_token: str = ""

    def may(self, scope: str) -> bool:
        return scope in self.scopes

    def require(self, scope: str) -> None:
        """Raises:
        RefusedError: 403, they may not.
        """
        if not self.may(scope):
            raise RefusedError(
                "forbidden",
                f"{self.name} ({self.role}) may not do this: it takes the scope {scope}. Use a key that has it.",
            )


@dataclass(frozen=True)
class NewKey:
    """A key as it is made: the text is shown once and stored nowhere."""

    text: str
    key_id: str
    secret_sha256: str


def new_key() -> NewKey:
    """Makes a key: 48 random bits name it, 256 are its secret."""
    key_id, secret = secrets.token_hex(6), secrets.token_hex(32)
    return NewKey(f"ecg_{key_id}_{secret}", key_id, _sha256(secret))


def given_key(text: str) -> NewKey | None:
    """A key that was made elsewhere, of the same form; None when it is not of it."""
    match = _KEY.fullmatch(text)
    return None if match is None else NewKey(text, match[1], _sha256(match[2]))


class Access:
    """Tells who asks. Safe to share between threads.

    Args:
        results: where keys and sessions are.
        settings: limits, OIDC.
        site: of whoever asks while nobody has to sign in.
        clock: now, timezone-aware.
        oidc: checks bearer tokens; None when there is no issuer.
    """

    def __init__(
        self, results: Results, settings: ApiSettings, site: str, clock: Clock, oidc: OidcVerifier | None = None
    ) -> None:
        self._results = results
        self._settings = settings
        self._clock = clock
        self._oidc = oidc
        self._anybody = Principal("local", "admin", site, frozenset(SCOPES_OF_ROLE["admin"]))
        self._lock = threading.Lock()
        self._cached: dict[str, tuple[datetime, Principal]] = {}
        self._has_keys: tuple[datetime, bool] | None = None

    def must_sign_in(self) -> bool:
        """Whether requests without a key are refused: once a key was ever made, or with an OIDC issuer."""
        if self._oidc is not None:
            return True
        now = self._clock()
        with self._lock:
            known = self._has_keys
        if known is None or not (known[1] or now - known[0] < KEY_CACHE):
            known = (now, self._results.has_keys())
            with self._lock:
                self._has_keys = known
        return known[1]

    def known(self, request: Request) -> Principal | None:
        """Who sent a request, where that takes no look at a database; else None, and `principal` says.

        Raises:
            RefusedError: as `principal`.
        """
        bearer = _bearer(request)
        if bearer is not None:
            match = _KEY.fullmatch(bearer)
            return None if match is None else self._recent(_sha256(match[2]))
        with self._lock:
            looked = self._has_keys
        is_open = looked is not None and not looked[1] and self._clock() - looked[0] < KEY_CACHE
        if COOKIE in request.cookies or self._oidc is not None or not is_open:
            return None
        _check_local(request)
        return self._anybody

    def principal(self, request: Request, *, check_csrf_header: bool = True) -> Principal | None:
        """Who sent a request; None when it has no credentials and some are needed.

        Raises:
            RefusedError: 401, the credentials are wrong; 403, the request may have been sent by another site's page.
        """
        bearer = _bearer(request)
        if bearer is not None:
            return self._of_key(bearer) if bearer.startswith("ecg_") else self._of_token(bearer)
        cookie = request.cookies.get(COOKIE)
        if cookie:
            found = self.session(cookie)
            if found is not None:
                if check_csrf_header and request.method not in SAFE_METHODS:
                    check_csrf(found, request.headers.get(CSRF_HEADER, ""))
                return found
        if self.must_sign_in():
            return None
        _check_local(request)
        return self._anybody

    def session(self, cookie: str) -> Principal | None:
        """Whose session a cookie's value is; None when it is not accepted."""
        row = self._results.session(_sha256(cookie), self._clock())
        if row is None:
            return None
        return Principal(
            row["name"], row["role"], row["site"], frozenset(row["scopes"]), f"session {row['secret_sha256'][:16]}",
            csrf_token=_csrf_token(cookie),
        )  # fmt: skip

    def sign_in(self, credential: str) -> tuple[str, Principal]:
        """Opens a session with an API key or an OIDC token; returns the cookie's value.

        Raises:
            RefusedError: 401, it is not accepted; 403, a device.
        """
        found = self._of_key(credential) if credential.startswith("ecg_") else self._of_token(credential)
        if not found.may(READ):
            raise RefusedError("forbidden", f"A {found.role} has nothing to see here. Use a reviewer's key.")
        now, cookie = self._clock(), secrets.token_urlsafe(32)
        key = _KEY.fullmatch(credential)
        session = {
            "secret_sha256": _sha256(cookie),
            "site": found.site,
            "key_id": key[1] if key else None,
            "name": found.name,
            "role": found.role,
            "scopes": sorted(found.scopes),
            "expires_at": now + timedelta(hours=self._settings.session_hours),
        }
        self._results.add_session(session, now)
        return cookie, replace(found, csrf_token=_csrf_token(cookie))

    def sign_out(self, cookie: str) -> None:
        """Ends a session."""
        self._results.end_session(_sha256(cookie))

    def _of_key(self, text: str) -> Principal:
        match = _KEY.fullmatch(text)
        if match is None:
            raise _unauthenticated("The API key is not of the form ecg_..._...: send it whole.")
        key_id, digest = match[1], _sha256(match[2])
        now = self._clock()
        if (recent := self._recent(digest)) is not None:
            return recent
        row = self._results.key(key_id)
        if row is None or not hmac.compare_digest(row["secret_sha256"], digest):
            raise _unauthenticated("There is no such API key. Ask an administrator for one.")
        if row["revoked_at"] is not None or row["expires_at"] <= now:
            state = "was revoked" if row["revoked_at"] is not None else "has expired"
            raise _unauthenticated(f"The API key {key_id} {state}. Ask an administrator for another.")
        self._results.note_key_used(key_id, now)
        patients = None if row["patients"] is None else tuple(row["patients"])
        found = Principal(row["name"], row["role"], row["site"], frozenset(row["scopes"]), f"key {key_id}", patients)
        with self._lock:
            if len(self._cached) > 10_000:
                self._cached.clear()
            self._cached[digest] = (now, found)
        return found

    def _recent(self, digest: str) -> Principal | None:
        """Whose key a digest is, if that was looked up a moment ago."""
        with self._lock:
            cached = self._cached.get(digest)
        if cached is None or not timedelta(0) <= self._clock() - cached[0] < KEY_CACHE:
            return None
        return cached[1]

    def _of_token(self, token: str) -> Principal:
        if self._oidc is None:
            raise _unauthenticated("This is no API key, and no OIDC issuer is configured. Send an API key.")
        claims = self._oidc.verify(token)
        if claims.role not in SCOPES_OF_ROLE:
            raise RefusedError("forbidden", f"{claims.name} has no role here. Ask an administrator for one.")
        # A device's patients are known of keys only: with a token it could post recordings of anybody.
        if claims.role == "device":
            raise RefusedError("forbidden", "Devices sign in with API keys. Ask an administrator for one.")
        scopes = frozenset(SCOPES_OF_ROLE[claims.role])
        return Principal(claims.name, claims.role, claims.site, scopes, f"token {claims.name}")


def check_csrf(principal: Principal, token: str) -> None:
    """Refuses a request of a session that does not carry the session's token: another site's page may have sent it.

    Raises:
        RefusedError: 403.
    """
    if not hmac.compare_digest(principal.csrf_token.encode(), token.encode()):
        raise RefusedError("forbidden", f"Send the session's csrf_token (GET /session) as {CSRF_HEADER}.")


def set_session_cookie(request: Request, response: Response, settings: ApiSettings, cookie: str) -> None:
    """Hands a session to a browser."""
    secure = settings.secure_cookie or request.url.scheme == "https"
    response.set_cookie(
        COOKIE, cookie, max_age=int(settings.session_hours * 3600), httponly=True, samesite="strict", secure=secure
    )


class RateLimits:
    """A bucket of tokens a credential: as many as a minute's requests, refilled evenly."""

    def __init__(self, per_minute: int, clock: Callable[[], float]) -> None:
        self._per_minute = per_minute
        self._clock = clock
        self._lock = threading.Lock()
        self._left: dict[str, tuple[float, float]] = {}

    def take(self, credential: str) -> None:
        """Counts one request.

        Raises:
            RefusedError: 429, there were too many.
        """
        if not self._per_minute or not credential:
            return
        now = self._clock()
        with self._lock:
            left, at = self._left.get(credential, (float(self._per_minute), now))
            left = min(float(self._per_minute), left + (now - at) * self._per_minute / 60)
            allowed = left >= 1
            if len(self._left) > 100_000:
                self._left.clear()
            self._left[credential] = (left - 1 if allowed else left, now)
        if not allowed:
            wait_s = max(1, math.ceil((1 - left) * 60 / self._per_minute))
            raise RefusedError(
                "rate-limited",
                f"More than {self._per_minute} requests a minute. Wait, or ask for a higher api.requests_per_minute.",
                {"Retry-After": str(wait_s)},
            )


def _bearer(request: Request) -> str | None:
    given = request.headers.get("X-API-Key")
    if given is not None:
        return given.strip()
    header = request.headers.get("Authorization")
    if header is None:
        return None
    scheme, _, token = header.partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise _unauthenticated("Send the header Authorization: Bearer, then an API key or an OIDC token.")
    return token.strip()


def _check_local(request: Request) -> None:
    """While nobody has to sign in, only this machine's own pages and programs may ask.

    A page from elsewhere, in this machine's browser, could reach the service under a name of its own (DNS rebinding),
    or post to it without reading the answer.

    Raises:
        RefusedError: 403.
    """
    host = urlsplit(f"//{request.headers.get('host', '')}").hostname
    if host not in _LOOPBACK:
        raise RefusedError("forbidden", "Without sign-in only http://127.0.0.1 and http://localhost are answered.")
    origin = request.headers.get("origin")
    if request.method not in SAFE_METHODS and origin is not None and urlsplit(origin).hostname not in _LOOPBACK:
        raise RefusedError("forbidden", "Without sign-in other sites' pages may not change anything.")


def _unauthenticated(detail: str) -> RefusedError:
    return RefusedError("unauthenticated", detail, {"WWW-Authenticate": "Bearer"})


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _csrf_token(cookie: str) -> str:
    """Derived from the session's secret, so that nobody without the cookie can know it and nothing is stored."""
    return hmac.new(cookie.encode(), b"csrf", hashlib.sha256).hexdigest()
