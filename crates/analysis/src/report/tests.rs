//! Every branch of the report on hand-made records; snapshots show what a reader sees.

use heapkeeper_record::{AllocatorStatus, ClassStatus, Frame, HeapStatus, ProcessStatus, ProfileStatus, Site, Status};
use proptest::prelude::*;
use unicode_width::UnicodeWidthStr;

use super::collector;
use super::sites::{Step, entries, story};
use super::{Style, render};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

pub(super) fn frame(function: &str, file: &str, line: u32, source: &str) -> Frame {
    let source = Some(source.to_owned()).filter(|source| !source.is_empty());
    Frame { function: function.into(), file: file.into(), line, source }
}

pub(super) fn site(bytes: u64, share: f64, frames: Vec<Frame>) -> Site {
    Site {
        bytes,
        error_bytes: bytes / 16,
        blocks: bytes / 64,
        samples: bytes / (512 * KIB),
        share,
        thread: "MainThread".into(),
        frames,
        truncated: false,
    }
}

fn entry_frames() -> Vec<Frame> {
    vec![
        frame("main", "/home/ada/shop/app.py", 88, "serve(load(sys.argv[1]))"),
        frame("<module>", "/home/ada/shop/app.py", 99, "main()"),
    ]
}

pub(super) fn with_entry(mut frames: Vec<Frame>) -> Vec<Frame> {
    frames.extend(entry_frames());
    frames
}

fn load_rows() -> Vec<Frame> {
    const DECODER: &str = "/usr/lib/python3.12/json/decoder.py";
    with_entry(vec![
        frame("JSONDecoder.raw_decode", DECODER, 353, "obj, end = self.scan_once(s, idx)"),
        frame("JSONDecoder.decode", DECODER, 337, "obj, end = self.raw_decode(s)"),
        frame("load_rows", "/home/ada/shop/app.py", 42, "rows.append(json.loads(line))"),
        frame("load", "/home/ada/shop/app.py", 60, "return Index(load_rows(path))"),
    ])
}

fn remember() -> Vec<Frame> {
    const FLASK: &str = "/srv/venv/lib/python3.12/site-packages/flask/app.py";
    with_entry(vec![
        frame("Session.remember", "/home/ada/shop/cache.py", 9, "self._answers[key] = Answer(request, body)"),
        frame("Flask.dispatch_request", FLASK, 880, ""),
        frame("Flask.wsgi_app", FLASK, 1455, ""),
        frame("serve", "/home/ada/shop/app.py", 80, "run(handle)"),
    ])
}

/// A program with one big temporary peak and one cache that stays.
pub(super) fn typical() -> Status {
    let class = |block_bytes, pools, live_blocks, capacity_blocks| ClassStatus {
        block_bytes,
        pools,
        live_blocks,
        capacity_blocks,
    };
    Status {
        program: "app.py".into(),
        python: "CPython 3.12.1".into(),
        version: "0.1.0".into(),
        pid: 4711,
        elapsed_s: 12.4,
        allocator: AllocatorStatus { name: "heapkeeper".into(), reason: None, numpy: None },
        heap: HeapStatus {
            live_bytes: 92 * MIB,
            live_blocks: 812_345,
            held_bytes: 96 * MIB,
            peak_bytes: 412 * MIB,
            peak_at_s: 8.1,
            retained_bytes: 3 * MIB,
            resident_bytes: 99 * MIB,
            returned_bytes: 316 * MIB,
            reserved_bytes: 1 << 40,
            allocated_bytes: 3482 * MIB,
            limit_bytes: None,
            arenas: 48,
            huge_arenas: 12,
            pools: 3012,
            spans: 14,
            span_bytes: 31 * MIB,
            fragmentation: 0.04,
            interpreters: 1,
            classes: vec![
                class(32, 40, 39_000, 40_960),
                class(48, 700, 238_000, 238_700),
                class(64, 900, 220_000, 230_400),
                class(80, 20, 3000, 4080),
                class(96, 30, 4000, 5100),
                class(112, 300, 40_000, 43_800),
                class(256, 200, 11_900, 12_800),
                class(512, 40, 900, 1280),
                class(1024, 60, 900, 960),
                class(2048, 1, 0, 7),
            ],
        },
        process: ProcessStatus { rss_bytes: 130 * MIB, peak_rss_bytes: 446 * MIB, outside_bytes: 31 * MIB },
        profile: Some(ProfileStatus {
            sample_bytes: 512 * KIB,
            samples: 6963,
            lost_samples: 0,
            live_bytes: 90 * MIB,
            peak_bytes: 412 * MIB,
            peak_error_bytes: 12 * MIB,
            peak_at_s: 8.1,
            sites: 212,
            at_peak: vec![
                site(211 * MIB, 0.51, load_rows()),
                site(
                    74 * MIB,
                    0.18,
                    with_entry(vec![frame("Index.add", "/home/ada/shop/index.py", 17, "self.words[word] = positions")]),
                ),
                site(61 * MIB, 0.148, remember()),
                site(6 * MIB, 0.015, vec![]),
            ],
            at_end: vec![
                site(61 * MIB, 0.68, remember()),
                site(
                    9 * MIB,
                    0.1,
                    with_entry(vec![frame("Log.write", "/home/ada/shop/log.py", 30, "self.lines.append(line)")]),
                ),
            ],
        }),
        collector: Some(collector::tests::typical()),
    }
}

