//! How entries of a `StateTable` come back from the store other than by their key: all at once, by window, in order.

use super::*;

impl StateTable {
    /// The earliest window end that has entries, in memory or in the store. Tables with `TableShape::expiry` only.
    pub fn first_end(&self) -> Option<i64> {
        self.expiry.as_ref()?.first()
    }

    /// The live slots in memory of one window.
    pub fn window_slots(&self, end: i64) -> Vec<u32> {
        self.expiry.as_ref().map_or(Vec::new(), |e| e.slots(end).to_vec())
    }

    /// Loads those entries of one window that are in the store only, a shard at a time; `false` when there are no more.
    /// Between two calls the caller removes what was loaded.
    pub fn load_window(&mut self, end: i64, codec: &mut dyn SlotCodec) -> Result<bool> {
        let Some(shard) = self.expiry.as_ref().and_then(|e| e.first_stored(end)) else { return Ok(false) };
        let start = self.durable_key(shard, &end_prefix(end));
        let stop = successor(&start);
        let (kv, id) = (self.space.kv.clone(), self.space.id);
        self.counters.fetches += 1;
        kv.scan(id, &start, stop.as_deref(), &mut |key, value| {
            self.load(key, value, codec)?;
            Ok(true)
        })?;
        self.expiry.as_mut().expect("it had a stored shard").unmark_stored(end, shard);
        Ok(true)
    }

    /// Makes a stored entry resident, unless memory knows better.
    fn load(&mut self, durable: &[u8], value: &[u8], codec: &mut dyn SlotCodec) -> Result<Option<u32>> {
        let [shard, _, key @ ..] = durable else { return Err(SqlError::corrupt("a stored state key is damaged")) };
        if self.find(key).is_some() {
            return Ok(None);
        }
        self.admit(key, hash64(key), *shard, value, codec).map(Some)
    }

    /// Makes resident every entry whose key begins with `prefix`. `out` gets the slots that were not in memory before.
    pub fn load_prefix(&mut self, prefix: &[u8], shard: u8, codec: &mut dyn SlotCodec, out: &mut Vec<u32>) -> Result<()> {
        let start = self.durable_key(shard, prefix);
        let stop = successor(&start);
        let (kv, id) = (self.space.kv.clone(), self.space.id);
        self.counters.fetches += 1;
        kv.scan(id, &start, stop.as_deref(), &mut |key, value| {
            out.extend(self.load(key, value, codec)?);
            Ok(true)
        })
    }

    /// Removes every entry whose key begins with `prefix`; between steps. Tables with `TableShape::ordered` only.
    pub fn remove_prefix(&mut self, prefix: &[u8], shard: u8, codec: &mut dyn SlotCodec) -> Result<()> {
        loop {
            for slot in self.resident_with(prefix).collect::<Vec<_>>() {
                self.remove(slot, codec);
            }
            if self.complete {
                return Ok(());
            }
            self.maintain(codec)?;
            let mut keys = KeyRows::default();
            self.scan_stored(prefix, prefix, shard, &mut |key, _| {
                keys.push(&[key]);
                Ok(keys.len() < FETCH_KEYS)
            })?;
            if keys.is_empty() {
                return Ok(());
            }
            self.lookup(&keys, Shards::Of(&|_| shard), codec, &mut Vec::new())?;
        }
    }

    /// Visits in order the entries that are in the store only and whose keys begin with `prefix`, from `start` (which
    /// does) until `visit` returns false. Makes nothing resident.
    pub fn scan_stored(
        &mut self,
        prefix: &[u8],
        start: &[u8],
        shard: u8,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> Result<bool>,
    ) -> Result<()> {
        let (from, to) = (self.durable_key(shard, start), successor(&self.durable_key(shard, prefix)));
        self.counters.fetches += 1;
        let mut fetched = 0;
        let result = self.space.kv.scan(self.space.id, &from, to.as_deref(), &mut |durable, value| {
            if self.find(&durable[2..]).is_some() {
                return Ok(true);
            }
            fetched += 1;
            visit(&durable[2..], value)
        });
        self.counters.fetched += fetched;
        result
    }

