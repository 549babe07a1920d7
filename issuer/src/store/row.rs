//! What stands in the rows of either database, and how records are made of it.
//!
//! What is read and written whole is one JSON document. Databases have signed
//! integers: a time after the year 292 billion stays there.

use std::fmt::Display;

use fleetbadge_validator::jwk::Algorithm;
use fleetbadge_validator::reports::sessions::Online;
use fleetbadge_validator::revocations::{Revocation, Revocations};
use fleetbadge_validator::time::UnixSeconds;
use serde::{Deserialize, Serialize};
use sqlx::FromRow;

use super::{
    Attributes, BrokerRecord, Change, ChangedSubject, CredentialUse, DeviceRecord, DeviceStatus, EnrolledBy,
    EnrolmentRecord, GroupRecord, MqttClientIds, NumberedRevocation, ReportRecord, SessionRecord,
    SigningKeyRecord, StoreError,
};
use crate::credentials::{CredentialId, Credentials, SecretRecords};
use crate::profile::Profile;
use crate::signing_keys::Schedule;

const DEVICE: &str = "device";
const GROUP: &str = "group";
const BROKER: &str = "broker";
const ENROLMENT: &str = "enrolment";
const SIGNING_KEY: &str = "signing key";
const REVOCATION: &str = "revocation";
const REPORT: &str = "report";
const SESSION: &str = "session";
const CHANGE: &str = "change";
const USE: &str = "use of a credential";

pub(super) fn time_to_sql(time: UnixSeconds) -> i64 {
    count_to_sql(time.0)
}

pub(super) fn count_to_sql(count: u64) -> i64 {
    count.try_into().unwrap_or(i64::MAX)
}

pub(super) fn time_from_sql(what: &'static str, time: i64) -> Result<UnixSeconds, StoreError> {
    time.try_into().map(UnixSeconds).map_err(|_| corrupt(what, &format_args!("the time {time}")))
}

pub(super) fn count_from_sql(what: &'static str, count: i64) -> Result<u64, StoreError> {
    count.try_into().map_err(|_| corrupt(what, &format_args!("the count {count}")))
}

pub(super) fn to_json(what: &'static str, value: &impl Serialize) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| corrupt(what, &error))
}

pub(super) fn from_json<'a, T: Deserialize<'a>>(what: &'static str, json: &'a str) -> Result<T, StoreError> {
    serde_json::from_str(json).map_err(|error| corrupt(what, &error))
}

pub(super) fn corrupt(what: &'static str, reason: &dyn Display) -> StoreError {
    StoreError::Corrupt { what, reason: reason.to_string() }
}

/// A row of `devices`.
#[derive(FromRow)]
pub(super) struct DeviceRow {
    pub(super) name: String,
    pub(super) group_name: String,
    pub(super) status: String,
    pub(super) revision: i64,
    pub(super) document: String,
    pub(super) created_at: i64,
}

/// What has no column of its own.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct DeviceDocument {
    mqtt_client_ids: MqttClientIds,
    #[serde(default, skip_serializing_if = "Attributes::is_empty")]
    attributes: Attributes,
    credentials: Credentials,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    enrolled_by: Option<EnrolledBy>,
}

impl TryFrom<&DeviceRecord> for DeviceRow {
    type Error = StoreError;

    fn try_from(device: &DeviceRecord) -> Result<Self, StoreError> {
        let DeviceRecord {
            name,
            group,
            status,
            mqtt_client_ids,
            attributes,
            credentials,
            enrolled_by,
            created_at,
            revision,
        } = device.clone();
        let document = DeviceDocument { mqtt_client_ids, attributes, credentials, enrolled_by };
        Ok(Self {
            name: name.to_string(),
            group_name: group.to_string(),
            status: status.as_str().into(),
            revision: count_to_sql(revision),
            document: to_json(DEVICE, &document)?,
            created_at: time_to_sql(created_at),
        })
    }
}

