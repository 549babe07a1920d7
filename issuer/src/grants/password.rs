//! A static password for a token (RFC 6749 §4.3), two ways:
//!
//! - [`issue`]: a registered broker, which has proven who it is, passes on what
//!   an MQTT client gave as user name and password. The token is for that
//!   broker alone.
//! - [`OwnPassword`]: a device posts its own. This is what RFC 9700 §2.4
//!   forbids where people have passwords, as it teaches them to hand theirs to
//!   any client. Here nobody is taught anything, but a secret that never
//!   changes goes over the wire for each token: for old firmware alone, and
//!   only where a group has opted in with `device_password_grant`.
//!
//! A wrong password and every other reason not to take one are the same
//! refusal, at the same time after the question. Only a wrong password is ever
//! counted, and told to slow down: see [`crate::static_password::Attempt`].

use std::net::IpAddr;
use std::sync::Arc;

use http::header;
use http::request::Parts;

use super::{TokenRequest, TokenResponse};
use crate::app::App;
use crate::client_auth::{AuthenticatedBroker, Question};
use crate::devices::KnownDevice;
use crate::error::TokenError;
use crate::form::Form;
use crate::node::CurrentMoment;
use crate::peer::Peer;
use crate::policy::Policy;
use crate::static_password::{Attempt, StaticPassword};
use crate::store::NotEnabled;
use fleetbadge_validator::rate_limit::RetryAfter;

/// Issues the token of one of its clients to a broker.
///
/// # Errors
/// [`TokenError::InvalidRequest`] names the parameter;
/// [`TokenError::InvalidTarget`] if `resource` is not this broker's;
/// [`TokenError::InvalidGrant`] or [`TokenError::TooManyFailures`] if the
/// password does not open this broker; then those of [`super::issue`].
pub(crate) async fn issue(
    app: &App,
    broker: &AuthenticatedBroker,
    moment: CurrentMoment,
    form: &Form<'_>,
) -> Result<TokenResponse, TokenError> {
    let presented = Presented::from_form(form)?;
    let client_address = match form.get("client_address") {
        Some(text) => Some(text.parse().map_err(|_| {
            TokenError::InvalidRequest("client_address is not an IP address, without a port".into())
        })?),
        None => None,
    };
    if form.get("resource").is_some_and(|resource| *resource != *broker.resource) {
        return Err(TokenError::InvalidTarget("resource names another than the broker that asks".into()));
    }
    let attempt = Attempt::new(Some(broker.name.as_str()), presented.device, client_address);
    let opens =
        |policy: &Policy| policy.static_passwords && policy.audience(Some(&broker.audience)).is_some();
    let device = presented.check(app, attempt, opens, TokenError::InvalidGrant).await?;
    super::issue(app, &device, moment, &TokenRequest { resource: Some(&broker.resource), ..request(form) })
}

/// A device that presents its own password, and nothing else to prove who it
/// is. Every refusal is [`TokenError::InvalidClient`], as if there were no such
/// device: whether its group has opted in is nobody's business.
pub(crate) struct OwnPassword<'a> {
    presented: Presented<'a>,
    address: Option<IpAddr>,
}

impl<'a> OwnPassword<'a> {
    /// Finds such a device. None for every other request.
    ///
    /// # Errors
    /// [`TokenError::InvalidRequest`] names the parameter that is missing.
    pub(crate) fn from_request(parts: &Parts, form: &'a Form<'_>) -> Result<Option<Self>, TokenError> {
        let proves_otherwise = parts.headers.contains_key(header::AUTHORIZATION)
            || form.get("client_secret").is_some()
            || form.get("client_assertion").is_some();
        match (form.get("grant_type"), form.get("client_id")) {
            (Some("password"), Some(client_id)) if !proves_otherwise => {
                let presented = Presented::from_form(form)?;
                // Somebody else's password is not the client's own.
                if presented.device != client_id {
                    return Ok(None);
                }
                let address = parts.extensions.get::<Peer>().and_then(|peer| peer.address);
                Ok(Some(Self { presented, address }))
            }
            _ => Ok(None),
        }
    }

