//! A profile of the shop, of two shops, and of captures that hold little.

use heapkeeper_record::capture::{Header, Reader, Tick};

use super::{Bound, Measure, Moment, Profile};

#[path = "../../fixtures/shop_capture.rs"]
pub(crate) mod shop;

const MIB: u64 = 1 << 20;

/// The profile of these captures.
pub(crate) fn profile(captures: &[(Header, Vec<Tick>)]) -> Profile {
    let files: Vec<Vec<u8>> = captures.iter().map(|(header, ticks)| shop::capture(header, ticks)).collect();
    let readers = files.iter().map(|bytes| Reader::new(&bytes[..]).unwrap()).collect();
    let (profile, damages) = Profile::read(readers, |_| {});
    assert!(damages.iter().all(Option::is_none));
    profile
}

pub(crate) fn one() -> Profile {
    profile(&[(shop::header(), shop::ticks())])
}

/// A second worker, which began two seconds later.
pub(crate) fn two() -> Profile {
    let first = shop::header();
    let second = Header { pid: 4712, started_unix_us: first.started_unix_us + 2_000_000, ..first.clone() };
    profile(&[(first, shop::ticks()), (second, shop::ticks())])
}

/// MiB by line at a moment, of lines that have any.
fn lines(profile: &Profile, moment: Moment, measure: Measure, thread: Option<&str>) -> Vec<(u32, u64)> {
    let stacks = profile.stacks(moment, measure, thread);
    stacks.entries.iter().map(|stack| (stack.frames.first().map_or(0, |frame| frame.line), stack.bytes / MIB)).collect()
}

#[test]
fn figures_at_any_moment() {
    let profile = one();
    let live = |moment| lines(&profile, moment, Measure::Live, None);
    assert_eq!(live(Moment::Peak), [(353, 208), (17, 72), (9, 40), (30, 6), (0, 6), (44, 1)]);
    assert_eq!(live(Moment::End), [(9, 60), (30, 9), (0, 6), (44, 1)]);
    assert_eq!(live(Moment::Seconds(2.9)), [(353, 52), (17, 18), (9, 10), (30, 1), (0, 6), (44, 1)]);
    assert_eq!(live(Moment::Seconds(0.5)), []);
    assert_eq!(live(Moment::Seconds(f64::NAN)), []);
    assert_eq!(live(Moment::Seconds(1e300)), live(Moment::End));
}

#[test]
fn measures_and_threads() {
    let profile = one();
    let of = |measure, thread| lines(&profile, Moment::End, measure, thread);
    assert_eq!(of(Measure::Total, None)[0], (353, 208));
    assert_eq!(of(Measure::Temporary, None), [(353, 208), (17, 72), (9, 6), (44, 1439)]);
    assert_eq!(of(Measure::Live, Some("worker-1")), [(9, 60)]);
    assert_eq!(of(Measure::Live, Some("worker")), []);
    assert!(profile.has_thread("worker-1") && !profile.has_thread("Thread-1"));
}

#[test]
fn stacks_carry_frames_and_titles() {
    let stacks = one().stacks(Moment::Peak, Measure::Live, Some("worker-1"));
    assert_eq!(stacks.title, "app.py · live at the peak");
    let [stack] = &stacks.entries[..] else { panic!("one stack") };
    assert!(stack.truncated);
    let frames: Vec<_> = stack.frames.iter().map(|frame| (frame.function.as_str(), frame.line)).collect();
    assert_eq!(frames, [("Session.remember", 9), ("Flask.wsgi_app", 1455)]);
}

#[test]
fn several_captures_add_up() {
    let profile = two();
    assert_eq!(profile.seconds(), 14.0);
    assert_eq!(profile.program(), "app.py");
    let stacks = profile.stacks(Moment::End, Measure::Live, None);
    assert_eq!(stacks.entries.iter().map(|stack| stack.bytes).sum::<u64>(), 2 * 76 * MIB);
    let threads: Vec<&str> = profile.threads().iter().map(String::as_str).collect();
    assert!(threads.contains(&"worker-1 (pid 4711)") && threads.contains(&"worker-1 (pid 4712)"), "{threads:?}");
    let worker = |name| profile.stacks(Moment::End, Measure::Live, Some(name)).entries.len();
    assert_eq!((worker("worker-1"), worker("worker-1 (pid 4712)"), worker("worker-1 (pid 1)")), (2, 1, 0));
    // The second one is two seconds behind.
    assert_eq!(lines(&profile, Moment::Seconds(3.0), Measure::Live, Some("worker-1")), [(9, 15), (9, 5)]);
    assert_eq!(profile.frames.len(), one().frames.len(), "equal lines are one frame");
}

