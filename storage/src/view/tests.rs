//! A view against a model that keeps, for every epoch, the bag of its rows.

use super::*;
use arrow::array::{AsArray, Int64Array, StringArray};
use arrow::compute;
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use bytes::Bytes;
use proptest::prelude::*;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::AtomicBool;

type Row = (i64, Option<String>, i64);
type Bag = BTreeMap<Row, i64>;

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("k", DataType::Int64, false),
        Field::new("s", DataType::Utf8, true),
        Field::new("v", DataType::Int64, false),
    ]))
}

fn batch(rows: &[(Row, i64)]) -> ChangeBatch {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|r| r.0.0))),
        Arc::new(StringArray::from_iter(rows.iter().map(|r| r.0.1.as_deref()))),
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|r| r.0.2))),
    ];
    let weights = Int64Array::from_iter_values(rows.iter().map(|r| r.1));
    ChangeBatch::with_weights(RecordBatch::try_new(schema(), columns).unwrap(), weights)
}

fn add(bag: &mut Bag, rows: &RecordBatch, weight: impl Fn(usize) -> i64) {
    let (k, s, v) =
        (rows.column(0).as_primitive::<Int64Type>(), rows.column(1).as_string::<i32>(), rows.column(2).as_primitive::<Int64Type>());
    for row in 0..rows.num_rows() {
        let text = (!compute::is_null(s).unwrap().value(row)).then(|| s.value(row).to_string());
        add_row(bag, (k.value(row), text, v.value(row)), weight(row));
    }
}

fn add_row(bag: &mut Bag, row: Row, weight: i64) {
    let sum = bag.get(&row).copied().unwrap_or_default() + weight;
    if sum == 0 {
        bag.remove(&row)
    } else {
        bag.insert(row, sum)
    };
}

fn read(view: &View, epoch: u64) -> Result<Bag> {
    let mut bag = Bag::new();
    for rows in view.snapshot(Epoch(epoch), None)? {
        add(&mut bag, &rows?, |_| 1);
    }
    Ok(bag)
}

fn difference(after: &Bag, to: &Bag) -> Bag {
    let mut bag = to.clone();
    after.iter().for_each(|(row, n)| add_row(&mut bag, row.clone(), -n));
    bag
}

fn shard_of(view: &View, row: &Row) -> usize {
    let Some(identity) = &view.identity else { return row.0 as usize % view.shards() };
    let mut keys = eddyline_common::key::KeyRows::default();
    identity.encode(&batch(&[(row.clone(), 1)]).rows, &mut keys);
    use eddyline_common::key::{hash64, vshard, worker_of};
    worker_of(vshard(hash64(keys.row(0))), view.shards())
}

/// One thing that happens to a view. Numbers are taken modulo what there is.
#[derive(Clone, Debug)]
enum Op {
    Step(Vec<(i64, u8, u8)>),
    Vacuum(u64),
    Checkpoint { lost: bool },
    Restore { shards: usize },
    Read(u64),
    Changes(u64, u64),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => proptest::collection::vec((0i64..40, any::<u8>(), any::<u8>()), 0..25).prop_map(Op::Step),
        2 => any::<u64>().prop_map(Op::Vacuum),
        2 => any::<bool>().prop_map(|lost| Op::Checkpoint { lost }),
        1 => (1usize..5).prop_map(|shards| Op::Restore { shards }),
        2 => any::<u64>().prop_map(Op::Read),
        2 => (any::<u64>(), any::<u64>()).prop_map(|(a, b)| Op::Changes(a, b)),
    ]
}

/// Where a test's views are frozen.
struct Disk {
    temp: tempfile::TempDir,
    dir: Arc<SegmentDir>,
}

impl Disk {
    fn new() -> Self {
        let temp = tempfile::tempdir().unwrap();
        let dir = SegmentDir::open(&temp.path().join("views")).unwrap();
        Disk { temp, dir }
    }

    fn view(&self, key: ViewKey, shards: usize) -> Arc<View> {
        View::new(schema(), key, shards, Some(self.dir.clone())).unwrap()
    }

    /// As the server does: files of rows are put in their place, if they are not there, and mapped.
    fn reopen(&self, key: ViewKey, shards: usize, manifest: &ViewManifest, files: &HashMap<String, Bytes>) -> Arc<View> {
        let mut fetch = |name: &str| {
            if !manifest.segments.iter().any(|file| file.name == name) {
                return Ok(files[name].clone());
            }
            let path = self.dir.path_of(name);
            if !path.exists() {
                std::fs::write(path, &files[name]).unwrap();
            }
            self.dir.map(name)
        };
        View::restore(schema(), key, shards, Some(self.dir.clone()), manifest, &mut fetch).unwrap()
    }

    fn files(&self) -> usize {
        std::fs::read_dir(self.temp.path().join("views")).unwrap().count()
    }
}

/// Over a column that may be null, and over two, not in their order.
const INDEXES: [(&str, &[usize]); 2] = [("by text", &[1]), ("by value and k", &[2, 0])];

fn add_indexes(view: &View) {
    INDEXES.iter().for_each(|(name, columns)| view.add_index(name, columns).unwrap());
}

