//! Answers that may be used again for a time. The clock is that of the steps, so that which rows were asked for follows from cuts. It
//! keeps no more than its size, and lets the oldest go first.

use super::Key;
use eddyline_common::Timestamp;
use eddyline_common::connector::LookupCache;
use hashbrown::HashMap;
use std::collections::VecDeque;
use std::sync::Arc;

/// Of an entry beside its key and its rows, about.
const ENTRY_BYTES: usize = 128;

type Rows = Arc<[Box<[u8]>]>;

pub(super) struct Cache {
    size: LookupCache,
    /// Until when it is good, and the rows.
    found: HashMap<Key, (Timestamp, Rows)>,
    oldest: VecDeque<Key>,
    bytes: usize,
}

impl Cache {
    pub(super) fn new(size: LookupCache) -> Self {
        Cache { size, found: HashMap::new(), oldest: VecDeque::new(), bytes: 0 }
    }

    pub(super) fn get(&self, key: &[u8], now: Timestamp) -> Option<Rows> {
        self.found.get(key).filter(|(until, _)| *until > now).map(|(_, rows)| rows.clone())
    }

    /// An answer that came just now, to a key that `get` had nothing of.
    pub(super) fn put(&mut self, key: &Key, rows: Rows, now: Timestamp) {
        let is_over = |(until, _): &(Timestamp, Rows)| *until <= now;
        while let Some(oldest) = self.oldest.front()
            && (self.found.len() >= self.size.keys_max || self.found.get(oldest).is_none_or(is_over))
        {
            let Some(oldest) = self.oldest.pop_front() else { break };
            if let Some((_, rows)) = self.found.remove(&oldest) {
                self.bytes -= bytes_of(&oldest, &rows);
            }
        }
        self.bytes += bytes_of(key, &rows);
        let until = Timestamp(now.0.saturating_add(self.size.ttl_micros));
        self.oldest.push_back(key.clone());
        let before = self.found.insert(key.clone(), (until, rows));
        debug_assert!(before.is_none(), "a key is asked for when nothing is known of it");
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

fn bytes_of(key: &[u8], rows: &Rows) -> usize {
    ENTRY_BYTES + key.len() + rows.iter().map(|row| row.len() + size_of::<Box<[u8]>>()).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_forgets_what_is_too_old_or_too_much() {
        let mut cache = Cache::new(LookupCache { keys_max: 2, ttl_micros: 10 });
        let rows = |n: usize| -> Rows { vec![Box::<[u8]>::from(&b"row"[..]); n].into() };
        let known = |cache: &Cache, now: i64| [b"a", b"b", b"c"].map(|key| cache.get(key, Timestamp(now)).map(|rows| rows.len()));
        cache.put(&Key::from(*b"a"), rows(1), Timestamp(0));
        cache.put(&Key::from(*b"b"), rows(0), Timestamp(5));
        assert_eq!(known(&cache, 9), [Some(1), Some(0), None], "that there is nothing is an answer too");
        assert_eq!(known(&cache, 10), [None, Some(0), None]);
        let bytes = cache.bytes();
        cache.put(&Key::from(*b"a"), rows(1), Timestamp(12));
        assert_eq!(cache.bytes(), bytes);
        cache.put(&Key::from(*b"c"), rows(2), Timestamp(13));
        assert_eq!(known(&cache, 14), [Some(1), None, Some(2)], "the oldest goes first");
        cache.put(&Key::from(*b"b"), rows(1), Timestamp(100));
        assert_eq!((cache.found.len(), cache.oldest.len(), cache.bytes()), (1, 1, bytes_of(b"b", &rows(1))));
    }
}
