//! The collector's paragraphs and picture on hand-made records.

use heapkeeper_record::{
    BackgroundStatus, CollectorStatus, CycleType, GenerationStatus, PauseStatus, Site, Status, VerifyStatus,
};
use proptest::prelude::*;

use crate::report::tests::{any_site, any_text, frame, plain, site, typical as program, with_entry};
use crate::report::{Style, render};

/// A generation without survivors' figures; its pauses are of the given buckets.
pub(in crate::report) fn generation(collections: u64, collected: u64, pauses: &[(usize, u64)]) -> GenerationStatus {
    let mut buckets = vec![0; 40];
    for &(bucket, number) in pauses {
        buckets[bucket] = number;
    }
    let middle_s = |bucket: usize| 1.25 * (1u64 << bucket) as f64 / 1e9;
    GenerationStatus {
        collections,
        examined: None,
        collected,
        uncollectable: 0,
        pauses: Some(PauseStatus {
            count: collections,
            total_s: pauses.iter().map(|&(bucket, number)| number as f64 * middle_s(bucket)).sum(),
            longest_s: pauses.iter().map(|&(bucket, _)| middle_s(bucket)).fold(0.0, f64::max),
            p50_s: 0.0,
            p99_s: 0.0,
            buckets,
        }),
    }
}

pub(in crate::report) fn in_cycles(type_name: &str, objects: u64, site: Option<Site>) -> CycleType {
    CycleType { type_name: type_name.into(), objects, is_estimate: false, site }
}

/// What an ordinary program's collector does: many short young collections, a few longer full ones.
pub(in crate::report) fn typical() -> CollectorStatus {
    let node = with_entry(vec![frame("Node.__init__", "/home/ada/shop/app.py", 80, "self.owner = owner")]);
    CollectorStatus {
        mode: "heapkeeper".into(),
        reason: None,
        generations: [
            generation(1204, 1502, &[(14, 204), (15, 1000)]),
            generation(109, 311, &[(16, 60), (17, 49)]),
            GenerationStatus { examined: Some(2_700_000), ..generation(9, 18_301, &[(22, 6), (23, 2), (24, 1)]) },
        ],
        pauses: Some(PauseStatus {
            count: 1322,
            total_s: 0.131,
            longest_s: 0.021,
            p50_s: 66e-6,
            p99_s: 262e-6,
            buckets: Vec::new(),
        }),
        enabled: true,
        counts: [420, 3, 2],
        thresholds: [700, 10, 10],
        long_lived: 310_000,
        scratch_peak_bytes: 3 << 20,
        cycle_types: vec![
            in_cycles("dict", 9100, None),
            in_cycles("Node", 8900, Some(site(1 << 20, 1.0, node))),
            in_cycles("list", 301, None),
            in_cycles("Edge", 4, None),
        ],
        ..CollectorStatus::default()
    }
}

fn with(change: impl FnOnce(&mut CollectorStatus)) -> Status {
    let mut collector = typical();
    change(&mut collector);
    Status { collector: Some(collector), ..program() }
}

/// The lines from the collector's on to the next blank one, joined: wrapping is not what these tests are about.
fn paragraphs(status: &Status) -> String {
    let text = plain(status);
    let lines = text.lines().skip_while(|line| !line.starts_with("Collector") && !line.starts_with("Advice"));
    lines.take_while(|line| !line.is_empty()).map(str::trim).collect::<Vec<_>>().join(" ")
}

#[test]
fn an_ordinary_run() {
    assert_eq!(
        paragraphs(&with(|_| ())),
        "Collector  1,204 / 109 / 9 collections of generation 0 / 1 / 2 freed 1,502 / 311 / 18,301 objects. heapkeeper's full \
         ones looked at 2.7 million and found mostly 9,100 dict, 8,900 Node (app.py:80). Pauses: p50 66 µs, p99 262 µs, \
         longest 21 ms, all 131 ms (1 % of the run)."
    );
}

#[test]
fn an_ordinary_run_takes_three_lines() {
    let text = plain(&with(|_| ()));
    let lines = text.lines().skip_while(|line| !line.starts_with("Collector"));
    assert_eq!(lines.take_while(|line| !line.is_empty()).count(), 3);
}

#[test]
fn no_collections_no_lines() {
    let status = with(|collector| {
        for generation in &mut collector.generations {
            *generation = GenerationStatus::default();
        }
    });
    assert_eq!(plain(&status), plain(&Status { collector: None, ..program() }));
}

