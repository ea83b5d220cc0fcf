//! The process as the kernel sees it: resident memory in all, and in our range. Linux's /proc, and mincore.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::ops::Range;
use std::ptr;

use heapkeeper_heap::ARENA_BYTES;

/// OS pages that the kernel is asked about at a time: 64 MiB of the usual 4 KiB.
const PAGES_AT_ONCE: usize = 16 << 10;

/// Resident memory of this process, in bytes; zeros where /proc cannot be read.
#[derive(Debug, Clone, Copy, Default)]
pub struct Resident {
    /// Now.
    pub rss_bytes: u64,
    /// The most so far.
    pub peak_rss_bytes: u64,
}

/// Resident memory now and at its peak, as /proc/self/status has it.
pub fn resident() -> Resident {
    let mut text = String::new();
    let read = File::open("/proc/self/status").and_then(|mut file| file.read_to_string(&mut text));
    if read.is_err() {
        return Resident::default();
    }
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map_or(0, kib_to_bytes);
    let rss_bytes = field("VmRSS:");
    // The kernel's counters of the two are batched by thread, and may disagree for a moment.
    Resident { rss_bytes, peak_rss_bytes: field("VmHWM:").max(rss_bytes) }
}

/// Resident bytes of the mappings that lie in `range`, as /proc/self/smaps has them.
pub fn resident_in(range: &Range<usize>) -> u64 {
    let Ok(file) = File::open("/proc/self/smaps") else {
        return 0;
    };
    let mut bytes = 0;
    let mut inside = false;
    for line in BufReader::new(file).lines().map_while(Result::ok) {
        if let Some(mapping) = mapping_bounds(&line) {
            inside = range.start <= mapping.start && mapping.end <= range.end;
        } else if inside && let Some(rest) = line.strip_prefix("Rss:") {
            bytes += kib_to_bytes(rest);
        }
    }
    bytes
}

/// Resident bytes of `range`, which begins with an OS page and may have arenas in it that are not mapped; `None` where the
/// kernel does not say. What [`resident_in`] says, for who asks every second: some microseconds for each 64 MiB, and mappings
/// can be made meanwhile.
pub fn resident_pages_in(range: Range<usize>) -> Option<u64> {
    // SAFETY: has no conditions.
    let page_bytes = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).ok()?;
    let mut pages = [0u8; PAGES_AT_ONCE];
    let mut resident_in = |part: Range<usize>| {
        // SAFETY: a byte is written for each page of `part`, at most as many as there are. The kernel only looks at the pages.
        let answer = unsafe { libc::mincore(ptr::without_provenance_mut(part.start), part.len(), pages.as_mut_ptr()) };
        if answer != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(pages[..part.len() / page_bytes].iter().filter(|page| **page & 1 == 1).count())
    };
    let mut resident = 0;
    for part in in_parts(range, PAGES_AT_ONCE * page_bytes) {
        resident += match resident_in(part.clone()) {
            Ok(pages) => pages,
            Err(error) if error.raw_os_error() == Some(libc::ENOMEM) => {
                in_parts(part, ARENA_BYTES).map(|arena| resident_in(arena).unwrap_or(0)).sum()
            }
            Err(_) => return None,
        };
    }
    Some((resident * page_bytes) as u64)
}

fn in_parts(range: Range<usize>, bytes: usize) -> impl Iterator<Item = Range<usize>> {
    range.clone().step_by(bytes).map(move |start| start..range.end.min(start + bytes))
}

/// `7f00-7fff rw-p …` → its bounds. The reservation is aligned inside a larger mapping, whose ends lie outside.
fn mapping_bounds(line: &str) -> Option<Range<usize>> {
    let (addresses, _) = line.split_once(' ')?;
    let (start, end) = addresses.split_once('-')?;
    Some(usize::from_str_radix(start, 16).ok()?..usize::from_str_radix(end, 16).ok()?)
}

/// ` 123 kB` → bytes.
fn kib_to_bytes(text: &str) -> u64 {
    text.split_whitespace().next().and_then(|number| number.parse::<u64>().ok()).unwrap_or(0) * 1024
}