impl TryFrom<DeviceRow> for DeviceRecord {
    type Error = StoreError;

    fn try_from(row: DeviceRow) -> Result<Self, StoreError> {
        let DeviceDocument { mqtt_client_ids, attributes, credentials, enrolled_by } =
            from_json(DEVICE, &row.document)?;
        Ok(Self {
            name: row.name.parse().map_err(|error| corrupt(DEVICE, &error))?,
            group: row.group_name.parse().map_err(|error| corrupt(DEVICE, &error))?,
            status: DeviceStatus::ALL
                .into_iter()
                .find(|known| known.as_str() == row.status)
                .ok_or_else(|| corrupt(DEVICE, &format_args!("the status {:?}", row.status)))?,
            mqtt_client_ids,
            attributes,
            credentials,
            enrolled_by,
            created_at: time_from_sql(DEVICE, row.created_at)?,
            revision: count_from_sql(DEVICE, row.revision)?,
        })
    }
}

/// A row of `groups`.
#[derive(FromRow)]
pub(super) struct GroupRow {
    pub(super) name: String,
    pub(super) policy: String,
    pub(super) created_at: i64,
    pub(super) updated_at: i64,
}

impl TryFrom<&GroupRecord> for GroupRow {
    type Error = StoreError;

    fn try_from(group: &GroupRecord) -> Result<Self, StoreError> {
        Ok(Self {
            name: group.name.to_string(),
            policy: to_json(GROUP, &group.policy)?,
            created_at: time_to_sql(group.created_at),
            updated_at: time_to_sql(group.updated_at),
        })
    }
}

impl TryFrom<GroupRow> for GroupRecord {
    type Error = StoreError;

    fn try_from(row: GroupRow) -> Result<Self, StoreError> {
        Ok(Self {
            name: row.name.parse().map_err(|error| corrupt(GROUP, &error))?,
            policy: from_json(GROUP, &row.policy)?,
            created_at: time_from_sql(GROUP, row.created_at)?,
            updated_at: time_from_sql(GROUP, row.updated_at)?,
        })
    }
}

/// A row of `brokers`.
#[derive(FromRow)]
pub(super) struct BrokerRow {
    pub(super) name: String,
    pub(super) resource: String,
    pub(super) revision: i64,
    pub(super) document: String,
    pub(super) created_at: i64,
}

/// What has no column of its own.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct BrokerDocument {
    audience: Box<str>,
    profile: Profile,
    algorithm: Algorithm,
    secrets: SecretRecords,
}

impl TryFrom<&BrokerRecord> for BrokerRow {
    type Error = StoreError;

    fn try_from(broker: &BrokerRecord) -> Result<Self, StoreError> {
        let BrokerRecord { name, audience, resource, profile, algorithm, secrets, created_at, revision } =
            broker.clone();
        Ok(Self {
            name: name.to_string(),
            resource: resource.into(),
            revision: count_to_sql(revision),
            document: to_json(BROKER, &BrokerDocument { audience, profile, algorithm, secrets })?,
            created_at: time_to_sql(created_at),
        })
    }
}

impl TryFrom<BrokerRow> for BrokerRecord {
    type Error = StoreError;

    fn try_from(row: BrokerRow) -> Result<Self, StoreError> {
        let BrokerDocument { audience, profile, algorithm, secrets } = from_json(BROKER, &row.document)?;
        Ok(Self {
            name: row.name.parse().map_err(|error| corrupt(BROKER, &error))?,
            audience,
            resource: row.resource.into(),
            profile,
            algorithm,
            secrets,
            created_at: time_from_sql(BROKER, row.created_at)?,
            revision: count_from_sql(BROKER, row.revision)?,
        })
    }
}

/// A row of `enrolments`.
#[derive(FromRow)]
pub(super) struct EnrolmentRow {
    pub(super) id: String,
    pub(super) token_hash: Vec<u8>,
    pub(super) uses_left: i64,
    pub(super) document: String,
    pub(super) created_at: i64,
}

