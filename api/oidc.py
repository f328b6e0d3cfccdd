"""Bearer tokens of an OpenID Connect provider: signature, issuer, audience, times (RFC 7519, RFC 9068)."""

import threading
from dataclasses import dataclass
from typing import Any

import httpx
import jwt

from api.problems import RefusedError
from configs.errors import UnavailableError
from configs.settings import OidcSettings

_ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
_TIMEOUT_S = 5.0
_LEEWAY_S = 30
_ROLES = ("admin", "reviewer", "viewer", "device")  # the first that a token has counts


@dataclass(frozen=True)
class Claims:
    """What a token says of who asks; role is empty when it names none."""

    name: str
    role: str
    site: str


class OidcVerifier:
    """Checks tokens of one issuer. Safe to share between threads.

    Args:
        settings: with an issuer.
        default_site: of everybody, when no claim names the site.
    """

    def __init__(self, settings: OidcSettings, default_site: str) -> None:
        assert settings.issuer is not None
        self._issuer = settings.issuer
        self._settings = settings
        self._default_site = default_site
        self._lock = threading.Lock()
        self._keys: jwt.PyJWKClient | None = None

    def verify(self, token: str) -> Claims:
        """Returns what a token says.

        Raises:
            RefusedError: 401, it is not accepted; 403, it names no site.
            UnavailableError: the issuer's keys cannot be read.
        """
        try:
            key = self._signing_keys().get_signing_key_from_jwt(token).key
        except jwt.PyJWKClientConnectionError as error:
            raise _unavailable(self._issuer) from error
        except (jwt.PyJWKClientError, jwt.InvalidTokenError) as error:
            raise _refused("it is not signed with a key of the issuer") from error
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=list(_ALGORITHMS),
                audience=self._settings.audience,
                issuer=self._issuer,
                leeway=_LEEWAY_S,
                options={"require": ["exp", "iss", "aud", "sub"]},
            )
        except jwt.InvalidTokenError as error:
            raise _refused(str(error).rstrip(".").lower()) from error
        return Claims(self._name(claims), self._role(claims), self._site(claims))

    def _signing_keys(self) -> jwt.PyJWKClient:
        with self._lock:
            if self._keys is None:
                url = self._settings.jwks_url or self._discover()
                self._keys = jwt.PyJWKClient(url, timeout=_TIMEOUT_S, cache_keys=True)
            return self._keys

    def _discover(self) -> str:
        try:
            answer = httpx.get(f"{self._issuer.rstrip('/')}/.well-known/openid-configuration", timeout=_TIMEOUT_S)
            return str(answer.raise_for_status().json()["jwks_uri"])
        except (httpx.HTTPError, ValueError, KeyError) as error:
            raise _unavailable(self._issuer) from error

    def _name(self, claims: dict[str, Any]) -> str:
        return str(claims.get(self._settings.name_claim) or claims["sub"])[:200]

    def _role(self, claims: dict[str, Any]) -> str:
        given = claims.get(self._settings.role_claim)
        roles = given if isinstance(given, list) else [given]
        return next((role for role in _ROLES if role in roles), "")

    def _site(self, claims: dict[str, Any]) -> str:
        if not self._settings.site_claim:
            return self._default_site
        site = claims.get(self._settings.site_claim)
        if not isinstance(site, str) or not site:
            raise RefusedError("forbidden", f"The token names no site: it has no claim {self._settings.site_claim}.")
        return site


def _refused(why: str) -> RefusedError:
    return RefusedError(
        "unauthenticated", f"The token is not accepted: {why}. Sign in again.", {"WWW-Authenticate": "Bearer"}
    )


def _unavailable(issuer: str) -> UnavailableError:
    return UnavailableError(f"issuer {issuer}", "does not give its keys", "Ask again in some seconds.")
