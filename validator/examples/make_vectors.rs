//! Writes `tests/vectors/*.json` anew: `cargo run -p fleetbadge-validator
//! --example make_vectors --features test-support`.
//!
//! The keys are made for the run and forgotten after it, so nobody can sign
//! anything with them; all files change together. The verdicts are stated
//! here, by hand: nothing that verifies is asked.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::disallowed_methods,
    reason = "a tool for tests"
)]

use std::path::Path;

use algorithms::Key;
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD as BASE64};
use fleetbadge_validator::claims::CertificateThumbprint;
use fleetbadge_validator::jwk::{Algorithm, PublicKey};
use fleetbadge_validator::test_support::{TestKey, Vector, Vectors, claims};
use serde_json::{Value, json};

#[path = "make_vectors/algorithms.rs"]
mod algorithms;
#[path = "make_vectors/revocation.rs"]
mod revocation;

const IAT: u64 = 1_800_000_000;
const EXP: u64 = IAT + 900;
const NOW: u64 = IAT + 60;

fn main() {
    let maker = Maker { key: TestKey::generate(), stranger: TestKey::generate() };
    let files = [
        maker.valid(),
        maker.format(),
        maker.header(),
        maker.signature(),
        algorithms::file(),
        maker.claims(),
        maker.time(),
        maker.identity(),
        maker.revocation(),
        maker.certificate(),
    ];
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/vectors");
    for (name, vectors) in files {
        let json = serde_json::to_string_pretty(&vectors).unwrap() + "\n";
        std::fs::write(folder.join(name).with_extension("json"), json).unwrap();
    }
}

struct Maker {
    key: TestKey,
    stranger: TestKey,
}

