//! How many questions may wait for the same brokers at once, over all sources, sinks and statements: each has a client with threads of its own
//! meanwhile, and brokers that are away keep all of them as long as they may wait. Knows nothing of what is asked.

use parking_lot::{Condvar, Mutex};
use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Weak};
use std::time::{Duration, Instant};

/// Brokers that are there answer within milliseconds, so that nobody waits long for a turn.
const ASKING_MAX: usize = 8;

/// Those who ask some brokers, which goes by how these are named.
#[derive(Default)]
pub struct Asking {
    under_way: Mutex<usize>,
    left: Condvar,
}

/// One of those who ask; it leaves when dropped.
pub struct Turn(Arc<Asking>);

impl Asking {
    pub fn of(brokers: &str) -> Arc<Asking> {
        static ALL: LazyLock<Mutex<HashMap<String, Weak<Asking>>>> = LazyLock::new(Mutex::default);
        let mut all = ALL.lock();
        if let Some(known) = all.get(brokers).and_then(Weak::upgrade) {
            return known;
        }
        all.retain(|_, asking| asking.strong_count() > 0);
        let asking = Arc::new(Asking::default());
        all.insert(brokers.to_string(), Arc::downgrade(&asking));
        asking
    }

    /// `None` if nobody leaves in time.
    pub fn enter(self: &Arc<Self>, within: Duration) -> Option<Turn> {
        let until = Instant::now() + within;
        let mut under_way = self.under_way.lock();
        while *under_way >= ASKING_MAX {
            if self.left.wait_until(&mut under_way, until).timed_out() && *under_way >= ASKING_MAX {
                return None;
            }
        }
        *under_way += 1;
        Some(Turn(self.clone()))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        *self.0.under_way.lock() -= 1;
        self.0.left.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_finds_no_turn_waits_for_one_and_not_for_ever() {
        let asking = Asking::of("a:1");
        assert!(Arc::ptr_eq(&asking, &Asking::of("a:1")) && !Arc::ptr_eq(&asking, &Asking::of("b:1")));
        let mut turns: Vec<Turn> = (0..ASKING_MAX).map(|_| asking.enter(Duration::ZERO).unwrap()).collect();
        let begun = Instant::now();
        assert!(asking.enter(Duration::from_millis(20)).is_none());
        assert!(begun.elapsed() >= Duration::from_millis(20));
        let waiting = std::thread::spawn({
            let asking = asking.clone();
            move || asking.enter(Duration::from_secs(20)).is_some()
        });
        turns.pop();
        assert!(waiting.join().unwrap());
        // It left again.
        assert!(asking.enter(Duration::ZERO).is_some());
        assert!(Asking::of("b:1").enter(Duration::ZERO).is_some(), "other brokers are asked meanwhile");
    }
}