fn found(view: &View, epoch: u64, index: usize, values: &[ArrayRef]) -> Bag {
    let mut bag = Bag::new();
    for rows in view.find(Epoch(epoch), &view.indexes()[index], values).unwrap() {
        add(&mut bag, &rows.unwrap(), |_| 1);
    }
    bag
}

fn those(bag: &Bag, wanted: impl Fn(&Row) -> bool) -> Bag {
    bag.iter().filter(|(row, _)| wanted(row)).map(|(row, n)| (row.clone(), *n)).collect()
}

struct Model {
    key: ViewKey,
    disk: Disk,
    view: Arc<View>,
    /// The bag at each epoch from 0.
    epochs: Vec<Bag>,
    horizon: u64,
    manifest: ViewManifest,
    files: HashMap<String, Bytes>,
}

impl Model {
    fn new(key: ViewKey, shards: usize) -> Self {
        let disk = Disk::new();
        let view = disk.view(key.clone(), shards);
        add_indexes(&view);
        Model { key, disk, view, epochs: vec![Bag::new()], horizon: 0, manifest: ViewManifest::default(), files: HashMap::new() }
    }

    fn now(&self) -> u64 {
        self.epochs.len() as u64 - 1
    }

    fn step(&mut self, wishes: &[(i64, u8, u8)]) {
        let before = self.epochs.last().unwrap();
        let mut net: BTreeMap<Row, i64> = BTreeMap::new();
        let mut touched = std::collections::BTreeSet::new();
        for (k, what, v) in wishes {
            let text = (what % 5 != 0).then(|| format!("text {}", v % 7));
            let row = (*k, text, (*v % 3) as i64);
            match self.key {
                ViewKey::Append => *net.entry(row).or_default() += 1 + (*what % 2) as i64,
                ViewKey::Multiset => {
                    let row = (k % 4, row.1, row.2);
                    let there = before.get(&row).copied().unwrap_or_default();
                    net.insert(row, (*what as i64 % 7 - 3).max(-there));
                }
                ViewKey::Keyed(_) if touched.insert(*k) => {
                    if let Some((old, _)) = before.range((*k, None, i64::MIN)..).next().filter(|(old, _)| old.0 == *k) {
                        net.insert(old.clone(), -1);
                    }
                    if what % 3 != 0 {
                        *net.entry(row).or_default() += 1;
                    }
                }
                ViewKey::Keyed(_) => {}
            }
        }
        let mut after = before.clone();
        let mut by_shard: Vec<Vec<(Row, i64)>> = vec![Vec::new(); self.view.shards()];
        for (row, weight) in net {
            add_row(&mut after, row.clone(), weight);
            by_shard[shard_of(&self.view, &row)].push((row, weight));
        }
        let epoch = Epoch(self.epochs.len() as u64);
        for (shard, rows) in by_shard.iter().enumerate() {
            // In two calls for one epoch, old rows first.
            let (old, new): (Vec<_>, Vec<_>) = rows.iter().cloned().partition(|r| r.1 < 0);
            if epoch.0.is_multiple_of(2) {
                self.view.apply(shard, epoch, &[batch(&new), batch(&old)]).unwrap();
            } else {
                self.view.apply(shard, epoch, &[batch(&old)]).unwrap();
                self.view.apply(shard, epoch, &[batch(&new)]).unwrap();
            }
        }
        self.epochs.push(after);
    }

    fn run(&mut self, op: &Op) {
        match op {
            Op::Step(wishes) => self.step(wishes),
            Op::Vacuum(n) => {
                self.horizon = self.horizon.max(n % self.epochs.len() as u64);
                self.view.vacuum(Epoch(self.horizon)).unwrap();
            }
            Op::Checkpoint { lost } => self.checkpoint(*lost),
            Op::Restore { shards } => self.restore(*shards),
            Op::Read(n) => self.check_epoch(n % self.epochs.len() as u64),
            Op::Changes(a, b) => {
                let (a, b) = (a % self.epochs.len() as u64, b % self.epochs.len() as u64);
                self.check_changes(a.min(b), a.max(b));
            }
        }
    }

    fn checkpoint(&mut self, lost: bool) {
        // Behind the newest epoch, if readers still may be.
        let epoch = Epoch(self.horizon.max(self.manifest.epoch.0).max(self.now().saturating_sub(1)));
        let made = self.view.checkpoint(epoch, &self.manifest).unwrap();
        let known: Vec<String> = self.manifest.file_names().map(String::from).collect();
        let new: Vec<&str> = made.manifest.file_names().filter(|name| !known.iter().any(|k| k == name)).collect();
        assert_eq!(new.len(), made.files.len(), "exactly the files that are not known come with the checkpoint");
        if lost {
            return;
        }
        assert!(made.files.iter().all(|f| f.path.as_ref().is_none_or(|path| *std::fs::read(path).unwrap() == *f.bytes)));
        self.files.extend(made.files.into_iter().map(|f| (f.name, f.bytes)));
        self.manifest = serde_json::from_str(&serde_json::to_string(&made.manifest).unwrap()).unwrap();
        let named: Vec<&str> = self.manifest.file_names().collect();
        self.files.retain(|name, _| named.contains(&name.as_str()));
        let copy = self.reopened(3);
        assert_eq!(read(&copy, epoch.0).unwrap(), self.epochs[epoch.0 as usize]);
    }