impl TryFrom<&EnrolmentRecord> for EnrolmentRow {
    type Error = StoreError;

    fn try_from(enrolment: &EnrolmentRecord) -> Result<Self, StoreError> {
        Ok(Self {
            id: enrolment.id.as_str().into(),
            token_hash: enrolment.token_hash.into(),
            uses_left: enrolment.uses_left.into(),
            document: to_json(ENROLMENT, &enrolment.terms)?,
            created_at: time_to_sql(enrolment.created_at),
        })
    }
}

impl TryFrom<EnrolmentRow> for EnrolmentRecord {
    type Error = StoreError;

    fn try_from(row: EnrolmentRow) -> Result<Self, StoreError> {
        Ok(Self {
            id: CredentialId::from_text(&row.id),
            token_hash: row.token_hash.try_into().map_err(|hash: Vec<u8>| {
                corrupt(ENROLMENT, &format_args!("a hash of {} bytes", hash.len()))
            })?,
            uses_left: row.uses_left.try_into().map_err(|error| corrupt(ENROLMENT, &error))?,
            terms: from_json(ENROLMENT, &row.document)?,
            created_at: time_from_sql(ENROLMENT, row.created_at)?,
        })
    }
}

/// A row of `signing_keys`.
#[derive(FromRow)]
pub(super) struct SigningKeyRow {
    pub(super) kid: String,
    pub(super) algorithm: String,
    pub(super) private: String,
    pub(super) announced_at: i64,
    pub(super) active_at: i64,
    pub(super) retired_at: Option<i64>,
    pub(super) dropped_at: Option<i64>,
}

impl TryFrom<&SigningKeyRecord> for SigningKeyRow {
    type Error = StoreError;

    fn try_from(record: &SigningKeyRecord) -> Result<Self, StoreError> {
        let SigningKeyRecord { kid, algorithm, private, schedule } = record;
        Ok(Self {
            kid: kid.clone(),
            algorithm: algorithm.as_str().into(),
            private: to_json(SIGNING_KEY, private)?,
            announced_at: time_to_sql(schedule.announced_at),
            active_at: time_to_sql(schedule.active_at),
            retired_at: schedule.retired_at.map(time_to_sql),
            dropped_at: schedule.dropped_at.map(time_to_sql),
        })
    }
}

impl TryFrom<SigningKeyRow> for SigningKeyRecord {
    type Error = StoreError;

    fn try_from(row: SigningKeyRow) -> Result<Self, StoreError> {
        let time = |time| time_from_sql(SIGNING_KEY, time);
        Ok(Self {
            algorithm: Algorithm::from_name(&row.algorithm)
                .ok_or_else(|| corrupt(SIGNING_KEY, &format_args!("the algorithm {:?}", row.algorithm)))?,
            kid: row.kid,
            private: from_json(SIGNING_KEY, &row.private)?,
            schedule: Schedule {
                announced_at: time(row.announced_at)?,
                active_at: time(row.active_at)?,
                retired_at: row.retired_at.map(time).transpose()?,
                dropped_at: row.dropped_at.map(time).transpose()?,
            },
        })
    }
}

/// A row of `revocations`.
#[derive(FromRow)]
pub(super) struct RevocationRow {
    pub(super) id: i64,
    pub(super) document: String,
}

impl TryFrom<RevocationRow> for NumberedRevocation {
    type Error = StoreError;

    fn try_from(row: RevocationRow) -> Result<Self, StoreError> {
        Ok(Self {
            id: count_from_sql(REVOCATION, row.id)?,
            revocation: from_json(REVOCATION, &row.document)?,
        })
    }
}

