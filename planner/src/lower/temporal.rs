//! Temporal filters: a condition that compares something of a row with the present time says from when on, or until when, the row
//! is shown. The comparison is solved for `now()`: what stands around it is moved to the row's side, as long as it grows with it.

use super::node::{Facts, WindowColumn};
use super::{Lowering, interval};
use crate::expr::{self, binary_of, turned};
use crate::functions::{TIME_PRECISION, unit_of_precision};
use crate::plan::{BinaryOp, ChangelogMode, Expr, Literal, LiteralValue, Node, NodeId, Op, TimeBound};
use eddyline_common::time::MICROS_PER_DAY;
use eddyline_common::types::Column;
use eddyline_common::{Result, SqlError, SqlType};

/// The moment from which on (`upper` is false), or until which, a row is shown: an expression of the row, and what is added to it.
struct Moment {
    upper: bool,
    value: Expr,
    shift: i64,
}

impl Lowering<'_> {
    /// A filter on a condition that reads the clock in some of its parts; the other parts are decided below.
    pub(super) fn temporal_filter(&mut self, input: NodeId, predicate: &Expr) -> Result<NodeId> {
        let (mut plain, mut moments): (Option<Expr>, Vec<Moment>) = (None, Vec::new());
        let mut solved = Ok(());
        interval::conjuncts(predicate, &mut |condition| {
            if !expr::reads_clock(condition) {
                plain = Some(match plain.take() {
                    Some(before) => binary_of(BinaryOp::And, before, condition.clone()),
                    None => condition.clone(),
                });
            } else if solved.is_ok() {
                solved = moments_of(condition, &mut moments);
            }
        });
        solved?;
        let input = match plain {
            Some(condition) => self.filter_node(input, condition)?,
            None => input,
        };
        self.check_kept(input)?;
        let width = self.nodes[input].columns.len();
        let names = self.nodes[input].columns.clone();
        let (mut exprs, mut columns): (Vec<Expr>, Vec<Column>) = ((0..width).map(Expr::Column).collect(), names.clone());
        let (mut from, mut until) = (Vec::new(), Vec::new());
        for Moment { upper, value, shift } in moments {
            let column = match same_instant(&value) {
                Expr::Column(column) if names[*column].ty.is_time() => *column,
                _ => {
                    exprs.push(Expr::Cast { expr: Box::new(value), ty: SqlType::TimestampTz, try_cast: false });
                    columns.push(Column::new(if upper { "until" } else { "from" }, SqlType::TimestampTz, true));
                    exprs.len() - 1
                }
            };
            let bounds = if upper { &mut until } else { &mut from };
            bounds.push(TimeBound { column, shift });
        }
        let computed = exprs.len() > width;
        let input = if computed { self.project(input, exprs, columns)? } else { input };
        let node = self.temporal_node(input, width, from, until);
        if computed { self.project(node, (0..width).map(Expr::Column).collect(), names) } else { Ok(node) }
    }

    fn temporal_node(&mut self, input: NodeId, width: usize, from: Vec<TimeBound>, until: Vec<TimeBound>) -> NodeId {
        let key = self.nodes[input].unique_keys.iter().filter(|k| !k.is_empty()).min_by_key(|k| k.len()).cloned();
        let input = self.exchanged(input, key.unwrap_or_else(|| (0..width).collect()));
        let source = self.nodes[input].clone();
        let unmoved = |w: WindowColumn| WindowColumn { event_time: false, ..w };
        // Rows go when their time is over, long after a watermark has passed them: event time ends here.
        let facts = Facts {
            event_time: None,
            windows: self.facts[input].windows.iter().map(|w| w.map(unmoved)).collect(),
            unwatermarked: None,
            ..self.facts[input].clone()
        };
        let grows = source.mode == ChangelogMode::Append && until.is_empty();
        let node = Node {
            op: Op::TemporalFilter { from, until, state: self.ids.allocate() },
            inputs: vec![input],
            mode: if grows { ChangelogMode::Append } else { ChangelogMode::Retract },
            time_columns: vec![],
            ..source
        };
        self.push(node, facts)
    }

    fn check_kept(&self, input: NodeId) -> Result<()> {
        match self.nodes[input].columns.iter().find(|c| matches!(c.ty, SqlType::Map(_, _))) {
            Some(column) => Err(SqlError::unsupported(format!(
                "a filter on the current time over rows with a column of type {} is not supported in a materialized view",
                column.ty
            ))),
            None => Ok(()),
        }
    }
}