    fn reopened(&self, shards: usize) -> Arc<View> {
        self.disk.reopen(self.key.clone(), shards, &self.manifest, &self.files)
    }

    fn restore(&mut self, shards: usize) {
        self.view = self.reopened(shards);
        add_indexes(&self.view);
        self.horizon = self.manifest.epoch.0;
        self.epochs.truncate(self.horizon as usize + 1);
    }

    fn check_epoch(&self, epoch: u64) {
        if epoch < self.horizon {
            assert_eq!(self.view.snapshot(Epoch(epoch), None).err().unwrap().state, SqlState::SNAPSHOT_TOO_OLD);
            return;
        }
        let expected = &self.epochs[epoch as usize];
        assert_eq!(&read(&self.view, epoch).unwrap(), expected, "rows at epoch {epoch}");
        assert_eq!(self.view.num_rows(Epoch(epoch)), expected.values().sum::<i64>() as u64);
        if matches!(self.key, ViewKey::Keyed(_)) {
            let keys: ArrayRef = Arc::new(Int64Array::from_iter_values((5..30).chain(5..8)));
            let mut found = Bag::new();
            add(&mut found, &self.view.lookup(Epoch(epoch), &[keys]).unwrap(), |_| 1);
            assert_eq!(found, those(expected, |row| (5..30).contains(&row.0)), "looked up at epoch {epoch}");
        }
        let texts: ArrayRef = Arc::new(StringArray::from(vec![Some("text 3"), None, Some("text 5"), Some("text 3"), Some("")]));
        let of_texts = those(expected, |row| matches!(row.1.as_deref(), Some("text 3" | "text 5")));
        assert_eq!(found(&self.view, epoch, 0, &[texts]), of_texts, "found by text at epoch {epoch}");
        let pair = |value: i64, k: i64| [value, k].map(|n| Arc::new(Int64Array::from(vec![n])) as ArrayRef);
        let of_pair = those(expected, |row| (row.2, row.0) == (1, 2));
        assert_eq!(found(&self.view, epoch, 1, &pair(1, 2)), of_pair, "found by value and k at epoch {epoch}");
    }

    fn check_changes(&self, after: u64, to: u64) {
        let changes = self.view.changes(Epoch(after), Epoch(to));
        if after < self.horizon {
            assert_eq!(changes.unwrap_err().state, SqlState::SNAPSHOT_TOO_OLD);
            return;
        }
        let (mut net, mut size) = (Bag::new(), 0);
        for batch in changes.unwrap() {
            add(&mut net, &batch.rows, |row| batch.weight(row));
            size += batch.num_rows() as i64;
        }
        let expected = difference(&self.epochs[after as usize], &self.epochs[to as usize]);
        assert_eq!(size, expected.values().map(|n| n.abs()).sum::<i64>(), "changes are net");
        assert_eq!(net, expected);
    }
}

fn agrees(key: ViewKey, shards: usize, ops: &[Op]) {
    let mut model = Model::new(key, shards);
    for op in ops {
        model.run(op);
        model.check_epoch(model.now());
    }
    (0..=model.now()).for_each(|epoch| model.check_epoch(epoch));
    model.check_changes(model.horizon, model.now());
    model.view.vacuum(Epoch(model.now())).unwrap();
    model.check_epoch(model.epochs.len() as u64 - 1);
    let Model { disk, view, .. } = model;
    drop(view);
    assert_eq!(disk.dir.tail_bytes(), 0, "what is not frozen is accounted for");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn append_agrees_with_the_model(shards in 1usize..4, ops in proptest::collection::vec(op(), 1..60)) {
        agrees(ViewKey::Append, shards, &ops);
    }

    #[test]
    fn keyed_agrees_with_the_model(shards in 1usize..4, ops in proptest::collection::vec(op(), 1..60)) {
        agrees(ViewKey::Keyed(vec![0]), shards, &ops);
    }

    #[test]
    fn multiset_agrees_with_the_model(shards in 1usize..4, ops in proptest::collection::vec(op(), 1..60)) {
        agrees(ViewKey::Multiset, shards, &ops);
    }
}

fn row(k: i64, v: i64) -> Row {
    (k, Some(format!("row {k}")), v)
}

#[test]
fn changes_that_do_not_fit_are_errors() {
    let view = View::new(schema(), ViewKey::Keyed(vec![0]), 2, None).unwrap();
    view.apply(0, Epoch(1), &[batch(&[(row(1, 1), 1)])]).unwrap();
    let second = view.apply(0, Epoch(2), &[batch(&[(row(1, 2), 1)])]).unwrap_err();
    assert_eq!(second.state, SqlState::INTERNAL_ERROR);
    let absent = view.apply(0, Epoch(2), &[batch(&[(row(7, 1), -1)])]).unwrap_err();
    assert_eq!(absent.state, SqlState::INTERNAL_ERROR);
    let append = View::new(schema(), ViewKey::Append, 1, None).unwrap();
    assert_eq!(append.apply(0, Epoch(1), &[batch(&[(row(1, 1), -1)])]).unwrap_err().state, SqlState::INTERNAL_ERROR);
    let multiset = View::new(schema(), ViewKey::Multiset, 1, None).unwrap();
    multiset.apply(0, Epoch(1), &[batch(&[(row(1, 1), 2)])]).unwrap();
    assert_eq!(multiset.apply(0, Epoch(2), &[batch(&[(row(1, 1), -3)])]).unwrap_err().state, SqlState::INTERNAL_ERROR);
    assert_eq!(multiset.apply(0, Epoch(2), &[batch(&[(row(1, 2), 1 << 40)])]).unwrap_err().state, SqlState::LIMIT_EXCEEDED);
}

