//! The lines of a `mosquitto.conf`, cut up as Mosquitto cuts them: at spaces
//! alone, a comment only where `#` is a line's first character.

use std::path::Path;
use std::rc::Rc;
use std::{fs, io};

use crate::config::finding::Place;

/// A line that sets something.
#[derive(Clone, Debug)]
pub(super) struct Setting {
    pub(super) place: Place,
    pub(super) name: String,
    /// Everything behind the space after the name.
    rest: String,
}

impl Setting {
    /// The value of settings that take a word; what follows is ignored.
    pub(super) fn word(&self) -> Option<&str> {
        self.words().next()
    }

    pub(super) fn words(&self) -> impl Iterator<Item = &str> {
        self.rest.split(' ').filter(|word| !word.is_empty())
    }

    /// The value of settings that take the rest of the line, such as a path.
    pub(super) fn text(&self) -> &str {
        self.rest.trim_matches(|c: char| c.is_ascii_whitespace() || c == '\x0b')
    }

    pub(super) fn path(&self) -> &Path {
        Path::new(self.text())
    }

    /// The value of an option of a plugin: blanks at its end are a part of it.
    pub(super) fn option(&self) -> &str {
        self.rest.trim_start_matches([' ', '\t'])
    }

    /// The value of settings that are on or off.
    pub(super) fn flag(&self) -> Option<bool> {
        match self.word()? {
            "true" | "1" => Some(true),
            "false" | "0" => Some(false),
            _ => None,
        }
    }

    pub(super) fn is_on(&self) -> bool {
        self.flag() == Some(true)
    }

    /// The value of settings that are a number, as Mosquitto 2.0 reads it:
    /// whatever digits it begins with, or 0.
    pub(super) fn number(&self) -> i64 {
        let word = self.word().unwrap_or_default();
        let (sign, digits) = match word.strip_prefix('-') {
            Some(digits) => (-1, digits),
            None => (1, word.strip_prefix('+').unwrap_or(word)),
        };
        let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
        let digits = digits.get(..end).unwrap_or_default();
        if digits.is_empty() { 0 } else { sign * digits.parse().unwrap_or(i64::from(i32::MAX)) }
    }

    /// Whether the value is a number for Mosquitto 2.1, which wants nothing
    /// behind it.
    pub(super) fn is_number(&self) -> bool {
        let word = self.word().unwrap_or_default();
        let digits = word.strip_prefix(['-', '+']).unwrap_or(word);
        match digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
            Some(hex) => !hex.is_empty() && hex.bytes().all(|byte| byte.is_ascii_hexdigit()),
            None => !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()),
        }
    }
}

/// The settings of one file.
pub(super) fn read(file_number: usize, path: &Path) -> io::Result<Vec<Setting>> {
    let text = String::from_utf8_lossy(&fs::read(path)?).into_owned();
    let file: Rc<Path> = path.into();
    let lines = text.split('\n').zip(1..).filter(|(line, _)| !line.starts_with(['#', '\r']));
    Ok(lines
        .filter_map(|(line, number)| {
            let line = line.trim_end_matches('\r').trim_start_matches(' ');
            let (name, rest) = line.split_once(' ').unwrap_or((line, ""));
            let place = Place { file_number, file: Rc::clone(&file), line: Some(number) };
            (!name.is_empty()).then(|| Setting { place, name: name.into(), rest: rest.into() })
        })
        .collect())
}

/// The files of an `include_dir`, in Mosquitto's order: by letter, upper case
/// before lower case of the same letter.
pub(super) fn files_in(folder: &Path) -> io::Result<Vec<std::path::PathBuf>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        // Something must come before the ending.
        if name.len() > ".conf".len() && name.as_encoded_bytes().ends_with(b".conf") {
            names.push(name);
        }
    }
    names.sort_by_key(|name| {
        let letters = name.as_encoded_bytes().iter().map(|byte| (byte.to_ascii_uppercase(), *byte));
        letters.collect::<Vec<_>>()
    });
    Ok(names.into_iter().map(|name| folder.join(name)).collect())
}
