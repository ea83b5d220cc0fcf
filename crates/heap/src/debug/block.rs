//! A debug block: what lies around the bytes that its owner gets.
//!
//! ```text
//! start                    user                     user + bytes        start + whole_bytes
//! | header 48 | redzone 16+ | what the owner gets …  | redzone 16+       |
//! ```
//! The header carries a seal, a hash of its fields and its address: whoever writes over it breaks the seal, and memory that
//! happens to look like a header has none. Its first word is left to the wrapped heap, whose free lists run through it.

use core::mem::size_of;

use super::{Fault, FaultKind};

/// Fills new blocks.
pub const FRESH: u8 = 0xcd;
/// Fills freed blocks.
pub const DEAD: u8 = 0xdd;
/// Fills the bytes around blocks.
pub const REDZONE: u8 = 0xfd;

/// Bytes of a redzone, at least: 16.
pub(super) const REDZONE_BYTES: usize = 16;

/// Bytes before the owner's, at least: 64.
pub(super) const FRONT_BYTES: usize = size_of::<Header>() + REDZONE_BYTES;

/// What a block is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
pub(super) enum State {
    /// Its owner's.
    Live = 1,
    /// Freed, and kept to see whether somebody writes to it.
    Quarantined,
    /// Given back to the wrapped heap.
    Released,
    /// Its header was written over: nothing is known of it, and it is left alone.
    Ruined,
}

/// The head of a block.
///
/// ```text
///  0 the wrapped heap's ── 8 state ── 16 front_bytes ── 24 bytes ── 32 serial ── 40 seal ── 48
/// ```
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct Header {
    link: usize,
    pub state: State,
    /// From the start to what the owner gets.
    pub front_bytes: usize,
    /// Bytes requested.
    pub bytes: usize,
    pub serial: u64,
    seal: u64,
}

const _: () = assert!(size_of::<Header>() == 48 && FRONT_BYTES == 64);

impl Header {
    /// Of a block that is known by its place only.
    pub const UNKNOWN: Header =
        Header { link: 0, state: State::Ruined, front_bytes: FRONT_BYTES, bytes: 0, serial: 0, seal: 0 };

    /// The same, for fewer bytes. To be sealed by `DebugBlock::set_state`.
    pub fn with_bytes(self, bytes: usize) -> Header {
        Header { bytes, ..self }
    }
}

/// The seal of a header with these fields, in words, at `address`. Multiply and rotate: each bit of each word counts.
fn seal(address: usize, words: [u64; 4]) -> u64 {
    const ODD: u64 = 0x9e37_79b9_7f4a_7c15; // 2^64 / the golden ratio
    words.iter().fold(address as u64 ^ ODD, |hash, word| (hash ^ word).wrapping_mul(ODD).rotate_left(29))
}

/// A block of the wrapped heap.
#[derive(Debug, Clone, Copy)]
pub(super) struct DebugBlock {
    pub start: *mut u8,
    pub whole_bytes: usize,
}

/// # Safety
/// Of all methods: `whole_bytes` bytes from `start` are a block of a pool or span of the wrapped heap. Those that write
/// need it to be handed out. A `header` is the block's own.
impl DebugBlock {
    /// What the owner gets.
    pub fn user(&self, header: &Header) -> *mut u8 {
        self.start.wrapping_add(header.front_bytes)
    }

    /// Make a fresh block one with `bytes` bytes for its owner, which are returned.
    ///
    /// # Safety
    /// See the `impl`; the block has room for `front_bytes`, `bytes` and a redzone.
    pub unsafe fn set_up(&self, front_bytes: usize, bytes: usize, serial: u64) -> *mut u8 {
        let header = Header { front_bytes, bytes, serial, ..Header::UNKNOWN };
        // SAFETY: by contract.
        unsafe {
            self.set_state(&header, State::Live);
            self.restore(&header);
            self.user(&header).write_bytes(FRESH, bytes);
        }
        self.user(&header)
    }

