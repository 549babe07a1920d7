use std::time::Duration;

use fleetbadge_tests::postgres::{Postgres, SHARED};
use sqlx::postgres::PgPoolOptions;

use super::*;
use crate::store::tables::TABLES;
use crate::store::{ChangedSubject, contract};

const NOW: UnixSeconds = UnixSeconds(1_800_000_000);

fn options(url: &str) -> PgConnectOptions {
    url.parse().unwrap()
}

async fn open(url: &str) -> PostgresStore {
    PostgresStore::open(options(url)).await.unwrap()
}

#[tokio::test]
#[cfg_attr(no_postgresql, ignore = "no PostgreSQL")]
async fn keeps_the_contract() {
    contract::check(|| async { (open(&SHARED.database()).await, ()) }).await;
}

/// A table or column that is not in the list would not be in a backup.
#[tokio::test]
#[cfg_attr(no_postgresql, ignore = "no PostgreSQL")]
async fn every_table_and_column_is_copied_or_left_out_on_purpose() {
    let store = open(&SHARED.database()).await;
    let mut found: Vec<(String, String)> = sqlx::query_as(
        "SELECT table_name::text, column_name::text FROM information_schema.columns \
         WHERE table_schema = 'public' \
         AND table_name NOT IN ('_sqlx_migrations', 'changes', 'session_lists', 'sessions')",
    )
    .fetch_all(&store.pool)
    .await
    .unwrap();
    found.sort();
    let mut listed: Vec<(String, String)> = TABLES
        .iter()
        .flat_map(|table| table.columns.iter().map(|column| (table.name.into(), column.name.into())))
        .collect();
    listed.sort();
    assert_eq!(found, listed);
}