#[test]
fn cpythons_collections() {
    let by_cpython = |reason: Option<&str>| {
        let reason = reason.map(str::to_owned);
        with(|collector| {
            let generations = [(12, 0), (3, 0), (1, 7)].map(|(collections, collected)| GenerationStatus {
                collections,
                collected,
                ..GenerationStatus::default()
            });
            *collector = CollectorStatus { mode: "cpython".into(), reason, generations, pauses: None, ..typical() };
            collector.cycle_types.clear();
        })
    };
    let work = "12 / 3 / 1 collections of generation 0 / 1 / 2 freed 0 / 0 / 7 objects.";
    assert_eq!(paragraphs(&by_cpython(None)), format!("Collector  {work} All are CPython's."));
    assert_eq!(
        paragraphs(&by_cpython(Some("the lists have another shape."))),
        format!("Collector  CPython's own was at work, not heapkeeper's: the lists have another shape. {work}")
    );
    // Another interpreter's collector may have stayed CPython's, this one's is ours.
    let ours = paragraphs(&with(|collector| collector.reason = Some("the lists have another shape".into())));
    assert!(ours.starts_with("Collector  1,204"), "{ours}");
    let mut without_heap = by_cpython(None);
    without_heap.allocator.name = "cpython".into();
    assert_eq!(paragraphs(&without_heap), format!("Collector  {work} All are CPython's."));
    assert!(!plain(&without_heap).contains("Heap  "));
}

#[test]
fn searches_beside_the_program() {
    let searched = |started, finished| {
        paragraphs(&with(|collector| {
            collector.mode = "background".into();
            collector.background = Some(BackgroundStatus { started, finished, start_s: 0.004, search_s: 0.21 });
        }))
    };
    let done = searched(5, 4);
    let says = "(app.py:80). A child process searched for 4 of them, 210 ms in all while the program ran on. Pauses";
    assert!(done.contains(says), "{done}");
    let late = searched(2, 0);
    assert!(
        late.contains(" A child process began to search for 2 of them, and was not done in time. Pauses"),
        "{late}"
    );
    let small = searched(0, 0);
    assert!(small.contains(" No child process searched for any of them. Pauses"), "{small}");
}

#[test]
fn verified_collections() {
    let verified = |differences| {
        paragraphs(&with(|collector| {
            collector.mode = "verify".into();
            collector.generations[2].examined = None;
            collector.verified = Some(VerifyStatus { collections: 9, differences });
        }))
    };
    let same = verified(0);
    assert!(same.contains(" objects. 9 full ones compared with heapkeeper's, without a difference. Pauses"), "{same}");
    let different = verified(1);
    let says = "Collector  1 difference between heapkeeper's collections and CPython's. 1,204 / 109 / 9 collections";
    assert!(different.starts_with(says) && different.contains(" objects. Pauses"), "{different}");
}

#[test]
fn what_could_not_be_freed_is_pointed_at() {
    let text = paragraphs(&with(|collector| collector.generations[2].uncollectable = 1));
    assert!(text.contains(" 1 object could not be freed: see gc.garbage. heapkeeper's full ones"), "{text}");
}

#[test]
fn nothing_freed_and_no_time_to_compare_with() {
    let mut status = with(|collector| {
        for generation in &mut collector.generations {
            generation.collected = 0;
        }
        collector.generations[2].examined = None;
        collector.cycle_types.clear();
    });
    status.elapsed_s = 0.0;
    let text = paragraphs(&status);
    assert!(text.contains("freed nothing. The full ones are heapkeeper's. Pauses"), "{text}");
    assert!(text.ends_with("all 131 ms."), "{text}");
}

#[test]
fn types_are_named_that_make_a_share_of_the_cycles() {
    let text = paragraphs(&with(|collector| {
        let types = [("A", 50), ("B", 40), ("C", 5), ("D", 5)];
        collector.cycle_types = types.map(|(name, objects)| in_cycles(name, objects, None)).into();
    }));
    assert!(text.contains("found mostly 50 A, 40 B, 5 C. Pauses"), "{text}");
    let text = paragraphs(&with(|collector| {
        collector.cycle_types = vec![in_cycles("A", 961, None), in_cycles("B", 39, None)];
    }));
    assert!(text.contains("found mostly 961 A. Pauses"), "{text}");
    let text = paragraphs(&with(|collector| {
        collector.cycle_types = vec![CycleType { is_estimate: true, ..in_cycles("A", 153_961, None) }];
    }));
    assert!(text.contains("found mostly about 150,000 A. Pauses"), "{text}");
}

