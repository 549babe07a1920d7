use std::fs;

use fleetbadge_tests::postgres::SHARED;

use super::*;
use crate::store::contract::rows::fill;
use crate::store::postgres::PostgresStore;

/// An issuer's data directory, with something in every table.
struct Place {
    folder: tempfile::TempDir,
    database: Database,
}

impl Place {
    async fn new() -> Self {
        let place = Self { folder: tempfile::tempdir().unwrap(), database: new_database() };
        let directory = DataDir::open(&place.data_dir()).unwrap();
        let store = SqliteStore::open(&directory.database().unwrap()).await.unwrap();
        fill(&store).await;
        // As after a power cut: much of it is beside the file.
        drop(store);
        place
    }

    fn data_dir(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn directory(&self) -> DataDir {
        DataDir::open(&self.data_dir()).unwrap()
    }

    async fn migrate(&self) -> Result<Migrated, MigrateFailed> {
        migrate_store(&self.data_dir(), &self.database, |_| ()).await
    }

    async fn postgres(&self) -> PostgresStore {
        storage::open_shared(&self.database).await.unwrap()
    }

    /// Copies everything, and ends before anything is compared.
    async fn copy_alone(&self) {
        let directory = self.directory();
        let DatabaseFile::Present(path) = directory.database_file() else { panic!("no database") };
        SqliteStore::open(&path).await.unwrap().close().await.unwrap();
        assert!(copy(&directory, &path, &self.postgres().await, &|_| ()).await.unwrap());
        assert!(matches!(directory.database_file(), DatabaseFile::Migrating(_)));
    }

    async fn assert_migrates(&self) {
        let migrated = self.migrate().await.unwrap();
        let Migrated::Now { tables, left } = migrated else { panic!("{migrated:?}") };
        assert!(tables.len() == TABLES.len() && tables.iter().all(|count| count.rows > 0), "{tables:?}");
        assert!(left.ends_with("issuer.sqlite3.migrated"), "{}", left.display());
        assert_eq!(self.migrate().await.unwrap(), Migrated::Before { left: left.clone() });
        let from = SqliteStore::open_to_read(&left).await.unwrap();
        assert_eq!(compare(&from, &self.postgres().await, |_| ()).await.unwrap(), Ok(tables));
        let mut files: Vec<_> =
            fs::read_dir(self.data_dir()).unwrap().map(|file| file.unwrap().file_name()).collect();
        files.sort();
        assert_eq!(files, ["issuer.sqlite3.migrated", "lock"]);
    }
}

fn new_database() -> Database {
    Database::resolve(SHARED.database().into(), false).unwrap()
}

#[tokio::test]
#[cfg_attr(no_postgresql, ignore = "no PostgreSQL")]
async fn everything_is_the_same_at_the_new_place() {
    let mut place = Place::new().await;
    place.assert_migrates().await;
    place.database = new_database();
    let elsewhere = place.migrate().await.unwrap_err();
    assert!(matches!(elsewhere, MigrateFailed::MigratedElsewhere { .. }), "{elsewhere}");
}

#[tokio::test]
#[cfg_attr(no_postgresql, ignore = "no PostgreSQL")]
async fn each_row_is_told_of_twice_as_it_goes() {
    let place = Place::new().await;
    let told = std::sync::Mutex::default();
    let tell = |progress| {
        let mut told: std::sync::MutexGuard<'_, Vec<Progress>> = told.lock().unwrap();
        told.push(progress);
    };
    let migrated = migrate_store(&place.data_dir(), &place.database, tell).await.unwrap();
    let Migrated::Now { tables, .. } = migrated else { panic!("{migrated:?}") };
    let rows = tables.iter().map(|count| count.rows).sum();
    let expected: Vec<_> =
        (1..=rows).map(Progress::Copied).chain((1..=rows).map(Progress::Compared)).collect();
    assert_eq!(told.into_inner().unwrap(), expected);
}

#[tokio::test]
#[cfg_attr(no_postgresql, ignore = "no PostgreSQL")]
async fn an_interrupted_move_is_finished_wherever_it_was() {
    // PostgreSQL has it, and nobody has compared it.
    let place = Place::new().await;
    place.copy_alone().await;
    place.assert_migrates().await;
    // It was about to have it.
    let mut place = Place::new().await;
    place.copy_alone().await;
    place.database = new_database();
    place.assert_migrates().await;
    // Somebody has taken its name back in between.
    let place = Place::new().await;
    place.copy_alone().await;
    place.directory().undo_migration().unwrap();
    place.assert_migrates().await;
}

#[tokio::test]
#[cfg_attr(no_postgresql, ignore = "no PostgreSQL")]
async fn what_was_left_behind_is_no_database_whatever_it_is_called() {
    let mut place = Place::new().await;
    place.assert_migrates().await;
    let (left, database) =
        (place.data_dir().join("issuer.sqlite3.migrated"), place.data_dir().join("issuer.sqlite3"));
    fs::rename(&left, &database).unwrap();
    let refused = SqliteStore::open(&database).await.err().unwrap();
    assert!(matches!(refused, StoreError::Moved), "{refused}");
    assert!(matches!(place.migrate().await, Err(MigrateFailed::Store(StoreError::Moved))));
    // As if it had been interrupted between the last two steps.
    fs::rename(&database, place.data_dir().join("issuer.sqlite3.migrating")).unwrap();
    let used = std::mem::replace(&mut place.database, new_database());
    assert!(matches!(place.migrate().await, Err(MigrateFailed::MigratedElsewhere { .. })));
    place.database = used;
    assert_eq!(place.migrate().await.unwrap(), Migrated::Before { left });
}

#[tokio::test]
#[cfg_attr(no_postgresql, ignore = "no PostgreSQL")]
async fn a_database_with_something_in_it_is_left_alone_and_so_is_the_issuer() {
    let mut place = Place::new().await;
    place.assert_migrates().await;
    let used = place.database;
    place = Place::new().await;
    place.database = used;
    let refused = place.migrate().await.unwrap_err();
    // Each has an epoch of its own.
    assert!(matches!(refused, MigrateFailed::NotEmpty { table: "state", .. }), "{refused}");
    assert!(matches!(place.directory().database_file(), DatabaseFile::Present(_)));
    place.database = new_database();
    place.assert_migrates().await;
}

#[tokio::test]
#[cfg_attr(no_postgresql, ignore = "no PostgreSQL")]
async fn what_was_used_before_it_was_compared_is_no_copy() {
    let place = Place::new().await;
    place.copy_alone().await;
    place.postgres().await.forget_jtis(fleetbadge_validator::time::UnixSeconds(u64::MAX / 4)).await.unwrap();
    let refused = place.migrate().await.unwrap_err();
    assert!(matches!(refused, MigrateFailed::NotEmpty { table: "used_jtis", .. }), "{refused}");
    assert!(matches!(place.directory().database_file(), DatabaseFile::Migrating(_)));
}

#[tokio::test]
#[cfg_attr(no_postgresql, ignore = "no PostgreSQL")]
async fn nothing_is_moved_that_is_in_use_or_not_there() {
    let place = Place::new().await;
    let running = place.directory();
    let refused = place.migrate().await.unwrap_err().to_string();
    assert!(refused.contains("another fleetbadge-issuer uses this data directory"), "{refused}");
    drop(running);
    let writer = foreign_writer(&place.data_dir().join("issuer.sqlite3")).await;
    let refused = place.migrate().await.unwrap_err();
    assert!(matches!(refused, MigrateFailed::Store(_)), "{refused}");
    drop(writer);
    place.assert_migrates().await;
    let empty = tempfile::tempdir().unwrap();
    let refused = migrate_store(empty.path(), &place.database, |_| ()).await.unwrap_err();
    assert!(matches!(refused, MigrateFailed::NoDatabase { .. }), "{refused}");
    let nowhere = migrate_store(&empty.path().join("x"), &place.database, |_| ()).await.unwrap_err();
    assert!(matches!(nowhere, MigrateFailed::DatabaseFile(DatabaseFileError::NoDataDir { .. })), "{nowhere}");
    assert!(!empty.path().join("x").exists());
}

/// Somebody who changes the file and does not know of the lock.
async fn foreign_writer(path: &Path) -> sqlx::sqlite::SqliteConnection {
    use sqlx::{ConnectOptions as _, Executor as _};
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path);
    let mut writer = options.connect().await.unwrap();
    writer.execute("BEGIN IMMEDIATE").await.unwrap();
    writer.execute("UPDATE state SET clock_high = clock_high + 1").await.unwrap();
    writer
}
