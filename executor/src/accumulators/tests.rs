//! Accumulators against recomputation from the rows themselves: random weighted updates in random pieces, with
//! retraction down to nothing, extremes of the types, and every state through its stored form.

use super::*;
use arrow::array::*;
use arrow::datatypes::*;
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use std::sync::Arc;

const SLOTS: usize = 4;

fn call(function: AggregateFunction, output: SqlType) -> AggregateCall {
    AggregateCall::new(function, Some(0), output)
}

/// Runs weighted values (slot, index into `values`, weight) through an accumulator in random pieces and order.
fn run(call: &AggregateCall, values: &ArrayRef, rows: &[(u32, u32, i64)], seed: u64) -> Output {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut rows = rows.to_vec();
    rows.shuffle(&mut rng);
    let mut accumulator = create(call, values.data_type()).unwrap();
    accumulator.reserve(SLOTS);
    let mut rest = rows.as_slice();
    while !rest.is_empty() {
        let (piece, later) = rest.split_at(rng.random_range(1..=rest.len().min(7)));
        rest = later;
        let taken = arrow::compute::take(values, &UInt32Array::from_iter_values(piece.iter().map(|r| r.1)), None).unwrap();
        let slots: Vec<u32> = piece.iter().map(|r| r.0).collect();
        let weights: Vec<i64> = piece.iter().map(|r| r.2).collect();
        let plain = weights.iter().all(|w| *w == 1);
        // A mask that leaves out some rows is followed by one that leaves out the others.
        let mask: BooleanBuffer = (0..piece.len()).map(|_| rng.random_bool(0.5)).collect();
        let others = !&mask;
        for mask in [Some(&mask), Some(&others)] {
            accumulator.update(&Updates { slots: &slots, weights: if plain { None } else { Some(&weights) }, mask }, &taken);
        }
        let slot = rng.random_range(0..SLOTS as u32);
        let mut stored = Vec::new();
        accumulator.encode(slot, &mut stored);
        accumulator.clear(slot);
        let mut bytes = stored.as_slice();
        accumulator.decode(slot, &mut bytes).unwrap();
        assert!(bytes.is_empty());
    }
    accumulator.output(&(0..SLOTS as u32).collect::<Vec<_>>()).unwrap()
}

/// Rows whose weights sum to `counts[slot][value]`, taking detours.
fn detours(counts: &[Vec<i64>], rng: &mut StdRng) -> Vec<(u32, u32, i64)> {
    let mut rows = Vec::new();
    for (slot, counts) in counts.iter().enumerate() {
        for (value, count) in counts.iter().enumerate() {
            let mut left = *count;
            for _ in 0..rng.random_range(0..3) {
                let weight = [-3, -1, 1, 1, 5][rng.random_range(0..5)];
                rows.push((slot as u32, value as u32, weight));
                left -= weight;
            }
            if left != 0 {
                rows.push((slot as u32, value as u32, left));
            }
        }
    }
    rows
}

fn random_counts(values: usize, rng: &mut StdRng) -> Vec<Vec<i64>> {
    let mut count = |slot: usize| if slot == 0 { 0 } else { rng.random_range(0..4) };
    (0..SLOTS).map(|slot| (0..values).map(|_| count(slot)).collect()).collect()
}

fn valid<T>(array: &PrimitiveArray<T>, slot: usize) -> Option<T::Native>
where
    T: ArrowPrimitiveType,
{
    array.is_valid(slot).then(|| array.value(slot))
}

