"""Devices and brokers on Authlib and PyJWT, which know the issuer by its URL.

Standard input: one JSON object, whose `do` names the step and whose other
members are its arguments. Standard output: one JSON object, what came of it.
An OAuth error is one, too: `{"error": …}`.
"""

import base64
import hashlib
import json
import sys
import time
import uuid

import jwt
import requests
from authlib.integrations.base_client import OAuthError
from authlib.integrations.requests_client import OAuth2Session
from authlib.oauth2.rfc7523 import PrivateKeyJWT
from joserfc.jwk import ECKey

GRANT = "client_credentials"


def metadata(issuer):
    """RFC 8414: where everything is."""
    found = requests.get(issuer + "/.well-known/oauth-authorization-server", timeout=10)
    found.raise_for_status()
    assert found.json()["issuer"] == issuer
    return found.json()


def token_by_secret(issuer, method, client_id, client_secret, **parameters):
    session = OAuth2Session(client_id, client_secret, token_endpoint_auth_method=method)
    return dict(session.fetch_token(metadata(issuer)["token_endpoint"], grant_type=GRANT, **parameters))


def token_by_key(issuer, client_id, key, aud=None, lifetime_s=60, jti=None, **parameters):
    """private_key_jwt by Authlib. Its own defaults are the token endpoint as
    `aud`, and 3,600 seconds: `lifetime_s` None leaves the latter as it is."""
    claims = {"jti": jti or str(uuid.uuid4())}
    if lifetime_s is not None:
        claims["exp"] = int(time.time()) + lifetime_s
    session = OAuth2Session(client_id, ECKey.import_key(key), token_endpoint_auth_method="private_key_jwt")
    session.register_client_auth_method(PrivateKeyJWT(aud, claims=claims, alg="ES256"))
    return dict(session.fetch_token(metadata(issuer)["token_endpoint"], grant_type=GRANT, **parameters))


def token_by_pem(issuer, client_id, pem):
    """The lines that README.md shows. Each request needs a `PrivateKeyJWT` of
    its own: it would use its `jti` again."""
    key = ECKey.import_key(open(pem).read())
    session = OAuth2Session(client_id, key, token_endpoint_auth_method="private_key_jwt")
    session.register_client_auth_method(PrivateKeyJWT(issuer, claims={"exp": int(time.time()) + 60}, alg="ES256"))
    return session.fetch_token(issuer + "/oauth2/token", grant_type="client_credentials")


def verify(issuer, token, audience):
    """What a resource server does that has nothing but PyJWT."""
    keys = jwt.PyJWKClient(metadata(issuer)["jwks_uri"])
    key = keys.get_signing_key_from_jwt(token)
    claims = jwt.decode(
        token,
        key,
        algorithms=["ES256", "RS256", "EdDSA"],
        audience=audience,
        issuer=issuer,
        options={"require": ["iss", "sub", "aud", "exp", "iat", "nbf", "jti", "client_id"]},
    )
    return {"header": jwt.get_unverified_header(token), "claims": claims}


def introspect(issuer, client_id, client_secret, token):
    session = OAuth2Session(client_id, client_secret)
    answer = session.introspect_token(metadata(issuer)["introspection_endpoint"], token=token)
    return {"status": answer.status_code, "body": answer.json()}


def enrol(issuer, token, client_name=None, proof=None):
    """RFC 7591 with a DPoP proof (RFC 9449) by PyJWT; `proof` replaces claims
    of it. Returns the new device's private key beside the answer."""
    key, other = (ECKey.generate_key("P-256", private=True) for _ in range(2))
    proof = dict(proof or {})
    signer = other if proof.pop("signed_by_another", False) else key
    public = key.as_dict(private=False)
    endpoint = metadata(issuer)["registration_endpoint"]
    digest = hashlib.sha256(token.encode()).digest()
    claims = {
        "htm": "POST",
        "htu": endpoint,
        "iat": int(time.time()),
        "jti": str(uuid.uuid4()),
        "ath": base64.urlsafe_b64encode(digest).rstrip(b"=").decode(),
        **proof,
    }
    dpop = jwt.encode(claims, signer.private_key, "ES256", headers={"typ": "dpop+jwt", "jwk": public})
    answer = requests.post(
        endpoint,
        json={"jwks": {"keys": [public]}, **({"client_name": client_name} if client_name else {})},
        headers={"Authorization": "Bearer " + token, "DPoP": dpop},
        timeout=10,
    )
    return {"status": answer.status_code, "body": answer.json(), "key": key.as_dict(private=True)}


def main():
    step = json.load(sys.stdin)
    steps = {step.__name__: step for step in (token_by_secret, token_by_key, token_by_pem, verify, introspect, enrol)}
    try:
        result = steps[step.pop("do")](**step)
    except OAuthError as error:
        result = {"error": error.error, "error_description": error.description}
    except jwt.PyJWTError as error:
        result = {"error": type(error).__name__, "error_description": str(error)}
    print(json.dumps(result))


main()