#[test]
fn a_row_is_found_whoever_wrote_it() {
    let view = View::new(schema(), ViewKey::Keyed(vec![0]), 4, None).unwrap();
    (0..100).for_each(|k| view.apply(0, Epoch(1), &[batch(&[(row(k, 1), 1)])]).unwrap());
    (0..100).for_each(|k| view.apply(k as usize % 4, Epoch(2), &[batch(&[(row(k, 1), -1), (row(k, 2), 1)])]).unwrap());
    assert_eq!(read(&view, 2).unwrap(), (0..100).map(|k| (row(k, 2), 1)).collect());
    assert_eq!(view.lookup(Epoch(1), &[Arc::new(Int64Array::from(vec![3, 50, 1000]))]).unwrap().num_rows(), 2);
}

#[test]
fn reads_without_columns_count_rows() {
    let view = View::new(schema(), ViewKey::Multiset, 1, None).unwrap();
    let rows: Vec<(Row, i64)> = (0..100_000).map(|k| (row(k, 1), 1)).collect();
    view.apply(0, Epoch(1), &[batch(&rows)]).unwrap();
    view.apply(0, Epoch(2), &[batch(&[(row(70_000, 1), -1)])]).unwrap();
    let count = |epoch, columns: &[usize]| -> Vec<usize> {
        view.snapshot(Epoch(epoch), Some(columns)).unwrap().map(|rows| rows.unwrap().num_rows()).collect()
    };
    assert_eq!(count(1, &[]), [65_536, 34_464]);
    assert_eq!(count(2, &[]), [65_536, 34_463]);
    let projected = view.snapshot(Epoch(2), Some(&[2, 0])).unwrap().next().unwrap().unwrap();
    assert_eq!(projected.schema().fields().iter().map(|f| f.name().as_str()).collect::<Vec<_>>(), ["v", "k"]);
}

#[test]
fn many_small_steps_stay_few_segments_and_few_files() {
    let view = View::new(schema(), ViewKey::Keyed(vec![0]), 1, None).unwrap();
    let mut manifest = ViewManifest::default();
    for epoch in 1..=3000 {
        let k = epoch as i64;
        let mut rows = vec![(row(k, 0), 1)];
        if k > 10 && k % 3 == 0 {
            rows.push((row(k - 10, 0), -1));
        }
        view.apply(0, Epoch(epoch), &[batch(&rows)]).unwrap();
        if epoch % 50 == 0 {
            view.vacuum(Epoch(epoch)).unwrap();
            manifest = view.checkpoint(Epoch(epoch), &manifest).unwrap().manifest;
            assert!(view.segments() <= 2 * merge_fanout(), "{} segments at {epoch}", view.segments());
            assert!(manifest.file_names().count() <= 4 * merge_fanout(), "{} files at {epoch}", manifest.file_names().count());
        }
    }
    assert_eq!(view.num_rows(Epoch(3000)), 3000 - (11..=3000).filter(|k| k % 3 == 0).count() as u64);
}

fn merge_fanout() -> usize {
    merge::FANOUT
}

#[test]
fn a_checkpoint_writes_what_is_new_and_notices_what_is_gone() {
    let view = View::new(schema(), ViewKey::Keyed(vec![0]), 2, None).unwrap();
    let rows: Vec<(Row, i64)> = (0..50_000).map(|k| (row(k, 1), 1)).collect();
    view.apply(0, Epoch(1), &[batch(&rows)]).unwrap();
    let first = view.checkpoint(Epoch(1), &ViewManifest::default()).unwrap();
    assert_eq!(first.files.len(), 1);
    view.apply(0, Epoch(2), &[batch(&[(row(7, 1), -1), (row(7, 2), 1)])]).unwrap();
    let second = view.checkpoint(Epoch(2), &first.manifest).unwrap();
    assert_eq!(second.files.len(), 2, "the new row, and what became of the old one");
    assert!(second.files.iter().all(|f| f.bytes.len() < 4096));
    let same = view.checkpoint(Epoch(3), &second.manifest).unwrap();
    assert!(same.files.is_empty());
    assert_eq!(same.manifest.segments, second.manifest.segments);
    let deletions: Vec<(Row, i64)> = (100..20_000).map(|k| (row(k, 1), -1)).collect();
    view.apply(1, Epoch(4), &[batch(&deletions)]).unwrap();
    view.vacuum(Epoch(4)).unwrap();
    let rewritten = view.checkpoint(Epoch(4), &same.manifest).unwrap();
    assert_eq!(rewritten.manifest.segments.iter().map(|f| f.live).sum::<u64>(), 50_000 - 19_900);
    assert!(!rewritten.manifest.file_names().any(|name| name == first.files[0].name));
}

