use serde_json::{Value, json};

use super::*;

fn complete() -> Value {
    json!({
        "iss": "https://id.example", "sub": "pump", "aud": "mqtt", "exp": 200, "iat": 100, "nbf": 100,
        "jti": "t1", "client_id": "pump", "scope": "mqtt.connect", "mqtt_client_id": "pump",
        "acl": { "pub": ["a/#"], "sub": ["b"] }, "groups": ["g"]
    })
}

fn read(value: &Value) -> Result<String, String> {
    let text = value.to_string();
    from_json_object::<Claims<'_>>(text.as_bytes())
        .map(|claims| serde_json::to_string(&claims).unwrap())
        .map_err(|error| error.to_string())
}

#[test]
fn what_is_written_is_what_was_read() {
    let written = read(&complete()).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&written).unwrap(), complete());
}

#[test]
fn required_claims() {
    for claim in ["iss", "sub", "aud", "exp", "iat", "jti", "client_id", "scope", "mqtt_client_id"] {
        let mut value = complete();
        value.as_object_mut().unwrap().remove(claim);
        assert!(read(&value).unwrap_err().contains(claim), "{claim}");
    }
    for claim in ["nbf", "acl", "groups"] {
        let mut value = complete();
        value.as_object_mut().unwrap().remove(claim);
        assert!(read(&value).is_ok(), "{claim}");
    }
}

#[test]
fn every_wrong_type_of_every_claim() {
    let others = [
        json!(null),
        json!(true),
        json!(-1),
        json!(1.5),
        json!(1e30),
        json!("1"),
        json!([]),
        json!([1]),
        json!({}),
        json!([null]),
    ];
    for claim in complete().as_object().unwrap().keys() {
        for other in &others {
            let fits = match claim.as_str() {
                "iss" | "sub" | "jti" | "client_id" | "scope" | "mqtt_client_id" => other.is_string(),
                "aud" => other.is_string() || *other == json!([]),
                "groups" => *other == json!([]),
                "acl" => *other == json!({}),
                _ => false,
            };
            let mut value = complete();
            value[claim] = other.clone();
            assert_eq!(read(&value).is_ok(), fits, "{claim}: {other}");
        }
    }
}

#[test]
fn an_array_of_the_fields_is_no_object() {
    let fields = Value::Array(complete().as_object().unwrap().values().cloned().collect());
    assert!(read(&fields).unwrap_err().contains("expected an object"));
    let mut value = complete();
    value["acl"] = json!([["#"], ["#"]]);
    assert!(read(&value).unwrap_err().contains("expected an object"));
}

#[test]
fn no_claim_twice_even_when_escaped() {
    let text = complete().to_string();
    for twin in [r#""exp":9"#, r#""\u0065xp":9"#, r#""scope":"x""#, r#""cnf":{},"cnf":{}"#] {
        let doubled = text.replacen('{', &format!("{{{twin},"), 1);
        let error = serde_json::from_str::<Claims<'_>>(&doubled).unwrap_err().to_string();
        assert!(error.contains("duplicate field"), "{twin}: {error}");
    }
}

fn confirmation(cnf: Value) -> Option<Confirmation> {
    let mut value = complete();
    value["cnf"] = cnf;
    serde_json::from_str::<Claims<'_>>(&value.to_string()).unwrap().cnf
}

#[test]
fn a_confirmation_by_certificate_is_read_and_written() {
    let sha256 = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE";
    let cnf = json!({ "x5t#S256": sha256 });
    let read = confirmation(cnf.clone());
    assert_eq!(read, Some(Confirmation::certificate([1; 32])));
    assert_eq!(serde_json::to_value(read).unwrap(), cnf);
}

/// What is not exactly one certificate must not be taken for one, and not
/// for nothing either.
#[test]
fn a_confirmation_of_any_kind_is_seen() {
    let sha256 = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE";
    for cnf in [
        json!({}),
        json!({"jkt": "x"}),
        json!(1),
        json!("x"),
        json!([]),
        json!([sha256]),
        json!({"x5t#S256": "x"}),
        json!({"x5t#S256": null}),
        json!({"x5t#S256": sha256, "jkt": "x"}),
        json!({"x5t#S256": format!("{sha256}=")}),
        // Its last bits are not zero.
        json!({"x5t#S256": sha256.replace("QE", "QF")}),
        json!({"X5T#S256": sha256}),
    ] {
        assert!(matches!(confirmation(cnf.clone()), Some(Confirmation::Other(_))), "{cnf}");
    }
    assert!(serde_json::from_str::<Claims<'_>>(&complete().to_string()).unwrap().cnf.is_none());
}