proptest! {
    #[test]
    fn integers(values in prop::collection::vec(prop::option::of(prop_oneof![any::<i64>(), -9i64..9, Just(i64::MAX), Just(i64::MIN)]), 1..8), seed in any::<u64>()) {
        let mut rng = StdRng::seed_from_u64(seed);
        let counts = random_counts(values.len(), &mut rng);
        let rows = detours(&counts, &mut rng);
        let array: ArrayRef = Arc::new(Int64Array::from(values.clone()));
        let sums = run(&call(AggregateFunction::Sum, SqlType::BigInt), &array, &rows, seed);
        let averages = run(&call(AggregateFunction::Avg, SqlType::Double), &array, &rows, seed);
        let numbers = run(&call(AggregateFunction::Count, SqlType::BigInt), &array, &rows, seed);
        for slot in 0..SLOTS {
            let counted: Vec<(i128, i128)> = values.iter().zip(&counts[slot]).filter_map(|(v, c)| v.map(|v| (v as i128, *c as i128))).collect();
            let sum: i128 = counted.iter().map(|(v, c)| v * c).sum();
            let count: i128 = counted.iter().map(|(_, c)| c).sum();
            let expected = (count > 0).then(|| i64::try_from(sum).ok()).flatten();
            prop_assert_eq!(valid(sums.values.as_primitive::<Int64Type>(), slot), expected);
            let unfit = sums.out_of_range.as_ref().is_some_and(|o| o.value(slot));
            prop_assert_eq!(unfit, i64::try_from(sum).is_err());
            prop_assert_eq!(valid(averages.values.as_primitive::<Float64Type>(), slot), (count > 0).then(|| sum as f64 / count as f64));
            prop_assert_eq!(valid(numbers.values.as_primitive::<Int64Type>(), slot), Some(count as i64));
        }
    }

    #[test]
    fn decimals(values in prop::collection::vec(prop::option::of(prop_oneof![-99_999i128..99_999, Just(10i128.pow(38) - 1), Just(1 - 10i128.pow(38))]), 1..8), seed in any::<u64>()) {
        let mut rng = StdRng::seed_from_u64(seed);
        let counts = random_counts(values.len(), &mut rng);
        let rows = detours(&counts, &mut rng);
        let array: ArrayRef = Arc::new(Decimal128Array::from(values.clone()).with_precision_and_scale(38, 2).unwrap());
        let sums = run(&call(AggregateFunction::Sum, SqlType::Decimal { precision: 38, scale: 2 }), &array, &rows, seed);
        let averages = run(&call(AggregateFunction::Avg, SqlType::Decimal { precision: 38, scale: 6 }), &array, &rows, seed);
        for slot in 0..SLOTS {
            let mut sum = i256::ZERO;
            let mut count = 0;
            for (value, times) in values.iter().zip(&counts[slot]) {
                if let Some(value) = value {
                    sum = sum.wrapping_add(i256::from_i128(*value).wrapping_mul(i256::from_i128(*times as i128)));
                    count += times;
                }
            }
            let fits = |v: i256| v.to_i128().filter(|v| v.unsigned_abs() < 10u128.pow(38));
            let expected = if count > 0 { fits(sum) } else { None };
            prop_assert_eq!(valid(sums.values.as_primitive::<Decimal128Type>(), slot), expected);
            prop_assert_eq!(sums.out_of_range.as_ref().is_some_and(|o| o.value(slot)), count > 0 && expected.is_none());
            if count > 0 {
                // Twice the scaled sum plus the count, divided by twice the count: half away from zero.
                let scaled = sum.wrapping_abs().wrapping_mul(i256::from_i128(20_000)).wrapping_add(i256::from_i128(count as i128));
                let magnitude = scaled.wrapping_div(i256::from_i128(2 * count as i128));
                let average = if sum.is_negative() { magnitude.wrapping_neg() } else { magnitude };
                prop_assert_eq!(valid(averages.values.as_primitive::<Decimal128Type>(), slot), fits(average));
            }
        }
    }

    #[test]
    fn floats_are_exact(values in prop::collection::vec(prop_oneof![
        -1e6f64..1e6, any::<f64>(), Just(1e300), Just(-1e300), Just(f64::INFINITY), Just(f64::NEG_INFINITY), Just(f64::NAN), Just(-0.0),
        Just(f64::MIN_POSITIVE / 8.0), Just(1e-100), Just(f64::MAX), Just(0.1)
    ], 1..8), seed in any::<u64>()) {
        let mut rng = StdRng::seed_from_u64(seed);
        let counts = random_counts(values.len(), &mut rng);
        let rows = detours(&counts, &mut rng);
        let array: ArrayRef = Arc::new(Float64Array::from(values.clone()));
        let output = run(&call(AggregateFunction::Sum, SqlType::Double), &array, &rows, seed);
        let sums = output.values.as_primitive::<Float64Type>();
        prop_assert!(sums.is_null(0), "nothing is left of the first slot");
        for slot in 1..SLOTS {
            let left: Vec<(f64, i64)> = values.iter().copied().zip(counts[slot].iter().copied()).filter(|(_, c)| *c > 0).collect();
            match valid(sums, slot) {
                None if left.is_empty() => {}
                None => {
                    prop_assert!(left.iter().all(|(value, _)| value.is_finite()) && reference_sum(&left).is_infinite(), "{:?}", left);
                    prop_assert!(output.out_of_range.as_ref().is_some_and(|unfit| unfit.value(slot)));
                }
                Some(sum) => {
                    let expected = reference_sum(&left);
                    prop_assert!(sum == expected || sum.is_nan() && expected.is_nan(), "{} is not {} for {:?}", sum, expected, left);
                }
            }
        }
    }

    #[test]
    fn extremes_that_only_grow(values in prop::collection::vec(prop::option::of(prop_oneof![any::<i64>(), -9i64..9]), 1..8), seed in any::<u64>()) {
        let mut rng = StdRng::seed_from_u64(seed);
        let counts = random_counts(values.len(), &mut rng);
        let rows: Vec<(u32, u32, i64)> = (0..SLOTS)
            .flat_map(|s| counts[s].iter().enumerate().flat_map(move |(v, c)| (0..*c).map(move |_| (s as u32, v as u32, 1))))
            .collect();
        let types = [
            SqlType::BigInt, SqlType::Integer, SqlType::SmallInt, SqlType::Date, SqlType::Time, SqlType::Timestamp, SqlType::TimestampTz,
            SqlType::Double, SqlType::Real, SqlType::Text, SqlType::Boolean, SqlType::Decimal { precision: 20, scale: 3 },
        ];
        for ty in types {
            // Wrapped into every type's range; text and booleans by way of the number.
            let small: ArrayRef = Arc::new(Int64Array::from_iter(values.iter().map(|v| v.map(|v| v % 9_999))));
            let narrow = arrow::compute::cast(&small, &match ty { SqlType::Date => DataType::Int32, _ => DataType::Int64 }).unwrap();
            let array = arrow::compute::cast(&narrow, &ty.to_arrow()).unwrap();
            for function in [AggregateFunction::Min, AggregateFunction::Max] {
                let output = run(&call(function, ty.clone()), &array, &rows, seed).values;
                prop_assert_eq!(output.data_type(), &ty.to_arrow());
                for slot in 0..SLOTS {
                    let mut left: Vec<usize> = (0..values.len()).filter(|v| array.is_valid(*v) && counts[slot][*v] > 0).collect();
                    let compare = make_comparator(&array, &array, Default::default()).unwrap();
                    left.sort_by(|a, b| compare(*a, *b));
                    let best = if function == AggregateFunction::Min { left.first() } else { left.last() };
                    let expected = best.map(|v| array.slice(*v, 1));
                    prop_assert_eq!(output.is_valid(slot).then(|| output.slice(slot, 1)), expected);
                }
            }
        }
    }
}