#[test]
fn damage_is_found() {
    let view = View::new(schema(), ViewKey::Keyed(vec![0]), 1, None).unwrap();
    view.apply(0, Epoch(1), &[batch(&(0..1000).map(|k| (row(k, 1), 1)).collect::<Vec<_>>())]).unwrap();
    let first = view.checkpoint(Epoch(1), &ViewManifest::default()).unwrap();
    view.apply(0, Epoch(2), &[batch(&[(row(7, 1), -1)])]).unwrap();
    let second = view.checkpoint(Epoch(2), &first.manifest).unwrap();
    let files: HashMap<String, Bytes> = first.files.into_iter().chain(second.files).map(|f| (f.name, f.bytes)).collect();
    let restore = |manifest: &ViewManifest, hurt: &str, at: usize| {
        let mut fetch = |name: &str| {
            let mut bytes = files[name].to_vec();
            if name == hurt {
                bytes[at] ^= 1;
            }
            Ok(Bytes::from(bytes))
        };
        View::restore(schema(), ViewKey::Keyed(vec![0]), 2, None, manifest, &mut fetch)
    };
    assert_eq!(restore(&second.manifest, "", 0).unwrap().num_rows(Epoch(2)), 999);
    for name in second.manifest.file_names() {
        for at in [0, files[name].len() / 2, files[name].len() - 1] {
            assert_eq!(restore(&second.manifest, name, at).err().unwrap().state, SqlState::DATA_CORRUPTED);
        }
    }
    let mut twice = second.manifest.clone();
    twice.segments.push(twice.segments[0].clone());
    assert_eq!(restore(&twice, "", 0).err().unwrap().state, SqlState::DATA_CORRUPTED);
    let mut lost = second.manifest.clone();
    lost.segments[0].live -= 1;
    assert_eq!(restore(&lost, "", 0).err().unwrap().state, SqlState::DATA_CORRUPTED);
}

#[test]
fn small_slices_of_large_batches_do_not_keep_them() {
    let view = View::new(schema(), ViewKey::Append, 1, None).unwrap();
    let large = batch(&(0..10_000).map(|k| (row(k, 1), 1)).collect::<Vec<_>>());
    view.apply(0, Epoch(1), &[ChangeBatch::insertions(large.rows.slice(5000, 3))]).unwrap();
    let kept = view.shards[0].segments()[0].rows().columns().iter().map(|c| c.get_buffer_memory_size()).sum::<usize>();
    assert!(kept < 1024, "{kept} bytes are held");
    assert_eq!(read(&view, 1).unwrap().len(), 3);
}

/// Two shards of a keyed view: every step moves amounts between keys, so that the total never changes.
#[test]
fn readers_see_whole_steps_while_writers_and_vacuum_work() {
    const KEYS: i64 = 2000;
    const STEPS: u64 = 400;
    let disk = Disk::new();
    let view = disk.view(ViewKey::Keyed(vec![0]), 2);
    add_indexes(&view);
    let committed = AtomicU64::new(0);
    let pinned = AtomicU64::new(0);
    let done = AtomicBool::new(false);
    let mut values: Vec<i64> = vec![100; KEYS as usize];
    let load: Vec<(Row, i64)> = (0..KEYS).map(|k| (row(k, 100), 1)).collect();
    for shard in 0..2 {
        let mine: Vec<(Row, i64)> = load.iter().filter(|r| shard_of(&view, &r.0) == shard).cloned().collect();
        view.apply(shard, Epoch(1), &[batch(&mine)]).unwrap();
    }
    committed.store(1, Ordering::Release);
    std::thread::scope(|scope| {
        let reader = || {
            let mut reads = 0;
            while !done.load(Ordering::Acquire) || reads == 0 {
                let epoch = Epoch(committed.load(Ordering::Acquire));
                let Ok(snapshot) = view.snapshot(epoch, Some(&[2])) else { continue };
                let (mut rows, mut total) = (0, 0);
                for rows_read in snapshot {
                    let rows_read = rows_read.unwrap();
                    rows += rows_read.num_rows() as i64;
                    total += compute::sum(rows_read.column(0).as_primitive::<Int64Type>()).unwrap();
                }
                assert_eq!((rows, total), (KEYS, KEYS * 100), "at epoch {epoch}");
                let keys: ArrayRef = Arc::new(Int64Array::from_iter_values(0..KEYS));
                if let Ok(found) = view.lookup(epoch, &[keys]) {
                    let total = compute::sum(found.column(2).as_primitive::<Int64Type>()).unwrap();
                    assert_eq!((found.num_rows() as i64, total), (KEYS, KEYS * 100), "looked up at epoch {epoch}");
                }
                let texts: ArrayRef = Arc::new(StringArray::from_iter_values((0..KEYS).map(|k| format!("row {k}"))));
                if let Ok(found) = view.find(epoch, &view.indexes()[0], &[texts]) {
                    let found: Vec<RecordBatch> = found.map(|rows| rows.unwrap()).collect();
                    let values = |rows: &RecordBatch| compute::sum(rows.column(2).as_primitive::<Int64Type>()).unwrap();
                    let rows: usize = found.iter().map(RecordBatch::num_rows).sum();
                    assert_eq!((rows as i64, found.iter().map(values).sum::<i64>()), (KEYS, KEYS * 100), "found by text at epoch {epoch}");
                }
                reads += 1;
            }
        };
        scope.spawn(reader);
        scope.spawn(reader);
        scope.spawn(|| {
            let mut manifest = ViewManifest::default();
            while !done.load(Ordering::Acquire) {
                pinned.store(committed.load(Ordering::Acquire), Ordering::Release);
                view.vacuum(Epoch(pinned.load(Ordering::Acquire))).unwrap();
                let epoch = Epoch(committed.load(Ordering::Acquire));
                manifest = view.checkpoint(epoch, &manifest).unwrap().manifest;
                assert_eq!(manifest.segments.iter().map(|s| s.live).sum::<u64>(), KEYS as u64);
            }
        });
        for step in 2..=STEPS {
            let (mut old, mut new) = (vec![Vec::new(); 2], vec![Vec::new(); 2]);
            for i in 0..KEYS / 8 {
                let k = (step as i64 * 31 + i * 7) % KEYS;
                let change = if i % 2 == 0 { 1 } else { -1 };
                let shard = shard_of(&view, &row(k, 0));
                old[shard].push((row(k, values[k as usize]), -1));
                values[k as usize] += change;
                new[shard].push((row(k, values[k as usize]), 1));
            }
            let (first, second) = (&[batch(&old[0]), batch(&new[0])], &[batch(&old[1]), batch(&new[1])]);
            std::thread::scope(|writers| {
                writers.spawn(|| view.apply(0, Epoch(step), first).unwrap());
                writers.spawn(|| view.apply(1, Epoch(step), second).unwrap());
            });
            committed.store(step, Ordering::Release);
        }
        done.store(true, Ordering::Release);
    });
    let expected: Bag = (0..KEYS).map(|k| (row(k, values[k as usize]), 1)).collect();
    assert_eq!(read(&view, STEPS).unwrap(), expected);
}

