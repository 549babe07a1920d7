//! The revocations on disk: a line with all of them, and behind it a line for
//! each batch that came later, until those are more than the first.
//!
//! 1. A line is a JSON object: `{"event_id":…,"revocations":[…]}`, a later one
//!    with `"after"`, the id of the event that it follows. Files of one line
//!    without an end, as former versions wrote them, are read as well.
//! 2. A crash in the middle of writing leaves a last line without an end, which
//!    is worth nothing. Anything else that cannot be read spoils the file.
//! 3. Where a line follows another event than the one before it, something is
//!    missing, as when two plugins keep one file: what is there counts, and the
//!    feed is asked from before the gap.

use reqwest::header::HeaderValue;
use serde::{Deserialize, Serialize};

use crate::remote::last_good::LastGood;
use crate::revocations::{Revocation, Revocations};
use crate::time::UnixSeconds;

/// The file, as far as this process knows it.
#[derive(Debug)]
pub(super) struct Journal {
    file: LastGood,
    lengths: Option<Lengths>,
}

/// How many bytes the file has; not known where it must be written anew.
#[derive(Clone, Copy, Debug)]
struct Lengths {
    base: usize,
    journal: usize,
}

/// What was kept.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) event_id: HeaderValue,
    pub(super) revocations: Revocations,
    /// When it was last known to be current.
    pub(super) confirmed_at: UnixSeconds,
}

/// What came with a batch, and where it belongs.
#[derive(Debug)]
pub(super) struct Batch<'a> {
    /// The event before it; none at the beginning.
    pub(super) after: Option<&'a HeaderValue>,
    pub(super) event_id: &'a HeaderValue,
    pub(super) revocations: &'a [Revocation],
}

#[derive(Deserialize, Serialize)]
struct Line<R> {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    after: Option<String>,
    event_id: String,
    revocations: R,
}

impl Journal {
    /// Up to this many bytes of later lines are never too many.
    const MIN_LENGTH: usize = 64 * 1024;

    pub(super) const fn new(file: LastGood) -> Self {
        Self { file, lengths: None }
    }

    /// What is kept, if anything is.
    pub(super) fn read(&mut self) -> Result<Option<Kept>, String> {
        let Some(kept) = self.file.read()? else { return Ok(None) };
        let invalid = |reason: &dyn std::fmt::Display| format!("not usable: {reason}");
        let (base, journal) = split_after_line(&kept.bytes);
        let first = read_line(base).map_err(|error| invalid(&error))?;
        let mut event_id = first.event_id;
        let mut revocations: Revocations = first.revocations.into_iter().collect();
        let mut rest = journal;
        while rest.contains(&b'\n') {
            let (line, later) = split_after_line(rest);
            rest = later;
            let line = read_line(line).map_err(|error| invalid(&error))?;
            line.revocations.into_iter().for_each(|revocation| revocations.add(revocation));
            if line.after.as_ref() == Some(&event_id) {
                event_id = line.event_id;
            }
        }
        let is_whole = base.ends_with(b"\n") && rest.is_empty();
        self.lengths = is_whole.then_some(Lengths { base: base.len(), journal: journal.len() });
        let event_id = HeaderValue::from_str(&event_id).map_err(|error| invalid(&error))?;
        Ok(Some(Kept { event_id, revocations, confirmed_at: kept.confirmed_at }))
    }

    /// Keeps a batch, after which there are `all`.
    pub(super) fn add(
        &mut self,
        batch: &Batch<'_>,
        all: &Revocations,
        confirmed_at: UnixSeconds,
    ) -> Result<(), String> {
        let Batch { after, event_id, revocations } = *batch;
        let line = line(after, event_id, revocations)?;
        let longer =
            self.lengths.map(|Lengths { base, journal }| Lengths { base, journal: journal + line.len() });
        let fits = longer.filter(|longer| longer.journal <= longer.base.max(Self::MIN_LENGTH));
        if after.is_some() && fits.is_some() && self.file.append(&line, confirmed_at).is_ok() {
            self.lengths = fits;
            return Ok(());
        }
        self.rewrite(event_id, all, confirmed_at)
    }

    /// Keeps all of them, in one line.
    pub(super) fn rewrite(
        &mut self,
        event_id: &HeaderValue,
        all: &Revocations,
        confirmed_at: UnixSeconds,
    ) -> Result<(), String> {
        // Until it is known what is there.
        self.lengths = None;
        let line = line(None, event_id, &all.iter().collect::<Vec<_>>())?;
        self.file.write(&line, confirmed_at)?;
        self.lengths = Some(Lengths { base: line.len(), journal: 0 });
        Ok(())
    }

    /// Whether the file has everything that was to be kept.
    pub(super) fn is_whole(&self) -> bool {
        self.lengths.is_some() && self.file.is_written()
    }

    /// What is kept is what the issuer says now.
    pub(super) fn confirm(&self, now: UnixSeconds) -> Result<(), String> {
        self.file.confirm(now)
    }
}

fn line(
    after: Option<&HeaderValue>,
    event_id: &HeaderValue,
    revocations: &[Revocation],
) -> Result<Vec<u8>, String> {
    // Ids with other bytes were refused when they came.
    let text = |id: &HeaderValue| id.to_str().map(str::to_owned).map_err(|error| error.to_string());
    let line = Line { after: after.map(text).transpose()?, event_id: text(event_id)?, revocations };
    let mut json = serde_json::to_vec(&line).map_err(|error| error.to_string())?;
    json.push(b'\n');
    Ok(json)
}

fn read_line(line: &[u8]) -> serde_json::Result<Line<Vec<Revocation>>> {
    serde_json::from_slice(line)
}

/// The first line with its end, or all if there is none, and the rest.
fn split_after_line(bytes: &[u8]) -> (&[u8], &[u8]) {
    let end = bytes.iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |end| end + 1);
    bytes.split_at(end)
}

#[cfg(test)]
mod tests;
