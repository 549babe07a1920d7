//! A device asks for itself (RFC 6749 §4.4).

use super::{TokenRequest, TokenResponse, device_self};
use crate::app::App;
use crate::client_auth::AuthenticatedDevice;
use crate::error::TokenError;
use crate::form::Form;

/// Issues a token.
///
/// # Errors
/// [`TokenError`].
pub(crate) fn issue(
    app: &App,
    device: &AuthenticatedDevice,
    form: &Form<'_>,
) -> Result<TokenResponse, TokenError> {
    if device_self::is_wanted(form)? {
        return device_self::issue(app, device, form);
    }
    let request = TokenRequest {
        scope: form.get("scope"),
        mqtt_client_id: form.get("mqtt_client_id"),
        resource: form.get("resource"),
        certificate: None,
    };
    super::issue(app, device, &request)
}
