//! Tests of expression evaluation and row errors.

use super::*;
use crate::testing::{binary, column, int, schema};
use arrow::array::*;
use arrow::datatypes::{DataType, SchemaRef};
use eddyline_common::{ChangeBatch, SqlType, Timestamp};
use eddyline_planner::plan::{BinaryOp, Expr, Literal, LiteralValue};
use std::sync::Arc;

fn literal(ty: SqlType, value: LiteralValue) -> Expr {
    Expr::Literal(Literal { ty, value })
}

fn text(value: &str) -> Expr {
    literal(SqlType::Text, LiteralValue::Text(value.into()))
}

fn call(name: &str, args: Vec<Expr>, returns: SqlType) -> Expr {
    Expr::Call { name: name.into(), args, returns }
}

fn input() -> (SchemaRef, RecordBatch) {
    let schema = schema(&[
        ("i", SqlType::BigInt),
        ("s", SqlType::Text),
        ("f", SqlType::Double),
        ("t", SqlType::Timestamp),
        ("n", SqlType::SmallInt),
    ]);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from(vec![Some(1), None, Some(i64::MIN)])),
        Arc::new(StringArray::from(vec![Some("Ab"), Some("12"), None])),
        Arc::new(Float64Array::from(vec![Some(0.0), Some(2.5), None])),
        Arc::new(TimestampMicrosecondArray::from(vec![Some(0), Some(-1), None])),
        Arc::new(Int16Array::from(vec![Some(i16::MAX), Some(0), None])),
    ];
    (schema.clone(), RecordBatch::try_new(schema, columns).unwrap())
}

/// The result over the rows `from..from + count` of the input, or the error's state and message.
fn evaluate(expr: &Expr, ty: SqlType, from: usize, count: usize) -> Result<ArrayRef, (String, String)> {
    let (schema, rows) = input();
    let output = crate::testing::schema(&[("x", ty)]);
    let projection = Projection::new(std::slice::from_ref(expr), &schema, output, &NowHandle::default()).map_err(describe)?;
    projection.project(&rows.slice(from, count)).map(|batch| batch.column(0).clone()).map_err(describe)
}

fn describe(error: eddyline_common::SqlError) -> (String, String) {
    (error.state.0.to_string(), error.message)
}

fn ints(expr: &Expr) -> Vec<Option<i64>> {
    evaluate(expr, SqlType::BigInt, 0, 3).unwrap().as_primitive::<arrow::datatypes::Int64Type>().iter().collect()
}

fn error(expr: &Expr, ty: SqlType, row: usize) -> (String, String) {
    evaluate(expr, ty, row, 1).unwrap_err()
}

#[test]
fn integers_never_wrap() {
    assert_eq!(error(&binary(BinaryOp::Minus, column(0), int(1)), SqlType::BigInt, 2).0, "22003");
    assert_eq!(error(&Expr::Negate(Box::new(column(0))), SqlType::BigInt, 2).0, "22003");
    let one = literal(SqlType::SmallInt, LiteralValue::Int(1));
    assert_eq!(error(&binary(BinaryOp::Plus, column(4), one), SqlType::SmallInt, 0).0, "22003");
    assert_eq!(error(&binary(BinaryOp::Multiply, column(0), int(2)), SqlType::BigInt, 2).0, "22003");
    let too_large =
        binary(BinaryOp::Plus, literal(SqlType::Integer, LiteralValue::Int(1)), literal(SqlType::Integer, LiteralValue::Int(2147483647)));
    assert_eq!(error(&too_large, SqlType::Integer, 0), ("22003".into(), "integer out of range".into()));
    assert_eq!(ints(&binary(BinaryOp::BitAnd, column(0), int(1))), vec![Some(1), None, Some(0)]);
}