fn profile(status: &mut Status) -> &mut ProfileStatus {
    status.profile.as_mut().expect("the typical status has a profile")
}

pub(super) fn plain(status: &Status) -> String {
    render(status, Style::default())
}

#[test]
fn a_typical_program() {
    insta::assert_snapshot!(plain(&typical()));
}

#[test]
fn a_typical_program_on_a_terminal() {
    let text = render(&typical(), Style { columns: 120, color: true });
    insta::assert_snapshot!(text.replace('\u{1b}', "ESC"));
}

#[test]
fn narrow_pages() {
    insta::assert_snapshot!(render(&typical(), Style { columns: 70, color: false }));
    insta::assert_snapshot!(render(&typical(), Style { columns: 20, color: false }));
}

#[test]
fn the_first_three_lines_answer_the_question() {
    let text = plain(&typical());
    let lines: Vec<&str> = text.lines().take(3).collect();
    assert_eq!(lines[0], "heapkeeper · app.py · CPython 3.12.1 · 12.4 s · pid 4711");
    assert_eq!(
        lines[1],
        "Peak 412 MiB at 8.1 s, 96 MiB at exit; 31 MiB outside our heap; 316 MiB given back to the OS."
    );
    assert_eq!(lines[2], "Half of the peak came from app.py:42 (load_rows).");
}

#[test]
fn what_the_top_line_still_held_is_said_and_no_more() {
    let mut status = typical();
    let profile = profile(&mut status);
    profile.at_peak.remove(0);
    profile.at_peak.remove(0);
    profile.at_peak[0].share = 0.97;
    let text = plain(&status);
    assert!(
        text.contains("Nearly all of the peak came from cache.py:9 (Session.remember); still 61 MiB at exit."),
        "{text}"
    );
    assert!(!text.contains("grew"), "growth is not in the record: {text}");
}

#[test]
fn amounts_in_words_only_where_they_fit() {
    for (share, words) in
        [(0.5, "Half of"), (0.33, "A third of"), (0.6, "60 % of"), (0.95, "Nearly all of"), (0.94, "94 % of")]
    {
        let mut status = typical();
        profile(&mut status).at_peak[0].share = share;
        let third = plain(&status).lines().nth(2).map(str::to_owned);
        assert!(third.as_ref().is_some_and(|line| line.starts_with(words)), "{share}: {third:?}");
    }
}

#[test]
fn the_profile_is_off() {
    let status = Status { profile: None, ..typical() };
    insta::assert_snapshot!(plain(&status).lines().take(5).collect::<Vec<_>>().join("\n"));
}

#[test]
fn too_small_for_a_sample() {
    let mut status = typical();
    *profile(&mut status) = ProfileStatus { sample_bytes: 512 * KIB, ..ProfileStatus::default() };
    insta::assert_snapshot!(plain(&status).lines().take(5).collect::<Vec<_>>().join("\n"));
}

