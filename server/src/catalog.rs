//! The catalog as one immutable snapshot: every user relation, index and function by id and by name. The coordinator owns the
//! current one and replaces it whole with each DDL; everybody else holds an `Arc` for the length of
//! a statement. Oids are derived from relation ids, which are never reused, so they are stable
//! across restarts. It knows nothing of persistence, of views' contents, or of system relations.

use eddyline_common::RelationId;
use eddyline_planner::catalog::{Index, Meant, SqlFunction};
use eddyline_planner::statement::ObjectKind;
use eddyline_planner::{Relation, RelationKind};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The first oid that PostgreSQL gives to a user object; clients take smaller ones for built in.
pub const FIRST_USER_OID: u32 = 16_384;

/// Relation ids are spread by this much, so that a relation's key index has an oid of its own.
const OIDS_PER_RELATION: u32 = 4;

/// The stable oid of a relation.
pub fn relation_oid(id: RelationId) -> u32 {
    FIRST_USER_OID + id.0 * OIDS_PER_RELATION
}

/// The stable oid of a relation's row type.
pub fn row_type_oid(id: RelationId) -> u32 {
    relation_oid(id) + 1
}

/// The stable oid of a relation's key index.
pub fn index_oid(id: RelationId) -> u32 {
    relation_oid(id) + 2
}

/// The stable oid of a relation's key constraint.
pub fn constraint_oid(id: RelationId) -> u32 {
    relation_oid(id) + 3
}

/// The stable oid of a view's rule, in the place of the key constraint that no view has.
pub fn rule_oid(id: RelationId) -> u32 {
    relation_oid(id) + 3
}

/// The relation that an oid belongs to, if it is a relation's own oid.
pub fn relation_of_oid(oid: u32) -> Option<RelationId> {
    let offset = oid.checked_sub(FIRST_USER_OID)?;
    (offset % OIDS_PER_RELATION == 0).then_some(RelationId(offset / OIDS_PER_RELATION))
}

#[derive(Clone, Debug, Default)]
pub struct CatalogSnapshot {
    relations: BTreeMap<RelationId, Arc<Relation>>,
    by_name: BTreeMap<String, RelationId>,
    functions: BTreeMap<RelationId, Arc<SqlFunction>>,
    indexes: BTreeMap<RelationId, Arc<Index>>,
    /// Of relations, and of their visible columns by number.
    comments: BTreeMap<(RelationId, Option<usize>), String>,
    /// Sessions' own tables among the relations.
    temporary: BTreeSet<RelationId>,
    /// What tables became in whose place another one is. Definitions of sessions' own views, which are not here, may mean them.
    became: BTreeMap<RelationId, RelationId>,
    version: u64,
}

/// What would be left dangling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dependent {
    pub id: RelationId,
    pub name: String,
    pub kind: ObjectKind,
}

impl CatalogSnapshot {
    /// A snapshot of these relations; names and ids are unique.
    pub fn new(relations: impl IntoIterator<Item = Relation>) -> Self {
        relations.into_iter().fold(CatalogSnapshot::default(), |catalog, relation| catalog.with(relation))
    }

    /// Grows with every change: two snapshots of one server with the same version are equal.
    pub fn version(&self) -> u64 {
        self.version
    }

    pub fn get(&self, id: RelationId) -> Option<&Arc<Relation>> {
        self.relations.get(&id)
    }

    pub fn by_name(&self, name: &str) -> Option<&Arc<Relation>> {
        self.by_name.get(name).and_then(|id| self.relations.get(id))
    }

    pub fn by_oid(&self, oid: u32) -> Option<&Arc<Relation>> {
        relation_of_oid(oid).and_then(|id| self.get(id))
    }

    /// In order of creation.
    pub fn relations(&self) -> impl Iterator<Item = &Arc<Relation>> {
        self.relations.values()
    }

    /// Sessions' own tables.
    pub fn temporary_tables(&self) -> impl Iterator<Item = RelationId> {
        self.temporary.iter().copied()
    }

    /// Users' functions, in order of creation.
    pub fn functions(&self) -> impl Iterator<Item = &Arc<SqlFunction>> {
        self.functions.values()
    }

