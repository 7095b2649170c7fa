//! The arithmetic of windows, and the function registry.

use datafusion::execution::FunctionRegistry;
use eddyline_planner::functions::{hop_starts, registry, window_start};

#[test]
fn tumbling_windows_before_and_after_the_epoch() {
    assert_eq!(window_start(25, 10, 0), Some(20));
    assert_eq!(window_start(20, 10, 0), Some(20));
    assert_eq!(window_start(-1, 10, 0), Some(-10));
    assert_eq!(window_start(25, 10, 3), Some(23));
}

#[test]
fn hopping_windows_cover_a_time_by_size_over_slide() {
    let starts = |time, size, slide, offset| {
        let mut out = Vec::new();
        hop_starts(time, size, slide, offset, &mut out);
        out
    };
    assert_eq!(starts(12, 10, 5, 0), vec![5, 10]);
    assert_eq!(starts(10, 10, 5, 0), vec![5, 10]);
    assert_eq!(starts(12, 7, 5, 0), vec![10], "a size that is no multiple of the slide");
    assert_eq!(starts(11, 7, 5, 0), vec![5, 10]);
    assert_eq!(starts(8, 2, 5, 0), Vec::<i64>::new(), "gaps between windows");
    assert_eq!(starts(-3, 10, 5, 0), vec![-10, -5]);
}

#[test]
fn functions_answer_to_their_aliases() {
    let registry = registry();
    for name in ["now", "proctime", "current_timestamp", "upper", "substr", "date_part", "array_length", "sum"] {
        assert!(registry.udf(name).is_ok() || registry.udaf(name).is_ok(), "{name}");
    }
}
