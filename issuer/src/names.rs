//! Names in requests, with the field that they stand in.

use fleetbadge_validator::ids::InvalidName;

/// A string is not a name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {found:?} {reason}")]
pub struct NameRefused {
    /// Which field.
    pub field: &'static str,
    /// What was given.
    pub found: String,
    /// Why not.
    pub reason: InvalidName,
}

/// Reads the name in a field.
///
/// # Errors
/// [`NameRefused`].
pub(crate) fn parse_name<T: TryFrom<String, Error = InvalidName>>(
    field: &'static str,
    text: String,
) -> Result<T, NameRefused> {
    T::try_from(text.clone()).map_err(|reason| NameRefused { field, found: text, reason })
}