#[test]
fn spans_go_from_mark_to_mark() {
    let profile = one();
    let span = |from: Option<Bound>, to: Option<Bound>| {
        let spans = profile.spans([from.as_ref(), to.as_ref()]);
        (spans[0].ticks, spans[0].seconds, spans[0].names.join(" to "))
    };
    assert_eq!(span(None, None), ([3, 11], 8.0, "mark “after warm-up” to mark “before shutdown”".into()));
    let warm = || Some(Bound::Mark("after warm-up".into()));
    assert_eq!(span(warm(), None), ([3, 12], 9.0, "mark “after warm-up” to exit".into()));
    assert_eq!(span(Some(Bound::Seconds(4.0)), Some(Bound::Seconds(6.5))).0, [4, 6]);
    assert_eq!(span(Some(Bound::Seconds(9.0)), warm()).0, [9, 9]);
    assert!(profile.has_mark("after warm-up") && !profile.has_mark("warm-up"));

    let mut ticks = shop::ticks();
    ticks.iter_mut().for_each(|tick| tick.marks.clear());
    let spans = super::tests::profile(&[(shop::header(), ticks)]).spans([None, None]);
    assert_eq!(spans[0].ticks, [4, 12]);
}

#[test]
fn a_peak_before_the_first_tick_and_between_two() {
    let mut ticks = shop::ticks();
    ticks.iter_mut().for_each(|tick| tick.peak_at_ms = 400);
    let peak = |ticks: Vec<Tick>| lines(&profile(&[(shop::header(), ticks)]), Moment::Peak, Measure::Live, None);
    assert_eq!(peak(ticks.clone()), lines(&one(), Moment::Peak, Measure::Live, None));
    ticks.iter_mut().for_each(|tick| tick.peak_at_ms = 7400);
    let between = profile(&[(shop::header(), ticks)]);
    assert_eq!(lines(&between, Moment::Peak, Measure::Total, None)[0], (353, 208), "what the tick after it knows");
}

#[test]
fn coarser_ticks_have_the_same_figures_when_they_end() {
    let (whole, mut coarse) = (one(), one());
    coarse.processes[0].coarsen();
    assert_eq!(coarse.processes[0].series.len(), 6);
    for moment in [Moment::Peak, Moment::End, Moment::Seconds(2.0), Moment::Seconds(10.5)] {
        assert_eq!(lines(&coarse, moment, Measure::Live, None), lines(&whole, moment, Measure::Live, None));
        assert_eq!(lines(&coarse, moment, Measure::Total, None), lines(&whole, moment, Measure::Total, None));
    }
    // Between two ticks the state is that of the first.
    let odd = lines(&coarse, Moment::Seconds(5.0), Measure::Live, None);
    assert_eq!(odd, lines(&whole, Moment::Seconds(4.0), Measure::Live, None));
    (0..5).for_each(|_| coarse.processes[0].coarsen());
    assert_eq!(coarse.processes[0].series.len(), 1);
    assert_eq!(lines(&coarse, Moment::End, Measure::Live, None), lines(&whole, Moment::End, Measure::Live, None));
    super::Process::default().coarsen();
}

#[test]
fn a_capture_without_ticks_is_a_profile() {
    let profile = profile(&[(shop::header(), Vec::new())]);
    assert_eq!(profile.seconds(), 0.0);
    for moment in [Moment::Peak, Moment::End, Moment::Seconds(1.0)] {
        assert_eq!(profile.stacks(moment, Measure::Live, None).entries, []);
    }
    assert_eq!(profile.spans([None, None])[0].ticks, [0, 0]);
}