    pub fn function(&self, name: &str) -> Option<&Arc<SqlFunction>> {
        self.functions.values().find(|f| f.name == name)
    }

    pub fn function_by_id(&self, id: RelationId) -> Option<&Arc<SqlFunction>> {
        self.functions.get(&id)
    }

    /// Indexes that were created, in order of creation; those of keys are their relations' own.
    pub fn indexes(&self) -> impl Iterator<Item = &Arc<Index>> {
        self.indexes.values()
    }

    pub fn indexes_of(&self, relation: RelationId) -> impl Iterator<Item = &Arc<Index>> {
        self.indexes.values().filter(move |index| index.relation == relation)
    }

    pub fn index(&self, name: &str) -> Option<&Arc<Index>> {
        self.indexes.values().find(|index| index.name == name)
    }

    pub fn index_by_id(&self, id: RelationId) -> Option<&Arc<Index>> {
        self.indexes.get(&id)
    }

    /// Whether a relation or an index has this name: they share one namespace.
    pub fn is_taken(&self, name: &str) -> bool {
        self.by_name.contains_key(name) || self.index(name).is_some()
    }

    /// Whether there is a relation or a function of this id.
    pub fn contains(&self, id: RelationId) -> bool {
        self.relations.contains_key(&id) || self.functions.contains_key(&id)
    }

    pub fn len(&self) -> usize {
        self.relations.len()
    }

    pub fn is_empty(&self) -> bool {
        self.relations.is_empty()
    }

    /// This catalog with one more relation, or another definition of one that is there.
    pub fn with(&self, relation: Relation) -> CatalogSnapshot {
        let mut next = self.clone();
        if let Some(old) = next.relations.get(&relation.id).filter(|old| old.name != relation.name).cloned() {
            next.by_name.remove(&old.name);
            next.keep_meaning(&old);
        }
        if relation.is_temporary_table() {
            next.temporary.insert(relation.id);
        }
        next.by_name.insert(relation.name.clone(), relation.id);
        next.relations.insert(relation.id, Arc::new(relation));
        next.version += 1;
        next
    }

    /// Before a relation becomes another one: what reads it and has not noted what it means by its name does so now.
    fn keep_meaning(&mut self, relation: &Relation) {
        let meant = Meant { relation: relation.id, columns: relation.visible.len() };
        for user in self.relations.values_mut() {
            if user.depends_on.contains(&relation.id) && !user.named.values().any(|known| known.relation == relation.id) {
                Arc::make_mut(user).named.insert(relation.name.clone(), meant);
            }
        }
    }

    /// This catalog with one table in the place of another: with its name, comments and indexes, and for the views that read it.
    pub fn in_place_of(&self, old: RelationId, new: RelationId) -> CatalogSnapshot {
        let mut next = self.clone();
        let (Some(gone), Some(mut table)) = (next.relations.remove(&old), next.relations.remove(&new)) else { return self.clone() };
        next.keep_meaning(&gone);
        next.by_name.remove(&table.name);
        Arc::make_mut(&mut table).name = gone.name.clone();
        next.by_name.insert(gone.name.clone(), new);
        next.relations.insert(new, table);
        for user in next.relations.values_mut().filter(|user| user.depends_on.contains(&old)) {
            let user = Arc::make_mut(user);
            user.depends_on.iter_mut().filter(|id| **id == old).for_each(|id| *id = new);
            user.named.values_mut().filter(|meant| meant.relation == old).for_each(|meant| meant.relation = new);
        }
        next.became.values_mut().filter(|id| **id == old).for_each(|id| *id = new);
        next.became.insert(old, new);
        for index in next.indexes.values_mut().filter(|index| index.relation == old) {
            Arc::make_mut(index).relation = new;
        }
        // What was said of the new one with its definition counts for the columns that the old one has not.
        let is_new = |column: &Option<usize>| column.is_some_and(|column| column >= gone.visible.len());
        let said = std::mem::take(&mut next.comments).into_iter().filter(|((relation, column), _)| *relation != new || is_new(column));
        next.comments = said.map(|((relation, column), text)| ((if relation == old { new } else { relation }, column), text)).collect();
        next.version += 1;
        next
    }

