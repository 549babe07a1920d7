//! `/admin/v1/backup`: everything that is kept, sealed under the root key.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::header;
use tokio::sync::mpsc;

use super::problem::Problem;
use crate::app::{App, tell};
use crate::backup::{self, BackupFailed, BackupHeader};
use crate::random::random_bytes;

/// How many parts wait for a slow reader.
const WAITING: usize = 4;

/// Streams a backup. If it fails on the way the answer is cut off, so that
/// nobody takes a part for the whole.
pub(crate) async fn get(State(app): State<Arc<App>>) -> Result<Response, Problem> {
    let salt = random_bytes(&*app.random)?;
    let header = BackupHeader {
        fleetbadge_backup: BackupHeader::VERSION,
        issuer: app.issuer.as_str().into(),
        made_at: app.now(),
    };
    tracing::info!("a backup is being made");
    let (sender, mut receiver) = mpsc::channel::<Bytes>(WAITING);
    let root_keys = app.root_keys.in_use().now();
    let writing = tokio::spawn(async move {
        let written = backup::write(&*app.store, &root_keys, salt, &header, sender).await;
        match &written {
            Ok(()) => app.metrics.backed_up(app.now()),
            Err(BackupFailed::Store(error)) => tell(error, "the backup failed"),
            Err(error) => tracing::error!(%error, "the backup failed"),
        }
        written
    });
    // A database that is not there is told as such, not by half an answer.
    let (first, writing) = match receiver.recv().await {
        Some(part) => (Some(part), writing),
        None => match writing.await {
            Ok(Err(BackupFailed::Store(error))) => return Err(error.into()),
            Ok(Err(error)) => return Err(Problem::internal(&error)),
            Ok(Ok(())) | Err(_) => return Err(Problem::internal(&"the backup ended early")),
        },
    };
    let rest = stream::unfold(Some((receiver, writing)), async |state| {
        let (mut receiver, writing) = state?;
        if let Some(part) = receiver.recv().await {
            return Some((Ok(part), Some((receiver, writing))));
        }
        match writing.await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some((Err(error.into()), None)),
            Err(error) => Some((Err(Box::<dyn std::error::Error + Send + Sync>::from(error)), None)),
        }
    });
    let body = stream::iter(first.map(Ok)).chain(rest);
    let kind = [(header::CONTENT_TYPE, "application/octet-stream")];
    Ok((kind, Body::from_stream(body)).into_response())
}