/// The document of a revocation that takes the place of the one of the same
/// target, of which `former` is the document; and when it can be forgotten.
pub(super) fn wider_revocation(
    former: Option<&str>,
    revocation: &Revocation,
) -> Result<(String, i64), StoreError> {
    let former = former.map(|json| from_json::<Revocation>(REVOCATION, json)).transpose()?;
    let both = Revocations::from_iter(former.into_iter().chain([revocation.clone()]));
    let wider = both.iter().next().unwrap_or_else(|| revocation.clone());
    Ok((to_json(REVOCATION, &wider)?, time_to_sql(wider.expires_at)))
}

/// A row of `reports`.
#[derive(FromRow)]
pub(super) struct ReportRow {
    pub(super) broker: String,
    pub(super) instance: String,
    pub(super) secret: String,
    pub(super) document: String,
    pub(super) reported_at: i64,
}

impl TryFrom<&ReportRecord> for ReportRow {
    type Error = StoreError;

    fn try_from(report: &ReportRecord) -> Result<Self, StoreError> {
        Ok(Self {
            broker: report.broker.to_string(),
            instance: report.instance.to_string(),
            secret: report.secret.to_string(),
            document: to_json(REPORT, &report.report)?,
            reported_at: time_to_sql(report.reported_at),
        })
    }
}

impl TryFrom<ReportRow> for ReportRecord {
    type Error = StoreError;

    fn try_from(row: ReportRow) -> Result<Self, StoreError> {
        Ok(Self {
            broker: row.broker.parse().map_err(|error| corrupt(REPORT, &error))?,
            instance: row.instance.into(),
            secret: CredentialId::from_text(&row.secret),
            report: from_json(REPORT, &row.document)?,
            reported_at: time_from_sql(REPORT, row.reported_at)?,
        })
    }
}

/// A row of `sessions`.
#[derive(FromRow)]
pub(super) struct SessionRow {
    pub(super) broker: String,
    pub(super) instance: String,
    pub(super) client_id: String,
    pub(super) since: i64,
    pub(super) until: i64,
}

impl TryFrom<SessionRow> for SessionRecord {
    type Error = StoreError;

    fn try_from(row: SessionRow) -> Result<Self, StoreError> {
        Ok(Self {
            broker: row.broker.parse().map_err(|error| corrupt(SESSION, &error))?,
            instance: row.instance.into(),
            session: Online {
                client_id: row.client_id.parse().map_err(|error| corrupt(SESSION, &error))?,
                since: time_from_sql(SESSION, row.since)?,
                until: time_from_sql(SESSION, row.until)?,
            },
        })
    }
}

/// A row of `credential_uses`.
#[derive(FromRow)]
pub(super) struct CredentialUseRow {
    pub(super) client: String,
    pub(super) credential: String,
    pub(super) last_used_at: i64,
}

impl TryFrom<CredentialUseRow> for CredentialUse {
    type Error = StoreError;

    fn try_from(row: CredentialUseRow) -> Result<Self, StoreError> {
        Ok(Self {
            client: row.client.into(),
            credential: CredentialId::from_text(&row.credential),
            at: time_from_sql(USE, row.last_used_at)?,
        })
    }
}

/// A row of `changes`.
#[derive(FromRow)]
pub(super) struct ChangeRow {
    pub(super) id: i64,
    pub(super) kind: String,
    pub(super) name: String,
}

impl TryFrom<ChangeRow> for Change {
    type Error = StoreError;

    fn try_from(row: ChangeRow) -> Result<Self, StoreError> {
        let subject = ChangedSubject::from_kind_and_name(&row.kind, &row.name)
            .ok_or_else(|| corrupt(CHANGE, &format_args!("the kind {:?}", row.kind)))?;
        Ok(Self { id: count_from_sql(CHANGE, row.id)?, subject })
    }
}

/// All rows as records, or the first that cannot be read.
pub(super) fn records<R, T: TryFrom<R, Error = StoreError>>(rows: Vec<R>) -> Result<Vec<T>, StoreError> {
    rows.into_iter().map(T::try_from).collect()
}