    /// What a definition means by a name, as it is now.
    fn present(&self, meant: &Meant) -> Option<&Arc<Relation>> {
        self.get(self.became.get(&meant.relation).copied().unwrap_or(meant.relation))
    }

    /// What a name in a definition means, with the columns that it had then.
    pub fn meant(&self, meant: &Meant) -> Option<Arc<Relation>> {
        let relation = self.present(meant)?;
        Some(match relation.visible.get(..meant.columns) {
            Some(visible) if visible.len() < relation.visible.len() => {
                Arc::new(Relation { visible: visible.to_vec(), ..Relation::clone(relation) })
            }
            _ => relation.clone(),
        })
    }

    /// Whether the names in a definition say something else by now than it means.
    pub fn means_otherwise(&self, definition: &Relation) -> bool {
        let differs = |relation: &Arc<Relation>, name: &str, meant: &Meant| relation.name != name || relation.visible.len() > meant.columns;
        definition.named.iter().any(|(name, meant)| self.present(meant).is_some_and(|relation| differs(relation, name, meant)))
    }

    /// A definition's text as it was written, and in front of it what has another name by now.
    pub fn noted(&self, relation: &Relation, text: &str) -> String {
        let notes: Vec<String> = self.renamed_in(relation).map(|(name, present)| format!("{name} is {present} now")).collect();
        if notes.is_empty() { text.to_string() } else { format!("/* {} */ {text}", notes.join(", ").replace("*/", "* /")) }
    }

    /// What a definition calls otherwise than it is called by now: the name in its text, and the present one.
    pub fn renamed_in<'a>(&'a self, relation: &'a Relation) -> impl Iterator<Item = (&'a str, &'a str)> {
        let present = move |(name, meant): (&'a String, &Meant)| Some((name.as_str(), self.present(meant)?.name.as_str()));
        relation.named.iter().filter_map(present).filter(|(name, present)| name != present)
    }

    /// This catalog with one more function, or another definition of one that is there.
    pub fn with_function(&self, function: SqlFunction) -> CatalogSnapshot {
        let mut next = self.clone();
        next.functions.insert(function.id, Arc::new(function));
        next.version += 1;
        next
    }

    /// This catalog with one more index.
    pub fn with_index(&self, index: Index) -> CatalogSnapshot {
        let mut next = self.clone();
        next.indexes.insert(index.id, Arc::new(index));
        next.version += 1;
        next
    }

    /// This catalog with another comment on a relation or column, or none.
    pub fn with_comment(&self, relation: RelationId, column: Option<usize>, text: Option<String>) -> CatalogSnapshot {
        let mut next = self.clone();
        match text {
            Some(text) => drop(next.comments.insert((relation, column), text)),
            None => drop(next.comments.remove(&(relation, column))),
        }
        next.version += 1;
        next
    }

    pub fn comment(&self, relation: RelationId, column: Option<usize>) -> Option<&str> {
        self.comments.get(&(relation, column)).map(String::as_str)
    }

    pub fn comments(&self) -> impl Iterator<Item = (RelationId, Option<usize>, &str)> {
        self.comments.iter().map(|((relation, column), text)| (*relation, *column, text.as_str()))
    }

    /// This catalog without these relations, with their indexes, and without these indexes and functions.
    pub fn without(&self, ids: &[RelationId]) -> CatalogSnapshot {
        let mut next = self.clone();
        for id in ids {
            // Another one may have its name by now.
            if let Some(gone) = next.relations.remove(id)
                && next.by_name.get(&gone.name) == Some(id)
            {
                next.by_name.remove(&gone.name);
            }
            next.functions.remove(id);
            next.temporary.remove(id);
        }
        next.became.retain(|_, id| !ids.contains(id));
        next.indexes.retain(|id, index| !ids.contains(id) && !ids.contains(&index.relation));
        next.comments.retain(|(relation, _), _| !ids.contains(relation));
        next.version += 1;
        next
    }

