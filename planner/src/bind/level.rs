//! The expressions of a query's own level: those of the queries inside it are left out. It does not know what is done with them.

use crate::walk::sql::{self, Tree};
use datafusion::sql::sqlparser::ast::{Expr, Query, VisitorMut};
use std::convert::Infallible;
use std::ops::ControlFlow;

/// Each expression before those inside it.
pub fn before(tree: &mut impl Tree, visit: impl FnMut(&mut Expr)) {
    go(tree, visit, |_| ());
}

/// Each expression after those inside it.
pub fn after(tree: &mut impl Tree, visit: impl FnMut(&mut Expr)) {
    go(tree, |_| (), visit);
}

fn go(tree: &mut impl Tree, before: impl FnMut(&mut Expr), after: impl FnMut(&mut Expr)) {
    let ControlFlow::Continue(()) = sql::visit_mut(tree, &mut Level { before, after, depth: 0 });
}

struct Level<B, A> {
    before: B,
    after: A,
    /// Queries around the present place.
    depth: usize,
}

impl<B: FnMut(&mut Expr), A: FnMut(&mut Expr)> VisitorMut for Level<B, A> {
    type Break = Infallible;

    fn pre_visit_query(&mut self, _query: &mut Query) -> ControlFlow<Infallible> {
        self.depth += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _query: &mut Query) -> ControlFlow<Infallible> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Infallible> {
        if self.depth == 0 {
            (self.before)(expr);
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Infallible> {
        if self.depth == 0 {
            (self.after)(expr);
        }
        ControlFlow::Continue(())
    }
}