#[test]
fn many_copies_of_few_rows_are_cheap_to_take_and_to_move() {
    let view = View::new(schema(), ViewKey::Multiset, 1, None).unwrap();
    for epoch in 1..=40 {
        view.apply(0, Epoch(epoch), &[batch(&[(row(1, 1), 5000), (row(2, 2), 1)])]).unwrap();
        if epoch % 5 == 0 {
            view.vacuum(Epoch(epoch)).unwrap();
        }
    }
    view.apply(0, Epoch(41), &[batch(&[(row(1, 1), -199_999)])]).unwrap();
    view.vacuum(Epoch(41)).unwrap();
    assert_eq!(read(&view, 41).unwrap(), Bag::from([(row(1, 1), 1), (row(2, 2), 40)]));
    assert!(view.segments() <= 2);
}

fn rows_at(range: std::ops::Range<i64>, v: i64, weight: i64) -> Vec<(Row, i64)> {
    range.map(|k| (row(k, v), weight)).collect()
}

/// Whether the segment's values are read from its file.
fn is_mapped(segment: &Segment) -> bool {
    let Some(place) = segment.place() else { return false };
    let file = place.file.bytes.as_ptr_range();
    let inside = |column: &ArrayRef| column.to_data().buffers().iter().all(|b| file.contains(&b.as_ptr()));
    segment.rows().columns().iter().all(inside)
}

#[test]
fn frozen_rows_leave_memory_and_are_read_in_place() {
    let disk = Disk::new();
    let view = disk.view(ViewKey::Append, 1);
    for epoch in 1..=5 {
        let rows = rows_at(epoch * 5000..(epoch + 1) * 5000, 1, 1);
        view.apply(0, Epoch(epoch as u64), &[batch(&rows)]).unwrap();
    }
    let (tail, before) = (disk.dir.tail_bytes(), read(&view, 5).unwrap());
    assert!(tail > 25_000 * 16 && view.bytes() >= tail);
    let made = view.checkpoint(Epoch(4), &ViewManifest::default()).unwrap();
    assert!(disk.dir.tail_bytes() < tail / 4, "the segment of epoch 5 is no part of the checkpoint");
    let made = view.checkpoint(Epoch(5), &made.manifest).unwrap();
    assert_eq!((disk.dir.tail_bytes(), view.bytes()), (0, 0));
    assert!(view.shards[0].segments().iter().all(|s| is_mapped(s)));
    assert_eq!(read(&view, 5).unwrap(), before);
    let files: HashMap<String, Bytes> =
        made.manifest.file_names().map(|name| (name.to_string(), Bytes::from(std::fs::read(disk.dir.path_of(name)).unwrap()))).collect();
    let copy = disk.reopen(ViewKey::Append, 2, &made.manifest, &files);
    assert_eq!(copy.bytes(), 0, "a restored view reads the files where they are");
    assert!(copy.shards.iter().flat_map(|s| s.segments().to_vec()).all(|s| is_mapped(&s)));
    assert_eq!(read(&copy, 5).unwrap(), before);
}

