//! The newest warnings and errors that the server logs, kept for `eddyline.errors`: whoever looks at night has psql at hand, and perhaps not the
//! log. It takes what is logged, whatever `RUST_LOG` lets through to standard error, and knows nothing of what it means.

use eddyline_common::Timestamp;
use eddyline_common::runtime::{Clock, SystemClock};
use parking_lot::Mutex;
use std::collections::{BTreeMap, VecDeque};
use std::fmt::{Debug, Write};
use std::sync::Arc;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

/// How many are kept, and how much of each.
const KEPT_MAX: usize = 1_000;
const TEXT_BYTES_MAX: usize = 4_096;

/// So many relations are counted for themselves; those after them are as what is about none.
const COUNTED_MAX: usize = 1_000;

/// Fields of an event that name what it is about.
const RELATION_FIELDS: [&str; 5] = ["source", "table", "view", "sink", "relation"];

#[derive(Clone, Debug)]
pub struct Problem {
    pub at: Timestamp,
    pub is_error: bool,
    /// The part of the server that met it.
    pub part: &'static str,
    /// The relation that it is about, if it is about one.
    pub relation: Option<String>,
    pub text: String,
}

impl Problem {
    pub fn level(is_error: bool) -> &'static str {
        if is_error { "error" } else { "warning" }
    }
}

#[derive(Debug, Default)]
pub struct Problems(Mutex<Told>);

#[derive(Debug, Default)]
struct Told {
    newest: VecDeque<Problem>,
    /// Errors, and warnings, by the relation that they are about: all since start.
    counts: BTreeMap<(bool, Option<String>), u64>,
}

impl Problems {
    /// Oldest first.
    pub fn all(&self) -> Vec<Problem> {
        self.0.lock().newest.iter().cloned().collect()
    }

    /// How many there were since start: by level, and by relation if they were about one.
    pub fn counts(&self) -> Vec<(&'static str, Option<String>, u64)> {
        self.0.lock().counts.iter().map(|((is_error, relation), count)| (Problem::level(*is_error), relation.clone(), *count)).collect()
    }

    /// What fills it from the log.
    pub fn layer<S: Subscriber + for<'a> LookupSpan<'a>>(self: &Arc<Self>) -> impl Layer<S> {
        Keeping(self.clone()).with_filter(LevelFilter::WARN)
    }

    fn push(&self, problem: Problem) {
        let told = &mut *self.0.lock();
        let about = (problem.is_error, problem.relation.clone());
        let is_counted = told.counts.len() < COUNTED_MAX || told.counts.contains_key(&about);
        *told.counts.entry(if is_counted { about } else { (problem.is_error, None) }).or_default() += 1;
        if told.newest.len() == KEPT_MAX {
            told.newest.pop_front();
        }
        told.newest.push_back(problem);
    }
}

struct Keeping(Arc<Problems>);

impl<S: Subscriber> Layer<S> for Keeping {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let mut words = Words::default();
        event.record(&mut words);
        let mut text = words.message + &words.fields;
        text.truncate(text.floor_char_boundary(TEXT_BYTES_MAX));
        let metadata = event.metadata();
        let part = metadata.target().rsplit("::").next().unwrap_or_default();
        let (at, is_error) = (SystemClock.now(), *metadata.level() == Level::ERROR);
        self.0.push(Problem { at, is_error, part, relation: words.relation, text });
    }
}

/// An event's message, the relation that it names, and its other fields.
#[derive(Default)]
struct Words {
    message: String,
    relation: Option<String>,
    fields: String,
}

impl Visit for Words {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let written = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name if RELATION_FIELDS.contains(&name) => write!(self.relation.insert(String::new()), "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
        debug_assert!(written.is_ok(), "a string takes everything");
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing_subscriber::layer::SubscriberExt;

    #[test]
    fn warnings_and_errors_are_kept_with_what_they_are_about() {
        let problems = Arc::new(Problems::default());
        let subscriber = tracing_subscriber::registry().with(problems.layer());
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!("all is well");
            tracing::warn!(source = "bids", attempt = 3, "is retried");
            (0..KEPT_MAX).for_each(|n| tracing::error!(view = %n, "stopped: {}", "é".repeat(TEXT_BYTES_MAX)));
        });
        let kept = problems.all();
        assert_eq!(kept.len(), KEPT_MAX);
        assert_eq!((kept[0].relation.as_deref(), kept[0].is_error, kept[0].part), (Some("0"), true, "tests"));
        let counts = problems.counts();
        assert!(counts.contains(&("warning", Some("bids".to_string()), 1)) && counts.contains(&("error", Some("0".to_string()), 1)));
        assert_eq!(counts.iter().map(|(_, _, count)| count).sum::<u64>(), 1 + KEPT_MAX as u64);
        assert!(counts.len() <= COUNTED_MAX + 2);
        assert!(kept[0].text.starts_with("stopped: é") && kept[0].text.len() <= TEXT_BYTES_MAX);
        let problems = Arc::new(Problems::default());
        let subscriber = tracing_subscriber::registry().with(problems.layer());
        tracing::subscriber::with_default(subscriber, || tracing::warn!(source = "bids", attempt = 3, "is retried"));
        let kept = problems.all();
        assert_eq!((kept[0].relation.as_deref(), kept[0].text.as_str(), kept[0].is_error), (Some("bids"), "is retried attempt=3", false));
    }
}
