//! In RabbitMQ a `.` is a level and a `:` ends a virtual host: a device with
//! such a name would be, or read, another.

use fleetbadge_validator::time::UnixSeconds;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::credentials::{CredentialId, KeyRecord};
use crate::enrolments::NewEnrolment;
use crate::groups::PolicyChange;
use crate::profile::Profile;
use crate::test_support::{NOW, TestIssuer};

const MISREAD: [&str; 3] = ["pump.1", "pump:1", "a.b:c"];

fn rabbitmq() -> Profile {
    Profile::from_parts("rabbitmq", None).unwrap()
}

/// An issuer with the group `rabbits` for RabbitMQ, beside `default`, which is
/// not.
async fn with_rabbits() -> TestIssuer {
    let issuer = TestIssuer::new().await;
    issuer.add_broker("rabbit", "rabbit", rabbitmq()).await;
    set_audiences(&issuer, "rabbits", &["mqtt", "rabbit"]).await.unwrap();
    issuer
}

async fn set_audiences(issuer: &TestIssuer, group: &str, audiences: &[&str]) -> Result<(), String> {
    let audiences = audiences.iter().map(|audience| (*audience).to_owned()).collect();
    let change = PolicyChange { audiences: Some(audiences), ..PolicyChange::default() };
    issuer.app().groups.set(group, change, NOW).await.map(drop).map_err(|error| error.to_string())
}

async fn ask(issuer: &TestIssuer, method: Method, path: &str, body: Value) -> (StatusCode, Value) {
    let answer = issuer.admin(method, path, Some(body)).await;
    (answer.status, answer.json())
}

fn assert_refused((status, problem): &(StatusCode, Value), field: &str) {
    assert_eq!((*status, &problem["field"]), (StatusCode::UNPROCESSABLE_ENTITY, &json!(field)), "{problem}");
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.starts_with(&format!("{field}: ")) && detail.contains("rabbitmq"), "{detail}");
}

#[tokio::test]
async fn a_device_is_not_added_under_a_name_that_its_broker_would_misread() {
    let issuer = with_rabbits().await;
    let add = async |name: &str, ids: &[&str], group: &str| {
        let body = json!({"name": name, "group": group, "mqtt_client_ids": ids});
        ask(&issuer, Method::POST, "/admin/v1/devices", body).await
    };
    for name in MISREAD {
        assert_refused(&add(name, &[], "rabbits").await, "name");
        assert_refused(&add(name, &["good"], "rabbits").await, "name");
        assert_refused(&add("pump-1", &["pump-1", name], "rabbits").await, "mqtt_client_ids");
    }
    let (_, problem) = add("pump.1", &[], "rabbits").await;
    assert_eq!(
        problem["detail"],
        "name: the device pump.1 has '.' or ':', which mean something to this broker (rabbitmq); group rabbits \
         has its audience rabbit"
    );
    // Nothing was taken; elsewhere the names are as good as any.
    for name in MISREAD {
        assert_eq!(add(name, &[], "default").await.0, StatusCode::CREATED);
    }
    assert_eq!(add("pump-1", &[], "rabbits").await.0, StatusCode::CREATED);
}

#[tokio::test]
async fn a_device_does_not_come_to_such_a_name_later() {
    let issuer = with_rabbits().await;
    issuer.add("pump.1", &[]).await;
    issuer.add("pump-2", &["pump-2", "pump:2"]).await;
    issuer.add("pump-3", &[]).await;
    let set = async |name: &str, body: Value| {
        ask(&issuer, Method::PATCH, &format!("/admin/v1/devices/{name}"), body).await
    };
    let into_rabbits = || json!({"group": "rabbits"});
    for name in ["pump.1", "pump-2"] {
        assert_refused(&set(name, into_rabbits()).await, "group");
        assert_eq!(issuer.app().devices.get(name).await.unwrap().group.as_str(), "default");
    }
    let both = json!({"group": "rabbits", "mqtt_client_ids": ["pump-2"]});
    assert_eq!(set("pump-2", both).await.0, StatusCode::OK);
    assert_eq!(set("pump-3", into_rabbits()).await.0, StatusCode::OK);
    for name in MISREAD {
        let ids = json!({"mqtt_client_ids": ["pump-3", format!("x{name}")]});
        assert_refused(&set("pump-3", ids).await, "mqtt_client_ids");
    }
    assert_eq!(set("pump-3", json!({"attributes": {"hall": "7"}})).await.0, StatusCode::OK);
}

