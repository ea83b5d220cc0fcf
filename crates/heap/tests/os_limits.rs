//! What the system's limits (`ulimit -v`, `-d`, overcommitment) make of the heap. They hold for a process as a whole, so
//! each test runs its work in a process of its own.

use std::fs;
use std::process::Command;

use heapkeeper_heap::{Heap, Lock, Observer, Range, SLOT_BYTES, SideTable};

const MIB: usize = 1 << 20;
const CHILD: &str = "HEAPKEEPER_TEST_CHILD";

/// Run `work` in a child process: this test program again, with only the test called `name`.
fn in_child(name: &str, work: impl FnOnce()) {
    if std::env::var(CHILD).is_ok_and(|child| child == name) {
        return work();
    }
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(CHILD, name)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

/// A figure of /proc in bytes.
fn proc_bytes(file: &str, field: &str) -> usize {
    let text = fs::read_to_string(file).unwrap();
    let line = text.lines().find(|line| line.starts_with(field)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
}

/// Whether the process can map so much more.
fn maps(bytes: usize) -> bool {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: an anonymous mapping of its own, which goes at once.
    unsafe {
        let mapping = libc::mmap(std::ptr::null_mut(), bytes, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0);
        mapping != libc::MAP_FAILED && libc::munmap(mapping, bytes) == 0
    }
}

/// What `$work` says under a soft limit of `$bytes`. Nothing is asserted under it: a panic needs memory as well.
macro_rules! under {
    ($resource:expr, $bytes:expr, $work:expr) => {{
        let set = |bytes: libc::rlim_t| {
            let limit = libc::rlimit { rlim_cur: bytes, rlim_max: libc::RLIM_INFINITY };
            // SAFETY: setrlimit reads the structure it is given.
            assert_eq!(unsafe { libc::setrlimit($resource, &limit) }, 0);
        };
        set($bytes as libc::rlim_t);
        let result = $work;
        set(libc::RLIM_INFINITY);
        result
    }};
}

#[test]
fn a_small_limit_on_address_space_makes_a_small_range() {
    in_child("a_small_limit_on_address_space_makes_a_small_range", || {
        let limit = proc_bytes("/proc/self/status", "VmSize:") + 200 * MIB;
        let range = under!(libc::RLIMIT_AS, limit, Range::reserve(1 << 40)).unwrap();
        assert!((16 * MIB..=100 * MIB).contains(&range.stats().reserved_bytes));
        let mut heap = Heap::new(range).unwrap();
        assert!(!heap.alloc(8 * MIB).is_null());
        assert!(heap.alloc(200 * MIB).is_null());
        heap.check().unwrap();
    });
}

/// A program may limit its own address space after our heap took its place: once a terabyte of ours was in the way.
#[test]
fn a_range_maps_what_it_uses() {
    in_child("a_range_maps_what_it_uses", || {
        let before = proc_bytes("/proc/self/status", "VmSize:");
        let range = Range::reserve(1 << 40).unwrap();
        let table = SideTable::reserve(range, 1024).unwrap();
        let mapped = || proc_bytes("/proc/self/status", "VmSize:") - before;
        assert!(mapped() < 80 * MIB, "{}", mapped());
        let mut heap = Heap::new(range).unwrap();
        let blocks = (0..100).map(|_| heap.alloc(3 * MIB)).collect::<Vec<_>>();
        assert!((400 * MIB..600 * MIB).contains(&range.stats().reserved_bytes));
        assert!(mapped() < 650 * MIB, "{}", mapped());
        for (number, block) in blocks.iter().enumerate() {
            let (entry, offset) = table.entry(*block).unwrap();
            assert_eq!(offset, block.addr() % SLOT_BYTES);
            // SAFETY: live blocks, and their entries.
            unsafe {
                assert_eq!(entry.read(), 0);
                entry.write(number as u8);
                block.write_bytes(number as u8, 3 * MIB);
            }
        }
        for (number, block) in blocks.iter().enumerate() {
            // SAFETY: as above.
            unsafe {
                assert_eq!((table.entry(*block).unwrap().0.read(), block.read()), (number as u8, number as u8));
                assert!(heap.free(*block));
            }
        }
        heap.check().unwrap();
        range.check().unwrap();
        let limit = proc_bytes("/proc/self/status", "VmSize:") + 100 * MIB;
        let (small, large, room) = under!(libc::RLIMIT_AS, limit, {
            let (small, large) = (heap.alloc(200 * MIB), heap.alloc(1024 * MIB));
            (!small.is_null(), !large.is_null(), maps(50 * MIB))
        });
        assert_eq!((small, large, room), (true, false, true));
        range.check().unwrap();
    });
}

/// Threads and mappings of the program need addresses as well: once those that the heap had used stayed its own.
#[test]
fn under_a_limit_addresses_go_back() {
    in_child("under_a_limit_addresses_go_back", || {
        for resource in [libc::RLIMIT_AS, libc::RLIMIT_DATA] {
            let range = Range::reserve(1 << 40).unwrap();
            let mut heap = Heap::new(range).unwrap();
            let field = if resource == libc::RLIMIT_AS { "VmSize:" } else { "VmData:" };
            let limit = proc_bytes("/proc/self/status", field) + 300 * MIB;
            let mut blocks = Vec::with_capacity(10_000);
            let mut rounds = [(0, false); 3];
            under!(resource, limit, {
                for round in &mut rounds {
                    fill(&mut heap, &mut blocks);
                    let filled = blocks.len();
                    // SAFETY: live blocks.
                    blocks.drain(..).for_each(|block| assert!(unsafe { heap.free(block) }));
                    *round = (filled, maps(200 * MIB));
                }
            });
            assert!(rounds.iter().all(|(filled, room)| *filled > 3000 && *room), "{rounds:?}");
            heap.check().unwrap();
            range.check().unwrap();
            // What was given back before there was a limit goes at the next trim.
            fill_without_limit(&mut heap);
            let limit = proc_bytes("/proc/self/status", field) + 10 * MIB;
            let (trimmed, room) = under!(resource, limit, (heap.trim(), maps(150 * MIB)));
            assert!(trimmed > 0 && room);
            range.check().unwrap();
        }
    });
}

/// Allocate zeroed blocks until there is no more, and write to them.
fn fill(heap: &mut Heap, blocks: &mut Vec<*mut u8>) {
    loop {
        let block = heap.alloc_zeroed(50_000);
        if block.is_null() {
            return;
        }
        // SAFETY: a live block of this length.
        unsafe {
            assert!(std::slice::from_raw_parts(block, 50_000).iter().all(|b| *b == 0));
            block.write_bytes(1, 50_000);
        }
        blocks.push(block);
    }
}

/// Use 200 MiB, and free them.
fn fill_without_limit(heap: &mut Heap) {
    let blocks = (0..4000).map(|_| heap.alloc(50_000)).collect::<Vec<_>>();
    // SAFETY: live blocks.
    blocks.into_iter().for_each(|block| assert!(unsafe { heap.free(block) }));
}

/// Whoever maps memory in our way keeps it: no address of theirs is taken for ours, and the heap makes do.
#[test]
fn a_stranger_in_the_way_ends_the_growth() {
    in_child("a_stranger_in_the_way_ends_the_growth", || {
        let range = Range::reserve(1 << 40).unwrap();
        let mut heap = Heap::new(range).unwrap();
        let end = range.bounds().end;
        // SAFETY: a mapping that replaces none.
        let stranger = unsafe {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE;
            let start = std::ptr::without_provenance_mut(end + 4 * MIB);
            libc::mmap(start, MIB, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0).cast::<u8>()
        };
        assert_eq!(stranger.addr(), end + 4 * MIB);
        // SAFETY: mapped just now.
        unsafe { stranger.write(7) };
        assert!(!range.contains(stranger) && !heap.owns(stranger));
        // SAFETY: an address outside the heap.
        assert!(!unsafe { heap.free(stranger) });
        let mut blocks = Vec::new();
        loop {
            let block = heap.alloc(MIB);
            if block.is_null() {
                break;
            }
            // SAFETY: a live block.
            unsafe { block.write_bytes(1, MIB) };
            blocks.push(block);
        }
        assert!((60..=70).contains(&blocks.len()), "{} blocks", blocks.len());
        // SAFETY: mapped above, and never anybody else's.
        assert_eq!(unsafe { stranger.read() }, 7);
        heap.check().unwrap();
        range.check().unwrap();
        for block in blocks {
            // SAFETY: live blocks.
            assert!(unsafe { heap.free(block) });
        }
        assert!(!heap.alloc(40 * MIB).is_null());
    });
}

#[test]
fn too_small_a_limit_on_address_space_is_an_error() {
    in_child("too_small_a_limit_on_address_space_is_an_error", || {
        let limit = proc_bytes("/proc/self/status", "VmSize:") + 20 * MIB;
        let error = under!(libc::RLIMIT_AS, limit, Range::reserve(1 << 40)).unwrap_err();
        assert!(error.to_string().contains("ulimit -v"), "{error}");
    });
}

/// Once the tables of a range of 1 TiB used the limit up.
#[test]
fn a_limit_on_data_leaves_room_beside_the_tables() {
    in_child("a_limit_on_data_leaves_room_beside_the_tables", || {
        let limit = proc_bytes("/proc/self/status", "VmData:") + 64 * MIB;
        let (mut heap, block, beyond) = under!(libc::RLIMIT_DATA, limit, {
            let mut heap = Heap::new(Range::reserve(1 << 40).unwrap()).unwrap();
            let blocks = (heap.alloc(40 * MIB), heap.alloc(40 * MIB));
            (heap, blocks.0, blocks.1)
        });
        assert!(!block.is_null() && beyond.is_null());
        // SAFETY: a live block of this length.
        unsafe {
            block.write_bytes(1, 40 * MIB);
            assert!(heap.free(block));
        }
        heap.check().unwrap();
    });
}

/// Once the arenas of a refused request counted as used before, were preferred, and refused again and again.
#[test]
fn arenas_that_are_refused_do_not_hide_those_at_hand() {
    in_child("arenas_that_are_refused_do_not_hide_those_at_hand", || {
        let range = Range::reserve(256 * MIB).unwrap();
        let mut heap = Heap::new(range).unwrap();
        let block = heap.alloc(8 * MIB);
        // SAFETY: a live block.
        assert!(unsafe { heap.free(block) });
        range.trim();
        let limit = proc_bytes("/proc/self/status", "VmData:") + MIB;
        let refused = under!(libc::RLIMIT_DATA, limit, {
            [64 * MIB, 8 * MIB, 64 * MIB].map(|bytes| heap.alloc(bytes).is_null())
        });
        assert_eq!(refused, [true, false, true]);
        heap.check().unwrap();
    });
}

/// Once memory that was given back still counted as committed, and the kernel refused to fork.
#[test]
fn what_was_given_back_does_not_hinder_a_fork() {
    in_child("what_was_given_back_does_not_hinder_a_fork", || {
        let memory = proc_bytes("/proc/meminfo", "MemTotal:") + proc_bytes("/proc/meminfo", "SwapTotal:");
        let mut heap = Heap::new(Range::reserve(1 << 40).unwrap()).unwrap();
        // Neither is touched; together they exceed all memory, and never exist at the same time.
        for share in [70, 90] {
            let block = heap.alloc(memory / 100 * share);
            assert!(!block.is_null());
            // SAFETY: a live block.
            assert!(unsafe { heap.free(block) });
        }
        // SAFETY: the child does nothing but exit.
        unsafe {
            let child = libc::fork();
            if child == 0 {
                libc::_exit(7);
            }
            assert!(child > 0, "fork: {}", std::io::Error::last_os_error());
            let mut status = 0;
            assert_eq!(libc::waitpid(child, &mut status, 0), child);
            assert_eq!(libc::WEXITSTATUS(status), 7);
        }
    });
}

/// A kernel that has no address space left for the move copies instead.
#[test]
fn spans_grow_where_the_kernel_refuses_to_move_them() {
    in_child("spans_grow_where_the_kernel_refuses_to_move_them", || {
        let mut heap = Heap::new(Range::reserve(256 * MIB).unwrap()).unwrap();
        let block = heap.alloc(6 * MIB);
        let behind = heap.alloc(2 * MIB);
        for i in 0..6 * MIB / 8 {
            // SAFETY: the block is this long.
            unsafe { block.cast::<usize>().add(i).write(i) };
        }
        let limit = proc_bytes("/proc/self/status", "VmSize:");
        // SAFETY: live blocks.
        let moved = under!(libc::RLIMIT_AS, limit, unsafe { heap.realloc(block, 50 * MIB) });
        assert!(!moved.is_null() && moved != block);
        for i in 0..6 * MIB / 8 {
            // SAFETY: the block is this long.
            assert_eq!(unsafe { moved.cast::<usize>().add(i).read() }, i);
        }
        heap.check().unwrap();
        // SAFETY: live blocks.
        assert!(unsafe { heap.free(behind) && heap.free(moved) });
        heap.check().unwrap();
    });
}

/// Callers of `free` look at the `errno` of the call before: once a file that was not there came out as
/// `BlockingIOError`, because a thread had waited for the lock in between.
#[test]
fn errno_stays() {
    const MARK: libc::c_int = 4242;
    // SAFETY: the address is that of this thread's own.
    let errno = || unsafe { libc::__errno_location() };
    let range = Range::reserve(1 << 30).unwrap();
    let lock = Lock::new();
    let turns = std::sync::Barrier::new(4);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut heap = Heap::new(range).unwrap();
                let observer = Observer {
                    context: std::ptr::null_mut(),
                    // SAFETY: this thread's own, as above.
                    allocated: |_, _, _, budget| unsafe {
                        *libc::__errno_location() = 7;
                        *budget = 10_000;
                        true
                    },
                    // SAFETY: as above.
                    freed: |_, _| unsafe {
                        *libc::__errno_location() = 8;
                        true
                    },
                };
                heap.observe(Some(observer), 10_000);
                turns.wait();
                // SAFETY: as above.
                unsafe { *errno() = MARK };
                for turn in 0..60_usize {
                    let mut blocks = [std::ptr::null_mut(); 40];
                    for (i, block) in blocks.iter_mut().enumerate() {
                        *block = heap.alloc(1 << ((i + turn) % 23));
                    }
                    // SAFETY: live blocks; refused ones are null.
                    unsafe {
                        blocks[0] = heap.realloc(blocks[0], 5 * MIB);
                        blocks.iter().filter(|block| !block.is_null()).for_each(|block| assert!(heap.free(*block)));
                    }
                    heap.trim();
                    (0..50).for_each(|_| lock.with(std::thread::yield_now));
                    // SAFETY: as above.
                    assert_eq!(unsafe { *errno() }, MARK);
                }
            });
        }
    });
}
