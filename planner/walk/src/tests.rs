//! What a walk is told on its way comes through: where it stops, with what, and what it changed.

use crate::sql::{self, visit_mut};
use crate::{Walk, WalkPlan};
use datafusion::common::tree_node::{Transformed, TreeNodeRecursion};
use datafusion::common::{DataFusionError, plan_err};
use datafusion::logical_expr::{Expr, LogicalPlanBuilder, col, exists, lit};
use datafusion::sql::sqlparser::ast::{self, Query, SetExpr, Statement, VisitorMut};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::Parser;
use std::ops::ControlFlow;
use std::sync::Arc;

fn query(text: &str) -> Query {
    match Parser::parse_sql(&GenericDialect {}, text).unwrap().remove(0) {
        Statement::Query(query) => *query,
        other => panic!("{other} is no query"),
    }
}

/// Breaks at a name, and keeps those before it.
struct Until<'a> {
    name: &'a str,
    seen: Vec<String>,
    queries: usize,
}

impl VisitorMut for Until<'_> {
    type Break = String;

    fn pre_visit_query(&mut self, _query: &mut Query) -> ControlFlow<String> {
        self.queries += 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut ast::Expr) -> ControlFlow<String> {
        if expr.to_string() == self.name {
            return ControlFlow::Break(format!("at {expr}"));
        }
        self.seen.push(expr.to_string());
        ControlFlow::Continue(())
    }
}

#[test]
fn a_visitor_breaks_with_its_value_and_sees_nothing_after_it() {
    let mut tree = query("SELECT a, b, c");
    let mut visitor = Until { name: "b", seen: Vec::new(), queries: 0 };
    assert_eq!(visit_mut(&mut tree, &mut visitor), ControlFlow::Break("at b".into()));
    assert_eq!((visitor.seen, visitor.queries), (vec!["a".to_string()], 1));
    let mut visitor = Until { name: "x", seen: Vec::new(), queries: 0 };
    assert_eq!(visit_mut(&mut tree, &mut visitor), ControlFlow::Continue(()));
    assert_eq!(visitor.seen, ["a", "b", "c"]);
}

#[test]
fn expressions_are_seen_from_above_and_changed_from_below() {
    let mut tree = query("SELECT f(g(a))");
    let mut seen = Vec::new();
    sql::expressions(&tree, |expr| seen.push(expr.to_string()));
    assert_eq!(seen, ["f(g(a))", "g(a)", "a"]);
    let mut changed = Vec::new();
    sql::expressions_mut(&mut tree, |expr| changed.push(expr.to_string()));
    assert_eq!(changed, ["a", "g(a)", "f(g(a))"]);
    let SetExpr::Select(select) = tree.body.as_ref() else { panic!("a SELECT") };
    assert!(sql::any(select.as_ref(), |expr| expr.to_string() == "a") && !sql::any(select.as_ref(), |expr| expr.to_string() == "b"));
}

#[test]
fn a_walk_over_expressions_stops_jumps_fails_and_says_what_it_changed() {
    let expr = (col("a") + lit(1)) * col("b");
    let mut seen = Vec::new();
    let jump_over_sums = |node: &Expr| {
        seen.push(node.to_string());
        Ok(if matches!(node, Expr::BinaryExpr(b) if b.left.to_string() == "a") {
            TreeNodeRecursion::Jump
        } else {
            TreeNodeRecursion::Continue
        })
    };
    expr.each(jump_over_sums).unwrap();
    assert_eq!(seen, ["(a + Int32(1)) * b", "a + Int32(1)", "b"]);
    assert!(expr.any(|e| *e == col("b")) && !expr.any(|e| *e == col("c")));
    let renamed = expr.clone().up(|e| Ok(if e == col("b") { Transformed::yes(col("c")) } else { Transformed::no(e) })).unwrap();
    assert_eq!((renamed.transformed, renamed.data), (true, (col("a") + lit(1)) * col("c")));
    assert!(!expr.clone().up(|e| Ok(Transformed::no(e))).unwrap().transformed);
    let refused = expr.up(|e| if e == col("a") { plan_err!("no a") } else { Ok(Transformed::no(e)) });
    assert!(matches!(refused, Err(DataFusionError::Plan(_))));
}

#[test]
fn a_walk_over_plans_goes_into_subqueries_only_if_it_says_so() {
    let inner = LogicalPlanBuilder::empty(true).project(vec![lit(1).alias("x")]).unwrap().build().unwrap();
    let plan = LogicalPlanBuilder::empty(true).filter(exists(Arc::new(inner))).unwrap().build().unwrap();
    let count = |walk: &dyn Fn(&mut dyn FnMut())| {
        let mut nodes = 0;
        walk(&mut || nodes += 1);
        nodes
    };
    let all = count(&|one| {
        plan.each_with_subqueries(|_| {
            one();
            Ok(TreeNodeRecursion::Continue)
        })
        .map(drop)
        .unwrap()
    });
    let own = count(&|one| {
        plan.each(|_| {
            one();
            Ok(TreeNodeRecursion::Continue)
        })
        .map(drop)
        .unwrap()
    });
    // Beneath the filter one, and of the subquery its own node, the projection and what that is over.
    assert_eq!((own, all), (2, 5));
}
