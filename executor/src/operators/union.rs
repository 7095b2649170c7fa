//! Union (all): the changes of every input under one schema.

use crate::operator::{Operator, StepContext};
use crate::operators::scan::rename;
use arrow::datatypes::SchemaRef;
use eddyline_common::{Result, SqlError, TaggedBatch, Timestamp};

pub struct Union {
    output: SchemaRef,
}

impl Union {
    pub fn new(inputs: &[SchemaRef], output: SchemaRef) -> Result<Self> {
        let same_types = |input: &SchemaRef| {
            input.fields().len() == output.fields().len()
                && input.fields().iter().zip(output.fields()).all(|(a, b)| a.data_type() == b.data_type())
        };
        if !inputs.iter().all(same_types) {
            return Err(SqlError::internal("the inputs of a union differ in type"));
        }
        Ok(Union { output })
    }
}

impl Operator for Union {
    fn push(&mut self, _port: usize, batch: TaggedBatch, ctx: &mut StepContext) -> Result<()> {
        ctx.emit_tagged(TaggedBatch { changes: rename(batch.changes, &self.output)?, ..batch });
        Ok(())
    }

    fn finish(&mut self, _watermark: Timestamp, _ctx: &mut StepContext) -> Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{batch, context, net, schema};
    use eddyline_common::SqlType;

    #[test]
    fn puts_inputs_under_one_schema() {
        let (left, right) = (schema(&[("a", SqlType::BigInt)]), schema(&[("b", SqlType::BigInt)]));
        let mut union = Union::new(&[left.clone(), right.clone()], left.clone()).unwrap();
        let mut ctx = context();
        union.push(0, batch(&left, &[&[1]], 1), &mut ctx).unwrap();
        union.push(1, batch(&right, &[&[1], &[2]], 2), &mut ctx).unwrap();
        let out = ctx.take_output();
        assert!(out.iter().all(|b| b.changes.schema() == left));
        assert_eq!(net(&out), vec![(vec![1], 2), (vec![2], 1)]);
        assert!(Union::new(std::slice::from_ref(&left), schema(&[("a", SqlType::Text)])).is_err());
    }
}