    /// Everything that would be left dangling without `id`: its dependents, theirs, and so on, each once, in order of creation.
    pub fn dependents(&self, id: RelationId) -> Vec<Dependent> {
        let mut reached = BTreeSet::from([id]);
        // What was replaced may name what is younger, so one pass in order of ids is not enough.
        loop {
            let before = reached.len();
            let relations = self.relations.values().map(|r| (r.id, &r.depends_on));
            let functions = self.functions.values().map(|f| (f.id, &f.depends_on));
            for (user, depends_on) in relations.chain(functions) {
                if depends_on.iter().any(|d| reached.contains(d)) {
                    reached.insert(user);
                }
            }
            if reached.len() == before {
                break;
            }
        }
        reached.remove(&id);
        reached.into_iter().filter_map(|id| self.described(id)).collect()
    }

    fn described(&self, id: RelationId) -> Option<Dependent> {
        let relation = || self.relations.get(&id).map(|r| (r.name.clone(), object_kind(r)));
        let function = || self.functions.get(&id).map(|f| (f.name.clone(), ObjectKind::Function));
        relation().or_else(function).map(|(name, kind)| Dependent { id, name, kind })
    }
}

/// What a relation is called in statements and messages.
pub fn object_kind(relation: &Relation) -> ObjectKind {
    match relation.kind {
        RelationKind::Source(_) | RelationKind::KeyedSource { .. } => ObjectKind::Source,
        RelationKind::Table { .. } => ObjectKind::Table,
        RelationKind::View { .. } => ObjectKind::View,
        RelationKind::MaterializedView { .. } => ObjectKind::MaterializedView,
        RelationKind::Sink(_) => ObjectKind::Sink,
    }
}

/// The kind in words, as messages and `SHOW` spell it.
pub fn kind_name(kind: ObjectKind) -> &'static str {
    match kind {
        ObjectKind::Source => "source",
        ObjectKind::Table => "table",
        ObjectKind::View => "view",
        ObjectKind::MaterializedView => "materialized view",
        ObjectKind::Function => "function",
        ObjectKind::Sink => "sink",
        ObjectKind::Index => "index",
    }
}

