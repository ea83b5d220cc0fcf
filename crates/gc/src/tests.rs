//! Arithmetic that needs no objects; the collector's own tests are in `tests/`.

use core::array::from_fn;
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
    assert_eq!(Pauses::default().at_most(1.0), Duration::ZERO);
    let mut twice = pauses;
    twice.add(&pauses);
    assert_eq!((twice.count(), twice.buckets(), twice.longest()), (16, buckets.map(|n| 2 * n), pauses.longest()));
}

/// Against the sorted pauses: at most a sixteenth off, and never above the longest.
#[test]
fn percentiles_of_pauses_are_near_the_truth() {
    let at_lengths = |lengths: &[u64]| {
        let mut pauses = Pauses::default();
        lengths.iter().for_each(|&ns| pauses.record(ns));
        for (index, &truth_ns) in lengths.iter().enumerate() {
            let share = (index as f64 + 0.5) / lengths.len() as f64;
            let found_ns = pauses.at_most(share).as_nanos() as u64;
            assert!(found_ns.abs_diff(truth_ns) <= truth_ns.div_ceil(16).max(1), "{found_ns} for {truth_ns}");
            assert!(found_ns <= *lengths.last().unwrap());
        }
        assert_eq!(pauses.at_most(1.0), pauses.longest());
    };
    at_lengths(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 15, 16, 1023, 1024, 131_000]);
    at_lengths(&from_fn::<_, 2048, _>(|n| 100_000 + 777 * n as u64));
    at_lengths(&from_fn::<_, 40, _>(|bits| 1 << bits));
    at_lengths(&[18_000, (1 << 40) - 1, 1 << 40, 1 << 40]);
}

#[test]
fn full_collections_wait_for_a_quarter_of_new_survivors_or_for_growth() {
    let make = |pace: &mut Pace, objects| (0..objects).for_each(|_| _ = pace.made());
    let collect = |pace: &mut Pace, oldest, trash| {
        pace.begin(oldest);
        pace.promoted(oldest, trash);
    };
    let mut pace = Pace::default();
    pace.set_thresholds([2, 0, 0]);
    make(&mut pace, 110);
    collect(&mut pace, Generation::Old, 10);
    (0..10).for_each(|_| pace.freed(Generation::Old));
    pace.fully_collected(100 << 20);
    for pending in [0, 8, 16] {
        make(&mut pace, 5);
        collect(&mut pace, Generation::Young, 0);
        make(&mut pace, 5);
        collect(&mut pace, Generation::Middle, 2);
        (0..2).for_each(|_| pace.freed(Generation::Old));
        collect(&mut pace, Generation::Young, 0);
        assert!(!pace.made() && !pace.made());
        assert_eq!(pace.due(0), None);
        assert!(pace.made());
        assert_eq!(pace.due(100 << 20), Some(Generation::Middle), "{pending} + 8 < 25");
        (0..3).for_each(|_| pace.freed(Generation::Young));
    }
    make(&mut pace, 3);
    assert_eq!((pace.long_lived(), pace.alive()), ((100, 24), [3, 0, 124, 0]));
    assert_eq!(pace.due(200 << 20), Some(Generation::Middle), "not more than twice");
    assert_eq!(pace.due((200 << 20) + 1), Some(Generation::Old));
    pace.growth_percent = None;
    assert_eq!(pace.due(usize::MAX), Some(Generation::Middle));
    collect(&mut pace, Generation::Middle, 0);
    collect(&mut pace, Generation::Young, 0);
    make(&mut pace, 3);
    assert_eq!(pace.due(0), Some(Generation::Old));
    pace.set_enabled(false);
    assert_eq!(pace.due(usize::MAX), None);

    let mut small = Pace::default();
    small.set_thresholds([1, 9, 9]);
    assert!(!small.made() && small.made());
    assert_eq!(small.due(GROWTH_LEAST_BYTES), Some(Generation::Young));
    assert_eq!(small.due(GROWTH_LEAST_BYTES + 1), Some(Generation::Old));
    small.set_thresholds([0, 9, 9]);
    assert_eq!(small.due(usize::MAX), None);
}

#[test]
fn freed_objects_of_later_generations_lower_count_0_but_not_below() {
    let mut pace = Pace::default();
    let counts = |pace: &Pace| pace.counts()[0];
    (0..8).for_each(|_| _ = pace.made());
    pace.begin(Generation::Young);
    pace.promoted(Generation::Young, 0);
    pace.freed(Generation::Middle);
    assert_eq!((counts(&pace), pace.alive()), (0, [0, 7, 0, 0]));
    (0..3).for_each(|_| _ = pace.made());
    pace.freed(Generation::Middle);
    pace.freed(Generation::Middle);
    assert_eq!(counts(&pace), 1);
    pace.freed(Generation::Young);
    pace.freed(Generation::Young);
    assert_eq!((counts(&pace), pace.alive()), (0, [1, 5, 0, 0]));
    let _ = pace.made();
    assert_eq!(counts(&pace), 1);
    pace.frozen();
    assert_eq!((pace.counts(), pace.alive()), ([0; 3], [0, 0, 0, 7]));
    pace.freed(Generation::Permanent);
    pace.unfrozen();
    assert_eq!(pace.alive(), [0, 0, 6, 0]);
}
