use std::fs;
use std::path::PathBuf;

use super::*;
use crate::revocations::Revocation;

const AT: UnixSeconds = UnixSeconds(5_000);

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn open(&self) -> Journal {
        let url = "https://id.example/feed".parse().unwrap();
        Journal::new(
            LastGood::open(self.0.path(), "revocations", "https://id.example", &url, 1 << 20).unwrap(),
        )
    }

    fn file(&self) -> PathBuf {
        fs::read_dir(self.0.path()).unwrap().next().unwrap().unwrap().path()
    }

    fn text(&self) -> String {
        fs::read_to_string(self.file()).unwrap()
    }

    /// The last event and how many revocations there are.
    fn read(&self) -> Result<(String, usize), String> {
        let Kept { event_id, revocations, confirmed_at } = self.open().read()?.unwrap();
        assert_eq!(confirmed_at, AT);
        Ok((event_id.to_str().unwrap().to_owned(), revocations.len()))
    }

    fn write(&self, text: &str) {
        fs::write(self.file(), text).unwrap();
        self.open().confirm(AT).unwrap();
    }
}

fn id(n: u64) -> HeaderValue {
    format!("x-{n}").parse().unwrap()
}

fn token(n: u64) -> Revocation {
    Revocation::of_token(&format!("jti-{n}"), UnixSeconds(u64::MAX))
}

/// Adds the one of this number, as the feed would tell it.
fn add(journal: &mut Journal, all: &mut Revocations, n: u64) {
    all.add(token(n));
    let after = n.checked_sub(1).map(id);
    let batch = Batch { after: after.as_ref(), event_id: &id(n), revocations: &[token(n)] };
    journal.add(&batch, all, AT).unwrap();
}

fn filled(place: &Place, count: u64) -> (Journal, Revocations) {
    let (mut journal, mut all) = (place.open(), Revocations::default());
    (0..count).for_each(|n| add(&mut journal, &mut all, n));
    (journal, all)
}

#[test]
fn a_batch_is_a_line_until_they_are_more_than_the_first() {
    let place = Place::new();
    let (mut journal, mut all) = filled(&place, 3);
    assert_eq!(place.text().lines().count(), 3);
    assert_eq!(place.read(), Ok(("x-2".into(), 3)));
    let mut lines = vec![3];
    for n in 3..3_000 {
        add(&mut journal, &mut all, n);
        if n % 100 == 0 {
            lines.push(place.text().lines().count());
            assert_eq!(place.read(), Ok((format!("x-{n}"), all.len())));
        }
    }
    let rewritten = lines.windows(2).filter(|two| two[1] < two[0]).count();
    assert!((1..8).contains(&rewritten), "{lines:?}");
    // It goes on where another process ended.
    let mut journal = place.open();
    journal.read().unwrap();
    let before = place.text();
    add(&mut journal, &mut all, 3_000);
    assert!(journal.is_whole() && place.text().starts_with(&before));
}

#[test]
fn a_line_without_an_end_is_worth_nothing_and_the_next_write_mends_the_file() {
    let place = Place::new();
    let (_, mut all) = filled(&place, 3);
    let whole = place.text();
    let last = whole.trim_end().rfind('\n').unwrap() + 1;
    for cut in [whole.len() - 1, whole.len() - 5, last + 1] {
        place.write(whole.get(..cut).unwrap());
        assert_eq!(place.read(), Ok(("x-1".into(), 2)), "{cut}");
    }
    let mut journal = place.open();
    journal.read().unwrap();
    assert!(!journal.is_whole());
    add(&mut journal, &mut all, 3);
    assert_eq!((place.text().lines().count(), place.read()), (1, Ok(("x-3".into(), 4))));
}

#[test]
fn anything_else_that_is_broken_spoils_the_file() {
    let place = Place::new();
    filled(&place, 3);
    let whole = place.text();
    for broken in [
        whole.replacen("event_id", "event", 1),
        whole.replacen("jti-1", "jti\"1", 1),
        whole.replacen('\n', "\n\n", 1),
        whole.replacen("jti\":", "fleet\":", 1),
        format!("{whole}{{}}\n"),
        format!("x{whole}"),
        String::new(),
        whole.get(..20).unwrap().to_owned(),
    ] {
        place.write(&broken);
        let error = place.read().unwrap_err();
        assert!(error.contains("not usable"), "{error}: {broken}");
    }
}

#[test]
fn a_file_of_a_former_version_is_read() {
    let place = Place::new();
    filled(&place, 1);
    place.write(r#"{"event_id":"x-7","revocations":[{"jti":"j","expires_at":9}]}"#);
    assert_eq!(place.read(), Ok(("x-7".into(), 1)));
}

/// Two plugins in one broker may share a state folder.
#[test]
fn a_gap_that_another_writer_leaves_is_seen() {
    let place = Place::new();
    let (mut one, mut all) = filled(&place, 3);
    let (mut other, mut all_of_other) = (place.open(), all.clone());
    other.read().unwrap();
    for n in 3..6 {
        add(&mut other, &mut all_of_other, n);
    }
    // It knows less, and writes everything anew.
    add(&mut one, &mut all, 3);
    one.rewrite(&id(3), &all, AT).unwrap();
    add(&mut other, &mut all_of_other, 6);
    assert_eq!(place.read(), Ok(("x-3".into(), 5)), "asked from before the gap; what is there counts");
}

#[test]
fn what_could_not_be_kept_is_kept_with_the_next() {
    let place = Place::new();
    let (mut journal, mut all) = filled(&place, 3);
    let path = place.file();
    fs::rename(place.0.path(), place.0.path().with_extension("away")).unwrap();
    all.add(token(3));
    let batch = Batch { after: Some(&id(2)), event_id: &id(3), revocations: &[token(3)] };
    assert!(journal.add(&batch, &all, AT).is_err() && !journal.is_whole());
    fs::rename(place.0.path().with_extension("away"), place.0.path()).unwrap();
    assert_eq!(place.file(), path);
    add(&mut journal, &mut all, 4);
    assert_eq!(place.read(), Ok(("x-4".into(), 5)));
}
