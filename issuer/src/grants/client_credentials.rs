//! A device asks for itself (RFC 6749 §4.4).

use super::{TokenRequest, TokenResponse, device_self};
use crate::app::App;
use crate::client_auth::{AuthenticatedDevice, tls_client_auth};
use crate::error::TokenError;
use crate::form::Form;
use crate::peer::Peer;

/// Issues a token.
///
/// # Errors
/// [`TokenError`].
pub(crate) async fn issue(
    app: &App,
    device: AuthenticatedDevice,
    form: &Form<'_>,
    peer: &Peer,
) -> Result<TokenResponse, TokenError> {
    let is_for_itself = device_self::is_wanted(form)?;
    let (device, now) = device.looked_at_again(app).await?;
    if is_for_itself {
        return device_self::issue(app, &device, now, form);
    }
    let request = TokenRequest {
        scope: form.get("scope"),
        mqtt_client_id: form.get("mqtt_client_id"),
        resource: form.get("resource"),
        certificate: tls_client_auth::binding(&device, peer, now),
    };
    super::issue(app, &device, now, &request)
}
