//! Which PostgreSQL database, and how safe the way to it is.

use std::convert::Infallible;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize, Serializer};
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use url::Url;
use zeroize::Zeroizing;

/// Those that mean something here. A password has its place in front of the
/// host, where it is known as one.
const PARAMETERS: [&str; 8] =
    ["application_name", "dbname", "host", "port", "sslcert", "sslkey", "sslmode", "sslrootcert"];

/// Those that name files.
const FILES: [&str; 3] = ["sslcert", "sslkey", "sslrootcert"];

/// What was given as a URL, which may have a password in it: never shown.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "String")]
pub struct DatabaseUrl(Zeroizing<String>);

impl From<String> for DatabaseUrl {
    fn from(url: String) -> Self {
        Self(Zeroizing::new(url))
    }
}

impl DatabaseUrl {
    /// Whether a password is in it.
    pub(super) fn has_password(&self) -> bool {
        Url::parse(&self.0).is_ok_and(|url| url.password().is_some())
    }
}

impl FromStr for DatabaseUrl {
    type Err = Infallible;

    /// Whether it is one is found out later, by somebody who repeats nothing of
    /// it.
    fn from_str(url: &str) -> Result<Self, Infallible> {
        Ok(url.to_owned().into())
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DatabaseUrl")
    }
}

/// A database that may be used. What is shown of it has asterisks for its
/// password.
#[derive(Clone)]
pub struct Database {
    url: DatabaseUrl,
    shown: Box<str>,
    options: PgConnectOptions,
}

/// A database cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum InvalidDatabase {
    /// Not a URL, or not of PostgreSQL.
    #[error("cannot be used as postgres://USER@HOST/NAME: {0}")]
    Url(String),
    /// The machine does not follow from anything.
    #[error("names no host; for a socket on this machine: postgres://USER@%2Frun%2Fpostgresql/NAME")]
    NoHost,
    /// Not one of the parameters that are known.
    #[error("parameter {found:?} is not known; known are {}", PARAMETERS.join(", "))]
    Parameter {
        /// Its name.
        found: String,
    },
    /// Which of the two would count is not for everybody to know.
    #[error("parameter {found:?} is given twice")]
    Twice {
        /// Its name.
        found: String,
    },
    /// A file that it names cannot be read.
    #[error("{parameter}: {path}: {source}")]
    File {
        /// Which parameter.
        parameter: &'static str,
        /// Which file.
        path: String,
        /// Why not.
        source: std::io::Error,
    },
    /// Somebody on the way could be the database.
    #[error(
        "{host} is another machine, and sslmode is {found}: whoever is in between could read and change \
         everything; leave sslmode out or say verify-full, with sslrootcert=FILE for an authority of your own; \
         to take that risk, give --allow-insecure-database"
    )]
    Insecure {
        /// Where it is.
        host: String,
        /// What was said.
        found: String,
    },
}

impl Database {
    /// Checks what was given.
    ///
    /// # Errors
    /// [`InvalidDatabase`], without any password.
    pub(crate) fn resolve(given: DatabaseUrl, allow_insecure: bool) -> Result<Self, InvalidDatabase> {
        let mut url = Url::parse(&given.0).map_err(|error| InvalidDatabase::Url(error.to_string()))?;
        if !["postgres", "postgresql"].contains(&url.scheme()) {
            return Err(InvalidDatabase::Url("it begins with another scheme".into()));
        }
        let parameter =
            |name: &str| url.query_pairs().find_map(|(key, value)| (key == name).then(|| value.into_owned()));
        if let Some((found, _)) = url.query_pairs().find(|(key, _)| !PARAMETERS.contains(&&**key)) {
            return Err(InvalidDatabase::Parameter { found: found.into() });
        }
        for name in PARAMETERS {
            if url.query_pairs().filter(|(key, _)| key == name).count() > 1 {
                return Err(InvalidDatabase::Twice { found: name.into() });
            }
        }
        for name in FILES {
            // It may also be the PEM itself.
            if let Some(path) = parameter(name).filter(|value| !value.trim_start().starts_with("-----BEGIN"))
                && let Err(source) = std::fs::read(&path)
            {
                return Err(InvalidDatabase::File { parameter: name, path, source });
            }
        }
        if url.host_str().unwrap_or_default().is_empty() && parameter("host").is_none() {
            return Err(InvalidDatabase::NoHost);
        }
        let said = parameter("sslmode");
        let options: PgConnectOptions =
            given.0.parse().map_err(|error: sqlx::Error| InvalidDatabase::Url(error.to_string()))?;
        let is_local = options.get_socket().is_some() || is_this_machine(options.get_host());
        let options = match said {
            Some(found) if !is_local && !allow_insecure && found != "verify-full" => {
                return Err(InvalidDatabase::Insecure { host: options.get_host().into(), found });
            }
            Some(_) => options,
            None if is_local => options.ssl_mode(PgSslMode::Prefer),
            None => options.ssl_mode(PgSslMode::VerifyFull),
        };
        if url.password().is_some() {
            // Possible wherever there is one already.
            let _ = url.set_password(Some("***"));
        }
        Ok(Self { url: given, shown: String::from(url).into(), options })
    }

    /// How to connect to it.
    pub(crate) const fn options(&self) -> &PgConnectOptions {
        &self.options
    }
}

impl fmt::Display for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Database").field(&self.shown).finish()
    }
}

impl Serialize for Database {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.shown)
    }
}

impl PartialEq for Database {
    fn eq(&self, other: &Self) -> bool {
        self.url == other.url
    }
}

impl Eq for Database {}