#[test]
fn files_of_rows_that_are_gone_are_removed_and_readers_keep_them() {
    let disk = Disk::new();
    let view = disk.view(ViewKey::Keyed(vec![0]), 1);
    view.apply(0, Epoch(1), &[batch(&rows_at(0..3000, 1, 1))]).unwrap();
    let first = view.checkpoint(Epoch(1), &ViewManifest::default()).unwrap();
    let mut reader = view.snapshot(Epoch(1), None).unwrap();
    view.apply(0, Epoch(2), &[batch(&rows_at(0..2000, 1, -1))]).unwrap();
    view.vacuum(Epoch(2)).unwrap();
    assert!(!disk.dir.path_of(&first.files[0].name).exists());
    assert_eq!(reader.next().unwrap().unwrap().num_rows(), 3000);
    let second = view.checkpoint(Epoch(2), &first.manifest).unwrap();
    assert_eq!((disk.files(), second.files.len(), second.manifest.segments[0].live), (1, 1, 1000));
    let mut reader = view.snapshot(Epoch(2), None).unwrap();
    view.discard();
    assert_eq!((disk.files(), reader.next().unwrap().unwrap().num_rows()), (0, 1000));
}

#[test]
fn large_tails_are_frozen_between_checkpoints() {
    let disk = Disk::new();
    let (small, large) = (disk.view(ViewKey::Multiset, 1), disk.view(ViewKey::Multiset, 1));
    small.apply(0, Epoch(1), &[batch(&rows_at(0..100, 1, 1))]).unwrap();
    small.vacuum(Epoch(0)).unwrap();
    assert_eq!(disk.files(), 0, "a small tail waits for the checkpoint");
    let mut epoch = 0;
    while disk.dir.tail_bytes() < freeze::ALL_TAILS_BYTES {
        epoch += 1;
        let rows = rows_at(epoch * 10_000..(epoch + 1) * 10_000, 1, 1);
        large.apply(0, Epoch(epoch as u64), &[batch(&rows)]).unwrap();
    }
    // Together they are too large, so that small ones are frozen too, also where nothing may be merged.
    small.vacuum(Epoch(0)).unwrap();
    large.vacuum(Epoch(0)).unwrap();
    assert_eq!(disk.dir.tail_bytes(), 0);
    assert_eq!(large.num_rows(Epoch(epoch as u64)), epoch as u64 * 10_000);
    assert_eq!(read(&small, 1).unwrap().len(), 100);
    large.vacuum(Epoch(epoch as u64)).unwrap();
    assert!(large.shards[0].segments().iter().all(|s| is_mapped(s)), "large merged segments go to files at once");
}

#[test]
fn a_file_that_cannot_be_written_leaves_the_view_as_it_was() {
    let disk = Disk::new();
    let view = disk.view(ViewKey::Keyed(vec![0]), 1);
    view.apply(0, Epoch(1), &[batch(&rows_at(0..1000, 1, 1))]).unwrap();
    let (dir, away) = (disk.temp.path().join("views"), disk.temp.path().join("away"));
    std::fs::rename(&dir, &away).unwrap();
    assert_eq!(view.checkpoint(Epoch(1), &ViewManifest::default()).unwrap_err().state, SqlState::IO_ERROR);
    assert_eq!(read(&view, 1).unwrap().len(), 1000);
    std::fs::rename(&away, &dir).unwrap();
    assert_eq!(view.checkpoint(Epoch(1), &ViewManifest::default()).unwrap().manifest.segments[0].live, 1000);
}

#[test]
fn rows_that_are_left_in_a_sparse_file_move_on() {
    let disk = Disk::new();
    let view = disk.view(ViewKey::Append, 1);
    let sizes: Vec<i64> = [vec![600; 4], vec![3000]].concat();
    let mut next = 0;
    for (step, size) in sizes.iter().enumerate() {
        view.apply(0, Epoch(step as u64 + 1), &[batch(&rows_at(next..next + size, 1, 1))]).unwrap();
        next += size;
    }
    let first = view.checkpoint(Epoch(5), &ViewManifest::default()).unwrap();
    assert_eq!(first.files.len(), 1, "segments of one tail share a file");
    view.vacuum(Epoch(4)).unwrap();
    let second = view.checkpoint(Epoch(5), &first.manifest).unwrap();
    assert!(!second.manifest.file_names().any(|name| name == first.files[0].name));
    assert_eq!((disk.files(), view.num_rows(Epoch(5))), (second.manifest.segments.len(), next as u64));
}

#[test]
fn a_start_keeps_only_what_a_checkpoint_names() {
    let disk = Disk::new();
    for name in ["kept", "left"] {
        std::fs::write(disk.dir.path_of(name), name).unwrap();
    }
    disk.dir.keep_only(&["kept", "elsewhere"].into()).unwrap();
    assert_eq!((disk.files(), &disk.dir.map("kept").unwrap()[..]), (1, b"kept".as_slice()));
}

#[test]
fn one_vacuum_rewrites_a_bounded_number_of_bytes() {
    let disk = Disk::new();
    let view = disk.view(ViewKey::Keyed(vec![0]), 1);
    let text = "x".repeat(2000);
    let mut rows = 0;
    for epoch in 1..=24 {
        let step: Vec<_> = (rows..rows + 1000).map(|k| ((k, Some(text.clone()), 0), 1)).collect();
        view.apply(0, Epoch(epoch), &[batch(&step)]).unwrap();
        rows += 1000;
    }
    // While it is moved, a row is found where it was: at an epoch when it was alive, and not after.
    let keys = |k: i64| [Arc::new(Int64Array::from(vec![k])) as ArrayRef];
    view.apply(0, Epoch(25), &[batch(&[((5, Some(text.clone()), 0), -1)])]).unwrap();
    let before = view.segments();
    assert!(view.vacuum(Epoch(24)).unwrap(), "48 MB are more than one vacuum does");
    let between = view.segments();
    assert!(between < before);
    while view.vacuum(Epoch(24)).unwrap() {
        assert_eq!((view.num_rows(Epoch(24)), view.num_rows(Epoch(25))), (rows as u64, rows as u64 - 1));
    }
    assert!(view.segments() < between);
    let found = |epoch, k| view.lookup(Epoch(epoch), &keys(k)).unwrap().num_rows();
    assert_eq!((found(24, 5), found(25, 5), found(25, 6), found(24, rows)), (1, 0, 1, 0));
    assert!(!view.vacuum(Epoch(25)).unwrap());
    assert_eq!(found(25, 5), 0);
}