#[test]
fn files_of_one_name_are_told_apart() {
    let files = ["/home/ada/shop/api/views.py", "/home/ada/shop/web/views.py"];
    let text = paragraphs(&with(|collector| {
        let site = |file| Some(site(1, 1.0, vec![frame("f", file, 3, "")]));
        collector.generations[2].examined = None;
        collector.cycle_types = files.map(|file| in_cycles("View", 7, site(file))).into();
    }));
    assert!(
        text.contains("heapkeeper's full ones found mostly 7 View (api/views.py:3), 7 View (web/views.py:3). Pauses"),
        "{text}"
    );
}

#[test]
fn a_name_with_hyphens_stays_in_one_line() {
    for columns in 80..100 {
        let status = with(|collector| {
            let made = site(1, 1.0, vec![frame("f", "/home/ada/a-shop-of-many-hyphens.py", 3, "")]);
            collector.cycle_types = vec![in_cycles("View", 7, Some(made))];
        });
        let text = render(&status, Style { columns, color: false });
        assert!(text.contains("(a-shop-of-many-hyphens.py:3)"), "{text}");
    }
}

#[test]
fn the_histogram_is_of_long_pauses() {
    let histogram = |full: &[(usize, u64)]| -> Vec<String> {
        let text = plain(&with(|collector| collector.generations[2] = generation(9, 0, full)));
        let lines = text.lines().skip_while(|line| *line != "Pauses for collections").skip(1);
        let words = |line: &str| line.replace(['█', '▏'], "").split_whitespace().collect::<Vec<_>>().join(" ");
        lines.map(words).collect()
    };
    assert_eq!(histogram(&[(22, 9)]), [""; 0]);
    assert_eq!(histogram(&[(19, 1), (23, 8)]), ["< 1.0 ms 1,314 1,313 young, 1 full", "< 8.4 ms 0", "< 67 ms 8 full"]);
    assert_eq!(histogram(&[(31, 3), (39, 1)])[4..], ["< 4.3 s 3 full", "≥ 4.3 s 1 full"]);

    let only_full = with(|collector| {
        collector.generations =
            [GenerationStatus::default(), GenerationStatus::default(), generation(2, 0, &[(27, 2)])];
    });
    let bar = "█".repeat(24);
    let ends = format!("\n\nPauses for collections\n  < 537 ms  {bar}         2  full\n");
    assert!(plain(&only_full).ends_with(&ends), "{}", plain(&only_full));
}

/// Records that no collector would write.
pub(in crate::report) fn any_collector() -> impl Strategy<Value = CollectorStatus> {
    let pauses = (any::<u64>(), any::<[f64; 4]>(), prop::collection::vec(any::<u64>(), 0..70)).prop_map(
        |(count, times, buckets)| {
            let [total_s, longest_s, p50_s, p99_s] = times;
            PauseStatus { count, total_s, longest_s, p50_s, p99_s, buckets }
        },
    );
    let generation = (any::<[u64; 3]>(), prop::option::of(any::<u64>()), prop::option::of(pauses)).prop_map(
        |([collections, collected, uncollectable], examined, pauses)| GenerationStatus {
            collections: collections % 3,
            examined,
            collected,
            uncollectable: uncollectable % 2,
            pauses,
        },
    );
    let cycle_type = (any_text(), any::<u64>(), any::<bool>(), prop::option::of(any_site()))
        .prop_map(|(type_name, objects, is_estimate, site)| CycleType { type_name, objects, is_estimate, site });
    (
        prop_oneof![
            Just("cpython".to_owned()),
            Just("heapkeeper".to_owned()),
            Just("background".to_owned()),
            Just("verify".to_owned()),
            any_text()
        ],
        prop::option::of(any_text()),
        [generation.clone(), generation.clone(), generation],
        prop::collection::vec(cycle_type, 0..5),
        any::<[i64; 6]>(),
        any::<[u64; 2]>(),
        any::<bool>(),
        prop::option::of(any::<[u64; 2]>()),
        prop::option::of(any::<([u64; 2], [f64; 2])>()),
    )
        .prop_map(|(mode, reason, generations, cycle_types, numbers, objects, enabled, verified, background)| {
            CollectorStatus {
                mode,
                reason,
                pauses: generations[0].pauses.clone(),
                generations,
                cycle_types,
                enabled,
                counts: [numbers[0], numbers[1], numbers[2]],
                thresholds: [numbers[3], numbers[4], numbers[5]],
                frozen: objects[0],
                long_lived: objects[1],
                background: background.map(|([started, finished], [start_s, search_s])| BackgroundStatus {
                    started,
                    finished,
                    start_s,
                    search_s,
                }),
                verified: verified
                    .map(|[collections, differences]| VerifyStatus { collections, differences: differences % 2 }),
                ..CollectorStatus::default()
            }
        })
}
