//! Which broker a token is for, and what it may say: pure.

use super::TokenRequest;
use crate::brokers::{Brokers, Target};
use crate::policy::{Grant, Policy, Refusal, Request, Subject};
use crate::profile::Misread;

/// A token that may be minted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Decision<'a> {
    /// For whom, and how it is written and signed.
    pub(crate) target: Target<'a>,
    /// What it says.
    pub(crate) grant: Grant<'a>,
}

/// There is no such token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotGranted {
    /// RFC 8707 §2.
    #[error("resource names no registered broker")]
    UnknownResource,
    /// A broker of another part of the fleet.
    #[error("the device's group may have no tokens for this resource")]
    OtherResource,
    /// The group's policy says no.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The broker would not read it as it is meant.
    #[error(transparent)]
    Misread(#[from] Misread),
    /// The broker would take a bound token for one that anybody may bear.
    #[error("the device's tokens are bound to its certificate, which this broker ({profile}) does not check")]
    Unbindable {
        /// The broker's profile.
        profile: &'static str,
    },
}

/// Decides about a request for a token, in this order:
///
/// 1. the audience: that of the resource, the group's first unless one is named;
/// 2. what the group's policy grants;
/// 3. whether that broker reads it as it is meant.
///
/// # Errors
/// [`NotGranted`].
pub(crate) fn decide<'a>(
    brokers: &Brokers,
    policy: &'a Policy,
    subject: &Subject<'a>,
    request: &TokenRequest<'_>,
) -> Result<Decision<'a>, NotGranted> {
    let broker = request
        .resource
        .map(|resource| brokers.of_resource(resource).ok_or(NotGranted::UnknownResource))
        .transpose()?;
    let wanted = broker.as_ref().map(|broker| &*broker.audience);
    let target = brokers.target(policy.audience(wanted).ok_or(NotGranted::OtherResource)?);
    let asked = Request { scope: request.scope, mqtt_client_id: request.mqtt_client_id };
    let grant = policy.grant(subject, &asked)?;
    target.profile.check_grant(&grant)?;
    if request.certificate.is_some() && !target.profile.checks_confirmation() {
        return Err(NotGranted::Unbindable { profile: target.profile.as_str() });
    }
    Ok(Decision { target, grant })
}
