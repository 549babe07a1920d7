//! `run`: publishes the lines of stdin.
//!
//! A line counts as done when the broker has acknowledged it. Those on their
//! way wait in a queue; no more lines are read than fit into it.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use rumqttc::{PublishNoticeError, PublishResult, QoS};
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::cli::{Error, Stop};
use crate::config::{MqttConfig, TokenConfig, topic_name};
use crate::keeper::Keeper;
use crate::machine::{Machine, Moment};
use crate::mqtt::{Incoming, Outcome, WINDOW};
use crate::options::Options;
use crate::tls;

/// How long the broker has to acknowledge the last lines after SIGTERM.
const LAST_LINES: Duration = Duration::from_secs(10);
/// What PUBLISH needs beside topic name and payload, at most.
const PUBLISH_OVERHEAD: usize = 16;
/// The longest packet that MQTT knows, in bytes (MQTT 5 §2.1.4).
const MAX_OUTGOING: usize = 268_435_455;

pub(super) async fn run(config: &TokenConfig, options: &Options, machine: Machine) -> Result<(), Error> {
    let mqtt = MqttConfig::new(options)?;
    let topic = options.mqtt.topic.as_deref().map(topic_name).transpose()?;
    let tls = tls::client_config(config.ca_file.as_deref())?;
    let keeper = Keeper::new(config, &mqtt, tls, machine)?;
    let publisher = Publisher {
        machine,
        keeper,
        topic,
        qos: mqtt.qos,
        on_their_way: VecDeque::with_capacity(usize::from(WINDOW)),
        max_packet_size: None,
        published: 0,
        refused: 0,
    };
    publisher.run().await
}

struct Publisher {
    machine: Machine,
    keeper: Keeper,
    /// Unless told otherwise, the client identifier decides it.
    topic: Option<String>,
    qos: QoS,
    /// Oldest first.
    on_their_way: VecDeque<Line>,
    max_packet_size: Option<u32>,
    published: u64,
    refused: u64,
}

struct Line {
    payload: Bytes,
    outcome: Outcome,
}

enum Input {
    Open,
    Ended,
    /// By a signal: there is time until then for the last lines.
    Stopped {
        deadline: Moment,
    },
}

impl Publisher {
    async fn run(mut self) -> Result<(), Error> {
        let mut lines = BufReader::new(tokio::io::stdin()).split(b'\n');
        let mut stop = Stop::listen()?;
        let mut input = Input::Open;
        loop {
            let deadline = match input {
                Input::Ended | Input::Stopped { .. } if self.on_their_way.is_empty() => break,
                Input::Stopped { deadline } => Some(deadline),
                Input::Open | Input::Ended => None,
            };
            let reads = matches!(input, Input::Open)
                && self.keeper.is_up()
                && self.on_their_way.len() < usize::from(WINDOW);
            // Outcomes before lines: what has to be sent again goes first.
            tokio::select! {
                biased;
                () = stop.asked(), if deadline.is_none() => {
                    input = Input::Stopped { deadline: self.machine.now().plus(LAST_LINES) };
                }
                () = self.machine.sleep_until(deadline) => break,
                outcome = oldest(&mut self.on_their_way) => self.settle(outcome)?,
                incoming = self.keeper.next() => self.take_in(&incoming?),
                line = lines.next_segment(), if reads => match line {
                    Ok(Some(line)) => self.read(line.into())?,
                    Ok(None) => input = Input::Ended,
                    Err(error) => return Err(Error::Stream { stream: "stdin", error }),
                },
            }
        }
        self.end().await
    }

    fn take_in(&mut self, incoming: &Incoming) {
        match incoming {
            Incoming::Connected { max_packet_size, .. } => self.max_packet_size = *max_packet_size,
            Incoming::Reauthenticated | Incoming::Message(_) | Incoming::Subscribed(_) => {}
        }
    }

    fn read(&mut self, payload: Bytes) -> Result<(), Error> {
        self.published += 1;
        self.publish(payload)
    }

    fn publish(&mut self, payload: Bytes) -> Result<(), Error> {
        let topic = match &self.topic {
            Some(topic) => topic.clone(),
            // There is a connection, so there is a token.
            None => topic_name(&format!("devices/{}/out", self.keeper.mqtt_client_id().unwrap_or_default()))?,
        };
        let length = topic.len() + payload.len() + PUBLISH_OVERHEAD;
        let limit = self.max_packet_size.map_or(MAX_OUTGOING, |max| max as usize);
        if length > limit {
            tracing::warn!(bytes = payload.len(), limit, "a line is longer than the broker takes");
            self.refused += 1;
            return Ok(());
        }
        let outcome = self.keeper.publish(&topic, payload.clone(), self.qos)?;
        self.on_their_way.push_back(Line { payload, outcome });
        Ok(())
    }

    /// Takes the oldest line from the queue; its outcome is known.
    fn settle(&mut self, outcome: Result<PublishResult, PublishNoticeError>) -> Result<(), Error> {
        let Some(line) = self.on_their_way.pop_front() else { return Ok(()) };
        match outcome {
            Ok(_) => Ok(()),
            // Never sent, or lost with the broker's session.
            Err(PublishNoticeError::Recv | PublishNoticeError::SessionReset) => self.publish(line.payload),
            Err(error) => {
                tracing::warn!("a line was not accepted: {error}");
                self.refused += 1;
                Ok(())
            }
        }
    }

    async fn end(self) -> Result<(), Error> {
        let Self { keeper, on_their_way, published, refused, .. } = self;
        keeper.close().await;
        tracing::info!(published, refused, unacknowledged = on_their_way.len(), "ended");
        if !on_their_way.is_empty() {
            return Err(Error::Unacknowledged { count: on_their_way.len() });
        }
        if refused > 0 {
            return Err(Error::MessagesRefused { refused, published });
        }
        Ok(())
    }
}

/// The outcome of the oldest line; waits for ever if there is none.
async fn oldest(lines: &mut VecDeque<Line>) -> Result<PublishResult, PublishNoticeError> {
    match lines.front_mut() {
        Some(line) => line.outcome.as_mut().await,
        None => std::future::pending().await,
    }
}
