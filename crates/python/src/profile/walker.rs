//! Whose stack is this? The way from the frames that run to a site, for every single allocation. **The hot path of exact
//! mode.**
//!
//! Most allocations come from the stack of the one before, or from one that differs in its innermost frames. So the walker
//! keeps the last stack it saw. One look at all frames says whether it is the same, or the same but for the place in the
//! innermost one (a frame can come back at the same address with other callers, so that none may be left out); else the
//! outer frames that agree are kept, and for each other a small cache names the stack with that frame in it. Only what the
//! cache does not know goes to the tables, under their lock.
//!
//! Invariant: a code object in the cache, or in a stack that may be found again, is kept alive by the tables. So an address
//! that agrees is the same code object.

use heapkeeper_profile::{Entry, Full, MAX_DEPTH, NodeId, ThreadId};
use pyo3_ffi as ffi;

use super::exact::Caller;
use super::names;
use super::observer::{intern_code, intern_interpreter};
use super::with_state;
use crate::frames::{self, Domain, Interpreter, Link, RawFrame};
use crate::layout::Layout;

/// Entries of the cache of frames, and of that of sites. A power of two.
const CACHED: usize = 1024;

/// Links of a stack that are kept: those of the frames, and as many marks of the C stack between them. Deeper ones are walked
/// each time.
const MAX_LINKS: usize = 2 * MAX_DEPTH;

const NO_LINK: Link = Link { frame: core::ptr::null(), code: core::ptr::null(), place: 0 };

/// A frame of the last stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Frame {
    frame: *const u8,
    code: *mut ffi::PyCodeObject,
    offset_bytes: i32,
}

const NO_FRAME: Frame = Frame { frame: core::ptr::null(), code: core::ptr::null_mut(), offset_bytes: 0 };

/// `parent` with a frame of `code` in it is `node`.
#[derive(Debug, Clone, Copy)]
struct Child {
    parent: NodeId,
    node: NodeId,
    offset_bytes: i32,
    code: *mut ffi::PyCodeObject,
}

const NO_CHILD: Child =
    Child { parent: NodeId::EMPTY, node: NodeId::EMPTY, offset_bytes: 0, code: core::ptr::null_mut() };

#[derive(Debug, Clone, Copy)]
struct Site {
    node: NodeId,
    thread: ThreadId,
    entry: Entry,
}

/// How much of a stack to tell from others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// As much as tables keep, with recursion folded and without the frames between an import and the module's code.
    Whole,
    /// So many innermost frames, as they are.
    Frames(usize),
}

impl Depth {
    fn max_frames(self) -> usize {
        match self {
            Depth::Whole => MAX_DEPTH,
            Depth::Frames(frames) => frames.min(MAX_DEPTH),
        }
    }
}

/// The frames of a stack, innermost first.
struct Frames {
    frames: [Frame; MAX_DEPTH],
    len: usize,
    /// Outer frames beyond those: how many there are, or, for whole stacks, that there are some.
    outer: usize,
}

/// Finds the entry of the stack that runs.
pub(super) struct Walker {
    max_frames: usize,
    folds: bool,
    /// The last stack: where it was seen, and the entry. None may be found again if `state` is null.
    state: *mut ffi::PyThreadState,
    entry: Entry,
    /// The links of the last stack; none where there were too many.
    links: Box<[Link; MAX_LINKS]>,
    link_count: usize,
    /// The last stack and room for the next; `last` says which is which.
    stacks: Box<[Frames; 2]>,
    last: usize,
    /// The stack of the outermost frame, of that and the next, and so on.
    nodes: Box<[NodeId; MAX_DEPTH]>,
    children: Box<[Child]>,
    sites: Box<[Site]>,
}

impl Walker {
    pub(super) fn new(depth: Depth) -> Walker {
        let site = Site { node: NodeId::EMPTY, thread: ThreadId(usize::MAX), entry: Entry::OTHERS };
        let frames = || Frames { frames: [NO_FRAME; MAX_DEPTH], len: 0, outer: 0 };
        Walker {
            max_frames: depth.max_frames(),
            folds: depth == Depth::Whole,
            state: core::ptr::null_mut(),
            entry: Entry::OTHERS,
            links: Box::new([NO_LINK; MAX_LINKS]),
            link_count: 0,
            stacks: Box::new([frames(), frames()]),
            last: 0,
            nodes: Box::new([NodeId::EMPTY; MAX_DEPTH]),
            children: vec![NO_CHILD; CACHED].into_boxed_slice(),
            sites: vec![site; CACHED].into_boxed_slice(),
        }
    }

    /// Walk as deep as that from now on. Allocates nothing.
    pub(super) fn restart(&mut self, depth: Depth) {
        self.max_frames = depth.max_frames();
        self.folds = depth == Depth::Whole;
        self.state = core::ptr::null_mut();
        // What folds and what does not are different stacks.
        self.children.fill(NO_CHILD);
    }

