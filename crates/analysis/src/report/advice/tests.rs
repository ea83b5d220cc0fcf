//! Each rule at its bounds: the record just inside gives the line, one just outside gives none.

use heapkeeper_record::{CollectorStatus, GenerationStatus, HeapStatus, PauseStatus, Status};

use super::{Advice, advice};
use crate::report::collector::tests::in_cycles;
use crate::report::path::ShortNames;
use crate::report::tests::{frame, site, typical};

/// Ten seconds of a program whose collector has nothing to be told.
fn quiet() -> Status {
    let collector = CollectorStatus {
        mode: "heapkeeper".into(),
        generations: [generation(1000, 0, 0.001), generation(100, 0, 0.001), generation(9, 0, 0.001)],
        enabled: true,
        counts: [500, 3, 2],
        thresholds: [700, 10, 10],
        long_lived: 300_000,
        ..CollectorStatus::default()
    };
    let heap = HeapStatus { held_bytes: 95, peak_bytes: 100, ..HeapStatus::default() };
    Status { elapsed_s: 10.0, heap, collector: Some(collector), ..Status::default() }
}

fn generation(collections: u64, collected: u64, total_s: f64) -> GenerationStatus {
    let pauses = PauseStatus { count: collections, total_s, longest_s: total_s / 10.0, ..PauseStatus::default() };
    GenerationStatus { collections, examined: Some(1_000_000), collected, uncollectable: 0, pauses: Some(pauses) }
}

fn collector(status: &mut Status) -> &mut CollectorStatus {
    status.collector.as_mut().expect("these records have a collector")
}

fn text(status: &Status) -> Option<String> {
    let names = ShortNames::new(crate::report::frames(status).map(|frame| frame.file.as_str()));
    advice(status).map(|advice| advice.text(&names).replace('\u{a0}', " "))
}

/// Checks that each of these changes to a record that gets an advice takes the advice away.
fn needs(advised: &Status, changes: &[fn(&mut Status)]) {
    assert!(advice(advised).is_some());
    for (index, change) in changes.iter().enumerate() {
        let mut status = advised.clone();
        change(&mut status);
        assert_eq!(advice(&status), None, "change {index}");
    }
}

#[test]
fn no_advice_where_nothing_calls_for_it() {
    assert_eq!(advice(&quiet()), None);
    assert_eq!(advice(&typical()), None);
    assert_eq!(advice(&Status::default()), None);
    assert_eq!(advice(&Status { collector: Some(CollectorStatus::default()), ..Status::default() }), None);
}

#[test]
fn switched_off_while_the_heap_grows() {
    let mut status = quiet();
    collector(&mut status).enabled = false;
    collector(&mut status).counts[0] = 100_000;
    status.heap = HeapStatus { held_bytes: 90 << 20, peak_bytes: 100 << 20, ..HeapStatus::default() };
    needs(
        &status,
        &[
            |status| collector(status).counts[0] -= 1,
            |status| collector(status).counts[0] = -1,
            |status| collector(status).enabled = true,
            |status| status.heap.held_bytes -= 1,
        ],
    );
    assert_eq!(
        text(&status).as_deref(),
        Some(
            "Nothing collects (gc.disable()), and 100,000 objects came since the last collection, the heap at 90 MiB. If \
             it should not grow: gc.collect() at a quiet moment tells how many are in cycles."
        )
    );

    collector(&mut status).enabled = true;
    collector(&mut status).thresholds[0] = 0;
    status.heap = HeapStatus::default();
    let says = "Nothing collects (a first threshold of 0), and 100,000 objects came since the last collection. If it";
    assert!(text(&status).is_some_and(|text| text.starts_with(says)), "{:?}", text(&status));
}

