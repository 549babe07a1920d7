//! Speed as ratios against a baseline in the same run.
//!
//! Absolute times drift with the machine; the ratio of two things that are
//! run alternately drifts much less. [`compare`] runs both in turn and gives
//! the median of the ratios, pair by pair, with its 95 % interval. A target is
//! missed only if the whole interval is on the wrong side of it.

#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "a bench's report goes to the terminal")]
#![expect(clippy::disallowed_methods, reason = "measuring time is what this crate is for")]

use std::hint::black_box;
use std::time::{Duration, Instant};

/// How many alternating pairs are run. The interval below fits this number.
pub const PAIRS: usize = 25;
/// The order statistics that bound the median of [`PAIRS`] values with at
/// least 95 % (binomial, 25 at one half: 95.7 %), counted from 0.
const INTERVAL: (usize, usize) = (7, 17);
/// How long one of the two runs before the other has its turn.
const TURN: Duration = Duration::from_millis(40);

/// Which side of the target is good.
#[derive(Clone, Copy, Debug)]
pub enum Target {
    /// It must not be over this.
    AtMost(f64),
    /// It must not be under this.
    AtLeast(f64),
}

impl Target {
    /// What it is, and whether all between two figures misses it.
    fn verdict(self, low: f64, high: f64) -> String {
        let (sign, bound, missed) = match self {
            Self::AtMost(bound) => ("≤", bound, low > bound),
            Self::AtLeast(bound) => ("≥", bound, high < bound),
        };
        format!("{sign} {bound}  {}", if missed { "MISSED" } else { "ok" })
    }
}

/// What a comparison found.
#[derive(Clone, Copy, Debug)]
pub struct Ratio {
    /// The median of the pairs' ratios.
    pub median: f64,
    /// Bounds of the median's 95 % interval.
    pub interval: (f64, f64),
}

impl Ratio {
    /// Of pairs of (measured, baseline) in one unit.
    #[must_use]
    pub fn of(pairs: &[(f64, f64); PAIRS]) -> Self {
        let mut ratios = pairs.map(|(measured, baseline)| measured / baseline);
        ratios.sort_by(f64::total_cmp);
        let [low, middle, high] =
            [INTERVAL.0, PAIRS / 2, INTERVAL.1].map(|i| ratios.get(i).copied().unwrap_or(f64::NAN));
        Self { median: middle, interval: (low, high) }
    }

    /// Prints a line of the report.
    pub fn report(self, name: &str, target: Target) {
        let Self { median, interval: (low, high) } = self;
        let verdict = target.verdict(low, high);
        println!("{name:<58} {median:7.3}  [{low:.3}, {high:.3}]  {verdict}");
    }
}

/// Prints a line of the report for something that has a baseline of its own: a
/// time that people feel, an amount of memory.
pub fn report(name: &str, figure: f64, target: Target) {
    println!("{name:<58} {figure:7.3}  {}", target.verdict(figure, figure));
}

/// Runs `measured` and `baseline` in turn and gives the ratio of their times
/// for one call.
pub fn compare<A, B>(mut measured: impl FnMut() -> A, mut baseline: impl FnMut() -> B) -> Ratio {
    let (measured_calls, baseline_calls) = (calls_per_turn(&mut measured), calls_per_turn(&mut baseline));
    let pairs =
        std::array::from_fn(|_| (time(&mut measured, measured_calls), time(&mut baseline, baseline_calls)));
    println!("  {:>10.0} ns against {:>10.0} ns", median(&pairs, |p| p.0), median(&pairs, |p| p.1));
    Ratio::of(&pairs)
}

/// [`compare`] where a pair is measured by the caller: each closure runs for a
/// while and returns its rate or time.
pub fn compare_runs(mut measured: impl FnMut() -> f64, mut baseline: impl FnMut() -> f64) -> Ratio {
    let pairs = std::array::from_fn(|_| (measured(), baseline()));
    println!("  {:>10.0} against {:>10.0}", median(&pairs, |p| p.0), median(&pairs, |p| p.1));
    Ratio::of(&pairs)
}

/// How often the closure allocates, by an allocator that counts.
#[must_use]
pub fn allocations<T>(count: impl Fn() -> usize, mut run: impl FnMut() -> T) -> usize {
    black_box(run());
    let before = count();
    black_box(run());
    count() - before
}

fn median(pairs: &[(f64, f64); PAIRS], side: impl Fn(&(f64, f64)) -> f64) -> f64 {
    let mut values: Vec<f64> = pairs.iter().map(side).collect();
    values.sort_by(f64::total_cmp);
    values.get(PAIRS / 2).copied().unwrap_or(f64::NAN)
}

/// Warms up and finds how many calls fill a turn.
fn calls_per_turn<T>(run: &mut impl FnMut() -> T) -> u32 {
    let mut calls = 1;
    loop {
        let start = Instant::now();
        for _ in 0..calls {
            black_box(run());
        }
        if start.elapsed() >= TURN {
            return calls;
        }
        calls *= 2;
    }
}

/// Nanoseconds for one call.
fn time<T>(run: &mut impl FnMut() -> T, calls: u32) -> f64 {
    let start = Instant::now();
    for _ in 0..calls {
        black_box(run());
    }
    start.elapsed().as_secs_f64() * 1e9 / f64::from(calls)
}