fn refused() -> SqlError {
    SqlError::unsupported("this condition on the current time is not supported in a materialized view")
        .with_detail("It does not say of a row from when on, or until when, it is true.")
        .with_hint("Compare with now(), plus or minus a constant interval of days or less, and combine with AND: ts > now() - INTERVAL '5 minutes'.")
}

/// The moments of one condition.
fn moments_of(condition: &Expr, moments: &mut Vec<Moment>) -> Result<()> {
    let (op, left, right) = match condition {
        Expr::Binary { op, left, right } => (*op, left, right),
        Expr::Not(inner) => match inner.as_ref() {
            Expr::Binary { op, left, right } => (negated(*op).ok_or_else(refused)?, left, right),
            _ => return Err(refused()),
        },
        _ => return Err(refused()),
    };
    let (op, clock, row) = match (expr::reads_clock(left), expr::reads_clock(right)) {
        (true, false) => (op, left, right),
        (false, true) => (turned(op), right, left),
        _ => return Err(refused()),
    };
    let solved: &[BinaryOp] = match op {
        BinaryOp::Eq => &[BinaryOp::GtEq, BinaryOp::LtEq],
        BinaryOp::Lt => &[BinaryOp::Lt],
        BinaryOp::LtEq => &[BinaryOp::LtEq],
        BinaryOp::Gt => &[BinaryOp::Gt],
        BinaryOp::GtEq => &[BinaryOp::GtEq],
        _ => return Err(refused()),
    };
    for op in solved {
        moments.push(solve(clock, *op, row.as_ref().clone(), 0)?);
    }
    Ok(())
}

fn negated(op: BinaryOp) -> Option<BinaryOp> {
    Some(match op {
        BinaryOp::Lt => BinaryOp::GtEq,
        BinaryOp::LtEq => BinaryOp::Gt,
        BinaryOp::Gt => BinaryOp::LtEq,
        BinaryOp::GtEq => BinaryOp::Lt,
        _ => return None,
    })
}

/// Solves `clock op value + shift` for `now()`.
fn solve(clock: &Expr, op: BinaryOp, value: Expr, shift: i64) -> Result<Moment> {
    let moved = |inner: &Expr, value: Expr, by: Option<i64>| {
        solve(inner, op, value, shift.checked_add(by.ok_or_else(refused)?).ok_or_else(refused)?)
    };
    match clock {
        Expr::CutNow => Ok(match op {
            BinaryOp::Lt => Moment { upper: true, value, shift },
            BinaryOp::LtEq => Moment { upper: true, value, shift: shift.saturating_add(1) },
            BinaryOp::Gt => Moment { upper: false, value, shift: shift.saturating_add(1) },
            _ => Moment { upper: false, value, shift },
        }),
        Expr::Binary { op: BinaryOp::Minus, left, right } => match right.as_ref() {
            Expr::Literal(by) => moved(left, value, interval::micros(by)),
            _ => Err(refused()),
        },
        Expr::Binary { op: BinaryOp::Plus, left, right } => match (left.as_ref(), right.as_ref()) {
            (Expr::Literal(by), inner) | (inner, Expr::Literal(by)) => moved(inner, value, interval::micros(by).and_then(i64::checked_neg)),
            _ => Err(refused()),
        },
        // A time in UTC and the instant that it is are the same number.
        Expr::Call { name, args, .. } if name == "timezone" => match args.as_slice() {
            [Expr::Literal(zone), inner] if is_utc(zone) => solve(inner, op, value, shift),
            _ => Err(refused()),
        },
        Expr::Call { name, args, .. } if name == TIME_PRECISION => match args.as_slice() {
            [inner, Expr::Literal(digits)] => of_unit(inner, digits, op, value, shift),
            _ => Err(refused()),
        },
        Expr::Cast { expr, ty: SqlType::Date, try_cast: false } => of_day(expr, op, value, shift),
        Expr::Cast { expr, ty: SqlType::Timestamp | SqlType::TimestampTz, try_cast: false } => solve(expr, op, value, shift),
        _ => Err(refused()),
    }
}