#[tokio::test]
#[cfg_attr(no_postgresql, ignore = "no PostgreSQL")]
async fn a_newer_schema_is_refused() {
    let url = SHARED.database();
    drop(open(&url).await);
    let _ = SHARED.sql(
        &url,
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
         VALUES (99, 'later', true, '', 0)",
    );
    let Err(error) = PostgresStore::open(options(&url)).await else { panic!("a newer schema was accepted") };
    assert!(matches!(error, StoreError::NewerSchema { found: 99, known: 1 }), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[cfg_attr(no_postgresql, ignore = "no PostgreSQL")]
async fn nodes_that_start_at_once_make_one_schema() {
    let url = SHARED.database();
    let opening = [(); 4].map(|()| tokio::spawn(PostgresStore::open(options(&url))));
    let mut epochs = Vec::new();
    for one in opening {
        epochs.push(one.await.unwrap().unwrap().changes(0).await.unwrap().epoch);
    }
    epochs.dedup();
    assert_eq!(epochs.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[cfg_attr(no_postgresql, ignore = "no PostgreSQL")]
async fn of_many_nodes_one_is_let_in_with_a_statement() {
    let url = SHARED.database();
    let (one, other) = (Arc::new(open(&url).await), Arc::new(open(&url).await));
    let jtis = Arc::new((0..200_u8).map(|id| UsedJti { id: [id; 32], expires_at: NOW }).collect::<Vec<_>>());
    let mut backwards = jtis.to_vec();
    backwards.reverse();
    let backwards = Arc::new(backwards);
    let tries: Vec<_> = (0..8)
        .map(|n| {
            let store = Arc::clone(if n % 2 == 0 { &one } else { &other });
            let jtis = Arc::clone(if n % 3 == 0 { &jtis } else { &backwards });
            tokio::spawn(async move { store.use_jtis(&jtis).await.unwrap() })
        })
        .collect();
    let mut let_in = 0;
    for one in tries {
        let_in += one.await.unwrap().iter().filter(|is_first| **is_first).count();
    }
    assert_eq!(let_in, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[cfg_attr(no_postgresql, ignore = "no PostgreSQL")]
async fn twins_by_case_do_not_come_in_by_two_nodes() {
    let url = SHARED.database();
    let (one, other) = (Arc::new(open(&url).await), Arc::new(open(&url).await));
    one.set_group(0, &contract::group("default", 900, NOW)).await.unwrap();
    for n in 0..20 {
        let tries = [(&one, format!("pump-{n}")), (&other, format!("PUMP-{n}"))].map(|(store, name)| {
            let store = Arc::clone(store);
            tokio::spawn(async move { store.add_device(&contract::device(&name, &[&name])).await.is_ok() })
        });
        let mut added = 0;
        for one in tries {
            added += usize::from(one.await.unwrap());
        }
        assert_eq!(added, 1, "{n}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[cfg_attr(no_postgresql, ignore = "no PostgreSQL")]
async fn ids_are_seen_in_the_order_of_commits() {
    let url = SHARED.database();
    let (writer, other) = (Arc::new(open(&url).await), Arc::new(open(&url).await));
    let reader = open(&url).await;
    let writing: Vec<_> = (0..4)
        .map(|w| {
            let store = Arc::clone(if w % 2 == 0 { &writer } else { &other });
            tokio::spawn(async move {
                for n in 0..25 {
                    store.revoke(&[Revocation::of_token(&format!("{w}-{n}"), NOW)]).await.unwrap();
                }
            })
        })
        .collect();
    let mut seen = 0;
    while seen < 100 {
        let log = reader.changes(seen).await.unwrap();
        // What was not there at one moment is never found before what was.
        assert_eq!(log.changes.unwrap().len() as u64, log.last - seen);
        seen = log.last;
    }
    for one in writing {
        one.await.unwrap();
    }
}

#[tokio::test]
#[cfg_attr(no_postgresql, ignore = "no PostgreSQL")]
async fn a_change_of_one_node_wakes_the_other() {
    let url = SHARED.database();
    let (one, other) = (open(&url).await, open(&url).await);
    // What was said when it began to listen.
    let _ = tokio::time::timeout(Duration::from_secs(1), other.changed()).await;
    one.revoke(&[Revocation::of_token("1", NOW)]).await.unwrap();
    tokio::time::timeout(Duration::from_secs(1), other.changed()).await.unwrap();
    let log = other.changes(0).await.unwrap();
    assert_eq!(log.changes.unwrap()[0].subject, ChangedSubject::Revocation);
    assert!(log.now.unwrap() > UnixSeconds(1_700_000_000));
}

#[tokio::test]
#[cfg_attr(no_postgresql, ignore = "no PostgreSQL")]
async fn connections_that_the_server_ended_cost_no_read() {
    let url = SHARED.database();
    let store = Arc::new(open(&url).await);
    for _ in 0..5 {
        // Several connections, all just used.
        let asking: Vec<_> = (0..8)
            .map(|_| {
                let store = Arc::clone(&store);
                tokio::spawn(async move { store.device("a").await.unwrap() })
            })
            .collect();
        for one in asking {
            one.await.unwrap();
        }
        let _ = SHARED.sql(
            &url,
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
             WHERE datname = current_database() AND pid <> pg_backend_pid()",
        );
        store.device("a").await.unwrap();
        let jti = UsedJti { id: [1; 32], expires_at: NOW };
        store.use_jtis(&[jti]).await.unwrap();
    }
}

#[tokio::test]
#[cfg_attr(no_postgresql, ignore = "no PostgreSQL")]
async fn a_lock_that_somebody_keeps_is_not_waited_for() {
    let url = SHARED.database();
    let store = open(&url).await;
    let pool = PgPoolOptions::new().connect(&url).await.unwrap();
    let mut keeper = pool.begin().await.unwrap();
    sqlx::query("UPDATE state SET epoch = epoch").execute(&mut *keeper).await.unwrap();
    let refused = store.revoke(&[Revocation::of_token("1", NOW)]).await.unwrap_err();
    assert!(refused.to_string().contains("lock timeout"), "{refused}");
    // Reading goes on meanwhile.
    assert_eq!(store.changes(0).await.unwrap().last, 0);
    keeper.rollback().await.unwrap();
    store.revoke(&[Revocation::of_token("1", NOW)]).await.unwrap();
}

#[tokio::test]
#[cfg_attr(no_postgresql, ignore = "no PostgreSQL")]
async fn a_server_that_is_not_there_is_said_and_one_that_comes_is_found() {
    let server = Postgres::start();
    let url = server.database();
    let store = open(&url).await;
    store.revoke(&[Revocation::of_token("1", NOW)]).await.unwrap();
    server.stop();
    let error = store.changes(0).await.unwrap_err();
    let StoreError::Away { address, reason } = &error else { panic!("{error}") };
    assert!(address.starts_with("test_0 at /") && reason.contains("No such file"), "{error}");
    let starting = tokio::spawn(PostgresStore::open(options(&url)));
    tokio::time::sleep(Duration::from_millis(300)).await;
    server.resume();
    assert_eq!(store.changes(0).await.unwrap().last, 1);
    starting.await.unwrap().unwrap();
    server.stop();
    let Err(error) = PostgresStore::open(options(&url)).await else { panic!("it is not there") };
    assert!(error.to_string().starts_with("database: test_0 at /"), "{error}");
}

#[tokio::test]
#[cfg_attr(no_postgresql, ignore = "no PostgreSQL")]
async fn a_wrong_name_is_said_at_once() {
    let url = SHARED.database() + "-no";
    let Err(error) = PostgresStore::open(options(&url)).await else { panic!("there is none") };
    let error = error.to_string();
    assert!(error.ends_with("does not exist") && !error.contains("tried"), "{error}");
}