    /// The live slots in memory whose keys begin with `prefix`, in order. Tables with `TableShape::ordered` only.
    fn resident_with<'a>(&'a self, prefix: &'a [u8]) -> impl Iterator<Item = u32> + 'a {
        let ordered = self.ordered.as_ref().expect("the table was opened ordered");
        ordered.from(prefix).take_while(move |(key, _)| key.starts_with(prefix)).map(|(_, slot)| slot)
    }

    /// As `scan_stored`, but from the last entry before `end` (which begins with `prefix`) to the first.
    pub fn scan_stored_back(
        &mut self,
        prefix: &[u8],
        end: &[u8],
        shard: u8,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> Result<bool>,
    ) -> Result<()> {
        let (from, to) = (self.durable_key(shard, prefix), self.durable_key(shard, end));
        self.counters.fetches += 1;
        let mut fetched = 0;
        let result = self.space.kv.scan_back(self.space.id, &from, Some(&to), &mut |durable, value| {
            if self.find(&durable[2..]).is_some() {
                return Ok(true);
            }
            fetched += 1;
            visit(&durable[2..], value)
        });
        self.counters.fetched += fetched;
        result
    }

    pub(super) fn load_all(&mut self, codec: &mut dyn SlotCodec) -> Result<()> {
        let (kv, id) = (self.space.kv.clone(), self.space.id);
        for shard in self.space.shards.clone() {
            kv.scan(id, &[shard as u8, self.kind], Some(&[shard as u8, self.kind + 1]), &mut |key, value| {
                self.load(key, value, codec)?;
                Ok(true)
            })?;
        }
        Ok(())
    }

    /// Nothing is in memory yet; learns which windows exist by skipping from one to the next within each shard.
    pub(super) fn note_stored_windows(&mut self) -> Result<()> {
        self.complete = false;
        let Some(expiry) = &mut self.expiry else { return Ok(()) };
        for shard in self.space.shards.clone() {
            let mut start = vec![shard as u8, self.kind];
            let stop = [shard as u8, self.kind + 1];
            loop {
                let mut found = None;
                self.space.kv.scan(self.space.id, &start, Some(&stop), &mut |key, _| {
                    found = key.get(2..2 + END_BYTES).map(<[u8]>::to_vec);
                    Ok(false)
                })?;
                let Some(prefix) = found else { break };
                expiry.mark_stored(end_of(&prefix)?, shard as u8);
                let next = successor(&[&[shard as u8, self.kind], prefix.as_slice()].concat());
                let Some(next) = next else { break };
                start = next;
            }
        }
        Ok(())
    }

    /// The smallest key at or after `start` that begins with `prefix` and is live: in memory if `alive` says so of its
    /// slot, or in the store only. Tables with `TableShape::ordered` only.
    pub fn first_from(&mut self, prefix: &[u8], start: &[u8], shard: u8, alive: impl Fn(u32) -> bool) -> Result<Option<Vec<u8>>> {
        let ordered = self.ordered.as_ref().expect("the table was opened ordered");
        let mut range = ordered.from(start).take_while(|(key, _)| key.starts_with(prefix));
        let resident = range.find(|(_, slot)| alive(*slot)).map(|(key, _)| key.to_vec());
        drop(range);
        if self.complete {
            return Ok(resident);
        }
        let from = self.durable_key(shard, start);
        let to = match &resident {
            Some(key) => Some(self.durable_key(shard, key)),
            None => successor(&self.durable_key(shard, prefix)),
        };
        let mut stored = None;
        self.space.kv.scan(self.space.id, &from, to.as_deref(), &mut |durable, _| {
            if self.find(&durable[2..]).is_none() {
                stored = Some(durable[2..].to_vec());
            }
            Ok(stored.is_none())
        })?;
        self.counters.fetches += 1;
        self.counters.fetched += stored.is_some() as u64;
        Ok(stored.or(resident))
    }
}

/// The smallest byte string above every one that begins with `prefix`.
fn successor(prefix: &[u8]) -> Option<Vec<u8>> {
    let mut next = prefix.to_vec();
    while let Some(last) = next.pop() {
        if last < u8::MAX {
            next.push(last + 1);
            return Some(next);
        }
    }
    None
}
