//! Walks over parsed statements. They do not know what is done at a node.

use datafusion::sql::sqlparser::ast::{
    Expr, ObjectName, Query, Select, SelectItem, Statement, TableFactor, ValueWithSpan, Visit, VisitMut, Visitor, VisitorMut,
};
use std::ops::ControlFlow;

/// A query, or a part of one.
pub trait Tree {
    #[doc(hidden)]
    fn look(&self, visitor: &mut Looking);
    #[doc(hidden)]
    fn change(&mut self, visitor: &mut Changing);
}

macro_rules! trees {
    ($($tree:ty),*) => {
        $(impl Tree for $tree {
            #[inline(never)]
            fn look(&self, visitor: &mut Looking) {
                let _ = Visit::visit(self, visitor);
            }

            #[inline(never)]
            fn change(&mut self, visitor: &mut Changing) {
                let _ = VisitMut::visit(self, visitor);
            }
        })*
    };
}

trees!(Query, Select, Expr, SelectItem, Option<Expr>, Vec<SelectItem>);

/// Takes a visitor through a tree: `Visit::visit`, but for its price.
pub fn visit<V: Visitor>(tree: &impl Tree, visitor: &mut V) -> ControlFlow<V::Break> {
    let mut stopping = Stopping { visitor, with: None };
    tree.look(&mut Looking(&mut stopping));
    stopping.with.map_or(ControlFlow::Continue(()), ControlFlow::Break)
}

/// Takes a visitor that changes nodes through a tree: `VisitMut::visit`, but for its price.
pub fn visit_mut<V: VisitorMut>(tree: &mut impl Tree, visitor: &mut V) -> ControlFlow<V::Break> {
    let mut stopping = Stopping { visitor, with: None };
    tree.change(&mut Changing(&mut stopping));
    stopping.with.map_or(ControlFlow::Continue(()), ControlFlow::Break)
}

/// Looks at each expression before those inside it, also in subqueries.
pub fn expressions(tree: &impl Tree, look: impl FnMut(&Expr)) {
    let _ = visit(tree, &mut Expressions(look));
}

/// Whether there is such an expression, also in subqueries.
pub fn any(tree: &impl Tree, is: impl Fn(&Expr) -> bool) -> bool {
    let mut found = false;
    expressions(tree, |expr| found |= is(expr));
    found
}

/// Changes each expression after those inside it, also in subqueries.
pub fn expressions_mut(tree: &mut impl Tree, change: impl FnMut(&mut Expr)) {
    let _ = visit_mut(tree, &mut Expressions(change));
}

struct Expressions<F>(F);

impl<F: FnMut(&Expr)> Visitor for Expressions<F> {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        (self.0)(expr);
        ControlFlow::Continue(())
    }
}

impl<F: FnMut(&mut Expr)> VisitorMut for Expressions<F> {
    type Break = ();

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        (self.0)(expr);
        ControlFlow::Continue(())
    }
}

/// A visitor, and what it stopped with, which has a type of its own.
struct Stopping<'a, V, B> {
    visitor: &'a mut V,
    with: Option<B>,
}

impl<V, B> Stopping<'_, V, B> {
    fn keep(&mut self, flow: ControlFlow<B>) -> ControlFlow<()> {
        flow.map_break(|with| self.with = Some(with))
    }
}

/// Defines the methods of a visitor without its type, and the only visitor that is compiled into sqlparser's walk.
macro_rules! erase {
    ($erased:ident, $hooks:ident, $visitor:ident, $($method:ident: $node:ty),*) => {
        trait $hooks {
            $(fn $method(&mut self, node: $node) -> ControlFlow<()>;)*
        }

        impl<V: $visitor> $hooks for Stopping<'_, V, V::Break> {
            $(fn $method(&mut self, node: $node) -> ControlFlow<()> {
                let flow = self.visitor.$method(node);
                self.keep(flow)
            })*
        }

        pub struct $erased<'a>(&'a mut dyn $hooks);

        #[deny(clippy::missing_trait_methods)]
        impl $visitor for $erased<'_> {
            type Break = ();

            $(fn $method(&mut self, node: $node) -> ControlFlow<()> {
                self.0.$method(node)
            })*
        }
    };
    ($erased:ident, $hooks:ident, $visitor:ident $($mutable:tt)?) => {
        erase!(
            $erased, $hooks, $visitor,
            pre_visit_statement: &$($mutable)? Statement, post_visit_statement: &$($mutable)? Statement,
            pre_visit_query: &$($mutable)? Query, post_visit_query: &$($mutable)? Query,
            pre_visit_select: &$($mutable)? Select, post_visit_select: &$($mutable)? Select,
            pre_visit_relation: &$($mutable)? ObjectName, post_visit_relation: &$($mutable)? ObjectName,
            pre_visit_table_factor: &$($mutable)? TableFactor, post_visit_table_factor: &$($mutable)? TableFactor,
            pre_visit_expr: &$($mutable)? Expr, post_visit_expr: &$($mutable)? Expr,
            pre_visit_value: &$($mutable)? ValueWithSpan, post_visit_value: &$($mutable)? ValueWithSpan
        );
    };
}

erase!(Looking, Look, Visitor);
erase!(Changing, Change, VisitorMut mut);
