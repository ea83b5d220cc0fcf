//! Every view of the shop's capture; snapshots show what a reader sees.

use heapkeeper_record::capture::{Header, Tick};
use proptest::prelude::*;
use unicode_width::UnicodeWidthStr;

use super::super::Style;
use super::super::quantity::sparkline;
use super::{By, Problem, Query, Sort, View, render};
use crate::capture::Profile;
use crate::capture::tests::{one, profile, shop, two};

const VIEWS: [View; 7] =
    [View::Summary, View::Tree, View::Table, View::Timeline, View::Leaks, View::Temporary, View::Lines];

fn query(view: View) -> Query {
    Query { view, ..Query::default() }
}

fn shown(profile: &mut Profile, query: &Query) -> String {
    render(profile, query, Style::default()).unwrap()
}

fn plain(view: View) -> String {
    shown(&mut one(), &query(view))
}

/// The shop, with every allocation counted.
fn exact() -> Profile {
    let mut ticks = shop::ticks();
    for value in ticks.iter_mut().flat_map(|tick| &mut tick.values) {
        for amount in [&mut value.live, &mut value.peak, &mut value.total] {
            amount.variance = 0.0;
        }
    }
    profile(&[(Header { sample_bytes: 0, ..shop::header() }, ticks)])
}

#[test]
fn summary() {
    insta::assert_snapshot!(plain(View::Summary));
}

#[test]
fn summary_of_an_exact_capture() {
    insta::assert_snapshot!(shown(&mut exact(), &query(View::Summary)));
}

#[test]
fn summary_of_two_processes() {
    insta::assert_snapshot!(shown(&mut two(), &query(View::Summary)));
}

/// The shop, whose capture somebody stopped.
fn stopped() -> Profile {
    let mut ticks = shop::ticks();
    let last = ticks.last_mut().unwrap();
    (last.last, last.stopped) = (false, true);
    profile(&[(shop::header(), ticks)])
}

#[test]
fn a_capture_that_was_stopped_says_nothing_of_an_exit() {
    for view in VIEWS {
        let text = shown(&mut stopped(), &query(view));
        assert!(!text.contains("exit") && !text.contains("killed"), "{text}");
    }
    let of = |query: Query| shown(&mut stopped(), &query);
    let summary = of(query(View::Summary));
    assert!(
        summary.contains(", 76 MiB at the stop;") && summary.contains("Still live at the stop  76 MiB"),
        "{summary}"
    );
    assert!(of(query(View::Timeline)).contains("the stop\n"));
    let leaks = of(Query { from: Some("after warm-up".into()), ..query(View::Leaks) });
    assert!(leaks.contains("from mark “after warm-up” to the stop"), "{leaks}");
}

#[test]
fn summary_at_a_moment() {
    let at = |at: &str| shown(&mut one(), &Query { at: Some(at.into()), ..query(View::Summary) });
    insta::assert_snapshot!(at("4.5"));
    assert!(at("end").contains("76 MiB live at exit; RSS"), "{}", at("end"));
}

#[test]
fn tree() {
    insta::assert_snapshot!(plain(View::Tree));
}

#[test]
fn table() {
    insta::assert_snapshot!(plain(View::Table));
    insta::assert_snapshot!(shown(
        &mut one(),
        &Query { by: By::Function, sort: Sort::Total, at: Some("end".into()), ..query(View::Table) }
    ));
}

#[test]
fn timeline() {
    insta::assert_snapshot!(plain(View::Timeline));
    insta::assert_snapshot!(shown(&mut two(), &Query { thread: Some("worker-1".into()), ..query(View::Timeline) }));
}

#[test]
fn leaks() {
    insta::assert_snapshot!(plain(View::Leaks));
}

#[test]
fn leaks_between_bounds() {
    let between = |from: &str, to: &str| {
        shown(&mut one(), &Query { from: Some(from.into()), to: Some(to.into()), ..query(View::Leaks) })
    };
    let nothing = "has no two ticks from 12.0 s to 12.0 s: what grew in between is not known.";
    assert!(between("12", "12.9").contains(nothing), "{}", between("12", "12.9"));
    assert!(between("4", "8").contains("160 MiB more live"), "{}", between("4", "8"));
    let exact = shown(&mut exact(), &Query { from: Some("after warm-up".into()), ..query(View::Leaks) });
    assert!(exact.contains("from mark “after warm-up” to exit, 9.0 s"), "{exact}");
    assert!(exact.contains("cache.py:9 (Session.remember), which grew all the time."), "{exact}");
}

#[test]
fn temporary() {
    insta::assert_snapshot!(plain(View::Temporary));
}

#[test]
fn lines_without_sources() {
    insta::assert_snapshot!(plain(View::Lines));
}

