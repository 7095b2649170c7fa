//! Keyed sources: records overwrite each other by the declared primary key. Such a source is two things. Its *feed* reads
//! the records as they are, each with its place, and is in no catalog; its *job* keeps, for every key, the row of the last
//! record, and is what queries see. The last record of a key is the one furthest on in its partition: records of one key
//! must be in one partition, as every partitioner by key has it.

use crate::catalog::{Relation, RelationKind};
use crate::plan::{ChangelogMode, Node, Op, PLAN_VERSION, StreamPlan};
use eddyline_common::connector::{ColumnOrigin, SourceColumn, SourceSpec};
use eddyline_common::types::Column;
use eddyline_common::{RelationId, SqlType};

/// Where a record comes from: behind the relation's columns in its feed. No statement can spell these names.
const PLACE: [(&str, &str, SqlType); 2] = [("\0partition", "partition", SqlType::Integer), ("\0offset", "offset", SqlType::BigInt)];

impl Relation {
    /// Reads from outside, keyed or not.
    pub fn is_source(&self) -> bool {
        self.source_spec().is_some()
    }

    pub fn source_spec(&self) -> Option<&SourceSpec> {
        match &self.kind {
            RelationKind::Source(spec) | RelationKind::KeyedSource { spec, .. } => Some(spec),
            _ => None,
        }
    }

    /// Whether its rows are kept in a view store, by a job.
    pub fn has_rows(&self) -> bool {
        matches!(self.kind, RelationKind::Table { .. } | RelationKind::MaterializedView { .. } | RelationKind::KeyedSource { .. })
    }

    pub fn feed_id(&self) -> Option<RelationId> {
        if let RelationKind::KeyedSource { feed, .. } = &self.kind { Some(*feed) } else { None }
    }

    /// What brings a keyed source its records: an upsert with weight +1, a deletion of its key with -1.
    pub fn feed(&self) -> Option<Relation> {
        let RelationKind::KeyedSource { spec, feed } = &self.kind else { return None };
        let mut spec = spec.clone();
        // A deletion has no values but its key.
        let mut columns: Vec<Column> = self.columns.iter().map(|c| Column { nullable: true, ..c.clone() }).collect();
        for (name, metadata, ty) in PLACE {
            columns.push(Column::new(name, ty.clone(), false));
            let origin = ColumnOrigin::Metadata(metadata.to_string());
            spec.columns.push(SourceColumn { external_name: name.to_string(), ty, nullable: false, length: None, origin });
        }
        let kind = RelationKind::Source(spec);
        Some(Relation { id: *feed, columns, key: vec![], kind, depends_on: vec![], ..self.clone() })
    }
}

/// The job of a keyed source: its feed's records, each at the worker that owns its key, into the rows they leave.
pub fn keyed_plan(relation: &Relation) -> Option<StreamPlan> {
    let feed = relation.feed()?;
    let node = |op, inputs, columns: &[Column], unique_keys| Node {
        op,
        inputs,
        columns: columns.to_vec(),
        mode: ChangelogMode::Retract,
        unique_keys,
        time_columns: relation.time_columns.clone(),
    };
    let (key, keys) = (relation.key.clone(), vec![relation.key.clone()]);
    let nodes = vec![
        node(Op::Scan { relation: feed.id, projection: (0..feed.columns.len()).collect() }, vec![], &feed.columns, vec![]),
        node(Op::Exchange { keys: key.clone() }, vec![0], &feed.columns, vec![]),
        node(Op::Normalize { key: key.clone() }, vec![1], &relation.columns, keys.clone()),
        node(Op::Materialize { key }, vec![2], &relation.columns, keys),
    ];
    Some(StreamPlan { version: PLAN_VERSION, output: nodes.len() - 1, nodes, state_ttl: vec![] })
}
