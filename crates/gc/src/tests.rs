//! Arithmetic that needs no objects; the collector's own tests are in `tests/`.

use core::time::Duration;

use crate::model::Generation;
use crate::pace::{GROWTH_LEAST_BYTES, Pace};
use crate::telemetry::Pauses;

#[test]
fn pauses_fall_into_powers_of_two() {
    let mut pauses = Pauses::default();
    for ns in [0, 1, 2, 3, 4, 1023, 1024, u64::MAX] {
        pauses.record(ns);
    }
    let buckets = pauses.buckets();
    assert_eq!((buckets[0], buckets[1], buckets[2], buckets[9], buckets[10]), (2, 2, 1, 1, 1));
    assert_eq!((buckets[39], pauses.count()), (1, 8));
    assert_eq!(pauses.longest(), Duration::from_nanos(u64::MAX));
    assert_eq!(pauses.at_most(0.5), Duration::from_nanos(3));
    assert_eq!(pauses.at_most(0.75), Duration::from_nanos(1023));
    assert_eq!(Pauses::default().at_most(1.0), Duration::ZERO);
}

#[test]
fn full_collections_wait_for_a_quarter_of_new_survivors_or_for_growth() {
    let mut pace = Pace::default();
    pace.thresholds = [2, 0, 0];
    pace.begin(Generation::Old);
    pace.survived(Generation::Old, 100);
    pace.fully_collected(100 << 20);
    for pending in [0, 8, 16] {
        pace.begin(Generation::Young);
        pace.begin(Generation::Middle);
        pace.survived(Generation::Middle, 8);
        pace.begin(Generation::Young);
        assert!(!pace.made() && !pace.made());
        assert_eq!(pace.due(0), None);
        assert!(pace.made());
        assert_eq!(pace.due(100 << 20), Some(Generation::Middle), "{pending} + 8 < 25");
    }
    assert_eq!(pace.long_lived(), (100, 24));
    assert_eq!(pace.due(200 << 20), Some(Generation::Middle), "not more than twice");
    assert_eq!(pace.due((200 << 20) + 1), Some(Generation::Old));
    pace.growth_percent = None;
    assert_eq!(pace.due(usize::MAX), Some(Generation::Middle));
    pace.survived(Generation::Middle, 1);
    assert_eq!(pace.due(0), Some(Generation::Old));
    pace.enabled = false;
    assert_eq!(pace.due(usize::MAX), None);

    let mut small = Pace::default();
    small.thresholds = [1, 9, 9];
    assert!(!small.made() && small.made());
    assert_eq!(small.due(GROWTH_LEAST_BYTES), Some(Generation::Young));
    assert_eq!(small.due(GROWTH_LEAST_BYTES + 1), Some(Generation::Old));
    small.thresholds[0] = 0;
    assert_eq!(small.due(usize::MAX), None);
}
