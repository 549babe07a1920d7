//! The log: text on standard error.

use std::io::{IsTerminal as _, stderr};

use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::filter::{EnvFilter, FilterExt as _, filter_fn};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer, fmt, registry};

/// Starts the log with a filter of [`crate::config::Config::log`].
pub(crate) fn start(log: &str) {
    registry().with(lines(log, stderr)).init();
}

fn lines<S, W>(log: &str, writer: W) -> impl Layer<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + 'static,
{
    let filter = EnvFilter::new(log).and(filter_fn(may_be_logged));
    fmt::layer().with_writer(writer).with_ansi(stderr().is_terminal()).with_filter(filter)
}

/// Below errors the broker's lines have client IDs as strangers sent them, and
/// somebody will put the token into that field. What is worth knowing of those
/// the guard logs.
fn may_be_logged(line: &Metadata<'_>) -> bool {
    !line.target().starts_with("mqtt5") || *line.level() == Level::ERROR
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn no_filter_lets_the_brokers_chatter_through() {
        let written = Written::default();
        let writer = written.clone();
        let subscriber = registry().with(lines("trace,mqtt5=trace", move || writer.clone()));
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(target: "mqtt5::broker", "client_id=a-token");
            tracing::error!(target: "mqtt5::broker", "an error of the broker");
            tracing::trace!("a line of ours");
        });
        let written = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
        assert!(
            written.contains("an error of the broker") && written.contains("a line of ours"),
            "{written}"
        );
        assert!(!written.contains("a-token"), "{written}");
    }
}
