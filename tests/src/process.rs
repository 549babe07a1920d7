//! Programs in a test's hands: their output is collected from the start, and
//! they are gone when the test is.

use std::fmt;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

pub use rustix::process::Signal;
use rustix::process::{Pid, kill_process};

use crate::patience::{Deadline, PATIENCE};

/// How long a program may take to end after SIGTERM before it is killed.
const GRACE: Duration = Duration::from_secs(5);

/// A started program. Dropping it ends it: SIGTERM first, SIGKILL to one that
/// does not listen. When its test panics, it prints what it has said.
pub struct Running {
    name: String,
    child: Child,
    stdin: Option<ChildStdin>,
    output: Arc<Output>,
}

/// One line of a program's output, without its line break.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Where it was written to.
    pub stream: Stream,
    /// What was written; not UTF-8 becomes U+FFFD.
    pub text: String,
}

/// The two ways of a program to speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// A point in a program's output: "what was said after this".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Position(usize);

/// A program that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    /// Exit code; `None` after a signal.
    pub code: Option<i32>,
    /// All of standard output.
    pub stdout: String,
    /// All of standard error.
    pub stderr: String,
}

/// Runs a program to its end, which must come within [`PATIENCE`].
///
/// # Panics
/// When the program cannot be started or takes longer.
pub fn run(command: Command) -> Finished {
    let mut running = Running::spawn(command);
    running.stdin = None;
    running.wait()
}