#[test]
fn full_collections_that_free_almost_nothing() {
    let mut status = quiet();
    collector(&mut status).generations[2] = generation(9, 10_000, 0.2);
    collector(&mut status).long_lived = 10_000;
    needs(
        &status,
        &[
            |status| collector(status).generations[2].collected += 1,
            |status| collector(status).long_lived -= 1,
            |status| collector(status).frozen = 10_000,
            |status| collector(status).mode = "verify".into(),
            |status| collector(status).generations[2].pauses = None,
            |status| status.elapsed_s = 10.1,
            |status| status.elapsed_s = 0.0,
            |status| collector(status).generations[2] = generation(9, 0, 0.199),
        ],
    );
    assert_eq!(
        text(&status).as_deref(),
        Some(
            "gc.freeze() after start-up. Full collections took 200 ms, 2 % of the run, the longest 20 ms, and freed \
             10,000 objects; 10,000 objects live on, and each looks at them again."
        )
    );

    // A short run: a large share of it is little time all the same.
    status.elapsed_s = 0.5;
    needs(&status, &[|status| collector(status).generations[2] = generation(9, 0, 0.099)]);

    // A pause is long whatever the run.
    let mut status = quiet();
    status.elapsed_s = 3600.0;
    collector(&mut status).generations[2] = generation(9, 0, 1.0);
    needs(&status, &[|status| collector(status).generations[2] = generation(9, 0, 0.999)]);

    // Where CPython collects, its survivors are what it looks at: nine times 300,000.
    let full = &mut collector(&mut status).generations[2];
    (full.examined, full.collected) = (None, 27_000);
    needs(&status, &[|status| collector(status).generations[2].collected += 1]);
}

#[test]
fn young_collections_that_free_almost_nothing() {
    let mut status = quiet();
    // 1 % of 1,100 collections' thresholds of 700.
    collector(&mut status).generations[0] = generation(1000, 7_000, 0.15);
    collector(&mut status).generations[1] = generation(100, 700, 0.05);
    needs(
        &status,
        &[
            |status| collector(status).generations[1].collected += 1,
            |status| collector(status).generations[1] = generation(100, 0, 0.049),
            |status| collector(status).generations[0].pauses = None,
            |status| collector(status).thresholds[0] = 699,
            |status| collector(status).thresholds[0] = -1,
            |status| status.elapsed_s = 10.1,
        ],
    );
    assert_eq!(
        text(&status).as_deref(),
        Some(
            "gc.set_threshold(7000) in place of 700. 1,100 young collections took 200 ms, 2 % of the run and freed 7,700 objects."
        )
    );

    // What costs more is named first.
    collector(&mut status).generations[2] = generation(9, 0, 0.201);
    assert!(matches!(advice(&status), Some(Advice::Freeze { .. })));
    collector(&mut status).generations[0] = generation(1000, 0, 0.16);
    assert!(matches!(advice(&status), Some(Advice::Threshold { .. })));
    // And before all, that nothing collects.
    collector(&mut status).enabled = false;
    collector(&mut status).counts[0] = 1_000_000;
    assert!(matches!(advice(&status), Some(Advice::Off { .. })));
}

#[test]
fn a_cycle_to_break() {
    let mut status = quiet();
    let node = site(1, 1.0, vec![frame("Node.__init__", "/home/ada/shop/app.py", 80, "")]);
    collector(&mut status).generations[2].collected = 20_000;
    collector(&mut status).cycle_types = vec![in_cycles("Node", 10_000, Some(node)), in_cycles("Edge", 9_000, None)];
    needs(
        &status,
        &[
            |status| collector(status).generations[2].collected += 1,
            |status| collector(status).cycle_types[1].objects += 1_001,
            |status| collector(status).cycle_types[0].objects -= 1,
            |status| status.elapsed_s = 10.001,
            |status| collector(status).cycle_types[0].type_name = "dict".into(),
        ],
    );
    assert_eq!(
        text(&status).as_deref(),
        Some(
            "Break the cycle of Node, made at app.py:80: 10,000 of them, 50 % of what full collections freed. With a weak \
             reference in it they go at once."
        )
    );

    // A dict for each object (3.10), and more: they do not hide whose cycle it is.
    collector(&mut status).generations[2].collected = 50_000;
    collector(&mut status).cycle_types.insert(0, in_cycles("dict", 30_000, None));
    collector(&mut status).cycle_types[1].site = None;
    assert_eq!(
        text(&status).as_deref(),
        Some(
            "Break the cycle of Node: 10,000 of them, 20 % of what full collections freed. With a weak reference in it they \
             go at once."
        )
    );
    needs(&status, &[|status| collector(status).cycle_types[0].objects -= 1]);
}
