//! Server-sent events (HTML Living Standard §9.2.6), as far as the feed uses
//! them: the fields `event`, `data` and `id`, within bounds.

/// An event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Event {
    /// Its name; `message` where it has none.
    pub(super) name: String,
    pub(super) data: String,
    /// Its own `id`: unlike in a browser, not that of an earlier one.
    pub(super) id: Option<String>,
}

/// What comes is no stream of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum InvalidStream {
    #[error("an event has more than {} bytes", Parser::MAX_EVENT_LENGTH)]
    TooLong,
    #[error("an event is not UTF-8")]
    NotUtf8,
}

/// Takes bytes as they come, and gives events.
#[derive(Debug, Default)]
pub(super) struct Parser {
    line: Vec<u8>,
    after_cr: bool,
    name: String,
    data: String,
    id: Option<String>,
}

impl Parser {
    /// The most bytes of an event, and of a line.
    pub(super) const MAX_EVENT_LENGTH: usize = 1024 * 1024;

    /// Adds the events that `bytes` complete to `events`.
    pub(super) fn parse(&mut self, bytes: &[u8], events: &mut Vec<Event>) -> Result<(), InvalidStream> {
        for piece in bytes.split_inclusive(|byte| matches!(byte, b'\r' | b'\n')) {
            let (content, end) = match piece.split_last() {
                Some((end @ (b'\r' | b'\n'), content)) => (content, Some(*end)),
                _ => (piece, None),
            };
            let second_of_crlf = self.after_cr && content.is_empty() && end == Some(b'\n');
            self.after_cr = end == Some(b'\r');
            if second_of_crlf {
                continue;
            }
            if self.line.len() + content.len() > Self::MAX_EVENT_LENGTH {
                return Err(InvalidStream::TooLong);
            }
            self.line.extend_from_slice(content);
            if end.is_some() {
                let line = String::from_utf8(std::mem::take(&mut self.line));
                events.extend(self.line(&line.map_err(|_| InvalidStream::NotUtf8)?)?);
            }
        }
        Ok(())
    }

    /// Takes a line, and gives the event that it ends.
    fn line(&mut self, line: &str) -> Result<Option<Event>, InvalidStream> {
        if line.is_empty() {
            let Self { name, data, id, .. } = std::mem::take(self);
            if data.is_empty() {
                return Ok(None);
            }
            let name = if name.is_empty() { "message".to_owned() } else { name };
            return Ok(Some(Event { name, data: data.trim_end_matches('\n').to_owned(), id }));
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.name),
            "data" => {
                if self.data.len() + value.len() > Self::MAX_EVENT_LENGTH {
                    return Err(InvalidStream::TooLong);
                }
                self.data.push_str(value);
                self.data.push('\n');
            }
            "id" if !value.contains('\0') => self.id = Some(value.to_owned()),
            // Comments (an empty field), `retry`, and what others may add.
            _ => {}
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn events(pieces: &[&[u8]]) -> Result<Vec<Event>, InvalidStream> {
        let (mut parser, mut events) = (Parser::default(), Vec::new());
        pieces.iter().try_for_each(|piece| parser.parse(piece, &mut events))?;
        Ok(events)
    }

    fn event(name: &str, data: &str, id: Option<&str>) -> Event {
        Event { name: name.into(), data: data.into(), id: id.map(Into::into) }
    }

    #[test]
    fn fields_comments_and_line_ends() {
        let stream = b": hello\nevent: a\ndata: 1\nid: x-1\n\nretry: 5\n\ndata:2\r\ndata: 3\r\n\r\nevent\rdata: 4\r\rdata: cut";
        let expected =
            [event("a", "1", Some("x-1")), event("message", "2\n3", None), event("message", "4", None)];
        assert_eq!(events(&[stream]).unwrap(), expected);
        let bytes: Vec<&[u8]> = stream.chunks(1).collect();
        assert_eq!(events(&bytes).unwrap(), expected, "however it is cut");
    }

    #[test]
    fn what_is_too_long_or_no_text_is_refused() {
        let line = vec![b'x'; Parser::MAX_EVENT_LENGTH];
        assert_eq!(events(&[b"data: ", &line]), Err(InvalidStream::TooLong));
        let half = [b"data: ", &line[..line.len() / 2 - 6], b"\n"].concat();
        assert_eq!(events(&[&half, &half, b"\n"]).unwrap().len(), 1);
        assert_eq!(events(&[&half, &half, &half]), Err(InvalidStream::TooLong));
        assert_eq!(events(&[b"data: \xff\n"]), Err(InvalidStream::NotUtf8));
    }

    proptest! {
        #[test]
        fn any_bytes_do_not_panic(bytes: Vec<u8>, cut in 0..50_usize) {
            let (one, two) = bytes.split_at(cut.min(bytes.len()));
            prop_assert_eq!(events(&[one, two]), events(&[&bytes]));
        }
    }
}