impl Running {
    /// Starts a program with its standard input open, see [`Running::say`].
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn spawn(mut command: Command) -> Self {
        let name = command.get_program().to_string_lossy().into_owned();
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| {
                panic!("{name} does not start: {error}; tests/install gets what the tests need")
            });
        let output = Arc::new(Output::default());
        let stdin = child.stdin.take();
        collect(child.stdout.take(), Stream::Stdout, &output);
        collect(child.stderr.take(), Stream::Stderr, &output);
        Self { name, child, stdin, output }
    }

    /// The program's process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Everything said so far on both streams, in the order of its arrival.
    #[must_use]
    pub fn output(&self) -> String {
        text_of(&self.output.lock().lines, |_| true)
    }

    /// Where the output ends now.
    #[must_use]
    pub fn position(&self) -> Position {
        Position(self.output.lock().lines.len())
    }

    /// Waits for a line that contains `text`, said at any time, and returns it.
    ///
    /// # Panics
    /// When the program ends without it, or [`PATIENCE`] is over.
    pub fn wait_for(&self, text: &str) -> String {
        self.wait_for_since(Position::default(), text)
    }

    /// Like [`Running::wait_for`], for lines after `since` only.
    ///
    /// # Panics
    /// When the program ends without it, or [`PATIENCE`] is over.
    pub fn wait_for_since(&self, since: Position, text: &str) -> String {
        self.find_since(since, PATIENCE, |line| line.text.contains(text).then(|| line.text.clone()))
            .unwrap_or_else(|| panic!("{} never said {text:?}; it said:\n{}", self.name, self.output()))
    }

    /// The first thing that `find` makes of a line after `since`. `None` when
    /// there is none within `wait`, or the output ends before.
    pub fn find_since<T>(
        &self,
        since: Position,
        wait: Duration,
        find: impl Fn(&Line) -> Option<T>,
    ) -> Option<T> {
        let deadline = Deadline::after(wait);
        let mut next = since.0;
        let mut said = self.output.lock();
        loop {
            if let Some(found) = said.lines.iter().skip(next).find_map(&find) {
                return Some(found);
            }
            next = said.lines.len().max(next);
            if said.ended_streams == 2 {
                return None;
            }
            let left = deadline.left()?;
            said = self.output.more.wait_timeout(said, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// The line at `position`, which moves on to the next. `None` when there is
    /// none within `wait`, or the output ends before.
    pub fn next_line(&self, position: &mut Position, wait: Duration) -> Option<Line> {
        let line = self.find_since(*position, wait, |line| Some(line.clone()))?;
        position.0 += 1;
        Some(line)
    }

    /// Writes a line to the program's standard input.
    ///
    /// # Panics
    /// When the program has closed it.
    pub fn say(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().unwrap_or_else(|| panic!("{}: standard input is closed", self.name));
        if let Err(error) = writeln!(stdin, "{line}") {
            panic!("{} does not listen: {error}; it said:\n{}", self.name, self.output());
        }
    }

    /// Closes the program's standard input.
    pub fn end_of_input(&mut self) {
        self.stdin = None;
    }

    /// Sends a signal. Nothing happens to a program that has ended.
    pub fn signal(&mut self, signal: Signal) {
        if self.is_running()
            && let Some(pid) = i32::try_from(self.pid()).ok().and_then(Pid::from_raw)
        {
            kill_process(pid, signal).unwrap_or_else(|error| panic!("signal to {}: {error}", self.name));
        }
    }

    /// Whether the program has not ended yet.
    pub fn is_running(&mut self) -> bool {
        self.try_wait().is_none()
    }

    /// Waits until the program has ended by itself.
    ///
    /// # Panics
    /// When it goes on for longer than [`PATIENCE`].
    pub fn wait(&mut self) -> Finished {
        match self.ended_within(PATIENCE) {
            Some(status) => self.finished(status),
            None => panic!("{} did not end; it said:\n{}", self.name, self.output()),
        }
    }

    /// Ends the program, with SIGTERM or, when that is not heard, SIGKILL.
    pub fn stop(&mut self) -> Finished {
        self.signal(Signal::TERM);
        let status = self.ended_within(GRACE).unwrap_or_else(|| {
            self.signal(Signal::KILL);
            self.child.wait().unwrap_or_else(|error| panic!("{}: {error}", self.name))
        });
        self.finished(status)
    }

    fn try_wait(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap_or_else(|error| panic!("{}: {error}", self.name))
    }

    fn ended_within(&mut self, wait: Duration) -> Option<ExitStatus> {
        let deadline = Deadline::after(wait);
        loop {
            if let Some(status) = self.try_wait() {
                return Some(status);
            }
            deadline.left()?;
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn finished(&self, status: ExitStatus) -> Finished {
        // The last words may still be in the pipe; a grandchild that keeps
        // the pipe open is not waited for.
        self.find_since(Position(usize::MAX), Duration::from_secs(1), |_| None::<()>);
        let said = self.output.lock();
        Finished {
            code: status.code(),
            stdout: text_of(&said.lines, |stream| stream == Stream::Stdout),
            stderr: text_of(&said.lines, |stream| stream == Stream::Stderr),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop();
        if thread::panicking() {
            eprintln!("--- {} said:\n{}---", self.name, self.output());
        }
    }
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running").field("name", &self.name).field("pid", &self.pid()).finish_non_exhaustive()
    }
}

#[derive(Default)]
struct Output {
    said: Mutex<Said>,
    more: Condvar,
}

#[derive(Default)]
struct Said {
    lines: Vec<Line>,
    ended_streams: usize,
}

impl Output {
    fn lock(&self) -> MutexGuard<'_, Said> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn collect(from: Option<impl Read + Send + 'static>, stream: Stream, output: &Arc<Output>) {
    let output = Arc::clone(output);
    thread::spawn(move || {
        if let Some(from) = from {
            for line in BufReader::new(from).split(b'\n').map_while(Result::ok) {
                let text = String::from_utf8_lossy(&line).trim_end_matches('\r').to_owned();
                output.lock().lines.push(Line { stream, text });
                output.more.notify_all();
            }
        }
        output.lock().ended_streams += 1;
        output.more.notify_all();
    });
}

fn text_of(lines: &[Line], wanted: impl Fn(Stream) -> bool) -> String {
    lines.iter().filter(|line| wanted(line.stream)).flat_map(|line| [line.text.as_str(), "\n"]).collect()
}

#[cfg(test)]
mod tests;
