#!/usr/bin/env python3
"""A device with a key of its own, in Python: to try it out, and to start from.

    device-key.py enrol  --issuer URL --key FILE --enrolment-token-file FILE [--name NAME]
    device-key.py token  --issuer URL --key FILE --client-id ID [--resource URI] [--scope WORDS]
    device-key.py rotate --issuer URL --key FILE --client-id ID

`enrol` makes a P-256 key if FILE is not there yet (0600; it never leaves the
device), proves to the issuer that it has it, and prints what it is now called.
`token` proves who it is with that key (private_key_jwt, RFC 7523) and prints
the issuer's answer. `rotate` makes another key, puts it in the place of the
one in FILE at the issuer (RFC 7592), and then in FILE; it prints what is now
registered.

The other key is in FILE.new until the issuer has accepted it. Whenever a run
ended too early, the next one, `token` or `rotate`, finds out which is good.

All print one JSON object. Exit codes: 0 done, 1 the issuer refuses or does not
answer, 2 wrong usage, a wrong file among it. Why is one line on standard error.

Needs PyJWT with cryptography: pip install 'PyJWT[crypto]'
"""

import argparse
import base64
import hashlib
import http.client
import json
import os
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid

try:
    import jwt
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec
except ImportError:
    print("device-key.py: needs PyJWT with cryptography: pip install 'PyJWT[crypto]'", file=sys.stderr)
    sys.exit(2)

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


class WrongUsage(Exception):
    """What was asked for cannot be done as it was asked for."""


class NoAnswer(Exception):
    """The issuer does not answer, or not as an issuer."""


class Refused(Exception):
    """The issuer says no. `error` is its OAuth error code, if it says one."""

    def __init__(self, status, body):
        try:
            answer = json.loads(body)
            self.error = answer["error"]
            said = ": ".join(str(answer[name]) for name in ("error", "error_description") if name in answer)
        except (ValueError, TypeError, KeyError):
            self.error, said = None, body.decode(errors="replace")
        super().__init__(f"the issuer refuses ({status}): {said}")


class NoRedirect(urllib.request.HTTPRedirectHandler):
    """Tokens and assertions go to the issuer and nowhere else."""

    def redirect_request(self, *_):
        return None


opener = urllib.request.build_opener(NoRedirect)


def ask(url, body=None, headers=None, method=None):
    try:
        with opener.open(urllib.request.Request(url, body, headers or {}, method=method), timeout=10) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        raise Refused(error.code, error.read()) from None
    except urllib.error.URLError as error:
        raise NoAnswer(f"the issuer does not answer: {error.reason}") from None
    except (OSError, http.client.HTTPException) as error:
        raise NoAnswer(f"the issuer does not answer: {error!r}") from None
    except ValueError:
        raise NoAnswer(f"{url} does not answer as an issuer does") from None


def metadata(issuer):
    """Where everything is (RFC 8414); an issuer with a path has it behind."""
    parts = urllib.parse.urlsplit(issuer)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise WrongUsage(f"--issuer: {issuer} is no URL of an issuer")
    path = "/.well-known/oauth-authorization-server" + parts.path.rstrip("/")
    found = ask(parts._replace(path=path).geturl())
    if not isinstance(found, dict) or found.get("issuer") != issuer:
        raise WrongUsage(f"--issuer: that is not what the issuer at {issuer} calls itself")
    return found


def read_key(path):
    with open(path, "rb") as file:
        pem = file.read()
    try:
        key = serialization.load_pem_private_key(pem, None)
    except (ValueError, TypeError, jwt.exceptions.InvalidKeyError) as error:
        raise WrongUsage(f"{path} is no private key in PEM without a passphrase") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name != "secp256r1":
        raise WrongUsage(f"{path} is not a P-256 key")
    return key


def read_or_make_key(path):
    """A key appears in `path` whole or not at all, and never replaces one."""
    if not os.path.exists(path):
        pem = ec.generate_private_key(ec.SECP256R1()).private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        folder = os.path.dirname(path) or "."
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".key-") as file:  # 0600
            file.write(pem)
            file.flush()
            os.fsync(file.fileno())
            os.link(file.name, path)
        write_through(folder)
    return read_key(path)


def replace_key(path):
    os.replace(path + ".new", path)
    write_through(os.path.dirname(path) or ".")