#[test]
fn division_by_zero_is_an_error_of_the_row() {
    assert_eq!(error(&binary(BinaryOp::Divide, column(0), int(0)), SqlType::BigInt, 0), ("22012".into(), "division by zero".into()));
    assert_eq!(error(&binary(BinaryOp::Modulo, column(0), int(0)), SqlType::BigInt, 0).0, "22012");
    let float = |v: f64| literal(SqlType::Double, LiteralValue::FloatBits(v.to_bits()));
    assert_eq!(error(&binary(BinaryOp::Divide, float(1.0), column(2)), SqlType::Double, 0).0, "22012");
    let quotient = evaluate(&binary(BinaryOp::Divide, float(5.0), column(2)), SqlType::Double, 1, 2).unwrap();
    assert_eq!(quotient.as_primitive::<arrow::datatypes::Float64Type>().iter().collect::<Vec<_>>(), vec![Some(2.0), None]);
    assert!(evaluate(&binary(BinaryOp::Divide, float(f64::NAN), column(2)), SqlType::Double, 0, 1).is_ok());
    assert!(evaluate(&binary(BinaryOp::Divide, literal(SqlType::Double, LiteralValue::Null), column(2)), SqlType::Double, 0, 1).is_ok());
}

/// A row that an earlier server made an infinity of is in a view as that, and has to go again.
#[test]
fn arithmetic_of_floats_in_older_plans_has_infinities() {
    let large = || literal(SqlType::Double, LiteralValue::FloatBits(1e308f64.to_bits()));
    let values =
        |expr: &Expr| evaluate(expr, SqlType::Double, 0, 1).map(|array| array.as_primitive::<arrow::datatypes::Float64Type>().value(0));
    for (op, name) in [(BinaryOp::Plus, "checked_add"), (BinaryOp::Multiply, "checked_multiply")] {
        assert_eq!(values(&binary(op, large(), large())), Ok(f64::INFINITY));
        let overflow = ("22003".into(), "value out of range: overflow".into());
        assert_eq!(values(&call(name, vec![large(), large()], SqlType::Double)), Err(overflow));
    }
    let zero = || literal(SqlType::Double, LiteralValue::FloatBits(0));
    assert_eq!(values(&binary(BinaryOp::Divide, large(), zero())).unwrap_err().0, "22012");
    assert_eq!(values(&call("checked_divide", vec![large(), zero()], SqlType::Double)).unwrap_err().0, "22012");
    assert_eq!(values(&call("checked_subtract", vec![large(), large()], SqlType::Double)), Ok(0.0));
}

#[test]
fn casts_fail_in_words_or_give_null() {
    let cast = |try_cast| Expr::Cast { expr: Box::new(column(1)), ty: SqlType::BigInt, try_cast };
    assert_eq!(error(&cast(false), SqlType::BigInt, 0), ("22P02".into(), "invalid input syntax for type bigint: \"Ab\"".into()));
    assert_eq!(ints(&cast(true)), vec![None, Some(12), None]);
}

#[test]
fn conditional_expressions_evaluate_only_what_they_need() {
    let divide = || binary(BinaryOp::Divide, int(10), Expr::Cast { expr: Box::new(column(2)), ty: SqlType::BigInt, try_cast: false });
    let zero = binary(BinaryOp::Eq, column(2), literal(SqlType::Double, LiteralValue::FloatBits(0)));
    let case = Expr::Case { branches: vec![(zero.clone(), int(-1))], otherwise: Some(Box::new(divide())) };
    assert_eq!(ints(&case), vec![Some(-1), Some(5), None]);
    let coalesce = call("coalesce", vec![column(0), divide()], SqlType::BigInt);
    assert_eq!(ints(&coalesce), vec![Some(1), Some(5), Some(i64::MIN)]);
    let nvl2 = call("nvl2", vec![column(0), int(3), divide()], SqlType::BigInt);
    assert_eq!(ints(&nvl2), vec![Some(3), Some(5), Some(3)]);
    let or = binary(BinaryOp::Or, zero.clone(), binary(BinaryOp::Gt, divide(), int(4)));
    let result = evaluate(&or, SqlType::Boolean, 0, 3).unwrap();
    assert_eq!(result.as_boolean().iter().collect::<Vec<_>>(), vec![Some(true), Some(true), None]);
    let and = binary(BinaryOp::And, Expr::Not(Box::new(zero)), binary(BinaryOp::Gt, divide(), int(4)));
    let result = evaluate(&and, SqlType::Boolean, 0, 3).unwrap();
    assert_eq!(result.as_boolean().iter().collect::<Vec<_>>(), vec![Some(false), Some(true), None]);
}