/// PostgreSQL's `pg_class.relkind`. Sources are foreign tables there: `\d` lists them, and clients do
/// not expect to write to them.
pub fn relkind(relation: &Relation) -> &'static str {
    match relation.kind {
        RelationKind::Source(_) | RelationKind::KeyedSource { .. } | RelationKind::Sink(_) => "f",
        RelationKind::Table { .. } => "r",
        RelationKind::View { .. } => "v",
        RelationKind::MaterializedView { .. } => "m",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use eddyline_planner::plan::ChangelogMode;

    fn view(id: u32, name: &str, depends_on: &[u32]) -> Relation {
        Relation {
            id: RelationId(id),
            name: name.into(),
            sql: String::new(),
            columns: vec![],
            visible: vec![],
            key: vec![],
            mode: ChangelogMode::Append,
            watermark: None,
            time_columns: vec![],
            kind: RelationKind::View { query: "select 1".into() },
            depends_on: depends_on.iter().map(|d| RelationId(*d)).collect(),
            named: BTreeMap::new(),
        }
    }

    #[test]
    fn dependents_are_transitive_and_ordered() {
        let catalog = CatalogSnapshot::new([view(1, "a", &[]), view(2, "b", &[1]), view(3, "c", &[2]), view(4, "d", &[])]);
        let names: Vec<_> = catalog.dependents(RelationId(1)).iter().map(|r| r.name.clone()).collect();
        assert_eq!(names, ["b", "c"]);
    }

    #[test]
    fn names_follow_their_relations() {
        let catalog = CatalogSnapshot::new([view(1, "a", &[])]);
        let renamed = catalog.with(view(1, "b", &[]));
        assert!(renamed.by_name("a").is_none());
        assert_eq!(renamed.by_name("b").map(|r| r.id), Some(RelationId(1)));
        assert!(renamed.without(&[RelationId(1)]).is_empty());
        assert!(renamed.version() > catalog.version());
    }

    #[test]
    fn what_was_made_before_names_were_noted_goes_on_meaning_the_same() {
        let catalog = CatalogSnapshot::new([view(1, "a", &[]), view(2, "b", &[1])]).with(view(1, "c", &[])).with(view(3, "a", &[]));
        let user = catalog.by_name("b").unwrap();
        assert_eq!(user.named.get("a").map(|meant| meant.relation), Some(RelationId(1)));
        assert_eq!(catalog.renamed_in(user).collect::<Vec<_>>(), [("a", "c")]);
        let again = catalog.with(view(1, "d", &[]));
        assert_eq!(again.renamed_in(again.by_name("b").unwrap()).collect::<Vec<_>>(), [("a", "d")]);
    }

    #[test]
    fn one_table_takes_the_place_of_another() {
        let catalog = CatalogSnapshot::new([view(1, "a", &[]), view(2, "b", &[1]), view(3, "hidden", &[])]);
        let comment = |catalog: CatalogSnapshot, id, text: &str| catalog.with_comment(RelationId(id), None, Some(text.into()));
        let next = comment(comment(catalog, 1, "old"), 3, "new").in_place_of(RelationId(1), RelationId(3));
        assert!(next.get(RelationId(1)).is_none() && next.by_name("hidden").is_none());
        assert_eq!(next.by_name("a").map(|r| r.id), Some(RelationId(3)));
        assert_eq!(next.comments().collect::<Vec<_>>(), [(RelationId(3), None, "old")]);
        let user = next.by_name("b").unwrap();
        assert_eq!((user.depends_on.as_slice(), user.named["a"].relation), ([RelationId(3)].as_slice(), RelationId(3)));
        assert!(!next.means_otherwise(user));
    }

    #[test]
    fn what_a_definition_elsewhere_means_is_found_in_whatever_place_and_by_whatever_name() {
        let meant = Meant { relation: RelationId(1), columns: 0 };
        let mut own = view(9, "own", &[1]);
        own.named.insert("a".into(), meant);
        let catalog = CatalogSnapshot::new([view(1, "a", &[]), view(2, "hidden", &[]), view(3, "hidden too", &[])]);
        let next = catalog.in_place_of(RelationId(1), RelationId(2)).in_place_of(RelationId(2), RelationId(3));
        assert!(!next.means_otherwise(&own));
        let next = next.with(view(3, "b", &[])).with(view(4, "a", &[]));
        assert!(next.means_otherwise(&own));
        assert_eq!(next.meant(&meant).map(|r| r.id), Some(RelationId(3)));
        assert_eq!(next.renamed_in(&own).collect::<Vec<_>>(), [("a", "b")]);
        assert!(next.without(&[RelationId(3)]).meant(&meant).is_none());
    }

    #[test]
    fn a_name_is_there_while_one_takes_the_place_of_another() {
        let both = CatalogSnapshot::new([view(1, "a", &[])]).with(view(2, "a", &[]));
        assert_eq!(both.by_name("a").map(|r| r.id), Some(RelationId(2)));
        assert_eq!(both.without(&[RelationId(1)]).by_name("a").map(|r| r.id), Some(RelationId(2)));
    }

    #[test]
    fn an_index_goes_with_its_relation_and_shares_its_namespace() {
        let index = |id: u32, name: &str, relation: u32| Index {
            id: RelationId(id),
            name: name.into(),
            sql: String::new(),
            relation: RelationId(relation),
            columns: vec![0],
            include: vec![],
        };
        let catalog = CatalogSnapshot::new([view(1, "a", &[]), view(2, "b", &[1])]);
        let indexed = catalog.with_index(index(3, "i", 1)).with_index(index(4, "j", 2));
        assert!(indexed.is_taken("a") && indexed.is_taken("i") && !indexed.is_taken("x"));
        assert!(indexed.version() > catalog.version());
        assert_eq!(indexed.dependents(RelationId(1)).len(), 1, "nothing is left dangling without its relation");
        assert_eq!(indexed.indexes_of(RelationId(2)).map(|i| i.name.as_str()).collect::<Vec<_>>(), ["j"]);
        assert!(indexed.without(&[RelationId(1)]).index("i").is_none());
        let dropped = indexed.without(&[RelationId(3)]);
        assert!(dropped.index("i").is_none() && dropped.index("j").is_some() && dropped.by_name("a").is_some());
    }

    #[test]
    fn oids_go_both_ways() {
        assert_eq!(relation_of_oid(relation_oid(RelationId(7))), Some(RelationId(7)));
        assert_eq!(relation_of_oid(index_oid(RelationId(7))), None);
        assert_eq!(relation_of_oid(1259), None);
    }
}
