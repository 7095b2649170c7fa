//! Threads that read for sources. What panics in one ends that thread and nothing else, and is told: what it would have read does not come. It
//! knows nothing of what is read.

use eddyline_common::{Result, panic_text};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::{Builder, JoinHandle};

/// Starts a thread; `tell` takes what becomes the source's problem if the work panics.
pub fn spawn(name: &str, work: impl FnOnce() + Send + 'static, tell: impl FnOnce(String) + Send + 'static) -> Result<JoinHandle<()>> {
    let guarded = move || {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(work)) {
            let what = panic_text(panic.as_ref());
            tell(format!("reading panicked, and goes on once the server is started again: {what}; this is a defect of the server"));
        }
    };
    Ok(Builder::new().name(name.to_string()).spawn(guarded)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crossbeam_channel::unbounded;

    #[test]
    fn a_panic_is_told_and_nothing_else() {
        let (problems, told) = unbounded();
        for (panics, expected) in [(false, 0), (true, 1)] {
            let problems = problems.clone();
            let tell = move |problem| problems.send(problem).unwrap();
            spawn("test", move || assert!(!panics, "a defect"), tell).unwrap().join().unwrap();
            assert_eq!(told.try_iter().filter(|problem: &String| problem.contains("a defect")).count(), expected);
        }
    }
}
