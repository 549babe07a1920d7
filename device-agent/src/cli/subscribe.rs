//! `subscribe`: prints messages.

use std::io;

use rumqttc::{Publish, QoS, SubscribeReasonCode};
use tokio::io::{AsyncWriteExt, BufWriter, Stdout};

use crate::cli::{Error, Stop};
use crate::config::{MqttConfig, TokenConfig, topic_filter};
use crate::keeper::Keeper;
use crate::machine::Machine;
use crate::mqtt::Incoming;
use crate::options::Options;
use crate::tls;

pub(super) async fn run(
    config: &TokenConfig,
    options: &Options,
    filters: &[String],
    verbose: bool,
    machine: Machine,
) -> Result<(), Error> {
    let mqtt = MqttConfig::new(options)?;
    let filters = filters.iter().map(|filter| topic_filter(filter)).collect::<Result<Vec<_>, _>>()?;
    let keeper = Keeper::new(config, &mqtt, tls::client_config(config.ca_file.as_deref())?, machine)?;
    let output = Output { stdout: BufWriter::new(tokio::io::stdout()), verbose };
    Subscriber { keeper, filters, qos: mqtt.qos, subscribed: false, output }.run().await
}

struct Subscriber {
    keeper: Keeper,
    filters: Vec<String>,
    qos: QoS,
    /// In the session that the broker has now.
    subscribed: bool,
    output: Output,
}

impl Subscriber {
    async fn run(mut self) -> Result<(), Error> {
        let mut stop = Stop::listen()?;
        loop {
            let incoming = tokio::select! {
                () = stop.asked() => break,
                incoming = self.keeper.next() => incoming?,
            };
            match incoming {
                Incoming::Connected { session_present, .. } => {
                    self.subscribed &= session_present;
                    if !self.subscribed {
                        self.keeper.subscribe(&self.filters, self.qos)?;
                    }
                }
                Incoming::Reauthenticated => {}
                Incoming::Subscribed(reasons) => {
                    check(&self.filters, &reasons)?;
                    self.subscribed = true;
                    tracing::info!(filters = ?self.filters, "subscribed");
                }
                Incoming::Message(message) => match self.output.write(&message).await {
                    Ok(()) => {}
                    // Whoever read the messages has had enough of them.
                    Err(error) if error.kind() == io::ErrorKind::BrokenPipe => break,
                    Err(error) => return Err(Error::Stream { stream: "stdout", error }),
                },
            }
        }
        self.keeper.close().await;
        Ok(())
    }
}

struct Output {
    stdout: BufWriter<Stdout>,
    verbose: bool,
}

impl Output {
    async fn write(&mut self, message: &Publish) -> io::Result<()> {
        if self.verbose {
            self.stdout.write_all(&message.topic).await?;
            self.stdout.write_all(b" ").await?;
        }
        self.stdout.write_all(&message.payload).await?;
        self.stdout.write_all(b"\n").await?;
        self.stdout.flush().await
    }
}

fn check(filters: &[String], reasons: &[SubscribeReasonCode]) -> Result<(), Error> {
    for (filter, reason) in filters.iter().zip(reasons) {
        if !matches!(reason, SubscribeReasonCode::Success(_)) {
            return Err(Error::SubscriptionRefused { filter: filter.clone(), reason: format!("{reason:?}") });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_filter_is_named() {
        let filters = ["a/#".to_owned(), "b/#".to_owned()];
        let granted = SubscribeReasonCode::Success(QoS::AtLeastOnce);
        assert!(check(&filters, &[granted, granted]).is_ok());
        let error = check(&filters, &[granted, SubscribeReasonCode::NotAuthorized]).unwrap_err();
        assert_eq!(error.to_string(), "the broker refused the subscription of \"b/#\": NotAuthorized");
        assert_eq!(error.exit(), crate::exit::Exit::Refused);
    }
}