fn is_this_machine(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host.starts_with('/')
        || host == "localhost"
        || address.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, InvalidConfig, Options};

    fn resolve(url: &str, allow_insecure: bool) -> Result<Config, InvalidConfig> {
        let allow_insecure_database = Some(allow_insecure);
        let database = Some(url.parse().unwrap());
        Options { data_dir: Some("x".into()), database, allow_insecure_database, ..Options::default() }
            .resolve()
    }

    fn ssl_mode(url: &str, allow_insecure: bool) -> PgSslMode {
        resolve(url, allow_insecure).unwrap().database.unwrap().options().get_ssl_mode()
    }

    #[test]
    fn another_machine_is_known_by_its_certificate() {
        for url in ["postgres://u@db.example/n", "postgres://u@10.0.0.1:5433/n?sslmode=verify-full"] {
            assert!(matches!(ssl_mode(url, false), PgSslMode::VerifyFull), "{url}");
        }
        for mode in ["disable", "allow", "prefer", "require", "verify-ca"] {
            let url = format!("postgres://u:secret@db.example/n?sslmode={mode}");
            let error = resolve(&url, false).unwrap_err().to_string();
            assert!(
                error.starts_with("database: db.example is another machine") && !error.contains("secret"),
                "{error}"
            );
            assert!(resolve(&url, true).is_ok());
            // The parameter is another machine too.
            assert!(
                resolve(&format!("postgres://u@localhost/n?host=db.example&sslmode={mode}"), false).is_err()
            );
        }
        assert!(matches!(ssl_mode("postgres://u@db.example/n?sslmode=require", true), PgSslMode::Require));
        for url in [
            "postgres://u@localhost/n?sslmode=disable",
            "postgres://u@127.0.0.1:1/n",
            "postgres://u@[::1]/n",
            "postgres://u@%2Frun%2Fpostgresql/n",
            "postgres:///n?host=/run/postgresql",
        ] {
            assert!(resolve(url, false).is_ok(), "{url}");
        }
    }

    /// The last of them would count, and the first be looked at.
    #[test]
    fn no_second_mode_weakens_the_first() {
        for url in [
            "postgres://u@db.example/n?sslmode=verify-full&sslmode=disable",
            "postgres://u@db.example/n?host=localhost&host=db.example&sslmode=disable",
            "postgres://u@db.example/n?sslmode=verify-full&ssl-mode=disable",
        ] {
            let error = resolve(url, false).unwrap_err().to_string();
            assert!(error.contains("is given twice") || error.contains("is not known"), "{error}");
        }
    }

    #[test]
    fn files_that_are_not_there_are_said_even_where_nobody_needs_them() {
        for name in FILES {
            let error =
                resolve(&format!("postgres://u@localhost/n?{name}=/nope"), false).unwrap_err().to_string();
            assert!(error.starts_with(&format!("database: {name}: /nope: No such file")), "{error}");
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        let url = format!("postgres://u@localhost/n?sslrootcert={}", file.path().display());
        assert!(resolve(&url, false).is_ok());
    }

    #[test]
    fn what_is_wrong_is_said_without_the_password() {
        for (url, reason) in [
            ("postgres://u:secret@h:99999999/n", "cannot be used as"),
            ("u:secret", "begins with another scheme"),
            ("mysql://u:secret@h/n", "begins with another scheme"),
            ("postgres:///n", "names no host"),
            ("postgres://h/n?password=secret", "\"password\" is not known"),
            ("postgres://u:secret@h/n?sslmode=off", "unknown value \"off\""),
        ] {
            let error = resolve(url, false).unwrap_err();
            assert!(error.to_string().starts_with("database: "), "{error}");
            assert!(error.to_string().contains(reason), "{url}: {error}");
            assert!(!format!("{error} {error:?}").contains("secret"), "{error:?}");
        }
    }

    #[test]
    fn a_password_is_never_shown() {
        let url = "postgres://u:secret@db.example/n";
        let config = resolve(url, false).unwrap();
        let options = Options { database: Some(url.parse().unwrap()), ..Options::default() };
        let toml = config.to_toml().unwrap();
        assert!(toml.contains("database = \"postgres://u:***@db.example/n\""), "{toml}");
        for text in [format!("{config:?} {options:?}"), toml, config.database.unwrap().to_string()] {
            assert!(!text.contains("secret"), "{text}");
        }
    }

    #[test]
    fn a_file_that_cannot_be_read_does_not_tell_it_either() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "database = 'postgres://u:secret@h/n'").unwrap();
        assert!(Options::from_file(file.path()).is_ok());
        for (mode, password, is_refused) in
            [(0o644, ":secret", true), (0o640, ":secret", true), (0o644, "", false)]
        {
            std::fs::write(file.path(), format!("database = 'postgres://u{password}@h/n'")).unwrap();
            let permissions = std::os::unix::fs::PermissionsExt::from_mode(mode);
            std::fs::set_permissions(file.path(), permissions).unwrap();
            let read = Options::from_file(file.path());
            assert_eq!(
                read.as_ref().is_err_and(|error| error.to_string().contains("chmod 600")),
                is_refused,
                "{read:?}"
            );
        }
        for line in ["database = postgres://u:secret@h/n", "database = [\"postgres://u:secret@h/n\"]"] {
            std::fs::write(file.path(), format!("skew_s = 1\n{line}\n")).unwrap();
            let error = Options::from_file(file.path()).unwrap_err();
            assert!(!error.to_string().contains("secret"), "{error}");
        }
        std::fs::write(file.path(), "skew_s = 'x'\n").unwrap();
        assert!(Options::from_file(file.path()).unwrap_err().to_string().contains("skew_s = 'x'"));
    }
}