    /// The header, if its seal holds.
    ///
    /// # Safety
    /// See the `impl`.
    pub unsafe fn header(&self) -> Option<Header> {
        // SAFETY: every block of a debug heap has room for a header. Words are read, for there may be anything.
        let [link, state, front_bytes, bytes, serial, found] = unsafe { self.start.cast::<[u64; 6]>().read() };
        if found != seal(self.start.addr(), [state, front_bytes, bytes, serial]) {
            return None;
        }
        let state = match state {
            1 => State::Live,
            2 => State::Quarantined,
            3 => State::Released,
            _ => State::Ruined,
        };
        let (link, front_bytes, bytes) = (link as usize, front_bytes as usize, bytes as usize);
        Some(Header { link, state, front_bytes, bytes, serial, seal: found })
    }

    /// Write the header anew, with another state.
    ///
    /// # Safety
    /// See the `impl`.
    pub unsafe fn set_state(&self, header: &Header, state: State) {
        let words = [state as u64, header.front_bytes as u64, header.bytes as u64, header.serial];
        // SAFETY: by contract.
        unsafe {
            self.start.cast::<Header>().write(Header { state, seal: seal(self.start.addr(), words), ..*header });
        }
    }

    /// Fill both redzones.
    ///
    /// # Safety
    /// See the `impl`.
    pub unsafe fn restore(&self, header: &Header) {
        let end = header.front_bytes + header.bytes;
        // SAFETY: by contract.
        unsafe {
            self.start.add(size_of::<Header>()).write_bytes(REDZONE, header.front_bytes - size_of::<Header>());
            self.start.add(end).write_bytes(REDZONE, self.whole_bytes - end);
        }
    }

    /// Fill what the owner had.
    ///
    /// # Safety
    /// See the `impl`.
    pub unsafe fn poison(&self, header: &Header) {
        // SAFETY: by contract.
        unsafe { self.user(header).write_bytes(DEAD, header.bytes) };
    }

    /// What was done to the redzones.
    ///
    /// # Safety
    /// See the `impl`.
    pub unsafe fn damage(&self, header: &Header) -> [Option<Fault>; 2] {
        let fault = Fault {
            kind: FaultKind::WriteBefore,
            block: self.user(header),
            bytes: header.bytes,
            serial: header.serial,
        };
        let end = header.front_bytes + header.bytes;
        // SAFETY: by contract.
        let (before, after) = unsafe {
            (self.all(size_of::<Header>(), header.front_bytes, REDZONE), self.all(end, self.whole_bytes, REDZONE))
        };
        [(!before).then_some(fault), (!after).then_some(Fault { kind: FaultKind::WriteAfter, ..fault })]
    }

    /// What was done to a block in quarantine.
    ///
    /// # Safety
    /// See the `impl`.
    pub unsafe fn use_after_free(&self) -> Option<Fault> {
        let unknown =
            Fault { kind: FaultKind::UseAfterFree, block: self.start.wrapping_add(FRONT_BYTES), bytes: 0, serial: 0 };
        // SAFETY: by contract.
        unsafe {
            let Some(header) = self.header() else { return Some(unknown) };
            let block = self.user(&header);
            let end = header.front_bytes + header.bytes;
            let untouched = self.all(header.front_bytes, end, DEAD) && self.damage(&header) == [None; 2];
            (!untouched).then_some(Fault { block, bytes: header.bytes, serial: header.serial, ..unknown })
        }
    }

    /// Look at a block that is live or in quarantine, and mend what is broken, so that each fault is found once.
    ///
    /// # Safety
    /// See the `impl`.
    pub unsafe fn inspect(&self) -> [Option<Fault>; 2] {
        // SAFETY: by contract.
        unsafe {
            let Some(header) = self.header() else {
                let block = self.start.wrapping_add(FRONT_BYTES);
                self.set_state(&Header::UNKNOWN, State::Ruined);
                return [Some(Fault { kind: FaultKind::WriteBefore, block, bytes: 0, serial: 0 }), None];
            };
            match header.state {
                State::Live => {
                    let faults = self.damage(&header);
                    self.restore(&header);
                    faults
                }
                State::Quarantined => {
                    let fault = self.use_after_free();
                    self.restore(&header);
                    self.poison(&header);
                    [fault, None]
                }
                State::Released | State::Ruined => [None; 2],
            }
        }
    }

    /// Whether the bytes `from..to`, counted from the start, are all `fill`.
    unsafe fn all(&self, from: usize, to: usize, fill: u8) -> bool {
        // SAFETY: by contract; the bytes were filled when the block was set up.
        unsafe { core::slice::from_raw_parts(self.start.add(from), to - from) }.iter().all(|byte| *byte == fill)
    }
}
