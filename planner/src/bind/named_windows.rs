//! Windows by their names: `OVER w`, `OVER (w ROWS ...)` and `WINDOW b AS (a ORDER BY x)` become the windows that they stand for, by PostgreSQL's rules. The binder passes over a name in parentheses, and
//! knows none in ORDER BY. It does not know what is in a window.

use super::level;
use super::rewrite::{Broken, broken};
use crate::error::{fold, suggest};
use datafusion::sql::sqlparser::ast::*;
use eddyline_common::{SqlError, SqlState};
use std::ops::ControlFlow;

/// Windows by their folded names.
type Defined = [(String, WindowSpec)];

/// Takes the names out of a SELECT, and of the ORDER BY of the query that it is.
pub fn resolve(select: &mut Select, order: &mut [OrderByExpr]) -> ControlFlow<Broken> {
    let mut defined = Vec::new();
    for NamedWindowDefinition(name, window) in std::mem::take(&mut select.named_window) {
        let called = fold(&name);
        if defined.iter().any(|(other, _)| *other == called) {
            let error = SqlError::new(SqlState::WINDOWING_ERROR, format!("window \"{called}\" is already defined"));
            return broken(error, name.span);
        }
        let window = match window {
            NamedWindowExpr::NamedWindow(other) => named(&other, &defined)?.clone(),
            NamedWindowExpr::WindowSpec(window) => completed(window, &defined)?,
        };
        defined.push((called, window));
    }
    let mut flow: ControlFlow<Broken> = ControlFlow::Continue(());
    let mut settle = |expr: &mut Expr| {
        if let Expr::Function(Function { over: Some(over), .. }) = expr
            && flow.is_continue()
        {
            flow = settled(over, &defined);
        }
    };
    level::before(&mut select.projection, &mut settle);
    level::before(&mut select.qualify, &mut settle);
    if let Some(Distinct::On(exprs)) = &mut select.distinct {
        exprs.iter_mut().for_each(|expr| level::before(expr, &mut settle));
    }
    order.iter_mut().for_each(|by| level::before(&mut by.expr, &mut settle));
    flow
}

fn settled(over: &mut WindowType, defined: &Defined) -> ControlFlow<Broken> {
    let window = match &*over {
        WindowType::NamedWindow(name) => named(name, defined)?.clone(),
        WindowType::WindowSpec(window) => completed(window.clone(), defined)?,
    };
    *over = WindowType::WindowSpec(window);
    ControlFlow::Continue(())
}

fn named<'a>(name: &Ident, defined: &'a Defined) -> ControlFlow<Broken, &'a WindowSpec> {
    let called = fold(name);
    match defined.iter().find(|(other, _)| *other == called) {
        Some((_, window)) => ControlFlow::Continue(window),
        None => {
            let error = SqlError::new(SqlState::UNDEFINED_OBJECT, format!("window \"{called}\" does not exist"));
            broken(suggest(error, &called, defined.iter().map(|(name, _)| name.as_str())), name.span)
        }
    }
}

/// A window with what it takes from the one that it names.
fn completed(window: WindowSpec, defined: &Defined) -> ControlFlow<Broken, WindowSpec> {
    let Some(name) = &window.window_name else { return ControlFlow::Continue(window) };
    let base = named(name, defined)?;
    let called = fold(name);
    let message = if !window.partition_by.is_empty() {
        format!("cannot override PARTITION BY clause of window \"{called}\"")
    } else if !window.order_by.is_empty() && !base.order_by.is_empty() {
        format!("cannot override ORDER BY clause of window \"{called}\"")
    } else if base.window_frame.is_some() {
        format!("cannot copy window \"{called}\" because it has a frame clause")
    } else {
        let order_by = if window.order_by.is_empty() { base.order_by.clone() } else { window.order_by };
        let partition_by = base.partition_by.clone();
        return ControlFlow::Continue(WindowSpec { window_name: None, partition_by, order_by, window_frame: window.window_frame });
    };
    broken(SqlError::new(SqlState::WINDOWING_ERROR, message), name.span)
}
