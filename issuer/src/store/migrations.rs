//! Brings the schema of a database up to date, or refuses a newer one.

use sqlx::SqlSafeStr as _;
use sqlx::migrate::{Migrate, MigrateError, Migration, MigrationType, Migrator};

use super::StoreError;

/// A change of the schema: version, description, SQL. None is ever edited.
pub(super) type SchemaChange = (i64, &'static str, &'static str);

/// Makes the changes that were not made yet. Of several that do so at the same
/// time one does, and the others wait.
pub(super) async fn run<C: Migrate>(connection: &mut C, changes: &[SchemaChange]) -> Result<(), StoreError> {
    let migrations = changes.iter().map(|(version, description, sql)| {
        Migration::new(*version, (*description).into(), MigrationType::Simple, sql.into_sql_str(), false)
    });
    let known = changes.iter().map(|(version, ..)| *version).max().unwrap_or_default();
    let migrator = Migrator::with_migrations(migrations.collect());
    match migrator.run_direct(None, connection, false).await {
        Err(MigrateError::VersionMissing(found)) => Err(StoreError::NewerSchema { found, known }),
        other => Ok(other?),
    }
}
