//! A device asks for itself (RFC 6749 §4.4).

use super::{TokenRequest, TokenResponse, device_self};
use crate::app::App;
use crate::client_auth::{AuthenticatedDevice, tls_client_auth};
use crate::error::TokenError;
use crate::form::Form;
use crate::node::CurrentMoment;
use crate::peer::Peer;

/// Issues a token.
///
/// # Errors
/// [`TokenError`].
pub(crate) fn issue(
    app: &App,
    device: &AuthenticatedDevice,
    moment: CurrentMoment,
    form: &Form<'_>,
    peer: &Peer,
) -> Result<TokenResponse, TokenError> {
    if device_self::is_wanted(form)? {
        return device_self::issue(app, device, moment, form);
    }
    let request = TokenRequest {
        scope: form.get("scope"),
        mqtt_client_id: form.get("mqtt_client_id"),
        resource: form.get("resource"),
        certificate: tls_client_auth::binding(device, peer, moment.now()),
    };
    super::issue(app, device, moment, &request)
}