    /// Issues its token.
    ///
    /// # Errors
    /// [`TokenError::InvalidClient`] or [`TokenError::TooManyFailures`]; then
    /// those of [`super::issue`].
    pub(crate) async fn exchange(
        self,
        app: &App,
        moment: CurrentMoment,
        form: &Form<'_>,
    ) -> Result<TokenResponse, TokenError> {
        let Self { presented, address } = self;
        let attempt = Attempt::new(None, presented.device, address);
        let opens = |policy: &Policy| policy.static_passwords && policy.device_password_grant;
        let device = presented.check(app, attempt, opens, TokenError::InvalidClient).await?;
        super::issue(app, &device, moment, &request(form))
    }
}

/// The part of the request that says what the token is to be like.
fn request<'a>(form: &'a Form<'_>) -> TokenRequest<'a> {
    TokenRequest {
        scope: form.get("scope"),
        mqtt_client_id: form.get("mqtt_client_id"),
        resource: form.get("resource"),
        certificate: None,
    }
}

/// Why a static password gets no token: for the log alone.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("there is no such device")]
    NoSuchDevice,
    #[error("the device has no static password")]
    NoPassword,
    #[error("the password is wrong")]
    Wrong,
    #[error("the password has ended")]
    Ended,
    #[error(transparent)]
    NotEnabled(#[from] NotEnabled),
    #[error("the device's group does not allow it here")]
    Group,
}

/// A user name, which is that of a device, and a password.
struct Presented<'a> {
    device: &'a str,
    password: StaticPassword,
}

impl<'a> Presented<'a> {
    fn from_form(form: &'a Form<'_>) -> Result<Self, TokenError> {
        let missing = |name| TokenError::InvalidRequest(format!("{name} is missing").into());
        Ok(Self {
            device: form.get("username").ok_or_else(|| missing("username"))?,
            password: StaticPassword::presented(
                form.get("password").ok_or_else(|| missing("password"))?.into(),
            ),
        })
    }

    /// The device whose password this is, if it may be used here: if the
    /// policy of its group says that it `opens` what is asked for.
    ///
    /// # Errors
    /// `refusal`, or [`TokenError::TooManyFailures`] after too many of them;
    /// [`TokenError::ServerError`] if the database fails.
    async fn check(
        &self,
        app: &App,
        attempt: Attempt<'_>,
        opens: impl Fn(&Policy) -> bool,
        refusal: TokenError,
    ) -> Result<Arc<KnownDevice>, TokenError> {
        app.root_keys.check()?;
        let mut question = Question::begin();
        if let Some(device) = self.verify(app, &mut question, opens).await? {
            return Ok(device);
        }
        let counted = app.static_passwords.failures.count(&attempt, app.now());
        question.until_refusal(app).await?;
        match counted {
            Ok(()) => Err(refusal),
            Err(RetryAfter(retry_after_s)) => Err(TokenError::TooManyFailures { retry_after_s }),
        }
    }

    /// Why not is for the log alone.
    async fn verify(
        &self,
        app: &App,
        question: &mut Question,
        opens: impl Fn(&Policy) -> bool,
    ) -> Result<Option<Arc<KnownDevice>>, TokenError> {
        let refused = |reason: Refused| {
            tracing::debug!(device = ?self.device, %reason, "a static password was refused");
            Ok(None)
        };
        // Made before it is known whether there is anything to compare it with.
        let presented = app.static_passwords.hasher().presented(self.device, &self.password);
        let now = app.now();
        let Some(device) = question.find_device(app, self.device).await? else {
            return refused(Refused::NoSuchDevice);
        };
        let Some(kept) = &device.credentials.password else {
            return refused(Refused::NoPassword);
        };
        if !presented.is(&kept.hash) {
            return refused(Refused::Wrong);
        }
        if !kept.is_in_time(now) {
            return refused(Refused::Ended);
        }
        if let Err(not_enabled) = device.check_enabled() {
            return refused(not_enabled.into());
        }
        let group = app.groups.find(device.group.as_str());
        if !group.is_some_and(|group| opens(&group.policy)) {
            return refused(Refused::Group);
        }
        app.credential_uses.note(&device, &kept.id, now);
        app.rehashes.password(self.device, kept, &presented);
        Ok(Some(device))
    }
}

#[cfg(test)]
mod tests;