#[test]
fn an_index_is_right_whenever_it_is_declared_and_goes_when_it_is_dropped() {
    let view = View::new(schema(), ViewKey::Append, 2, None).unwrap();
    let rows = |range: std::ops::Range<i64>| range.map(|k| ((k, Some(format!("text {}", k % 100)), 0), 1)).collect::<Vec<_>>();
    view.apply(0, Epoch(1), &[batch(&rows(0..5000))]).unwrap();
    let before = view.bytes();
    add_indexes(&view);
    add_indexes(&view);
    assert_eq!((view.indexes().len(), view.bytes()), (2, before), "declaring one costs nothing by row");
    let values: [ArrayRef; 1] = [Arc::new(StringArray::from(vec!["text 7"]))];
    let bound = |max| view.find(Epoch(1), &view.indexes()[0], &values).unwrap().at_most(max);
    assert_eq!(bound(5000), None, "a large segment would be read first");
    view.apply(1, Epoch(2), &[batch(&rows(5000..6000))]).unwrap();
    assert_eq!(view.bytes() - before, 2 * 1000 * 8 + bytes_of_rows(&rows(5000..6000)), "a step's rows are indexed with it");
    assert_eq!(found(&view, 1, 0, &values).len(), 50);
    assert_eq!(found(&view, 2, 0, &values).len(), 60);
    assert_eq!((bound(5000), bound(49)), (Some(50), None));
    view.build_indexes();
    assert_eq!(view.bytes() - before, 2 * 6000 * 8 + bytes_of_rows(&rows(5000..6000)));
    view.drop_index("by text");
    view.vacuum(Epoch(0)).unwrap();
    assert_eq!((view.indexes().len(), view.indexes()[0].name()), (1, "by value and k"));
    assert_eq!(view.bytes() - before, 6000 * 8 + bytes_of_rows(&rows(5000..6000)));
    let integers: [ArrayRef; 2] = [0, 5999].map(|n| Arc::new(Int64Array::from(vec![n])) as ArrayRef);
    assert_eq!(found(&view, 2, 0, &integers), Bag::from([((5999, Some("text 99".into()), 0), 1)]));
    assert!(view.find(Epoch(2), &view.indexes()[0], &values).is_err(), "other columns than the index has");
}

/// As a segment in memory counts them.
fn bytes_of_rows(rows: &[(Row, i64)]) -> usize {
    eddyline_common::bytes_of(&batch(rows).rows)
}

#[test]
fn vacuum_indexes_what_is_not_and_keeps_what_it_merges_indexed() {
    let view = View::new(schema(), ViewKey::Keyed(vec![0]), 1, None).unwrap();
    for epoch in 1..=8 {
        view.apply(0, Epoch(epoch), &[batch(&rows_at(epoch as i64 * 2000..(epoch as i64 + 1) * 2000, 1, 1))]).unwrap();
    }
    add_indexes(&view);
    let values: [ArrayRef; 1] = [Arc::new(StringArray::from(vec!["row 2001", "row 17999"]))];
    let bound = || view.find(Epoch(8), &view.indexes()[0], &values).unwrap().at_most(10);
    assert_eq!(bound(), None);
    assert!(!view.vacuum(Epoch(0)).unwrap(), "nothing can be merged yet");
    assert_eq!((bound(), view.segments()), (Some(2), 8));
    view.vacuum(Epoch(8)).unwrap();
    assert!(view.segments() < 8);
    assert_eq!(bound(), Some(2), "merged segments are indexed before anybody finds them");
    assert_eq!(found(&view, 8, 0, &values), Bag::from([(row(2001, 1), 1), (row(17_999, 1), 1)]));
}

#[test]
fn many_rows_of_one_value_come_in_batches() {
    let view = View::new(schema(), ViewKey::Append, 1, None).unwrap();
    view.add_index("by v", &[2]).unwrap();
    view.apply(0, Epoch(1), &[batch(&rows_at(0..20_000, 1, 1))]).unwrap();
    view.apply(0, Epoch(2), &[batch(&rows_at(0..10, 1, 1))]).unwrap();
    let values: [ArrayRef; 1] = [Arc::new(Int64Array::from(vec![1]))];
    let sizes: Vec<usize> = view.find(Epoch(2), &view.indexes()[0], &values).unwrap().map(|rows| rows.unwrap().num_rows()).collect();
    assert_eq!(sizes, [8192, 8192, 3626]);
    assert_eq!(found(&view, 1, 0, &values).len(), 20_000);
}
