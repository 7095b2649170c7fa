//! The joins of a tree of inner joins, made anew: each input in its turn, but one that a condition connects with what is joined already
//! comes before those that none does, so that few cross joins are left. DataFusion's rule does the same, but looks each condition's
//! columns up in each join that it makes, and makes anew what is below each of those, which takes minutes for some hundred of joins; and it
//! loses a condition of a join that is over several inputs of its other side. Here each is looked up in the inputs once, and a tree
//! one of whose conditions would be lost stays as it is written. In plans that run once too.

use crate::walk::WalkPlan;
use datafusion::common::tree_node::{Transformed, TreeNodeRecursion};
use datafusion::common::{Column, JoinConstraint, JoinType, NullEquality, Result as DfResult};
use datafusion::logical_expr::utils::{can_hash, conjunction};
use datafusion::logical_expr::{BinaryExpr, Expr, ExprSchemable, Filter, Join, LogicalPlan, Operator, Projection};
use datafusion::optimizer::{OptimizerConfig, OptimizerRule};
use std::collections::HashMap;
use std::sync::Arc;

/// It takes the place of DataFusion's rule, and has its name.
#[derive(Debug, Default)]
pub struct CrossJoins;

impl OptimizerRule for CrossJoins {
    fn name(&self) -> &str {
        "eliminate_cross_join"
    }

    fn rewrite(&self, plan: LogicalPlan, _config: &dyn OptimizerConfig) -> DfResult<Transformed<LogicalPlan>> {
        let mut any = false;
        plan.each_with_subqueries(|node| {
            any |= inner_join(node).is_some();
            Ok(if any { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
        })?;
        if any { plan.down_with_subqueries(arrange) } else { Ok(Transformed::no(plan)) }
    }
}

fn arrange(plan: LogicalPlan) -> DfResult<Transformed<LogicalPlan>> {
    let arranged = match &plan {
        LogicalPlan::Subquery(subquery) if !subquery.outer_ref_columns.is_empty() => {
            return Ok(Transformed::new(plan, false, TreeNodeRecursion::Jump));
        }
        LogicalPlan::Filter(filter) => arranged(&filter.input, Some(&filter.predicate))?,
        LogicalPlan::Join(_) => arranged(&plan, None)?,
        _ => None,
    };
    // What is below the inputs of the new joins is arranged with them.
    Ok(match arranged {
        Some(arranged) => Transformed::new(arranged, true, TreeNodeRecursion::Jump),
        None => Transformed::no(plan),
    })
}

/// Keys that take nulls for equal are not of one join with others.
fn inner_join(plan: &LogicalPlan) -> Option<&Join> {
    match plan {
        LogicalPlan::Join(join) if join.join_type == JoinType::Inner && join.null_equality == NullEquality::NullEqualsNothing => Some(join),
        _ => None,
    }
}

/// The joins of `tree`, under what is left of the condition above; none if it is no inner join, or would lose a condition.
fn arranged(tree: &LogicalPlan, above: Option<&Expr>) -> DfResult<Option<LogicalPlan>> {
    if inner_join(tree).is_none() {
        return Ok(None);
    }
    let mut parts = Parts::default();
    parts.take(tree);
    for (left, right) in above.into_iter().flat_map(equalities) {
        parts.equality(left, right, false);
    }
    let mut keys = parts.keys(tree);
    let turns = turns(parts.inputs.len(), &mut keys);
    if keys.iter().any(|key| key.is_of_join && !key.is_used) {
        return Ok(None);
    }
    let mut plan = input(parts.inputs[0])?;
    for (next, on) in turns {
        let right = input(parts.inputs[next])?;
        let nulls = NullEquality::NullEqualsNothing;
        let join = Join::try_new(Arc::new(plan), Arc::new(right), on, None, JoinType::Inner, JoinConstraint::On, nulls, false)?;
        plan = LogicalPlan::Join(join);
    }
    if plan.schema() != tree.schema() {
        plan = LogicalPlan::Projection(Projection::new_from_schema(Arc::new(plan), tree.schema().clone()));
    }
    let is_used = |left: &Expr, right: &Expr| parts.place(left, right).is_some_and(|place| keys[place].is_used);
    let above = above.and_then(|above| without(above, &is_used));
    for condition in [conjunction(parts.filters.iter().cloned()), above].into_iter().flatten() {
        plan = LogicalPlan::Filter(Filter::try_new(condition, Arc::new(plan))?);
    }
    Ok(Some(plan))
}

fn input(plan: &LogicalPlan) -> DfResult<LogicalPlan> {
    Ok(plan.clone().down_with_subqueries(arrange)?.data)
}

/// What a tree of joins is made of, and the equalities above it.
#[derive(Default)]
struct Parts<'a> {
    inputs: Vec<&'a LogicalPlan>,
    /// Other conditions of its joins.
    filters: Vec<Expr>,
    /// Whether a join of the tree has them: others stay in the condition above, unless a join takes them.
    equalities: Vec<(Expr, Expr, bool)>,
    places: HashMap<(Expr, Expr), usize>,
}

impl<'a> Parts<'a> {
    fn take(&mut self, plan: &'a LogicalPlan) {
        let Some(join) = inner_join(plan) else { return self.inputs.push(plan) };
        self.filters.extend(join.filter.clone());
        for (left, right) in &join.on {
            self.equality(left, right, true);
        }
        self.take(&join.left);
        self.take(&join.right);
    }

