//! Tables that the OS gives no more memory. Alone in its process: the limit is the process's.

use heapkeeper_profile::{Code, NodeId, Tables, ThreadId};

/// Set the soft limit of address space, in bytes; returns the one before.
fn limit_address_space(bytes: libc::rlim_t) -> libc::rlim_t {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls only read and write `limit`.
    unsafe {
        assert_eq!(libc::getrlimit(libc::RLIMIT_AS, &mut limit), 0);
        let before = limit.rlim_cur;
        limit.rlim_cur = bytes;
        assert_eq!(libc::setrlimit(libc::RLIMIT_AS, &limit), 0);
        before
    }
}

fn insert(tables: &mut Tables, n: usize) -> Result<(), heapkeeper_profile::Full> {
    let code = tables.intern(Code::Object(n << 4), n as u64 % 1_000)?;
    let node = tables.child(NodeId::EMPTY, code.id, n as i32)?;
    tables.insert(n << 4, 100, node, ThreadId(n % 3), None, || 0)
}

#[test]
fn a_table_that_cannot_grow_loses_samples_and_nothing_else() {
    const WITHOUT_LIMIT: usize = 1_000;
    const MAX_SAMPLES: usize = 10_000_000;
    let mut tables = Tables::new(1_000).unwrap();
    for n in 1..=WITHOUT_LIMIT {
        insert(&mut tables, n).unwrap();
    }
    // Nothing new may be mapped; what the tables have still fills up.
    let before = limit_address_space(0);
    let taken = (WITHOUT_LIMIT + 1..MAX_SAMPLES).find(|n| insert(&mut tables, *n).is_err());
    let first_lost = taken.expect("the limit is never met");
    let refused = (first_lost..first_lost + 100).filter(|n| insert(&mut tables, *n).is_err()).count();
    limit_address_space(before);
    assert!(first_lost > WITHOUT_LIMIT + 1 && refused > 0, "{first_lost}, {refused}");
    (0..refused).for_each(|_| tables.lose());
    assert!(tables.is_valid());
    assert_eq!(tables.snapshot(0).lost, refused as u64);
    // With memory again, it goes on; and what was taken is still found.
    for n in MAX_SAMPLES..MAX_SAMPLES + 10_000 {
        insert(&mut tables, n).unwrap();
    }
    assert!((1..first_lost).all(|n| tables.remove(n << 4)));
    assert!(tables.is_valid());
}
