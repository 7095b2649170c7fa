//! Named places where a test makes the process die or an operation fail. Armed through the environment
//! variable `EDDYLINE_FAILPOINTS`, for instance `log.synced=kill@3,checkpoint.upload=error@1`: at the third hit
//! the process kills itself with SIGKILL, at the first the operation fails; with `panic` it panics, with `slow` it takes five seconds; `hold@8` lets
//! eight through and then none until the place is released, after which it is eight again. Costs one load when not armed.

use crate::error::{Result, SqlError};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::LazyLock;
use std::time::Duration;

const SLOW: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, PartialEq)]
enum Action {
    Kill,
    Error,
    Panic,
    Slow,
    /// With how many it lets through.
    Hold(u64),
}

/// What is done at each point, and after how many hits.
type Points = Mutex<HashMap<String, (Action, u64)>>;

static ARMED: LazyLock<Option<Points>> = LazyLock::new(|| {
    let spec = std::env::var("EDDYLINE_FAILPOINTS").ok()?;
    Some(Mutex::new(spec.split(',').filter_map(parse).collect()))
});

fn parse(point: &str) -> Option<(String, (Action, u64))> {
    let (name, rest) = point.trim().split_once('=')?;
    let (action, nth) = rest.split_once('@').unwrap_or((rest, "1"));
    let nth = nth.parse().ok()?;
    let action = match action {
        "error" => Action::Error,
        "panic" => Action::Panic,
        "slow" => Action::Slow,
        "hold" => Action::Hold(nth),
        _ => Action::Kill,
    };
    Some((name.to_string(), (action, nth)))
}

/// Passes through the failpoint `name`.
pub fn hit(name: &str) -> Result<()> {
    let Some(armed) = ARMED.as_ref() else { return Ok(()) };
    let mut armed = armed.lock();
    let Some((action, left)) = armed.get_mut(name) else { return Ok(()) };
    *left = left.saturating_sub(1);
    if *left > 0 {
        return Ok(());
    }
    let action = *action;
    if matches!(action, Action::Error | Action::Panic | Action::Slow) {
        armed.remove(name);
    }
    drop(armed);
    match action {
        Action::Kill => kill_self(),
        Action::Error => Err(SqlError::io(format!("failpoint {name}"))),
        Action::Panic => panic!("failpoint {name}"),
        Action::Slow => {
            std::thread::sleep(SLOW);
            Ok(())
        }
        Action::Hold(_) => Ok(()),
    }
}

/// Whether nothing shall go through `name` for now.
pub fn holds(name: &str) -> bool {
    ARMED.as_ref().is_some_and(|armed| matches!(armed.lock().get(name), Some((Action::Hold(_), 0))))
}

/// Lets as many through `name` again as at first.
pub fn release(name: &str) {
    let Some(armed) = ARMED.as_ref() else { return };
    if let Some((Action::Hold(through), left)) = armed.lock().get_mut(name) {
        *left = *through;
    }
}

/// Passes through a failpoint after which nothing can be refused any more: only `kill` has an effect there.
pub fn pass(name: &str) {
    if let Err(error) = hit(name) {
        tracing::warn!("there is nothing that can fail here: {error}");
    }
}

fn kill_self() -> ! {
    let pid = std::process::id().to_string();
    // SIGKILL, not abort: nothing may run after it, no handler and no buffer flush.
    let _ = std::process::Command::new("kill").args(["-9", &pid]).status();
    std::process::abort()
}
