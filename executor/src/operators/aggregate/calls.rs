//! Which accumulators and multisets a list of calls needs, and what each input column feeds. Calls over the same
//! distinct values share a multiset; MIN and MAX need one only under retraction; COUNT(*) needs nothing of its own.

use super::groups::{GroupValues, Source};
use super::multiset::Shape;
use super::ordered::OrderedCall;
use crate::accumulators::{self, KeyExtreme};
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::{DataType, SchemaRef};
use eddyline_common::{Result, SqlError};
use eddyline_planner::plan::{AggregateCall, AggregateFunction};
use eddyline_storage::state::ROW_KINDS;

/// More would not fit the kind byte of their state; far above any query.
const MULTISETS_MAX: usize = 200;

/// One input column into one part of the state.
pub(super) struct Feed {
    pub argument: usize,
    pub filter: Option<usize>,
    pub target: Target,
}

pub(super) enum Target {
    Accumulator(usize),
    /// Values that appear in or vanish from the multiset go on to the accumulators.
    Distinct {
        multiset: usize,
        accumulators: Vec<usize>,
    },
    Extreme {
        multiset: usize,
        extreme: usize,
    },
    Ordered(usize),
}

pub(super) struct Arrangement {
    pub values: GroupValues,
    pub feeds: Vec<Feed>,
    pub multisets: Vec<Shape>,
    pub ordered: Vec<OrderedCall>,
}

impl Feed {
    /// The rows that pass the filter.
    pub(super) fn mask(&self, rows: &RecordBatch) -> Option<BooleanBuffer> {
        let filter = rows.column(self.filter?).as_boolean();
        Some(match filter.nulls() {
            Some(nulls) => filter.values() & nulls.inner(),
            None => filter.values().clone(),
        })
    }
}

pub(super) fn arrange(calls: &[AggregateCall], input: &SchemaRef, retract: bool) -> Result<Arrangement> {
    let mut all = Arrangement { values: GroupValues::default(), feeds: Vec::new(), multisets: Vec::new(), ordered: Vec::new() };
    for call in calls {
        let source = all.add(call, input, retract)?;
        all.values.sources.push(source);
    }
    if all.multisets.len() + ROW_KINDS as usize * all.ordered.len() > MULTISETS_MAX {
        return Err(SqlError::unsupported("too many distinct or retractable aggregates in one query"));
    }
    Ok(all)
}

impl Arrangement {
    fn add(&mut self, call: &AggregateCall, input: &SchemaRef, retract: bool) -> Result<Source> {
        let filter = call.filter;
        let is_boolean = |c: usize| input.fields().get(c).is_some_and(|f| *f.data_type() == DataType::Boolean);
        if filter.is_some_and(|c| !is_boolean(c)) || call.argument.is_some_and(|c| c >= input.fields().len()) {
            return Err(SqlError::internal("an aggregate call does not fit its input"));
        }
        // COUNT(*) FILTER counts the rows whose filter is true.
        let Some(argument) = call.argument.or(filter) else {
            return if call.function == AggregateFunction::Count {
                Ok(Source::Rows)
            } else {
                Err(SqlError::internal("an aggregate call lacks its argument"))
            };
        };
        let ty = input.field(argument).data_type();
        if call.function.is_ordered() {
            self.ordered.push(OrderedCall::new(call, argument, input)?);
            self.feeds.push(Feed { argument, filter, target: Target::Ordered(self.ordered.len() - 1) });
            return Ok(Source::Ordered(self.ordered.len() - 1));
        }
        let is_extreme = matches!(call.function, AggregateFunction::Min | AggregateFunction::Max);
        let max = call.function == AggregateFunction::Max;
        if is_extreme && retract {
            if call.output.to_arrow() != *ty {
                return Err(SqlError::unsupported(format!("MIN and MAX of {ty} cannot be computed as {}", call.output)));
            }
            let multiset = self.multisets.len();
            self.multisets.push(Shape { ty: ty.clone(), descending: max, ordered: true });
            let extreme = self.values.extremes.len();
            self.values.extremes.push(KeyExtreme::new(ty, max)?);
            self.feeds.push(Feed { argument, filter, target: Target::Extreme { multiset, extreme } });
            return Ok(Source::Extreme(extreme));
        }
        let index = self.values.accumulators.len();
        self.values.accumulators.push(accumulators::create(call, ty)?);
        if call.distinct && !is_extreme {
            self.add_distinct(argument, filter, ty, index);
        } else {
            self.feeds.push(Feed { argument, filter, target: Target::Accumulator(index) });
        }
        Ok(Source::Accumulator(index))
    }

    fn add_distinct(&mut self, argument: usize, filter: Option<usize>, ty: &DataType, index: usize) {
        let shared = self.feeds.iter_mut().filter(|f| f.argument == argument && f.filter == filter);
        for feed in shared {
            if let Target::Distinct { accumulators, .. } = &mut feed.target {
                return accumulators.push(index);
            }
        }
        let target = Target::Distinct { multiset: self.multisets.len(), accumulators: vec![index] };
        self.multisets.push(Shape { ty: ty.clone(), descending: false, ordered: false });
        self.feeds.push(Feed { argument, filter, target });
    }
}
