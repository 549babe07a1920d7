//! What a lint finds, for every broker alike.

use std::fmt;
use std::path::Path;
use std::rc::Rc;

use serde::{Serialize, Serializer};

/// Where something stands in a configuration.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    /// The how-manieth file it is, in the order in which the broker reads
    /// them.
    pub(crate) file_number: usize,
    pub(crate) file: Rc<Path>,
    /// From 1; `None` for something that is missing.
    pub(crate) line: Option<usize>,
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Severity {
    /// Good to know.
    Note,
    /// Not what an operator wants, or has no effect.
    Warning,
    /// The broker or the plugin does not start, somebody gets in without a
    /// token, or something secret is open to others.
    Error,
}

/// One thing that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    #[serde(flatten, serialize_with = "serialize_place")]
    pub(crate) place: Place,
    pub(crate) severity: Severity,
    /// Never changes its meaning.
    pub(crate) code: &'static str,
    /// What is the matter.
    pub(crate) text: String,
    /// What to do about it.
    pub(crate) way_out: String,
}

/// Everything that was found.
#[derive(Debug, Default)]
pub(crate) struct Findings(Vec<Finding>);

impl Findings {
    pub(crate) fn error(
        &mut self,
        place: &Place,
        code: &'static str,
        text: impl Into<String>,
        way_out: impl Into<String>,
    ) {
        self.add(place, Severity::Error, code, text, way_out);
    }

    pub(crate) fn warning(
        &mut self,
        place: &Place,
        code: &'static str,
        text: impl Into<String>,
        way_out: impl Into<String>,
    ) {
        self.add(place, Severity::Warning, code, text, way_out);
    }

    pub(crate) fn note(
        &mut self,
        place: &Place,
        code: &'static str,
        text: impl Into<String>,
        way_out: impl Into<String>,
    ) {
        self.add(place, Severity::Note, code, text, way_out);
    }

    fn add(
        &mut self,
        place: &Place,
        severity: Severity,
        code: &'static str,
        text: impl Into<String>,
        way_out: impl Into<String>,
    ) {
        let found =
            Finding { place: place.clone(), severity, code, text: text.into(), way_out: way_out.into() };
        if !self.0.contains(&found) {
            self.0.push(found);
        }
    }

    /// In the order of the lines.
    pub(crate) fn into_sorted(mut self) -> Vec<Finding> {
        self.0.sort_by(|one, other| one.place.cmp(&other.place).then(other.severity.cmp(&one.severity)));
        self.0
    }
}

/// `FILE:LINE: SEVERITY CODE: TEXT; WAY OUT`
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Note => "note",
            Severity::Warning => "warning",
            Severity::Error => "error",
        };
        write!(f, "{}", self.place.file.display())?;
        if let Some(line) = self.place.line {
            write!(f, ":{line}")?;
        }
        write!(f, ": {severity} {}: {}; {}", self.code, self.text, self.way_out)
    }
}

fn serialize_place<S: Serializer>(place: &Place, serializer: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Named<'a> {
        file: std::borrow::Cow<'a, str>,
        line: Option<usize>,
    }
    Named { file: place.file.to_string_lossy(), line: place.line }.serialize(serializer)
}
