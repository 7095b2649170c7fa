//! From a field's name to its column. Records of a stream nearly always have the same fields in the same order, so
//! each field is first compared with what stood at its place in the record before.

use super::cursor::Cursor;
use std::collections::HashMap;

/// Remembered places; an object with more fields looks the further ones up.
const PLACES_MAX: usize = 512;

pub struct FieldMap {
    exact: HashMap<String, usize>,
    /// By lower-case name; `None` where several columns share it.
    folded: HashMap<String, Option<usize>>,
    places: Vec<(String, Target)>,
    /// For each column, the number of the object in which its exact name was last seen.
    exact_in: Vec<u64>,
    objects: u64,
}

#[derive(Clone, Copy)]
enum Target {
    Exact(usize),
    Folded(usize),
    Unknown,
}

impl FieldMap {
    pub fn new<'a>(names: impl Iterator<Item = &'a str>) -> Self {
        let (mut exact, mut folded) = (HashMap::new(), HashMap::new());
        for (index, name) in names.enumerate() {
            exact.insert(name.to_string(), index);
            folded.entry(name.to_lowercase()).and_modify(|i| *i = None).or_insert(Some(index));
        }
        let exact_in = vec![0; exact.len()];
        FieldMap { exact, folded, places: Vec::new(), exact_in, objects: 0 }
    }

    /// The column of exactly a name, or of one that is the same without regard to case.
    pub fn find(&self, name: &str, exact: bool) -> Option<usize> {
        if exact { self.exact.get(name).copied() } else { self.folded.get(&name.to_lowercase()).copied().flatten() }
    }

    /// Reads an object and calls `value` with the column and the cursor at the value, for each field that has a
    /// column; `value` must consume it.
    #[inline]
    pub fn read_object<'a, E: From<String>>(
        &mut self,
        cursor: &mut Cursor<'a>,
        mut value: impl FnMut(usize, &mut Cursor<'a>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.objects += 1;
        let mut place = 0;
        cursor.read_members(|key, cursor| {
            let target = match self.places.get(place) {
                Some((name, target)) if !key.escaped && name.as_str() == key.raw => *target,
                _ => self.look_up(place, &key.unescape()?),
            };
            place += 1;
            match target {
                Target::Exact(index) => {
                    self.exact_in[index] = self.objects;
                    value(index, cursor)
                }
                Target::Folded(index) if self.exact_in[index] != self.objects => value(index, cursor),
                Target::Folded(_) | Target::Unknown => cursor.skip_value(1).map(drop).map_err(E::from),
            }
        })
    }

    fn look_up(&mut self, place: usize, name: &str) -> Target {
        let target = match (self.exact.get(name), self.folded.get(&name.to_lowercase())) {
            (Some(index), _) => Target::Exact(*index),
            (None, Some(Some(index))) => Target::Folded(*index),
            _ => Target::Unknown,
        };
        if place < self.places.len() {
            self.places[place] = (name.to_string(), target);
        } else if place == self.places.len() && place < PLACES_MAX {
            self.places.push((name.to_string(), target));
        }
        target
    }
}