#[tokio::test]
async fn a_device_does_not_enrol_under_such_a_name() {
    let issuer = with_rabbits().await;
    let app = issuer.app();
    let enrolment = |group: &str, name_pattern: &str| NewEnrolment {
        group: group.into(),
        name_pattern: name_pattern.into(),
        uses: 1,
        expires_in_s: 60,
        approval: false,
    };
    for pattern in ["pump.1", "pump.*", "*:x"] {
        let body = json!({"group": "rabbits", "name_pattern": pattern, "uses": 1, "expires_in_s": 60});
        let refused = ask(&issuer, Method::POST, "/admin/v1/enrolments", body).await;
        assert_refused(&refused, "name_pattern");
        app.enrolments.create(enrolment("default", pattern), NOW).await.unwrap();
    }
    let created = app.enrolments.create(enrolment("rabbits", "pump*"), NOW).await.unwrap().enrolment;
    let key = |id: &str| KeyRecord {
        id: CredentialId::from_text(id),
        jwk: serde_json::from_value(json!({"kty": "OKP", "crv": "Ed25519", "x": id})).unwrap(),
        created_at: UnixSeconds(0),
    };
    let enrol = async |name: &str| app.enrolments.enrol(&created, Some(name.into()), key("a"), NOW).await;
    let refused = enrol("pump.1").await.unwrap_err().to_string();
    assert!(refused.starts_with("name: the device pump.1 has '.' or ':'"), "{refused}");
    assert_eq!(enrol("pump-1").await.unwrap().device.group.as_str(), "rabbits");
}

/// The names that are there already do not become another's either.
#[tokio::test]
async fn a_group_with_such_a_device_gets_no_such_broker() {
    let issuer = with_rabbits().await;
    issuer.add("pump-1", &["pump-1", "pump:1"]).await;
    for audiences in [&["rabbit"][..], &["mqtt", "rabbit"]] {
        let refused = set_audiences(&issuer, "default", audiences).await.unwrap_err();
        assert_eq!(
            refused,
            "audiences: \"rabbit\" cannot be had for device pump-1: mqtt_client_id pump:1 has '.' or ':', which \
             mean something to this broker (rabbitmq)"
        );
    }
    set_audiences(&issuer, "default", &["mqtt", "other"]).await.unwrap();
    let broker = json!({
        "name": "second", "audience": "other", "profile": "rabbitmq", "accept_unbound_publishers": true
    });
    let refused = ask(&issuer, Method::POST, "/admin/v1/brokers", broker.clone()).await;
    assert_refused(&refused, "audience");
    issuer.app().devices.remove("pump-1").await.unwrap();
    assert_eq!(ask(&issuer, Method::POST, "/admin/v1/brokers", broker).await.0, StatusCode::CREATED);
    set_audiences(&issuer, "default", &["rabbit"]).await.unwrap();
}

/// Every device is looked at, not only those of the first page.
#[tokio::test]
async fn the_last_of_many_devices_is_found() {
    let issuer = with_rabbits().await;
    let app = issuer.app();
    let template = {
        issuer.add("pump-0", &[]).await;
        app.devices.get("pump-0").await.unwrap()
    };
    for n in 1..=super::PAGE {
        let name = if n == super::PAGE { "pump-z.z".to_owned() } else { format!("pump-{n}") };
        let device = crate::store::DeviceRecord {
            mqtt_client_ids: [name.parse().unwrap()].into(),
            name: name.parse().unwrap(),
            ..template.clone()
        };
        app.store.add_device(&device).await.unwrap();
    }
    let refused = set_audiences(&issuer, "default", &["rabbit"]).await.unwrap_err();
    assert!(refused.contains("device pump-z.z"), "{refused}");
}
