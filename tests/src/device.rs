//! What people type to try things: the Mosquitto clients and curl.

use std::ffi::OsStr;
use std::process::Command;

use serde_json::Value;

use crate::process::run;

/// `mosquitto_pub` towards a broker on 127.0.0.1, for more arguments and then
/// [`run`].
#[must_use]
pub fn mosquitto_pub(port: u16) -> Command {
    mosquitto_client("mosquitto_pub", port)
}

/// `mosquitto_sub` towards a broker on 127.0.0.1, for more arguments and then
/// [`run`] (with `-C` or `-W`) or [`Running::spawn`]. With `-d` it says
/// `Subscribed` when it is.
///
/// [`Running::spawn`]: crate::process::Running::spawn
#[must_use]
pub fn mosquitto_sub(port: u16) -> Command {
    mosquitto_client("mosquitto_sub", port)
}

fn mosquitto_client(program: &str, port: u16) -> Command {
    // Its output is a pipe here, yet each line is wanted when it is written.
    let mut command = Command::new("stdbuf");
    command.args(["-oL", program, "-h", "127.0.0.1", "-p", &port.to_string()]);
    command
}

/// What a web server answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// Header fields in their order, the names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: String,
}

impl Response {
    /// The value of the one header field of this name (in lower case).
    ///
    /// # Panics
    /// When there are several.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(found, _)| found == name);
        let value = values.next().map(|(_, value)| value.as_str());
        assert!(values.next().is_none(), "several {name} in {self:?}");
        value
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// When it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("no JSON ({error}): {self:?}"))
    }
}

/// Runs curl with these arguments, the URL among them, and returns the answer.
///
/// # Panics
/// When there is no answer.
pub fn curl<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Response {
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--include", "--noproxy", "*", "--max-time", "10"]);
    command.args(arguments);
    let finished = run(command);
    assert_eq!(finished.code, Some(0), "curl: {}", finished.stderr);
    parse(&finished.stdout).unwrap_or_else(|| panic!("curl shows no HTTP response: {}", finished.stdout))
}

/// Reads what `curl --include` prints; line ends are already `\n`.
fn parse(response: &str) -> Option<Response> {
    let (head, body) = response.split_once("\n\n")?;
    let mut lines = head.lines();
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    if status < 200 {
        return parse(body); // an interim response
    }
    let headers = lines
        .map(|line| line.split_once(':').map(|(name, value)| (name.to_lowercase(), value.trim().to_owned())))
        .collect::<Option<_>>()?;
    Some(Response { status, headers, body: body.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn response_is_read_past_interim_ones() {
        let printed =
            "HTTP/1.1 100 Continue\n\nHTTP/1.1 401 Unauthorized\nCache-Control: no-store\n\n{\"a\":1}\n";
        let response = parse(printed).unwrap();
        assert_eq!(response.status, 401);
        assert_eq!(response.header("cache-control"), Some("no-store"));
        assert_eq!(response.header("pragma"), None);
        assert_eq!(response.json()["a"], 1);
    }
}