#[test]
fn the_allocator_stayed_cpythons() {
    let mut status = typical();
    status.allocator = AllocatorStatus {
        name: "cpython".into(),
        reason: Some("this is a free-threaded build, which heapkeeper does not serve yet.".into()),
        numpy: None,
    };
    status.heap = HeapStatus::default();
    status.profile = None;
    status.collector = None;
    insta::assert_snapshot!(plain(&status));
    status.allocator.reason = None;
    assert!(plain(&status).contains("CPython's own allocator served this program.\n"));
}

#[test]
fn numpys_buffers_stayed_outside() {
    let mut status = typical();
    status.allocator.numpy = Some("NumPy's data-memory handler cannot be changed".into());
    let note = "The data of NumPy's arrays is outside our heap: NumPy's data-memory handler cannot be changed.";
    assert!(plain(&status).contains(note));
}

#[test]
fn many_small_sites_of_a_line_are_as_sure_as_a_large_one() {
    const R: u64 = 512 * KIB;
    // The profiler's half-widths in units of R: 4.68 for one sample, 10.2 for sixteen.
    let mut one = site(R, 0.01, load_rows());
    one.error_bytes = R * 468 / 100;
    let sites = vec![one; 16];
    let entries = entries(&sites, R);
    assert_eq!(entries[0].bytes, 16 * R);
    let error = entries[0].error_bytes as f64 / R as f64;
    assert!((9.8..10.6).contains(&error), "{error}");
}

fn by_samples(site: &mut Site, samples: u64) {
    site.samples = samples;
    site.bytes = samples * 512 * KIB;
    site.error_bytes = site.bytes + (4 - samples.min(4)) * 512 * KIB + 1;
}

#[test]
fn a_peak_of_a_sample_or_two_is_as_open_as_its_lines() {
    let mut status = typical();
    let peak = profile(&mut status).peak_bytes;
    profile(&mut status).peak_error_bytes = peak;
    assert!(plain(&status).contains(" ±100 %, sampled every"), "{}", plain(&status));
    profile(&mut status).peak_error_bytes = peak + peak / 20;
    assert!(plain(&status).contains(" >100 %, sampled every"), "{}", plain(&status));
}

#[test]
fn sites_of_a_sample_or_two_are_counted_with_the_rest() {
    let mut status = typical();
    by_samples(&mut profile(&mut status).at_peak[3], 2);
    assert!(!plain(&status).contains("(no Python frame)"), "{}", plain(&status));
    by_samples(&mut profile(&mut status).at_peak[3], 3);
    assert!(plain(&status).contains("1.5 MiB >100 %   2 %  (no Python frame)"), "{}", plain(&status));
}

#[test]
fn chance_is_not_an_answer() {
    let mut status = typical();
    for site in profile(&mut status).at_peak.iter_mut() {
        by_samples(site, 1);
    }
    let text = plain(&status);
    assert!(text.lines().nth(2).is_some_and(|line| line.starts_with("No line stands out: ")), "{text}");
    assert!(!text.contains("At the peak") && text.contains("Still live at exit"), "{text}");

    for site in profile(&mut status).at_end.iter_mut() {
        by_samples(site, 1);
    }
    profile(&mut status).peak_bytes = 3 * MIB;
    let text = plain(&status);
    assert!(text.lines().nth(2).is_some_and(|line| line.starts_with("Too little memory to name a line: ")), "{text}");
    assert!(!text.contains("At the peak") && !text.contains("Still live"), "{text}");

    let mut status = typical();
    for site in profile(&mut status).at_end.iter_mut() {
        by_samples(site, 1);
    }
    assert!(plain(&status).contains("Still live at exit  90 MiB, no line with enough of it to name\n"));
}

#[test]
fn a_wide_interval_comes_with_its_remedy() {
    let mut status = typical();
    assert!(!plain(&status).contains("--sample-bytes"));
    profile(&mut status).peak_error_bytes = 60 * MIB;
    assert!(plain(&status).contains("confidence interval, which --sample-bytes 64K would narrow."));
}

#[test]
fn nothing_left_at_exit() {
    let mut status = typical();
    profile(&mut status).at_end.clear();
    assert!(plain(&status).contains("At exit none of the sampled blocks was live any more."));
    profile(&mut status).at_peak.clear();
    profile(&mut status).at_end = vec![site(MIB, 1.0, remember())];
    let text = plain(&status);
    assert!(!text.contains("At the peak") && text.contains("Still live at exit"), "{text}");
}