/// The exact sum by another road: multiples of 2^-1074 in decimal digits, rounded by the standard library's parser.
fn reference_sum(values: &[(f64, i64)]) -> f64 {
    let has = |f: fn(f64) -> bool| values.iter().any(|(v, _)| f(*v));
    let (up, down) = (has(|v| v == f64::INFINITY), has(|v| v == f64::NEG_INFINITY));
    match (has(f64::is_nan) || up && down, up, down) {
        (true, _, _) => return f64::NAN,
        (_, true, _) => return f64::INFINITY,
        (_, _, true) => return f64::NEG_INFINITY,
        _ => {}
    }
    // Base 10^9 digits of an integer and of 1074 decimal places of fraction.
    let digits = |v: f64| -> Vec<u8> {
        let text = format!("{:.1074}", v.abs());
        let (whole, fraction) = text.split_once('.').unwrap();
        format!("{whole:0>330}{fraction}").bytes().map(|b| b - b'0').collect()
    };
    let (mut positive, mut negative) = (vec![0u64; 330 + 1074], vec![0u64; 330 + 1074]);
    for (value, times) in values {
        let side = if *value < 0.0 { &mut negative } else { &mut positive };
        side.iter_mut().zip(digits(*value)).for_each(|(sum, digit)| *sum += digit as u64 * *times as u64);
    }
    let carry = |side: &mut Vec<u64>| {
        for i in (1..side.len()).rev() {
            side[i - 1] += side[i] / 10;
            side[i] %= 10;
        }
    };
    carry(&mut positive);
    carry(&mut negative);
    let (sign, big, small) = if positive >= negative { ("", &mut positive, &negative) } else { ("-", &mut negative, &positive) };
    let mut borrow = 0;
    for i in (0..big.len()).rev() {
        let taken = small[i] + borrow;
        borrow = (big[i] < taken) as u64;
        big[i] = big[i] + 10 * borrow - taken;
    }
    let text = |digits: &[u64]| digits.iter().map(|d| char::from(b'0' + *d as u8)).collect::<String>();
    let result: f64 = format!("{sign}{}.{}", text(&big[..330]), text(&big[330..])).parse().unwrap();
    result + 0.0
}

