//! Numbers in words, and numbers that cannot be said.

use super::{about, bar, bytes, count, counted, pause, percent, rate, seconds, share_of_time};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

#[test]
fn quantities() {
    let say = |text: String| text.replace('\u{a0}', " ");
    let sizes = [0, 1023, 1024, 9 * KIB + 614, 1_048_575, 412 * MIB, 5 << 30, u64::MAX].map(|n| say(bytes(n)));
    assert_eq!(sizes, ["0 B", "1023 B", "1.0 KiB", "9.6 KiB", "1024 KiB", "412 MiB", "5.0 GiB", "16 EiB"]);
    let counts = [0, 999, 1000, 999_999, 2_100_000, 3_000_000_000].map(|n| say(count(n)));
    assert_eq!(counts, ["0", "999", "1,000", "999,999", "2.1 million", "3.0 billion"]);
    let estimates = [0, 7, 99, 104, 105, 149_999, 2_149_000, u64::MAX].map(|n| say(about(n)));
    let said = ["0", "7", "99", "100", "110", "150,000", "2.1 million", "18000000000.0 billion"];
    assert_eq!(estimates, said.map(|text| format!("about {text}")));
    assert_eq!([say(counted(1, "pool")), say(counted(0, "pool"))], ["1 pool", "0 pools"]);
    let shares = [0.0, 0.001, 0.514, 1.0, f64::NAN, -1.0, f64::INFINITY].map(|n| say(percent(n)));
    assert_eq!(shares, ["0 %", "<1 %", "51 %", "100 %", "?", "?", "?"]);
    let times = [0.0, 0.34, 0.9999, 8.12, 99.99, 725.0, 11_520.0, f64::NAN, -1.0].map(|n| say(seconds(n)));
    assert_eq!(times, ["0 ms", "340 ms", "1.0 s", "8.1 s", "1 min 40 s", "12 min 5 s", "3 h 12 min", "?", "?"]);
    let pauses = [0.0, 4e-7, 2.34e-6, 66e-6, 0.0021, 0.038, 0.9999, f64::NAN, -1.0].map(|n| say(pause(n)));
    assert_eq!(pauses, ["0 ms", "<1 µs", "2.3 µs", "66 µs", "2.1 ms", "38 ms", "1.0 s", "?", "?"]);
    assert_eq!(share_of_time(1.0, 4.0), Some(0.25));
    let odd =
        [share_of_time(0.0, 0.0), share_of_time(2.0, 1.0), share_of_time(f64::NAN, 1.0), share_of_time(1.0, -4.0)];
    assert_eq!(odd, [None; 4]);
    assert_eq!(rate(MIB, 2.0).map(say).as_deref(), Some("512 KiB/s"));
    assert_eq!([rate(1, 0.0), rate(1, f64::NAN)], [None, None]);
    assert_eq!([bar(0.5, 4), bar(2.0, 2), bar(1e-9, 8), bar(f64::NAN, 8)], ["██", "██", "▏", ""]);
}