type File = (&'static str, Vectors);

/// The ordinary claims with some of them replaced; `null` in `changes` takes a
/// claim away.
fn with(changes: &Value) -> Value {
    let mut claims = claims("pump-1", IAT, EXP);
    for (name, value) in changes.as_object().unwrap() {
        claims[name] = value.clone();
        if value.is_null() {
            claims.as_object_mut().unwrap().remove(name);
        }
    }
    claims
}

fn case(name: impl Into<String>, token: impl Into<String>, expect: &str) -> Vector {
    Vector {
        name: name.into(),
        token: token.into(),
        client_id: "pump-1".into(),
        certificate: None,
        now: NOW,
        revocations: None,
        expect: expect.into(),
    }
}

impl Maker {
    fn file(&self, name: &'static str, about: &str, cases: Vec<Vector>) -> File {
        let keys = [json!(self.key.public().to_jwk())];
        Self::file_with_keys(name, about, &keys, cases)
    }

    fn file_with_keys(name: &'static str, about: &str, keys: &[Value], cases: Vec<Vector>) -> File {
        let (issuer, audience) = ("https://id.example".into(), "mqtt".into());
        (name, Vectors { about: about.into(), issuer, audience, jwks: json!({ "keys": keys }), cases })
    }

    fn good(&self) -> String {
        self.key.token(&claims("pump-1", IAT, EXP))
    }

    fn header_with(&self, changes: &Value) -> Value {
        let mut header = json!({"alg": "ES256", "typ": "at+jwt", "kid": self.key.kid()});
        for (name, value) in changes.as_object().unwrap() {
            header[name] = value.clone();
        }
        header
    }

    fn valid(&self) -> File {
        let payload = claims("pump-1", IAT, EXP).to_string();
        let changed = |changes: Value| self.key.token(&with(&changes));
        let typed =
            |typ: &str| self.key.token_of(self.header_with(&json!({ "typ": typ })).to_string(), &payload);
        let mut cases = vec![
            case("ordinary", self.good(), "allow"),
            case("aud is an array", changed(json!({"aud": ["other", "mqtt"]})), "allow"),
            case("no nbf", changed(json!({"nbf": null})), "allow"),
            case("no acl", changed(json!({"acl": null})), "allow"),
            case("no groups", changed(json!({"groups": null})), "allow"),
            case("words of others in scope", changed(json!({"scope": "openid mqtt.connect x"})), "allow"),
            case("claims of others", changed(json!({"roles": ["a"], "nested": {"exp": 1}})), "allow"),
            case("typ in capitals", typed("AT+JWT"), "allow"),
            case("typ with application/", typed("Application/at+jwt"), "allow"),
            case(
                "a header member without meaning",
                self.key.token_of(self.header_with(&json!({"x": 1})).to_string(), &payload),
                "allow",
            ),
            case(
                "escapes in a claim",
                self.key.token_of(
                    self.header_with(&json!({})).to_string(),
                    payload.replace("\"pump-1\"", "\"\\u0070ump-1\""),
                ),
                "allow",
            ),
        ];
        let last = Vector { now: EXP + 4, ..case("last second of the skew", self.good(), "allow") };
        let first = Vector { now: IAT - 5, ..case("first second of the skew", self.good(), "allow") };
        cases.extend([last, first]);

        let rsa = Key::generate(Algorithm::RS256);
        let ed = Key::generate(Algorithm::EdDSA);
        cases.extend([
            case("RS256", rsa.token("RS256"), "allow"),
            case("EdDSA", ed.token("EdDSA"), "allow"),
            case("Ed25519, the newer name", ed.token("Ed25519"), "allow"),
            case("PS256 on an RSA key", rsa.token("PS256"), "algorithm_not_allowed"),
            case("ES256 on an RSA key", rsa.token("ES256"), "key_for_other_algorithm"),
        ]);
        let keys = [&self.key.public(), rsa.public(), ed.public()].map(|key| json!(key.to_jwk()));
        Self::file_with_keys("valid", "Tokens that are good, in all three algorithms", &keys, cases)
    }

    fn format(&self) -> File {
        let good = self.good();
        let segments: Vec<&str> = good.split('.').collect();
        let (header, payload, signature) = (segments[0], segments[1], segments[2]);
        let trailing_bits = {
            // A 64-byte signature leaves four unused bits in its last character.
            let (start, last) = signature.split_at(signature.len() - 1);
            let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
            let next = alphabet.find(last).unwrap() + 1;
            format!("{header}.{payload}.{start}{}", &alphabet[next..=next])
        };
        let malformed = [
            ("one segment", "abc".to_owned()),
            ("two segments", format!("{header}.{payload}")),
            ("four segments", format!("{good}.{signature}")),
            ("five segments, as a JWE has", format!("{header}.{payload}.{signature}.{payload}.{signature}")),
            ("only dots", ".".repeat(8000)),
            ("two dots", "..".into()),
            ("no header", format!(".{payload}.{signature}")),
            ("no payload", format!("{header}..{signature}")),
            ("padding", format!("{good}==")),
            (
                "the alphabet with + and /",
                format!("{header}.{payload}.{}", signature.replace(['-', '_'], "+")),
            ),
            ("a space in front", format!(" {good}")),
            ("a line feed behind", format!("{good}\r\n")),
            ("a byte order mark", format!("\u{feff}{good}")),
            ("Bearer in front", format!("Bearer {good}")),
            ("bits after the end", trailing_bits),
            ("a NUL behind", format!("{good}\0")),
            (
                "JSON serialisation",
                json!({"protected": header, "payload": payload, "signature": signature}).to_string(),
            ),
            ("not base64", "?.?.?".into()),
        ];
        let mut cases: Vec<_> =
            malformed.into_iter().map(|(name, token)| case(name, token, "token_malformed")).collect();
        cases.push(case("nothing", "", "token_missing"));
        cases.push(case("over 8 KiB", "x".repeat(8193), "token_too_long"));
        cases.push(case(
            "a good token of over 8 KiB",
            self.key.token(&with(&json!({"x": "y".repeat(8192)}))),
            "token_too_long",
        ));
        self.file("format", "What is no token at all", cases)
    }

    fn header(&self) -> File {
        let payload = claims("pump-1", IAT, EXP).to_string();
        let of = |header: String| self.key.token_of(header, &payload);
        let changed = |changes: Value| of(self.header_with(&changes).to_string());
        let mut cases = Vec::new();
        for alg in
            ["none", "None", "NONE", "nOnE", "none\0", "", "HS256", "ES384", "ES256K", "es256", "ES256 "]
        {
            cases.push(case(format!("alg {alg:?}"), changed(json!({ "alg": alg })), "algorithm_not_allowed"));
        }
        let unsigned = BASE64.encode(self.header_with(&json!({"alg": "none"})).to_string());
        cases.push(case(
            "alg none, no signature",
            format!("{unsigned}.{}.", BASE64.encode(&payload)),
            "algorithm_not_allowed",
        ));
        for (name, secret) in self.public_key_as_secrets() {
            cases.push(case(
                format!("HS256 with the public key as {name}"),
                self.hs256(&secret, &payload),
                "algorithm_not_allowed",
            ));
        }
        for alg in [json!(null), json!([]), json!(["ES256"]), json!(1), json!(true), json!({})] {
            cases.push(case(format!("alg {alg}"), changed(json!({ "alg": alg })), "header_malformed"));
        }
        cases.push(case("RS256 on a P-256 key", changed(json!({"alg": "RS256"})), "key_for_other_algorithm"));

        for typ in [
            "JWT",
            "",
            "at+jwt ",
            "xat+jwt",
            "id_token",
            "logout+jwt",
            "client-authentication+jwt",
            "statuslist+jwt",
            "application/",
            "application/JWT",
        ] {
            cases.push(case(format!("typ {typ:?}"), changed(json!({ "typ": typ })), "type_not_allowed"));
        }
        let kid = self.key.kid();
        cases.push(case("no typ", of(json!({"alg": "ES256", "kid": kid}).to_string()), "type_not_allowed"));
        cases.push(case("typ null", changed(json!({"typ": null})), "header_malformed"));

        let attacker = json!(self.stranger.public().to_jwk());
        let members = [
            ("crit", json!([])),
            ("crit", json!(["exp"])),
            ("crit", json!(["b64"])),
            ("crit", json!(null)),
            ("b64", json!(false)),
            ("b64", json!(true)),
            ("cty", json!("JWT")),
            ("zip", json!("DEF")),
            ("enc", json!("A256GCM")),
            ("jwk", attacker.clone()),
            ("jku", json!("http://127.0.0.1:1/jwks")),
            ("x5u", json!("http://127.0.0.1:1/cert")),
            ("x5c", json!(["MIIB"])),
        ];
        for (member, value) in members {
            cases.push(case(
                format!("{member} {value:.40}"),
                changed(json!({ member: value })),
                "header_malformed",
            ));
        }
        let brought = json!({"alg": "ES256", "typ": "at+jwt", "kid": kid, "jwk": attacker}).to_string();
        cases.push(case(
            "signed with the key that the token brings along",
            self.stranger.token_of(brought, &payload),
            "header_malformed",
        ));

        for kid in ["", "../../dev/null", "' OR 1=1--", "|id", "x", "AAAA\n"] {
            cases.push(case(format!("kid {kid:?}"), changed(json!({ "kid": kid })), "key_unknown"));
        }
        cases.push(case("no kid", of(json!({"alg": "ES256", "typ": "at+jwt"}).to_string()), "key_unknown"));
        cases.push(case("kid array", changed(json!({"kid": [kid]})), "header_malformed"));
        cases.push(case("kid null", changed(json!({"kid": null})), "header_malformed"));
        cases.push(case(
            "a kid of 1000 bytes",
            changed(json!({"kid": "k".repeat(1000)})),
            "header_malformed",
        ));

        let text = self.header_with(&json!({})).to_string();
        for twin in [r#""alg":"none""#, r#""\u0061lg":"ES256""#, r#""kid":"x""#, r#""typ":"JWT""#] {
            cases.push(case(
                format!("a second {twin}"),
                of(text.replacen('{', &format!("{{{twin},"), 1)),
                "header_malformed",
            ));
        }
        for (name, header) in [
            ("an array", json!(["ES256", "at+jwt", kid]).to_string()),
            ("a string", "\"ES256\"".into()),
            ("cut off", text[..text.len() - 1].to_owned()),
            ("with something behind", format!("{text}x")),
            ("with a byte order mark", format!("\u{feff}{text}")),
        ] {
            cases.push(case(format!("header {name}"), of(header), "header_malformed"));
        }
        self.file("header", "Headers that ask for too much, or for too little", cases)
    }

    /// What a library that takes any key for an HMAC secret could be fed.
    fn public_key_as_secrets(&self) -> Vec<(&'static str, Vec<u8>)> {
        let PublicKey::P256 { x, y } = self.key.public() else { unreachable!("it is a P-256 key") };
        let point = [&[4][..], &x, &y].concat();
        let prefix = "3059301306072a8648ce3d020106082a8648ce3d030107034200";
        let prefix: Vec<u8> = (0..prefix.len() / 2)
            .map(|i| u8::from_str_radix(&prefix[2 * i..2 * i + 2], 16).unwrap())
            .collect();
        let der = [prefix, point.clone()].concat();
        let base64 = STANDARD.encode(&der);
        let pem = format!(
            "-----BEGIN PUBLIC KEY-----\n{}\n{}\n-----END PUBLIC KEY-----",
            &base64[..64],
            &base64[64..]
        );
        vec![
            ("a point", point),
            ("DER", der),
            ("PEM", pem.clone().into_bytes()),
            ("PEM with a line feed", format!("{pem}\n").into_bytes()),
            ("JWK", json!(self.key.public().to_jwk()).to_string().into_bytes()),
            ("the empty string", vec![]),
            ("NULs", vec![0; 32]),
        ]
    }

    fn hs256(&self, secret: &[u8], payload: &str) -> String {
        let header = self.header_with(&json!({"alg": "HS256"})).to_string();
        let message = format!("{}.{}", BASE64.encode(header), BASE64.encode(payload));
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), message.as_bytes());
        format!("{message}.{}", BASE64.encode(tag))
    }

    fn signature(&self) -> File {
        let good = self.good();
        let (message, signature) = good.rsplit_once('.').unwrap();
        let (header, _) = message.split_once('.').unwrap();
        let signature = BASE64.decode(signature).unwrap();
        let (r, s) = signature.split_at(32);
        let signed = |signature: &[u8]| format!("{message}.{}", BASE64.encode(signature));
        let mut flipped = signature.clone();
        flipped[40] ^= 1;
        let der = [&[0x30, 0x44, 0x02, 0x20][..], r, &[0x02, 0x20], s].concat();
        let zeros = [0; 32];
        let other_payload = BASE64.encode(with(&json!({"acl": {"pub": ["#"], "sub": ["#"]}})).to_string());
        let forged = self
            .stranger
            .token_of(self.header_with(&json!({})).to_string(), claims("pump-1", IAT, EXP).to_string());
        let bad = [
            ("one bit of the signature", signed(&flipped)),
            ("no signature", format!("{message}.")),
            ("r and s are 0", signed(&[0; 64])),
            ("r is 0", signed(&[&zeros, s].concat())),
            ("s is 0", signed(&[r, &zeros].concat())),
            ("r is n", signed(&[&ORDER, s].concat())),
            ("s is n", signed(&[r, &ORDER].concat())),
            ("s is over n", signed(&[r, &[0xFF; 32]].concat())),
            ("63 bytes", signed(&signature[..63])),
            ("65 bytes", signed(&[&[0], &signature[..]].concat())),
            ("128 bytes", signed(&[&signature[..], &signature].concat())),
            ("as DER", signed(&der)),
            ("another payload", format!("{header}.{other_payload}.{}", BASE64.encode(&signature))),
            ("signed by somebody else", forged),
        ];
        let mut cases: Vec<_> =
            bad.into_iter().map(|(name, token)| case(name, token, "signature_invalid")).collect();
        // ECDSA signatures have such twins; nothing may be keyed by token text.
        cases.push(case("the twin signature, n - s", signed(&[r, &minus(&ORDER, s)].concat()), "allow"));
        self.file("signature", "Signatures that are none", cases)
    }

    fn claims(&self) -> File {
        let mut cases = Vec::new();
        let values =
            [json!(true), json!(-1), json!(1.5), json!("1"), json!([]), json!([1]), json!({}), json!("")];
        for claim in [
            "iss",
            "sub",
            "aud",
            "exp",
            "iat",
            "nbf",
            "jti",
            "client_id",
            "scope",
            "mqtt_client_id",
            "acl",
            "groups",
        ] {
            // As text, since `with` takes null for "not there".
            let ordinary = claims("pump-1", IAT, EXP);
            let null = ordinary
                .to_string()
                .replace(&format!("\"{claim}\":{}", ordinary[claim]), &format!("\"{claim}\":null"));
            cases.push(case(
                format!("{claim} null"),
                self.key.token_of(self.header_with(&json!({})).to_string(), null),
                "claims_malformed",
            ));
            if !["nbf", "acl", "groups"].contains(&claim) {
                cases.push(case(
                    format!("no {claim}"),
                    self.key.token(&with(&json!({ claim: null }))),
                    "claims_malformed",
                ));
            }
            for value in &values {
                let expect = match (claim, value) {
                    ("iss", Value::String(_)) => "issuer_differs",
                    ("aud", Value::String(_)) => "audience_differs",
                    ("aud", Value::Array(items)) if items.is_empty() => "audience_differs",
                    ("jti", Value::String(_)) | ("acl", Value::Object(_)) => "allow",
                    ("groups", Value::Array(items)) if items.is_empty() => "allow",
                    ("scope", Value::String(text)) if !text.is_empty() => "scope_missing",
                    ("mqtt_client_id", Value::String(_)) => "client_id_differs",
                    _ => "claims_malformed",
                };
                cases.push(case(
                    format!("{claim} {value}"),
                    self.key.token(&with(&json!({ claim: value }))),
                    expect,
                ));
            }
        }
        let of = |payload: String| self.key.token_of(self.header_with(&json!({})).to_string(), payload);
        let text = claims("pump-1", IAT, EXP).to_string();
        let number =
            |written: &str| of(text.replace(&format!("\"exp\":{EXP}"), &format!("\"exp\":{written}")));
        for written in [
            "1.8000009e9",
            "1800000900.0",
            "1e400",
            "18446744073709551616",
            "-0",
            "0x10",
            "01800000900",
            "1_800_000_900",
            "NaN",
        ] {
            cases.push(case(format!("exp {written}"), number(written), "claims_malformed"));
        }
        for twin in [
            r#""exp":9999999999"#,
            r#""\u0065xp":9999999999"#,
            r#""scope":"mqtt.connect""#,
            r#""aud":"mqtt""#,
            r#""mqtt_client_id":"pump-1""#,
        ] {
            cases.push(case(
                format!("a second {twin}"),
                of(text.replacen('{', &format!("{{{twin},"), 1)),
                "claims_malformed",
            ));
        }
        for (name, acl) in [
            ("a filter with a misplaced #", json!({"pub": ["a/#/b"], "sub": []})),
            ("a filter with a misplaced +", json!({"pub": [], "sub": ["a+/b"]})),
            ("a shared filter", json!({"pub": [], "sub": ["$share/g/#"]})),
            ("an empty filter", json!({"pub": [""], "sub": []})),
            ("a filter with a NUL", json!({"pub": ["a\u{0}"], "sub": []})),
            ("a filter that is no string", json!({"pub": [1], "sub": []})),
            ("a member of others", json!({"all": ["#"]})),
            ("rules in EMQX's other form", json!([{"permission": "allow", "action": "all", "topic": "#"}])),
            ("an array of its members", json!([["#"], ["#"]])),
        ] {
            cases.push(case(
                format!("acl: {name}"),
                self.key.token(&with(&json!({ "acl": acl }))),
                "claims_malformed",
            ));
        }
        for (name, payload) in [
            ("an array", json!(["https://id.example"]).to_string()),
            ("cut off", text[..text.len() - 1].to_owned()),
            ("with something behind", format!("{text}{{}}")),
            ("a byte order mark", format!("\u{feff}{text}")),
            ("nested 4,000 deep", format!("{}{}", "[".repeat(2000), "]".repeat(2000))),
        ] {
            cases.push(case(format!("payload {name}"), of(payload), "claims_malformed"));
        }
        let deep = format!("{{\"x\":{}{},{}", "[".repeat(2000), "]".repeat(2000), &text[1..]);
        cases.push(case("a claim of others, nested 2,000 deep", of(deep), "allow"));
        for cnf in [json!({"jkt": "x"}), json!({"x5t#S256": "x"}), json!({}), json!(1), json!([])] {
            cases.push(case(
                format!("cnf {cnf}"),
                self.key.token(&with(&json!({ "cnf": cnf }))),
                "confirmation_unproven",
            ));
        }
        self.file("claims", "Claims of the wrong type, missing, twice", cases)
    }

    fn certificate(&self) -> File {
        let (own, other) = (CertificateThumbprint([1; 32]), CertificateThumbprint([2; 32]));
        let over = |certificate, name: &str, cnf: Value, expect: &str| Vector {
            certificate,
            ..case(name, self.key.token(&with(&json!({ "cnf": cnf }))), expect)
        };
        let bound = || json!({ "x5t#S256": own });
        let spelt = own.to_string();
        let cases = vec![
            over(Some(own), "over its certificate", bound(), "allow"),
            over(Some(own), "not bound, over a certificate", Value::Null, "allow"),
            over(None, "over none", bound(), "certificate_missing"),
            over(Some(other), "over another", bound(), "certificate_differs"),
            over(Some(own), "of a key (DPoP)", json!({"jkt": spelt}), "confirmation_unproven"),
            over(Some(own), "and of a key", json!({"x5t#S256": own, "jkt": spelt}), "confirmation_unproven"),
            over(Some(own), "of nothing", json!({}), "confirmation_unproven"),
            over(
                Some(own),
                "with padding",
                json!({"x5t#S256": format!("{spelt}=")}),
                "confirmation_unproven",
            ),
            over(Some(own), "cut short", json!({"x5t#S256": spelt[..42]}), "confirmation_unproven"),
            over(Some(own), "by SHA-1", json!({"x5t": spelt}), "confirmation_unproven"),
            over(Some(own), "in an array", json!({"x5t#S256": [own]}), "confirmation_unproven"),
            over(Some(own), "itself an array", json!([own]), "confirmation_unproven"),
        ];
        self.file("certificate", "Tokens that are bound to a certificate", cases)
    }

    fn time(&self) -> File {
        let at = |now: u64, name: &str, expect: &str| Vector { now, ..case(name, self.good(), expect) };
        let changed =
            |name: &str, changes: Value, expect: &str| case(name, self.key.token(&with(&changes)), expect);
        let cases = vec![
            at(EXP, "at exp, within the skew", "allow"),
            at(EXP + 5, "at the end of the skew", "expired"),
            at(EXP + 86_400, "a day late", "expired"),
            at(IAT - 6, "before nbf and the skew", "not_yet_valid"),
            at(0, "a clock in 1970", "not_yet_valid"),
            changed("exp 0", json!({"exp": 0}), "expired"),
            changed("nbf in an hour", json!({"nbf": NOW + 3600, "exp": NOW + 7200}), "not_yet_valid"),
            changed(
                "iat in an hour",
                json!({"nbf": null, "iat": NOW + 3600, "exp": NOW + 7200}),
                "issued_in_future",
            ),
            changed("a life of a day", json!({"exp": IAT + 86_400}), "allow"),
            changed("a life of a day and a second", json!({"exp": IAT + 86_401}), "lifetime_too_long"),
            changed("exp at the end of time", json!({"exp": u64::MAX}), "lifetime_too_long"),
            changed("iat 0", json!({"iat": 0, "nbf": 0}), "lifetime_too_long"),
            changed(
                "iat after exp, within the skew",
                json!({"nbf": null, "iat": NOW + 3, "exp": NOW + 2}),
                "lifetime_too_long",
            ),
        ];
        self.file("time", "Too early, too late, for too long", cases)
    }

    fn identity(&self) -> File {
        let mut cases = Vec::new();
        for client_id in [
            "pump-2",
            "PUMP-1",
            "pump-1 ",
            " pump-1",
            "pump-1\0",
            "pump-",
            "pump-11",
            "",
            "ｐump-1",
            "pump\u{2010}1",
            "pump-1\u{200b}",
            "+",
            "#",
        ] {
            cases.push(Vector {
                client_id: client_id.into(),
                ..case(format!("connecting as {client_id:?}"), self.good(), "client_id_differs")
            });
        }
        cases.push(Vector {
            client_id: String::new(),
            ..case(
                "bound to the empty client ID, connecting without one",
                self.key.token(&with(&json!({"mqtt_client_id": ""}))),
                "client_id_differs",
            )
        });
        for iss in [
            "https://id.example/",
            "https://ID.example",
            "http://id.example",
            "https://id.example.evil.example",
            "id.example",
        ] {
            cases.push(case(
                format!("iss {iss}"),
                self.key.token(&with(&json!({ "iss": iss }))),
                "issuer_differs",
            ));
        }
        for aud in [
            json!("mqtt2"),
            json!("MQTT"),
            json!("mqt"),
            json!(" mqtt"),
            json!("mqtt other"),
            json!([""]),
            json!(["x", "mqtt2"]),
        ] {
            cases.push(case(
                format!("aud {aud}"),
                self.key.token(&with(&json!({ "aud": aud }))),
                "audience_differs",
            ));
        }
        for aud in [json!(["mqtt", 1]), json!([["mqtt"]]), json!({"mqtt": 1})] {
            cases.push(case(
                format!("aud {aud}"),
                self.key.token(&with(&json!({ "aud": aud }))),
                "claims_malformed",
            ));
        }
        for scope in [
            "mqtt.connected",
            "xmqtt.connect",
            "MQTT.CONNECT",
            "mqtt.connect,mqtt.publish",
            "mqtt.publish mqtt.subscribe",
        ] {
            cases.push(case(
                format!("scope {scope:?}"),
                self.key.token(&with(&json!({ "scope": scope }))),
                "scope_missing",
            ));
        }
        for scope in
            ["mqtt.connect\tx", "mqtt.connect\u{a0}x", " mqtt.connect", "mqtt.connect  x", "mqtt.connect\n"]
        {
            cases.push(case(
                format!("scope {scope:?}"),
                self.key.token(&with(&json!({ "scope": scope }))),
                "claims_malformed",
            ));
        }
        cases.push(case(
            "sub is another device",
            self.key.token(&with(&json!({"sub": "pump-2"}))),
            "claims_malformed",
        ));
        cases.push(case(
            "signed by a key of another issuer",
            self.stranger.token(&claims("pump-1", IAT, EXP)),
            "key_unknown",
        ));
        self.file("identity", "Tokens of others, for others, to others", cases)
    }
}

/// The order of P-256.
const ORDER: [u8; 32] = [
    0xFF, 0xFF, 0xFF, 0xFF, 0x00, 0x00, 0x00, 0x00, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xBC,
    0xE6, 0xFA, 0xAD, 0xA7, 0x17, 0x9E, 0x84, 0xF3, 0xB9, 0xCA, 0xC2, 0xFC, 0x63, 0x25, 0x51,
];

/// `a - b`, big-endian, for `a` over `b`.
fn minus(a: &[u8; 32], b: &[u8]) -> Vec<u8> {
    let mut borrow = 0_i16;
    let mut digits: Vec<u8> = a
        .iter()
        .zip(b)
        .rev()
        .map(|(a, b)| {
            let digit = i16::from(*a) - i16::from(*b) - borrow;
            borrow = i16::from(digit < 0);
            u8::try_from(digit.rem_euclid(256)).unwrap()
        })
        .collect();
    digits.reverse();
    digits
}