/// Solves `day of clock op value + shift`. The day begins at or before a moment if and only if it is that moment's or an earlier one.
fn of_day(clock: &Expr, op: BinaryOp, value: Expr, shift: i64) -> Result<Moment> {
    // The first day that does not begin before the moment is the one after that in which the moment before lies.
    let back = if is_strict(op) { -1 } else { 0 };
    let moment = moved_by(value, shift.checked_add(back))?;
    let day = cast(cast(moment, SqlType::Date), SqlType::Timestamp);
    solve(clock, from_or_until(op), day, MICROS_PER_DAY)
}

/// Solves `clock, rounded to so many digits, op value + shift`. A clock is rounded to a unit from half a unit before that on, and the unit in which a moment
/// lies is what the moment half a unit earlier is rounded to.
fn of_unit(clock: &Expr, digits: &Literal, op: BinaryOp, value: Expr, shift: i64) -> Result<Moment> {
    let LiteralValue::Int(kept) = digits.value else { return Err(refused()) };
    let half = unit_of_precision(kept).ok_or_else(refused)? / 2;
    let back = if is_strict(op) { half + 1 } else { half };
    let moment = moved_by(value, shift.checked_sub(back))?;
    let args = vec![moment, Expr::Literal(digits.clone())];
    let unit = Expr::Call { name: TIME_PRECISION.to_string(), args, returns: SqlType::Timestamp };
    solve(clock, from_or_until(op), unit, half)
}

/// Whether it makes a difference that a moment is the first one of its unit.
fn is_strict(op: BinaryOp) -> bool {
    matches!(op, BinaryOp::Lt | BinaryOp::GtEq)
}

fn from_or_until(op: BinaryOp) -> BinaryOp {
    match op {
        BinaryOp::Lt | BinaryOp::LtEq => BinaryOp::Lt,
        _ => BinaryOp::GtEq,
    }
}

fn cast(e: Expr, ty: SqlType) -> Expr {
    Expr::Cast { expr: Box::new(e), ty, try_cast: false }
}

/// A time so many microseconds later.
fn moved_by(time: Expr, micros: Option<i64>) -> Result<Expr> {
    let nanos = micros.and_then(|micros| micros.checked_mul(1_000)).ok_or_else(refused)?;
    let time = cast(time, SqlType::Timestamp);
    let by = Expr::Literal(Literal { ty: SqlType::Interval, value: LiteralValue::Interval { months: 0, days: 0, nanos } });
    Ok(if nanos == 0 { time } else { binary_of(BinaryOp::Plus, time, by) })
}

/// What a time is in another type, but the same number.
fn same_instant(time: &Expr) -> &Expr {
    match time {
        Expr::Call { name, args, .. } if name == "timezone" => match args.as_slice() {
            [Expr::Literal(zone), inner] if is_utc(zone) => same_instant(inner),
            _ => time,
        },
        Expr::Cast { expr, ty: SqlType::Timestamp | SqlType::TimestampTz, try_cast: false } => same_instant(expr),
        _ => time,
    }
}

fn is_utc(zone: &Literal) -> bool {
    matches!(&zone.value, LiteralValue::Text(name) if ["utc", "etc/utc", "+00:00", "gmt", "z"].contains(&name.to_lowercase().as_str()))
}
