//! Who may be a node of an issuer, and what becomes of the others.

use std::path::Path;
use std::sync::Arc;

use fleetbadge_tests::postgres::SHARED;
use fleetbadge_validator::time::SystemClock;

use super::*;
use crate::config::Options;
use crate::node::{FollowError, NotCurrent};
use crate::{Issuer, OpenError};

const A: &str = "https://a.example";
const B: &str = "https://b.example";

fn options(folder: &Path, issuer: Option<&str>, bound_s: Option<u64>) -> Options {
    Options {
        data_dir: Some(folder.join("data")),
        issuer: issuer.map(Into::into),
        propagation_bound_s: bound_s,
        ..Options::default()
    }
}

async fn open(options: Options) -> Result<Issuer, OpenError> {
    Issuer::open(options.resolve().unwrap(), Arc::new(SystemClock)).await
}

async fn in_force(options: Options) -> (String, u64) {
    let issuer = open(options).await.unwrap();
    (issuer.config().issuer.as_str().to_owned(), issuer.config().propagation_bound_s)
}

/// It would otherwise be whatever the address says.
#[tokio::test]
async fn a_database_goes_on_as_the_issuer_that_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let with = |issuer, bound_s| options(folder.path(), issuer, bound_s);
    assert_eq!(in_force(with(Some(A), None)).await, (A.into(), 5));
    assert_eq!(in_force(with(None, None)).await, (A.into(), 5));
    // A node alone may be as late as it likes.
    assert_eq!(in_force(with(None, Some(9))).await, (A.into(), 9));
    assert_eq!(in_force(with(None, None)).await, (A.into(), 9));
    let refused = open(with(Some(B), None)).await.err().unwrap().to_string();
    assert!(refused.starts_with(&format!("issuer: the database is that of {A}, and this node is to be {B}")));
    assert!(refused.ends_with(&format!("change-terms --issuer {B}")), "{refused}");

    let nothing = change(&with(None, None).resolve().unwrap()).await;
    assert!(matches!(nothing, Err(NotChanged::NothingSaid)), "{nothing:?}");
    let (former, now) = change(&with(Some(B), None).resolve().unwrap()).await.unwrap();
    assert_eq!((former.unwrap().issuer, now.issuer), (A.into(), B.into()));
    assert_eq!(in_force(with(None, None)).await, (B.into(), 9));
    let prevailing = with(Some(A), None).resolve().unwrap().that_prevails();
    let issuer = Issuer::open(prevailing, Arc::new(SystemClock)).await.unwrap();
    let running = change(&with(Some(B), None).resolve().unwrap()).await;
    assert!(matches!(running, Err(NotChanged::DatabaseFile(_))), "{running:?}");
    drop(issuer);
    assert_eq!(in_force(with(None, None)).await.0, A);
}

/// What one node takes back reaches as far ahead as it believes that others may
/// be behind: one that takes more time would issue tokens that survive.
#[tokio::test]
#[cfg_attr(no_postgresql, ignore = "no PostgreSQL")]
async fn nodes_with_other_terms_do_not_come_in_and_do_not_go_on() {
    let database = SHARED.database();
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let with = |folder: &tempfile::TempDir, issuer, bound_s| Options {
        database: Some(database.parse().unwrap()),
        root_key_file: Some(one.path().join("data/root.key")),
        ..options(folder.path(), issuer, bound_s)
    };
    std::fs::create_dir(one.path().join("data")).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    std::fs::set_permissions(one.path().join("data"), mode).unwrap();
    #[expect(clippy::disallowed_methods, reason = "a test needs no repeatable root key")]
    let random = aws_lc_rs::rand::SystemRandom::new();
    crate::root_key::RootKeyFile::make_new(&one.path().join("data/root.key"), &random).unwrap();

    let node = open(with(&one, Some(A), Some(2))).await.unwrap();
    let refused = open(with(&two, Some(A), Some(60))).await.err().unwrap().to_string();
    assert!(refused.contains("over the database have 2, and this node is to have 60"), "{refused}");
    let refused = open(with(&two, Some(B), None)).await.err().unwrap().to_string();
    assert!(refused.contains(&format!("is that of {A}, and this node is to be {B}")), "{refused}");
    let other = open(with(&two, None, None)).await.unwrap();
    assert_eq!((other.config().issuer.as_str(), other.config().propagation_bound_s), (A, 2));
    drop(other);

    // Somebody changes them though a node runs.
    let (former, now) = change(&with(&two, None, Some(3)).resolve().unwrap()).await.unwrap();
    assert_eq!((former.unwrap().propagation_bound_s, now.propagation_bound_s), (2, 3));
    let app = &node.app;
    assert!(matches!(app.node.check_current(app.now()), Err(NotCurrent::Behind { .. })));
    let refused = app.node.catch_up(app).await;
    assert!(matches!(refused, Err(FollowError::Terms(TermsError::OtherBound { found: 3, given: 2 }))));
    let taken_back = app.revoke(app.revoker.device("pump-1")).await;
    assert!(taken_back.is_err(), "it would not reach far enough");
    drop(node);
    assert_eq!(in_force(with(&one, None, None)).await, (A.into(), 3));
}
