//! Fixed-point numbers wide enough that a sum of floats is exact: little-endian limbs, two's complement, whose lowest bit
//! stands for 2^`lowest`. An exact sum does not depend on order and gives back what is subtracted. The idea is
//! Kulisch's long accumulator (Kulisch and Miranker, "The Arithmetic of the Digital Computer", 1986).

/// A finite float as `mantissa * 2^exponent` with an odd mantissa, or (0, 0).
pub(super) fn parts(value: f64) -> (i64, i32) {
    let bits = value.to_bits();
    let (fraction, biased) = ((bits & ((1 << 52) - 1)) as i64, (bits >> 52 & 0x7FF) as i32);
    let (mantissa, exponent) = if biased == 0 { (fraction, -1074) } else { (fraction | 1 << 52, biased - 1075) };
    if mantissa == 0 {
        return (0, 0);
    }
    let zeros = mantissa.trailing_zeros();
    let mantissa = mantissa >> zeros;
    (if value < 0.0 { -mantissa } else { mantissa }, exponent + zeros as i32)
}

/// Adds `mantissa * weight * 2^exponent`. The caller sees to it that the exponent is not below `lowest` and that the sum
/// fits.
#[inline]
pub(super) fn add(limbs: &mut [u64], lowest: i32, mantissa: i64, exponent: i32, weight: i64) {
    let product = mantissa as i128 * weight as i128;
    let shift = (exponent - lowest) as usize;
    let bits = shift % 64;
    let pieces = [(product as u64) << bits, (product >> (64 - bits)) as u64, ((product >> 64) >> (64 - bits)) as u64];
    let sign = (product >> 127) as u64;
    let mut carry = false;
    for (i, limb) in limbs[shift / 64..].iter_mut().enumerate() {
        let (sum, first) = limb.overflowing_add(*pieces.get(i).unwrap_or(&sign));
        let (sum, second) = sum.overflowing_add(carry as u64);
        *limb = sum;
        carry = first | second;
    }
}

/// Adds `other`, whose lowest bit stands for `2^other_lowest`, not below that of `limbs`.
pub(super) fn add_fixed(limbs: &mut [u64], lowest: i32, other: &[u64], other_lowest: i32) {
    for (i, limb) in other.iter().enumerate() {
        let exponent = other_lowest + 64 * i as i32;
        let (high, low) = ((limb >> 32) as i64, (limb & u32::MAX as u64) as i64);
        add(limbs, lowest, low, exponent, 1);
        // The topmost half carries the sign.
        let high = if i + 1 == other.len() { high as i32 as i64 } else { high };
        add(limbs, lowest, high, exponent + 32, 1);
    }
}

/// The absolute value.
pub(super) fn magnitude(limbs: &[u64]) -> Vec<u64> {
    let negative = limbs.last().is_some_and(|top| top >> 63 == 1);
    let mut carry = negative;
    limbs
        .iter()
        .map(|limb| {
            let (limb, overflow) = (if negative { !limb } else { *limb }).overflowing_add(carry as u64);
            carry = overflow;
            limb
        })
        .collect()
}

/// The product of two numbers without a sign.
pub(super) fn product(left: &[u64], right: &[u64]) -> Vec<u64> {
    let mut result = vec![0; left.len() + right.len()];
    for (i, a) in left.iter().enumerate().filter(|(_, a)| **a != 0) {
        let mut carry = 0u128;
        for (j, b) in right.iter().enumerate() {
            let sum = *a as u128 * *b as u128 + result[i + j] as u128 + carry;
            result[i + j] = sum as u64;
            carry = sum >> 64;
        }
        result[i + right.len()] = carry as u64;
    }
    result
}

/// Takes `other`, which has no more limbs, from `limbs`.
pub(super) fn subtract(limbs: &mut [u64], other: &[u64]) {
    let mut borrow = false;
    for (i, limb) in limbs.iter_mut().enumerate() {
        let (difference, first) = limb.overflowing_sub(*other.get(i).unwrap_or(&0));
        let (difference, second) = difference.overflowing_sub(borrow as u64);
        *limb = difference;
        borrow = first | second;
    }
}

/// The nearest float, ties to even; an infinity beyond the largest.
pub(super) fn round(limbs: &[u64], lowest: i32) -> f64 {
    let negative = limbs.last().is_some_and(|top| top >> 63 == 1);
    let magnitude = magnitude(limbs);
    let Some(top) = magnitude.iter().rposition(|limb| *limb != 0) else { return 0.0 };
    let lead = magnitude[top].leading_zeros() as usize;
    let below = |i: usize| if i < top { magnitude[top - 1 - i] } else { 0 };
    // The 64 bits from the highest one down, and whether anything lies below them.
    let window = if lead == 0 { magnitude[top] } else { magnitude[top] << lead | below(0) >> (64 - lead) };
    let rest = lead > 0 && below(0) << lead != 0 || lead == 0 && below(0) != 0;
    let sticky = rest || magnitude[..top.saturating_sub(1)].iter().any(|limb| *limb != 0);
    let exponent = lowest + (top * 64 + 63 - lead) as i32;
    if exponent < -1074 {
        return 0.0;
    }
    if exponent > 1023 {
        return if negative { f64::NEG_INFINITY } else { f64::INFINITY };
    }
    let kept = 53.min(exponent + 1075);
    let dropped = 64 - kept;
    let (quotient, rest, half) = (window >> dropped, window & ((1 << dropped) - 1), 1u64 << (dropped - 1));
    let up = rest > half || rest == half && (sticky || quotient & 1 == 1);
    let value = (quotient + up as u64) as f64 * power_of_two(exponent - kept + 1);
    if negative { -value } else { value }
}

fn power_of_two(exponent: i32) -> f64 {
    f64::from_bits(if exponent >= -1022 { ((exponent + 1023) as u64) << 52 } else { 1 << (exponent + 1074) })
}
