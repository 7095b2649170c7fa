//! Waiting for conditions instead of sleeping for times.

use std::future::Future;
use std::time::{Duration, Instant};

/// How long a condition may take before a test calls it false. Generous: the machine may be busy.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub const POLL: Duration = Duration::from_millis(5);

/// Polls until `probe` gives a value; panics with `what` when it does not in time.
pub async fn until<T, F: Future<Output = Option<T>>>(what: &str, probe: impl FnMut() -> F) -> T {
    until_within(PATIENCE, what, probe).await
}

/// The same for what takes longer by its nature.
pub async fn until_within<T, F: Future<Output = Option<T>>>(patience: Duration, what: &str, mut probe: impl FnMut() -> F) -> T {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(value) = probe().await {
            return value;
        }
        assert!(Instant::now() < deadline, "in {patience:?} it did not come true that {what}");
        tokio::time::sleep(POLL).await;
    }
}