#[test]
fn floats_come_back_from_anywhere() {
    let values: ArrayRef = Arc::new(Float64Array::from(vec![0.1, 0.2, 0.3, f64::NAN, f64::INFINITY, 1e308]));
    let sum = call(AggregateFunction::Sum, SqlType::Double);
    let result = |rows: &[(u32, u32, i64)]| run(&sum, &values, rows, 1).values.as_primitive::<Float64Type>().value(0);
    assert_eq!(result(&[(0, 0, 1), (0, 1, 1), (0, 2, 1)]), 0.6);
    assert!(result(&[(0, 0, 1), (0, 3, 1)]).is_nan());
    assert_eq!(result(&[(0, 0, 1), (0, 3, 1), (0, 3, -1), (0, 4, 2), (0, 4, -2)]), 0.1);
    let too_large = run(&sum, &values, &[(0, 5, 2)], 1);
    assert!(too_large.values.is_null(0) && too_large.out_of_range.is_some_and(|unfit| unfit.value(0)));
    assert_eq!(result(&[(0, 5, 2), (0, 5, -1)]), 1e308);
    assert_eq!(result(&[(0, 0, 1_000_000), (0, 0, -999_999)]), 0.1);
}

#[test]
fn variances_do_not_cancel_or_drift() {
    let values: ArrayRef =
        Arc::new(Float64Array::from(vec![1e9 + 4.0, 1e9 + 7.0, 1e9 + 13.0, 1e9 + 16.0, 1e300, f64::NAN, 1e-200, -3e-200]));
    let result = |function, rows: &[(u32, u32, i64)]| {
        let array = run(&call(function, SqlType::Double), &values, rows, 3).values;
        valid(array.as_primitive::<Float64Type>(), 0)
    };
    let four = [(0, 0, 1), (0, 1, 1), (0, 2, 1), (0, 3, 1)];
    assert_eq!(result(AggregateFunction::VarSamp, &four), Some(30.0));
    assert_eq!(result(AggregateFunction::VarPop, &four), Some(22.5));
    assert_eq!(result(AggregateFunction::StddevSamp, &four), Some(30f64.sqrt()));
    assert_eq!(result(AggregateFunction::StddevPop, &four), Some(22.5f64.sqrt()));
    let detour: Vec<(u32, u32, i64)> =
        four.into_iter().chain([(0, 4, 2), (0, 4, -2), (0, 5, 1), (0, 5, -1), (0, 0, 70), (0, 0, -70)]).collect();
    assert_eq!(result(AggregateFunction::VarSamp, &detour), Some(30.0));
    assert!(result(AggregateFunction::VarPop, &[(0, 5, 1)]).is_some_and(f64::is_nan));
    assert_eq!(result(AggregateFunction::VarPop, &[(0, 4, 3)]), Some(0.0));
    assert_eq!(result(AggregateFunction::StddevPop, &[(0, 6, 1), (0, 7, 1)]), Some(0.0));
    assert_eq!(result(AggregateFunction::VarSamp, &[(0, 0, 1)]), None);
    assert_eq!(result(AggregateFunction::VarPop, &[]), None);
}

#[test]
fn what_cannot_be_computed_is_refused() {
    let refused = |function, output, input: DataType| create(&call(function, output), &input).err().map(|e| e.state.0);
    assert_eq!(refused(AggregateFunction::Sum, SqlType::Text, DataType::Utf8), Some("0A000"));
    assert_eq!(refused(AggregateFunction::Sum, SqlType::Integer, DataType::Int32), Some("0A000"));
    assert_eq!(refused(AggregateFunction::Max, SqlType::Integer, DataType::Int64), Some("0A000"));
}