    /// The entry of the stack that the calling thread runs.
    ///
    /// # Safety
    /// The caller is who it says it is, and the layout has been checked.
    #[inline(always)]
    pub(super) unsafe fn entry(&mut self, caller: Caller) -> Entry {
        let domain = if caller == Caller::Raw { Domain::Raw } else { Domain::Object };
        let state = frames::current_thread_state(domain);
        let layout = Layout::get();
        if caller != Caller::Main {
            // SAFETY: the thread's own state.
            match unsafe { (!state.is_null()).then(|| frames::interpreter(layout, state)) } {
                Some(Interpreter::Shared) => {}
                Some(Interpreter::Own(number)) => return self.entry_of_interpreter(number),
                None => return self.entry_without_frames(),
            }
        }
        if state == self.state && self.link_count > 0 {
            let mut index = 0;
            let mut moved = false;
            let links = &mut self.links[..self.link_count];
            // SAFETY: `state` is the calling thread's, which holds the GIL.
            let to_the_end = unsafe {
                frames::visit_links(layout, state, |link| {
                    let Some(known) = links.get_mut(index) else {
                        return false;
                    };
                    if *known != link {
                        if index > 0 || known.frame != link.frame || known.code != link.code {
                            return false;
                        }
                        moved = true;
                        known.place = link.place;
                    }
                    index += 1;
                    true
                })
            };
            if to_the_end && index == links.len() {
                if !moved {
                    return self.entry;
                }
                // SAFETY: as above; the first link is that of the innermost frame.
                if let Some(entry) = unsafe { self.entry_of_moved(layout) } {
                    return entry;
                }
            }
        }
        let (last, next) = match &mut *self.stacks {
            [a, b] if self.last == 0 => (a, b),
            [a, b] => (b, a),
        };
        next.len = 0;
        next.outer = 0;
        let mut same = state == self.state;
        let (max_frames, counts_outer) = (self.max_frames, !self.folds);
        // SAFETY: `state` is the calling thread's, which holds the GIL.
        unsafe {
            frames::visit(layout, state, |frame, RawFrame { code, offset_bytes }| {
                if next.len == max_frames {
                    next.outer += 1;
                    return counts_outer;
                }
                let seen = Frame { frame, code, offset_bytes };
                same &= last.frames[next.len] == seen;
                next.frames[next.len] = seen;
                next.len += 1;
                true
            });
        }
        // SAFETY: as above.
        unsafe {
            if same && next.len == last.len && next.outer == last.outer {
                self.keep_links(state);
                return self.entry;
            }
            self.entry_of_next(state)
        }
    }

    /// The entry of the last stack with the innermost frame at another place, which its link says. `None` where that is not all
    /// there is to it.
    ///
    /// # Safety
    /// The calling thread holds the GIL and runs that stack.
    #[inline(always)]
    unsafe fn entry_of_moved(&mut self, layout: &Layout) -> Option<Entry> {
        let stack = &mut self.stacks[self.last];
        let innermost = stack.frames[..stack.len].first_mut().filter(|frame| frame.frame == self.links[0].frame)?;
        if stack.outer > 0 {
            return None;
        }
        // SAFETY: by the caller's word.
        innermost.offset_bytes = unsafe { frames::of_link(layout, self.links[0]) }?.offset_bytes;
        let (frame, depth) = (*innermost, stack.len - 1);
        let parent = if depth == 0 { NodeId::EMPTY } else { self.nodes[depth - 1] };
        // SAFETY: as above.
        let Ok((node, true)) = (unsafe { self.child(parent, frame) }) else {
            // What is kept of the last stack is no longer it.
            self.state = core::ptr::null_mut();
            return None;
        };
        self.nodes[depth] = node;
        self.entry = self.site(node);
        Some(self.entry)
    }

    /// Keep the links of the stack that runs.
    ///
    /// # Safety
    /// As for [`Walker::entry_of_next`].
    unsafe fn keep_links(&mut self, state: *mut ffi::PyThreadState) {
        let mut count = 0;
        let links = &mut self.links;
        // SAFETY: by the caller's word.
        let fits = unsafe {
            frames::visit_links(Layout::get(), state, |link| {
                let Some(place) = links.get_mut(count) else {
                    return false;
                };
                *place = link;
                count += 1;
                true
            })
        };
        self.link_count = if fits { count } else { 0 };
    }