#[test]
fn lost_samples_and_a_limit_are_pointed_at() {
    let mut status = typical();
    profile(&mut status).lost_samples = 1;
    status.heap.limit_bytes = Some(420 * MIB);
    status.heap.interpreters = 3;
    let text = plain(&status);
    assert!(text.contains("1 sample lost: the figures are too low."), "{text}");
    assert!(text.contains("Limit      420 MiB; the peak reached 98 % of it."), "{text}");
    assert!(text.contains("3 interpreters with a heap each."), "{text}");
}

#[test]
fn one_is_singular() {
    let mut status = typical();
    status.heap = HeapStatus {
        arenas: 1,
        pools: 1,
        live_blocks: 2,
        spans: 1,
        span_bytes: 2 * MIB,
        classes: vec![ClassStatus { block_bytes: 48, pools: 1, live_blocks: 1, capacity_blocks: 340 }],
        ..HeapStatus::default()
    };
    let text = plain(&status);
    assert!(text.contains("1 arena, 1 pool, 1 block, 1 span of 2.0 MiB"), "{text}");
    assert!(text.contains("1 block, pools <1 % full"), "{text}");
}

#[test]
fn stacks_of_one_line_are_added_up() {
    let other = with_entry(vec![load_rows()[2].clone(), frame("reload", "/home/ada/shop/app.py", 65, "")]);
    let sites = [site(30 * MIB, 0.3, load_rows()), site(40 * MIB, 0.4, other), site(50 * MIB, 0.1, remember())];
    let entries = entries(&sites, 512 * KIB);
    assert_eq!(entries.len(), 2);
    assert_eq!((entries[0].bytes, entries[0].stacks), (70 * MIB, 2));
    assert_eq!(entries[0].largest.bytes, 40 * MIB);
    assert!((entries[0].share - 0.7).abs() < 1e-9);
    assert!(entries[0].error_bytes < sites[0].error_bytes + sites[1].error_bytes);

    let mut status = typical();
    profile(&mut status).at_peak = sites.to_vec();
    assert!(plain(&status).contains("… and 1 other way to this line"));
}

#[test]
fn a_story_is_short_and_keeps_the_programs_own_frames() {
    let through_flask = site(MIB, 1.0, remember());
    let names: Vec<String> = story(&through_flask, 9)
        .iter()
        .map(|step| match step {
            Step::Inside(frame) => format!("in {}", frame.function),
            Step::By { frame, times } => format!("by {} {times}", frame.function),
            Step::Library(frames) => format!("library {frames}"),
            Step::More { callers, deeper } => format!("more {callers} {deeper}"),
        })
        .collect();
    assert_eq!(names, ["library 2", "by serve 1", "by main 1", "by <module> 1"]);

    let mut deep = site(MIB, 1.0, vec![frame("walk", "tree.py", 30, ""); 37]);
    deep.frames.extend(entry_frames());
    deep.truncated = true;
    assert_eq!(
        story(&deep, 1),
        [Step::By { frame: &frame("walk", "tree.py", 30, ""), times: 36 }, Step::More { callers: 2, deeper: true }]
    );
    assert_eq!(story(&deep, 9).last(), Some(&Step::More { callers: 0, deeper: true }));
    assert_eq!(story(&site(MIB, 1.0, vec![]), 9), []);
}

#[test]
fn threads_are_named_unless_it_is_the_main_one() {
    let mut status = typical();
    assert!(!plain(&status).contains("MainThread"));
    profile(&mut status).at_peak[0].thread = "worker-3".into();
    assert!(plain(&status).contains("in thread worker-3"));
}

#[test]
fn a_package_started_by_a_launcher_is_the_headline() {
    const BLACK: &str = "/venv/lib/python3.12/site-packages/black/__init__.py";
    let started = site(MIB, 1.0, vec![frame("main", BLACK, 7, ""), frame("<module>", "/venv/bin/black", 8, "")]);
    let sites = [started];
    let entries = entries(&sites, 512 * KIB);
    assert_eq!(entries[0].headline.map(|frame| frame.line), Some(7));
}