def write_through(folder):
    """What has changed in a folder outlives a loss of power."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def public_jwk(key):
    return jwt.algorithms.ECAlgorithm.to_jwk(key.public_key(), as_dict=True)


def proof(key, method, url, token):
    """A proof of possession (RFC 9449 §4.2), for one request with one token."""
    claims = {
        "htm": method,
        "htu": url,
        "iat": int(time.time()),
        "jti": str(uuid.uuid4()),
        "ath": base64.urlsafe_b64encode(hashlib.sha256(token.encode()).digest()).rstrip(b"=").decode(),
    }
    return jwt.encode(claims, key, "ES256", headers={"typ": "dpop+jwt", "jwk": public_jwk(key)})


def register(method, url, token, key, members):
    """Asks for the registration of `key` with a proof that it is there."""
    headers = {
        "Authorization": "Bearer " + token,
        "Content-Type": "application/json",
        "DPoP": proof(key, method, url, token),
    }
    return ask(url, json.dumps(members).encode(), headers, method)


def enrol(arguments):
    """Registration (RFC 7591)."""
    with open(arguments.enrolment_token_file) as file:
        token = file.read().strip()
    if not token.isascii() or not token.isprintable():
        raise WrongUsage(f"{arguments.enrolment_token_file} holds no token")
    key = read_or_make_key(arguments.key)
    members = {"jwks": {"keys": [public_jwk(key)]}}
    if arguments.name:
        members["client_name"] = arguments.name
    return register("POST", metadata(arguments.issuer)["registration_endpoint"], token, key, members)


def request_token(arguments, endpoint, key, parameters):
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
        "client_assertion": jwt.encode(assertion, key, "ES256", headers=headers),
    }
    return ask(endpoint, urllib.parse.urlencode(form | parameters).encode())


def token_with_good_key(arguments, found, **parameters):
    """With the key, or with the one that is to follow it, if that was accepted
    already. Returns a token's answer, and the key."""
    key, endpoint = read_key(arguments.key), found["token_endpoint"]
    try:
        return request_token(arguments, endpoint, key, parameters), key
    except Refused as refused:
        if refused.error != "invalid_client" or not os.path.exists(arguments.key + ".new"):
            raise
    key = read_key(arguments.key + ".new")
    granted = request_token(arguments, endpoint, key, parameters)
    replace_key(arguments.key)
    return granted, key


def token(arguments):
    wanted = {name: value for name in ("resource", "scope") if (value := getattr(arguments, name))}
    granted, _ = token_with_good_key(arguments, metadata(arguments.issuer), **wanted)
    return granted


def rotate(arguments):
    """RFC 7592 §2.2. Other keys that the device may have stay as they are."""
    found, following = metadata(arguments.issuer), arguments.key + ".new"
    has_begun = os.path.exists(following)
    granted, old = token_with_good_key(arguments, found, scope="device.self")
    access = granted["access_token"]
    url = found["registration_endpoint"] + "/" + urllib.parse.quote(arguments.client_id, safe=":")
    registered = ask(url, headers={"Authorization": "Bearer " + access})
    if has_begun and not os.path.exists(following):
        return registered  # the rotation that had begun is done
    # If one has begun, its key again: whether the issuer gets it twice is the
    # same, and it may have been accepted after all.
    new = read_or_make_key(following)
    others = [jwk for jwk in registered["jwks"]["keys"] if jwk.get("x") != public_jwk(old)["x"]]
    members = {"client_id": arguments.client_id, "jwks": {"keys": [*others, public_jwk(new)]}}
    registered = register("PUT", url, access, new, members)
    replace_key(arguments.key)
    return registered


def main():
    parser = argparse.ArgumentParser(
        prog="device-key.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    steps = parser.add_subparsers(dest="step", required=True)
    for step in (enrol, token, rotate):
        command = steps.add_parser(step.__name__)
        command.set_defaults(run=step)
        command.add_argument("--issuer", required=True, metavar="URL")
        command.add_argument("--key", required=True, metavar="FILE")
        if step is enrol:
            command.add_argument("--enrolment-token-file", required=True, metavar="FILE")
            command.add_argument("--name", metavar="NAME")
        else:
            command.add_argument("--client-id", required=True, metavar="ID")
        if step is token:
            command.add_argument("--resource", metavar="URI")
            command.add_argument("--scope", metavar="WORDS")
    arguments = parser.parse_args()
    try:
        print(json.dumps(arguments.run(arguments)))
    except (Refused, NoAnswer) as error:
        code, why = 1, str(error)
    except (KeyError, TypeError) as error:
        code, why = 1, f"the issuer's answer is not understood: {error!r}"
    except WrongUsage as error:
        code, why = 2, str(error)
    except (OSError, ValueError) as error:
        code, why = 2, str(error)
    except KeyboardInterrupt:
        sys.exit(130)
    else:
        return
    # One line, whatever a server may have said.
    why = "".join(c if c.isprintable() else " " for c in why)[:500]
    print(f"device-key.py: {why}", file=sys.stderr)
    sys.exit(code)


main()