    /// The entry of the stack just walked, which becomes the last one.
    ///
    /// # Safety
    /// `state` is the calling thread's, which holds the GIL; its frames are those of the next stack.
    #[inline(never)]
    unsafe fn entry_of_next(&mut self, state: *mut ffi::PyThreadState) -> Entry {
        // SAFETY: by the caller's word.
        unsafe { self.keep_links(state) };
        let (last, next) = (&self.stacks[self.last], &self.stacks[1 - self.last]);
        let mut agree = 0;
        if self.state == state && last.outer == next.outer && (last.outer == 0 || !self.folds) {
            let pairs = last.frames[..last.len].iter().rev().zip(next.frames[..next.len].iter().rev());
            agree = pairs.take_while(|(last, next)| last == next).count();
        }
        let (len, outer) = (next.len, next.outer);
        let mut node = match (agree, outer) {
            (0, 0) => NodeId::EMPTY,
            (0, _) if self.folds => NodeId::TRUNCATED,
            (0, _) => truncated_in_tables(len + outer),
            _ => self.nodes[agree - 1],
        };
        let mut may_return = true;
        self.last = 1 - self.last;
        for depth in agree..len {
            let frame = self.stacks[self.last].frames[len - 1 - depth];
            // SAFETY: a running frame keeps its code object alive; the GIL is held.
            match unsafe { self.child(node, frame) } {
                Ok((child, is_kept)) => {
                    node = child;
                    may_return &= is_kept;
                }
                Err(Full) => {
                    self.state = core::ptr::null_mut();
                    return Entry::OTHERS;
                }
            }
            self.nodes[depth] = node;
        }
        self.entry = self.site(node);
        self.state = if may_return { state } else { core::ptr::null_mut() };
        self.entry
    }

    /// The stack `parent` with `frame` in it, and whether the code object is kept alive.
    ///
    /// # Safety
    /// The frame runs, and the GIL is held.
    #[inline(always)]
    unsafe fn child(&mut self, parent: NodeId, frame: Frame) -> Result<(NodeId, bool), Full> {
        let Frame { code, offset_bytes, .. } = frame;
        let index = parent.mixed(code.addr() ^ offset_bytes as usize) & (CACHED - 1);
        let known = &self.children[index];
        if known.code == code && known.parent == parent && known.offset_bytes == offset_bytes {
            return Ok((known.node, true));
        }
        // SAFETY: by the caller's word.
        let (node, is_kept) = unsafe { child_in_tables(parent, code, offset_bytes, self.folds) }?;
        if is_kept {
            self.children[index] = Child { parent, node, offset_bytes, code };
        }
        Ok((node, is_kept))
    }

    /// The entry of a stack in the calling thread.
    #[inline(always)]
    fn site(&mut self, node: NodeId) -> Entry {
        // The number that `threading.get_ident` gives.
        // SAFETY: has no conditions.
        let thread = ThreadId(unsafe { libc::pthread_self() } as usize);
        let index = node.mixed(thread.0) & (CACHED - 1);
        let known = &self.sites[index];
        if known.node == node && known.thread == thread {
            return known.entry;
        }
        let entry = site_in_tables(node, thread);
        self.sites[index] = Site { node, thread, entry };
        entry
    }

    #[cold]
    fn entry_without_frames(&mut self) -> Entry {
        self.site(NodeId::EMPTY)
    }

    #[cold]
    fn entry_of_interpreter(&mut self, number: i64) -> Entry {
        let node = with_state(|state| intern_interpreter(&mut state.tables, number).ok()).flatten();
        node.map_or(Entry::OTHERS, |node| self.site(node))
    }
}

#[cold]
fn truncated_in_tables(frames: usize) -> NodeId {
    with_state(|state| state.tables.truncated(frames).ok()).flatten().unwrap_or(NodeId::TRUNCATED)
}

#[cold]
fn site_in_tables(node: NodeId, thread: ThreadId) -> Entry {
    let site = with_state(|state| {
        state.saw(thread);
        state.tables.site(node, thread).ok()
    })
    .flatten();
    site.map_or(Entry::OTHERS, Entry::of)
}

/// # Safety
/// A running frame keeps `code` alive, and the GIL is held.
#[cold]
unsafe fn child_in_tables(
    parent: NodeId,
    code: *mut ffi::PyCodeObject,
    offset_bytes: i32,
    folds: bool,
) -> Result<(NodeId, bool), Full> {
    with_state(|state| {
        let tables = &mut state.tables;
        let kept = tables.code_at(code.addr());
        let id = match kept {
            Some(id) => id,
            // SAFETY: by the caller's word.
            None => match unsafe { intern_code(tables, code) }? {
                Some(id) => id,
                // A code object that is being freed: its frame is left out.
                None => return Ok((parent, false)),
            },
        };
        let is_kept = kept.is_some() || tables.code_at(code.addr()).is_some();
        let child = match folds {
            // SAFETY: by the caller's word.
            true if parent.has_frames() && unsafe { names::is_import_system(code) } => parent,
            true => tables.folded_child(parent, id, offset_bytes)?,
            false => tables.child(parent, id, offset_bytes)?,
        };
        Ok((child, is_kept))
    })
    .unwrap_or(Err(Full))
}