#[test]
fn hostile_text_cannot_break_a_line_or_send_an_escape_code() {
    let mut status = typical();
    status.program = "a\u{1b}[2Jb\nc\u{202e}.py".into();
    profile(&mut status).at_peak[0].frames[2].source = Some("x = '\u{1b}[31m'\r\n\ty".into());
    let text = plain(&status);
    assert!(text.starts_with("heapkeeper · a\u{fffd}[2Jb c\u{fffd}.py · "), "{text}");
    assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text}");
}

#[test]
fn a_record_from_json() {
    let json = include_str!("../../fixtures/shop.json");
    let status: Status = serde_json::from_str(json).expect("the fixture is a status");
    insta::assert_snapshot!(plain(&status));
}

#[test]
fn an_empty_record_renders() {
    insta::assert_snapshot!(plain(&Status::default()));
}

/// Any text a code object or a file system could hand us.
pub(super) fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![Just(String::new()), "\\PC{0,60}", any::<String>(), "(/[a-z]{0,9}){0,4}/?", "<[a-z ]{0,9}>"]
}

pub(super) fn any_site() -> impl Strategy<Value = Site> {
    let frames = prop::collection::vec((any_text(), any_text(), any::<u32>(), prop::option::of(any_text())), 0..8);
    (any::<[u64; 4]>(), any::<f64>(), any_text(), frames, any::<bool>()).prop_map(
        |([bytes, error_bytes, blocks, samples], share, thread, frames, truncated)| Site {
            bytes,
            error_bytes,
            blocks,
            samples,
            share,
            thread,
            frames: frames
                .into_iter()
                .map(|(function, file, line, source)| Frame { function, file, line, source })
                .collect(),
            truncated,
        },
    )
}

proptest! {
    #[test]
    fn rendering_is_total_and_keeps_to_its_width(
        texts in prop::array::uniform5(any_text()),
        times in any::<[f64; 3]>(),
        numbers in prop::array::uniform32(any::<u64>()),
        limit in prop::option::of(any::<u64>()),
        at_peak in prop::collection::vec(any_site(), 0..6),
        at_end in prop::collection::vec(any_site(), 0..6),
        profiled in any::<bool>(),
        collector in prop::option::of(collector::tests::any_collector()),
        columns in 0usize..300,
        color in any::<bool>(),
    ) {
        let [program, python, name, reason, numpy] = texts;
        let status = Status {
            program,
            python,
            elapsed_s: times[0],
            allocator: AllocatorStatus { name, reason: Some(reason), numpy: Some(numpy) },
            heap: HeapStatus {
                live_blocks: numbers[0],
                peak_bytes: numbers[1],
                held_bytes: numbers[2],
                peak_at_s: times[1],
                allocated_bytes: numbers[3],
                limit_bytes: limit,
                arenas: numbers[4],
                huge_arenas: numbers[5],
                spans: numbers[6],
                span_bytes: numbers[7],
                fragmentation: times[2],
                interpreters: numbers[8],
                classes: numbers[9..25]
                    .chunks(2)
                    .map(|pair| ClassStatus {
                        block_bytes: pair[0],
                        pools: 1,
                        live_blocks: pair[1],
                        capacity_blocks: pair[0] >> 1,
                    })
                    .collect(),
                ..HeapStatus::default()
            },
            profile: profiled.then(|| ProfileStatus {
                sample_bytes: numbers[25],
                samples: numbers[26],
                lost_samples: numbers[27],
                live_bytes: numbers[28],
                peak_bytes: numbers[29],
                peak_error_bytes: numbers[30],
                at_peak,
                at_end,
                ..ProfileStatus::default()
            }),
            collector,
            ..Status::default()
        };
        let text = render(&status, Style { columns, color });
        prop_assert!(text.ends_with('\n'));
        let columns = columns.clamp(20, 160);
        for line in text.lines() {
            let shown = if color { textwrap::core::display_width(line) } else { line.width() };
            prop_assert!(shown <= columns, "{shown} > {columns}: {line:?}");
            let escapes = line.contains('\u{1b}');
            prop_assert!(color || !escapes);
        }
    }
}
