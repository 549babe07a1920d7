#!/usr/bin/env python3
"""A device with a key of its own, in Python: to try it out, and to start from.

    device-key.py enrol --issuer URL --enrolment-token-file FILE --key FILE [--name NAME]
    device-key.py token --issuer URL --client-id ID --key FILE [--resource URI] [--scope WORDS]

`enrol` makes a P-256 key if FILE is not there yet (0600; it never leaves the
device), proves to the issuer that it has it, and prints what it is now called.
`token` proves who it is with that key (private_key_jwt, RFC 7523) and prints
the issuer's answer. Both print one JSON object; a refusal goes to standard
error and ends with exit code 1.

Needs PyJWT with cryptography: pip install 'PyJWT[crypto]'
"""

import argparse
import base64
import hashlib
import json
import os
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


def read_or_make_key(path):
    if not os.path.exists(path):
        key = ec.generate_private_key(ec.SECP256R1())
        pem = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(pem)
    return read_key(path)


def read_key(path):
    with open(path, "rb") as file:
        return serialization.load_pem_private_key(file.read(), None)


def ask(request):
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        sys.exit(f"{error.code}: {error.read().decode(errors='replace')}")
    except urllib.error.URLError as error:
        sys.exit(f"the issuer does not answer: {error.reason}")


def metadata(issuer):
    """Where everything is (RFC 8414); an issuer with a path has it behind."""
    parts = urllib.parse.urlsplit(issuer)
    path = "/.well-known/oauth-authorization-server" + parts.path.rstrip("/")
    found = ask(parts._replace(path=path).geturl())
    if found["issuer"] != issuer:
        sys.exit(f"this is the issuer {found['issuer']}, not {issuer}")
    return found


def enrol(arguments):
    """Registration (RFC 7591) with a proof of possession (RFC 9449 §4.2)."""
    with open(arguments.enrolment_token_file) as file:
        token = file.read().strip()
    key = read_or_make_key(arguments.key)
    public = jwt.algorithms.ECAlgorithm.to_jwk(key.public_key(), as_dict=True)
    endpoint = metadata(arguments.issuer)["registration_endpoint"]
    digest = hashlib.sha256(token.encode()).digest()
    proof = {
        "htm": "POST",
        "htu": endpoint,
        "iat": int(time.time()),
        "jti": str(uuid.uuid4()),
        "ath": base64.urlsafe_b64encode(digest).rstrip(b"=").decode(),
    }
    wanted = {"client_name": arguments.name} if arguments.name else {}
    headers = {
        "Authorization": "Bearer " + token,
        "Content-Type": "application/json",
        "DPoP": jwt.encode(proof, key, "ES256", headers={"typ": "dpop+jwt", "jwk": public}),
    }
    body = json.dumps({"jwks": {"keys": [public]}, **wanted}).encode()
    return ask(urllib.request.Request(endpoint, body, headers))


def token(arguments):
    """`aud` is the issuer itself, and nothing else (RFC 10070)."""
    now = int(time.time())
    assertion = {
        "iss": arguments.client_id,
        "sub": arguments.client_id,
        "aud": arguments.issuer,
        "iat": now,
        "exp": now + 60,
        "jti": str(uuid.uuid4()),
    }
    headers = {"typ": "client-authentication+jwt"}
    form = {
        "grant_type": "client_credentials",
        "client_assertion_type": ASSERTION_TYPE,
        "client_assertion": jwt.encode(assertion, read_key(arguments.key), "ES256", headers=headers),
    }
    form |= {name: value for name in ("resource", "scope") if (value := getattr(arguments, name))}
    body = urllib.parse.urlencode(form).encode()
    return ask(urllib.request.Request(metadata(arguments.issuer)["token_endpoint"], body))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    steps = parser.add_subparsers(dest="step", required=True)
    for step in (enrol, token):
        command = steps.add_parser(step.__name__)
        command.set_defaults(run=step)
        command.add_argument("--issuer", required=True, metavar="URL")
        command.add_argument("--key", required=True, metavar="FILE")
        if step is enrol:
            command.add_argument("--enrolment-token-file", required=True, metavar="FILE")
            command.add_argument("--name", metavar="NAME")
        else:
            command.add_argument("--client-id", required=True, metavar="ID")
            command.add_argument("--resource", metavar="URI")
            command.add_argument("--scope", metavar="WORDS")
    arguments = parser.parse_args()
    print(json.dumps(arguments.run(arguments)))


main()