    fn place(&self, left: &Expr, right: &Expr) -> Option<usize> {
        let turned = || self.places.get(&(right.clone(), left.clone()));
        self.places.get(&(left.clone(), right.clone())).or_else(turned).copied()
    }

    fn equality(&mut self, left: &Expr, right: &Expr, is_of_join: bool) {
        match self.place(left, right) {
            Some(place) => self.equalities[place].2 |= is_of_join,
            None => {
                self.places.insert((left.clone(), right.clone()), self.equalities.len());
                self.equalities.push((left.clone(), right.clone(), is_of_join));
            }
        }
    }

    fn keys(&self, tree: &LogicalPlan) -> Vec<Key> {
        let key = |(left, right, is_of_join): &(Expr, Expr, bool)| Key {
            sides: [self.side(left), self.side(right)],
            can_hash: left.get_type(tree.schema()).is_ok_and(|ty| can_hash(&ty)),
            is_of_join: *is_of_join,
            is_used: false,
        };
        self.equalities.iter().map(key).collect()
    }

    fn side(&self, expr: &Expr) -> Side {
        let inputs_with = |column: &Column| -> Vec<usize> {
            let has = |input: &usize| self.inputs[*input].schema().is_column_from_schema(column);
            (0..self.inputs.len()).filter(has).collect()
        };
        Side { expr: expr.clone(), inputs: expr.column_refs().into_iter().map(inputs_with).collect() }
    }
}

/// One side of an equality.
struct Side {
    expr: Expr,
    /// Of each column, those that have it.
    inputs: Vec<Vec<usize>>,
}

impl Side {
    fn is_of(&self, has: impl Fn(usize) -> bool) -> bool {
        !self.inputs.is_empty() && self.inputs.iter().all(|inputs| inputs.iter().any(|input| has(*input)))
    }
}

/// An equality that may be the key of a join.
struct Key {
    sides: [Side; 2],
    can_hash: bool,
    is_of_join: bool,
    is_used: bool,
}

impl Key {
    /// Its sides in a join of those that are joined with the next one: that of the former, and the other.
    fn between(&self, joined: &[bool], next: usize) -> Option<[&Side; 2]> {
        let [one, other] = &self.sides;
        let is_between = |[l, r]: &[&Side; 2]| l.is_of(|input| joined[input]) && r.is_of(|input| input == next);
        [[one, other], [other, one]].into_iter().find(is_between).filter(|_| self.can_hash)
    }
}

/// The inputs behind the first one in the order in which they are joined, each with the keys by which it is.
fn turns(inputs: usize, keys: &mut [Key]) -> Vec<(usize, Vec<(Expr, Expr)>)> {
    let mut joined = vec![false; inputs];
    joined[0] = true;
    let mut waiting: Vec<usize> = (1..inputs).collect();
    let mut turns = Vec::with_capacity(waiting.len());
    while !waiting.is_empty() {
        let is_connected = |next: &usize| keys.iter().any(|key| key.between(&joined, *next).is_some());
        let next = waiting.remove(waiting.iter().position(is_connected).unwrap_or(0));
        let mut on = Vec::new();
        for key in keys.iter_mut() {
            let Some([left, right]) = key.between(&joined, next) else { continue };
            on.push((left.expr.clone(), right.expr.clone()));
            key.is_used = true;
        }
        joined[next] = true;
        turns.push((next, on));
    }
    turns
}

/// What is equal wherever a condition is true.
fn equalities(condition: &Expr) -> Vec<(&Expr, &Expr)> {
    let Expr::BinaryExpr(BinaryExpr { left, op, right }) = condition else { return vec![] };
    match op {
        Operator::Eq => vec![(left.as_ref(), right.as_ref())],
        Operator::And => {
            let mut both = equalities(left);
            both.extend(equalities(right));
            both
        }
        Operator::Or => {
            let others = equalities(right);
            let is_in_both = |(l, r): &(&Expr, &Expr)| others.iter().any(|other| *other == (*l, *r) || *other == (*r, *l));
            equalities(left).into_iter().filter(is_in_both).collect()
        }
        _ => vec![],
    }
}

/// What is left of a condition where the equalities that joins have are true.
fn without(condition: &Expr, is_used: &dyn Fn(&Expr, &Expr) -> bool) -> Option<Expr> {
    let Expr::BinaryExpr(BinaryExpr { left, op, right }) = condition else { return Some(condition.clone()) };
    match op {
        Operator::Eq if is_used(left, right) => None,
        Operator::And => conjunction([without(left, is_used), without(right, is_used)].into_iter().flatten()),
        Operator::Or => Some(without(left, is_used)?.or(without(right, is_used)?)),
        _ => Some(condition.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::arrow::datatypes::{DataType, Field, Schema};
    use datafusion::logical_expr::{LogicalPlanBuilder, col, lit, table_scan};
    use datafusion::optimizer::OptimizerContext;
    use datafusion::optimizer::eliminate_cross_join::EliminateCrossJoin;
    use std::time::{Duration, Instant};

    fn scan(name: &str) -> LogicalPlan {
        let fields: Vec<Field> = ["x", "y"].map(|name| Field::new(name, DataType::Int64, true)).into();
        table_scan(Some(name), &Schema::new(fields), None).unwrap().build().unwrap()
    }

    /// A comma between each, and a condition above.
    fn crossed(names: &[String], condition: Expr) -> LogicalPlan {
        let first = LogicalPlanBuilder::from(scan(&names[0]));
        let joined = names[1..].iter().fold(first, |joined, name| joined.cross_join(scan(name)).unwrap());
        joined.filter(condition).unwrap().build().unwrap()
    }

    fn names(count: usize) -> Vec<String> {
        (0..count).map(|i| format!("t{i}")).collect()
    }

    fn shown(rule: &dyn OptimizerRule, plan: &LogicalPlan) -> String {
        rule.rewrite(plan.clone(), &OptimizerContext::new()).unwrap().data.display_indent().to_string()
    }

    #[test]
    fn plans_are_those_of_the_rule_that_it_takes_the_place_of() {
        let (x, y) = (|i: usize| col(format!("t{i}.x")), |i: usize| col(format!("t{i}.y")));
        let over_outer = LogicalPlanBuilder::from(scan("t0"))
            .join(crossed(&names(3)[1..], x(1).eq(x(2))), JoinType::Left, (vec!["t0.x"], vec!["t1.x"]), None)
            .unwrap()
            .cross_join(scan("t3"))
            .unwrap()
            .filter(y(3).eq(y(0)).and(x(3).gt(lit(1))))
            .unwrap();
        let keyed = LogicalPlanBuilder::from(scan("t0"))
            .join(scan("t1"), JoinType::Inner, (vec!["t0.x"], vec!["t1.x"]), Some(y(0).gt(y(1))))
            .unwrap()
            .join(scan("t2"), JoinType::Inner, (vec!["t1.y"], vec!["t2.y"]), None)
            .unwrap();
        for plan in [
            crossed(&names(4), x(0).eq(x(3)).and(y(3).eq(y(1))).and(x(2).lt(lit(7)))),
            crossed(&names(3), x(0).eq(x(2)).and(y(1).gt(lit(1))).or(x(2).eq(x(0)).and(y(1).lt(lit(0))))),
            crossed(&names(3), (x(0) + x(1)).eq(y(2)).and(x(0).eq(lit(3)))),
            crossed(&names(2), x(0).gt(x(1))),
            over_outer.build().unwrap(),
            keyed.clone().build().unwrap(),
            keyed.filter(x(0).eq(x(2)).and(y(0).eq(y(0)))).unwrap().build().unwrap(),
        ] {
            assert_eq!(shown(&CrossJoins, &plan), shown(&EliminateCrossJoin::new(), &plan), "{}", plan.display_indent());
        }
    }

    #[test]
    fn a_condition_over_several_inputs_is_kept() {
        let inner = LogicalPlanBuilder::from(scan("t1")).join(scan("t2"), JoinType::Inner, (vec!["t1.x"], vec!["t2.x"]), None).unwrap();
        let keys = (vec![col("t0.x")], vec![col("t1.y") + col("t2.y")]);
        let first = LogicalPlanBuilder::from(scan("t0"));
        let plan = first.join_with_expr_keys(inner.build().unwrap(), JoinType::Inner, keys, None).unwrap().build().unwrap();
        assert_eq!(shown(&CrossJoins, &plan), plan.display_indent().to_string());
    }

    #[test]
    fn hundreds_of_joins_are_made_soon() {
        let names = names(300);
        let column = |name: &String| col(format!("{name}.x"));
        let chain = names.windows(2).map(|pair| column(&pair[1]).eq(column(&pair[0])));
        let plan = crossed(&names, conjunction(chain).unwrap());
        let started = Instant::now();
        let plan = CrossJoins.rewrite(plan, &OptimizerContext::new()).unwrap().data;
        assert!(inner_join(&plan).is_some_and(|join| join.on.len() == 1), "{}", plan.display());
        assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
    }
}