#[test]
fn lines_with_sources() {
    let folder = std::env::temp_dir().join(format!("heapkeeper-lines-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let source: String = (1..=100).map(|line| format!("\tline {line}\n")).collect();
    std::fs::write(folder.join("app.py"), source).unwrap();
    let mut ticks = shop::ticks();
    for code in &mut ticks[0].codes {
        code.file = code.file.replace("/home/ada/shop/", "");
    }
    let began = std::time::SystemTime::now() + std::time::Duration::from_secs(60);
    let began = began.duration_since(std::time::UNIX_EPOCH).unwrap().as_micros();
    let header = Header {
        folder: folder.to_str().unwrap().into(),
        started_unix_us: began.try_into().unwrap(),
        ..shop::header()
    };
    let text = |header: Header| {
        shown(&mut profile(&[(header, ticks.clone())]), &Query { files: vec!["app.py".into()], ..query(View::Lines) })
    };
    insta::assert_snapshot!(text(header.clone()));
    assert!(text(Header { started_unix_us: 0, ..header }).contains("app.py  changed since: lines may not fit"));
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn of_one_thread() {
    let text = shown(&mut one(), &Query { thread: Some("worker-1".into()), ..query(View::Summary) });
    assert!(text.contains("\n40 MiB live at the peak of all at 8.0 s, 60 MiB at exit; RSS"), "{text}");
    assert!(text.contains("Nearly all of the peak came from cache.py:9"), "{text}");
    assert!(!text.contains("load_rows"), "{text}");
}

#[test]
fn what_is_not_there_is_said_in_one_line() {
    let problem = |query: Query| render(&mut one(), &query, Style::default()).unwrap_err().to_string();
    let thread = problem(Query { thread: Some("worker-9".into()), ..Query::default() });
    assert_eq!(thread, "no thread \"worker-9\" allocated anything; threads: MainThread, worker-1");
    let mark = problem(Query { from: Some("warm".into()), ..query(View::Leaks) });
    assert_eq!(mark, "\"warm\" is neither a mark nor a number of seconds; marks: after warm-up, before shutdown");
    assert_eq!(
        problem(Query { at: Some("-1".into()), ..Query::default() }),
        "\"-1\" is neither peak, end nor a number of seconds"
    );
    let file = problem(Query { files: vec!["pp.py".into()], ..query(View::Lines) });
    assert_eq!(file, "nothing was allocated in a file \"pp.py\"");
    let hostile = Problem::NoThread { name: "a\u{1b}[2J\nb".into(), threads: vec!["\u{1b}".into()] }.to_string();
    assert!(!hostile.contains(['\u{1b}', '\n']), "{hostile}");
}

#[test]
fn a_capture_without_ticks_has_reports() {
    for view in VIEWS {
        let text = shown(&mut profile(&[(shop::header(), Vec::new())]), &query(view));
        assert!(text.lines().count() > 1, "{view:?}: {text}");
    }
}

#[test]
fn recursion_stays_in_its_column() {
    let mut ticks = shop::ticks();
    let codes = ticks[0].codes.len() as u32;
    let nodes = &mut ticks[0].nodes;
    // A way of two functions in turn, ten thousand calls deep.
    for depth in 0..10_000u32 {
        let parent = if depth == 0 { 0 } else { nodes.len() as u32 - 1 };
        let code = if depth < 5000 { codes - 1 } else { 6 };
        nodes.push(heapkeeper_record::capture::Node { parent, code, offset_bytes: 0 });
    }
    ticks[0].sites[0].node = nodes.len() as u32 - 1;
    let mut profile = profile(&[(shop::header(), ticks)]);
    let text = shown(&mut profile, &query(View::Tree));
    assert!(text.contains("Log.write ×5,000") && text.contains("Index.add ×5,000"), "{text}");
    assert!(text.lines().count() < 30);
    for view in VIEWS {
        shown(&mut profile, &query(view));
    }
}

#[test]
fn sparklines() {
    assert_eq!(sparkline(&[0, 1, 500, 1000]), " ▁▄█");
    assert_eq!(sparkline(&[0, 0]), "  ");
    assert_eq!(sparkline(&[]), "");
}

/// Ticks of the shop with odd figures in them.
fn odd_ticks() -> impl Strategy<Value = Vec<Tick>> {
    let odd = prop_oneof![Just(0), Just(1), Just(u64::MAX), 0..1u64 << 40];
    proptest::collection::vec((0usize..12, 0usize..6, 0u8..12, odd), 0..30).prop_map(|changes| {
        let mut ticks = shop::ticks();
        for (tick, site, field, value) in changes {
            let tick = &mut ticks[tick];
            let figures = &mut tick.values[site];
            match field {
                0 => tick.at_ms = value,
                1 => tick.rss_bytes = value,
                2 => tick.outside_bytes = value,
                3 => tick.live_bytes = value,
                4 => tick.peak_at_ms = value,
                5 => figures.live.bytes = value,
                6 => figures.peak.bytes = value,
                7 => figures.total.bytes = value,
                8 => figures.live.variance = f64::from_bits(value),
                9 => figures.freed_soon = value,
                10 => tick.marks.push(heapkeeper_record::capture::Mark { at_ms: value, name: "\u{1b}[2J\n…".into() }),
                _ => tick.collections[0].pause_us = value,
            }
        }
        ticks
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn rendering_is_total_and_keeps_to_its_width(ticks in odd_ticks(), columns in 0usize..170, color: bool, started: i64) {
        let second = Header { started_unix_us: started, sample_bytes: 0, ..shop::header() };
        let mut both = profile(&[(shop::header(), ticks.clone()), (second, ticks.clone())]);
        let mut single = profile(&[(shop::header(), ticks)]);
        for profile in [&mut single, &mut both] {
            for view in VIEWS {
                let text = render(profile, &query(view), Style { columns, color }).unwrap();
                if !color {
                    let escapes = text.contains('\u{1b}');
                    prop_assert!(!escapes);
                    for line in text.lines() {
                        let most = columns.clamp(Style::LEAST_COLUMNS, Style::MOST_COLUMNS);
                        prop_assert!(line.width() <= most, "{} > {}: {:?} in {:?}", line.width(), most, line, view);
                    }
                }
            }
        }
    }
}