#[test]
fn functions_return_the_declared_types() {
    let lower = evaluate(&call("lower", vec![column(1)], SqlType::Text), SqlType::Text, 0, 3).unwrap();
    assert_eq!(lower.as_string::<i32>().iter().collect::<Vec<_>>(), vec![Some("ab"), Some("12"), None]);
    let part = evaluate(&call("substr", vec![column(1), int(1), int(1)], SqlType::Text), SqlType::Text, 0, 3).unwrap();
    assert_eq!(part.data_type(), &DataType::Utf8);
    let day = evaluate(&call("date_trunc", vec![text("day"), column(3)], SqlType::Timestamp), SqlType::Timestamp, 0, 3).unwrap();
    let day: Vec<_> = day.as_primitive::<arrow::datatypes::TimestampMicrosecondType>().iter().collect();
    assert_eq!(day, vec![Some(0), Some(-86_400_000_000), None]);
    assert_eq!(ints(&call("character_length", vec![column(1)], SqlType::BigInt)), vec![Some(2), Some(2), None]);
    let difference = evaluate(&binary(BinaryOp::Minus, column(3), column(3)), SqlType::Interval, 0, 2).unwrap();
    assert_eq!(difference.null_count(), 0);
}

#[test]
fn what_cannot_be_evaluated_is_refused_before() {
    // DataFusion replaces this function while it plans; it has no implementation of its own.
    let cast = call("arrow_cast", vec![column(0), text("Int16")], SqlType::SmallInt);
    assert!(evaluate(&cast, SqlType::SmallInt, 0, 1).is_err());
    let (schema, _) = input();
    assert!(compile(&cast, &schema, &NowHandle::default()).is_err());
    assert!(compile(&binary(BinaryOp::Plus, column(0), column(1)), &schema, &NowHandle::default()).is_err());
    // A constant that fails is a matter of the rows it is evaluated for.
    assert!(compile(&binary(BinaryOp::Divide, int(1), int(0)), &schema, &NowHandle::default()).is_ok());
}

#[test]
fn predicates_and_tests_of_truth() {
    let like = Expr::Like { expr: Box::new(column(1)), pattern: Box::new(text("a%")), negated: false, case_insensitive: true };
    let list = Expr::InList { expr: Box::new(column(0)), list: vec![int(1), int(5)], negated: true };
    let is_true = |e: Expr, value, negated| Expr::IsBool { expr: Box::new(e), value, negated };
    for (expr, expected) in [
        (like.clone(), vec![Some(true), Some(false), None]),
        (list.clone(), vec![Some(false), None, Some(true)]),
        (is_true(list.clone(), Some(true), false), vec![Some(false), Some(false), Some(true)]),
        (is_true(list, None, false), vec![Some(false), Some(true), Some(false)]),
        (is_true(like, Some(false), true), vec![Some(true), Some(false), Some(true)]),
        (Expr::IsNull(Box::new(column(0))), vec![Some(false), Some(true), Some(false)]),
        (binary(BinaryOp::IsDistinctFrom, column(0), int(1)), vec![Some(false), Some(true), Some(true)]),
        (binary(BinaryOp::RegexMatch, column(1), text("^[0-9]+$")), vec![Some(false), Some(true), None]),
    ] {
        let result = evaluate(&expr, SqlType::Boolean, 0, 3).unwrap();
        assert_eq!(result.as_boolean().iter().collect::<Vec<_>>(), expected, "{expr:?}");
    }
}

#[test]
fn now_is_the_steps() {
    let (schema, rows) = input();
    let now = NowHandle::default();
    let output = crate::testing::schema(&[("now", SqlType::TimestampTz)]);
    let projection = Projection::new(&[Expr::CutNow], &schema, output, &now).unwrap();
    for micros in [5, 9] {
        now.set(Timestamp(micros));
        let result = projection.project(&rows).unwrap();
        assert_eq!(result.column(0).as_primitive::<arrow::datatypes::TimestampMicrosecondType>().values(), &[micros; 3]);
    }
}

#[test]
fn every_constant_has_its_arrow_type() {
    let array = SqlType::Array(Box::new(SqlType::Integer));
    let structure = SqlType::Struct(vec![("a".into(), SqlType::Integer), ("b".into(), SqlType::Text)]);
    let constants = [
        (SqlType::Boolean, LiteralValue::Boolean(true)),
        (SqlType::SmallInt, LiteralValue::Int(-3)),
        (SqlType::Integer, LiteralValue::Int(-3)),
        (SqlType::Date, LiteralValue::Int(19_000)),
        (SqlType::Time, LiteralValue::Int(1)),
        (SqlType::Timestamp, LiteralValue::Int(1)),
        (SqlType::TimestampTz, LiteralValue::Int(1)),
        (SqlType::Real, LiteralValue::FloatBits(1.5f64.to_bits())),
        (SqlType::Decimal { precision: 10, scale: 2 }, LiteralValue::Decimal("-12345".into())),
        (SqlType::Json, LiteralValue::Text("{}".into())),
        (SqlType::Bytes, LiteralValue::Bytes(vec![0, 1])),
        (SqlType::Interval, LiteralValue::Interval { months: 1, days: 2, nanos: 3 }),
        (array, LiteralValue::List(vec![LiteralValue::Int(1), LiteralValue::Null])),
        (structure, LiteralValue::List(vec![LiteralValue::Int(1), LiteralValue::Text("x".into())])),
        (SqlType::Map(Box::new(SqlType::Text), Box::new(SqlType::BigInt)), LiteralValue::Null),
    ];
    for (ty, value) in constants {
        let literals = [Literal { ty: ty.clone(), value }, Literal { ty: ty.clone(), value: LiteralValue::Null }];
        let column = literal_column(&ty, literals.iter()).unwrap();
        assert_eq!(column.data_type(), &ty.to_arrow());
        assert!(column.is_null(1));
        assert_eq!(evaluate(&Expr::Literal(literals[0].clone()), ty.clone(), 0, 3).unwrap().len(), 3);
    }
    assert!(literal_scalar(&Literal { ty: SqlType::Text, value: LiteralValue::Int(1) }).is_err());
}

#[test]
fn null_in_a_required_column_is_an_error_of_the_row() {
    let (schema, rows) = input();
    let output = eddyline_common::types::arrow_schema(&[eddyline_common::Column::new("x", SqlType::BigInt, false)]);
    let projection = Projection::new(&[column(0)], &schema, output, &NowHandle::default()).unwrap();
    assert_eq!(projection.project(&rows).unwrap_err().state.0, "23502");
    assert!(projection.project(&rows.slice(0, 1)).is_ok());
}

#[test]
fn a_time_is_behind_the_watermark_that_its_batch_came_under() {
    let ((schema, rows), now) = (input(), NowHandle::default());
    let output = crate::testing::schema(&[("x", SqlType::Boolean)]);
    let behind = call(eddyline_planner::functions::BEHIND_WATERMARK, vec![column(3)], SqlType::Boolean);
    let projection = Projection::new(&[behind], &schema, output, &now).unwrap();
    let told = || projection.project(&rows).unwrap().column(0).as_boolean().iter().map(|b| b.unwrap()).collect::<Vec<_>>();
    assert_eq!(told(), [false, false, false], "there is no watermark yet");
    now.set_arrival_watermark(Timestamp(0));
    assert_eq!(told(), [false, true, false], "on it, behind it, and without a time");
}

/// Arrow looks at all bytes that a slice shares with others.
#[test]
fn a_row_is_not_rejected_for_what_is_beside_it() {
    let schema = schema(&[("b", SqlType::Bytes)]);
    let bytes: ArrayRef = Arc::new(BinaryArray::from(vec![Some(b"\xff".as_slice()), Some(b"a".as_slice()), None]));
    let rows = RecordBatch::try_new(schema.clone(), vec![bytes]).unwrap();
    let output = crate::testing::schema(&[("t", SqlType::Text)]);
    let cast = Expr::Cast { expr: Box::new(column(0)), ty: SqlType::Text, try_cast: false };
    let projection = Projection::new(&[cast], &schema, output, &NowHandle::default()).unwrap();
    let fates = |rows: RecordBatch| {
        let mut ctx = crate::testing::context();
        let good = projection.evaluate(&ChangeBatch::insertions(rows), &mut ctx).unwrap();
        let texts = good.rows.column(0).as_string::<i32>().iter().map(|text| text.map(str::to_string)).collect::<Vec<_>>();
        (texts, ctx.take_rejected().iter().map(|(_, changes)| changes.num_rows()).sum::<usize>())
    };
    assert_eq!(fates(rows.slice(1, 1)), (vec![Some("a".to_string())], 0));
    assert_eq!(fates(rows), (vec![Some("a".to_string()), None], 1));
}
