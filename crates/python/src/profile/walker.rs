//! Whose stack is this? The way from the frames that run to a site, for every single allocation. **The hot path of exact
//! mode.**
//!
//! Most allocations come from the stack of the one before, or from one that differs in its innermost frames. So the walker
//! keeps the last stack it saw, outermost first, with the site of each part of it:
//!
//! ```text
//!            known                     now
//! levels[0]  main        :12    ═══    main        :12
//! levels[1]  Shop.serve  :40    ═══    Shop.serve  :43     the frame that both have, at another place: a node anew
//! levels[2]  render      :7            parse       :3      a new frame: a node anew
//! ```
//! From the innermost frame outwards, new frames are set aside until one comes that lies where one lay. From there on all must
//! lie where they lay, and all are looked at: a frame can come back at the same address with other callers. They are looked at
//! where they were, not by following their links, so that the processor need not wait for one to find the next. From the
//! outermost that has changed, nodes are found anew: a small cache names a stack with a frame more in it; only what that does
//! not know goes to the tables, under their lock.
//!
//! Invariant: a code object in the cache, or in a stack that may be found again, is kept alive by the tables. So an address
//! that agrees is the same code object. (Not that of a frame that is still being made: it counts as no frame, and the worst is
//! that it is left out of a stack.)

use std::alloc::{Layout as MemoryLayout, alloc_zeroed, handle_alloc_error};

use heapkeeper_profile::{Entry, Full, MAX_DEPTH, NodeId, ThreadId};
use pyo3_ffi as ffi;

use super::exact::Caller;
use super::names;
use super::observer::{intern_code, intern_interpreter};
use super::with_state;
use crate::frames::{self, Domain, Interpreter, Link, RawFrame};
use crate::layout::Layout;

/// Entries of the cache of frames, 32 bytes each, and of that of sites. A power of two.
const CACHED: usize = 8192;

/// Links of a stack that are kept: those of the frames, and twice as many marks of the C stack between them.
const MAX_LEVELS: usize = 3 * MAX_DEPTH;

/// As many innermost frames may be new; beyond that the whole stack is walked.
const MAX_NEW: usize = 32;

/// Places for the numbers of levels. A power of two.
const PLACES: usize = 512;

const NO_LINK: Link = Link { frame: core::ptr::null(), code: core::ptr::null(), place: 0 };

/// A link of the last stack, and the stack as far as that.
#[derive(Debug, Clone, Copy)]
struct Level {
    link: Link,
    node: NodeId,
    /// Of its frames, how many count: links may be marks of the C stack, or of frames that are still being made.
    frames: u32,
}

const NO_LEVEL: Level = Level { link: NO_LINK, node: NodeId::EMPTY, frames: 0 };

/// `parent` with a frame of `code` in it is `node`.
#[derive(Debug, Clone, Copy)]
struct Child {
    parent: NodeId,
    node: NodeId,
    offset_bytes: i32,
    code: *mut ffi::PyCodeObject,
}

#[derive(Debug, Clone, Copy)]
struct Site {
    node: NodeId,
    thread: ThreadId,
    entry: Entry,
}

/// Remembers what the tables answered: what has one hash has one place. Memory is taken from the system where it is used.
struct Cache<T>(Box<[T; CACHED]>);

impl<T: Copy> Cache<T> {
    /// # Safety
    /// All-zero bytes are a `T`, of the kind that nobody looks for.
    unsafe fn new() -> Cache<T> {
        let layout = MemoryLayout::new::<[T; CACHED]>();
        // SAFETY: the layout is not empty, zeros are entries by the caller's word, and the box frees by the same layout.
        unsafe {
            let start = alloc_zeroed(layout);
            if start.is_null() {
                handle_alloc_error(layout);
            }
            Cache(Box::from_raw(start.cast()))
        }
    }

    fn clear(&mut self) {
        // SAFETY: zeros are entries, see `new`.
        unsafe { self.0.as_mut_ptr().write_bytes(0, CACHED) };
    }

    #[inline(always)]
    fn find(&self, hash: usize, is_it: impl Fn(&T) -> bool) -> Option<&T> {
        Some(&self.0[hash % CACHED]).filter(|known| is_it(known))
    }

    #[inline(always)]
    fn insert(&mut self, hash: usize, value: T) {
        self.0[hash % CACHED] = value;
    }
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

/// Finds the entry of the stack that runs.
pub(super) struct Walker {
    max_frames: usize,
    folds: bool,
    /// The last stack: where it was seen, and the entry. None may be found again if `state` is null.
    state: *mut ffi::PyThreadState,
    entry: Entry,
    /// The last stack, outermost first.
    levels: Box<[Level; MAX_LEVELS]>,
    len: usize,
    /// Whether the stack is all there, so that parts of it are stacks too.
    is_whole: bool,
    /// By the address of a frame, the level that it may be at.
    places: Box<[u16; PLACES]>,
    /// Room for the frames that are new, innermost first.
    new: Box<[*const u8; MAX_NEW]>,
    /// Room for a walk: links, innermost first, with the frames that count.
    walked: Box<[(Link, Option<RawFrame>); MAX_LEVELS]>,
    children: Cache<Child>,
    sites: Cache<Site>,
}

/// Frames are at least as long as this: most of those that lie side by side have places of their own.
const FRAME_SHIFT: u32 = 5;

#[inline(always)]
fn place_of(frame: *const u8) -> usize {
    frame.addr() >> FRAME_SHIFT & (PLACES - 1)
}

impl Walker {
    pub(super) fn new(depth: Depth) -> Walker {
        // SAFETY: zeros are numbers and null; no frame's code object is null, and no thread has the number 0.
        let (children, sites) = unsafe { (Cache::new(), Cache::new()) };
        Walker {
            max_frames: depth.max_frames(),
            folds: depth == Depth::Whole,
            state: core::ptr::null_mut(),
            entry: Entry::OTHERS,
            levels: Box::new([NO_LEVEL; MAX_LEVELS]),
            len: 0,
            is_whole: false,
            places: Box::new([0; PLACES]),
            new: Box::new([core::ptr::null(); MAX_NEW]),
            walked: Box::new([(NO_LINK, None); MAX_LEVELS]),
            children,
            sites,
        }
    }

    /// Walk as deep as that from now on. Allocates nothing.
    pub(super) fn restart(&mut self, depth: Depth) {
        self.max_frames = depth.max_frames();
        self.folds = depth == Depth::Whole;
        self.state = core::ptr::null_mut();
        // What folds and what does not are different stacks.
        self.children.clear();
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
        if state.is_null() {
            return self.entry_without_frames();
        }
        if caller != Caller::Main {
            // SAFETY: the thread's own state.
            match unsafe { frames::interpreter(layout, state) } {
                Interpreter::Shared => {}
                Interpreter::Own(number) => return self.entry_of_interpreter(number),
            }
        }
        // SAFETY: `state` is the calling thread's, which holds the GIL.
        unsafe {
            if state == self.state
                && let Some(entry) = self.entry_of_known(layout, state)
            {
                return entry;
            }
            self.entry_of_walked(layout, state)
        }
    }

    /// The entry of the stack that runs, if its outer part is known.
    ///
    /// # Safety
    /// The calling thread holds the GIL; its state is that of the last stack, which may be found again.
    #[inline(always)]
    unsafe fn entry_of_known(&mut self, layout: &Layout, state: *mut ffi::PyThreadState) -> Option<Entry> {
        let mut count = 0;
        // SAFETY: by the caller's word; each frame is linked by the one before.
        unsafe {
            let mut frame = frames::innermost(layout, state);
            let shared = loop {
                if frame.is_null() {
                    return None;
                }
                let outer = frames::previous(layout, frame);
                if let Some(level) = self.level_of(frame)
                    && outer == self.frame_outside(level)
                {
                    break level;
                }
                *self.new.get_mut(count)? = frame;
                count += 1;
                frame = outer;
            };
            let changed = self.first_changed(layout, shared)?;
            if changed == self.len && count == 0 {
                return Some(self.entry);
            }
            if !self.is_whole {
                return None;
            }
            self.entry_of_changed(layout, changed, shared, count)
        }
    }

    /// The level of this frame, or of another one that lay where it lies; `None` also for some that are known.
    #[inline(always)]
    fn level_of(&self, frame: *const u8) -> Option<usize> {
        let level = usize::from(self.places[place_of(frame)]);
        (level < self.len && self.levels[level].link.frame == frame).then_some(level)
    }

    #[inline(always)]
    fn set_level(&mut self, number: usize, level: Level) {
        self.levels[number] = level;
        self.places[place_of(level.link.frame)] = number as u16;
    }

    /// The frame that linked that of a level; null at the outermost.
    #[inline(always)]
    fn frame_outside(&self, level: usize) -> *const u8 {
        if level == 0 { core::ptr::null() } else { self.levels[level - 1].link.frame }
    }

    /// Compare what runs with a level and all that are outside of it: the outermost that has changed, or the level after
    /// these. `None` if the frames are others.
    ///
    /// # Safety
    /// As for [`Walker::entry_of_known`]; the level's frame is linked.
    #[inline(always)]
    unsafe fn first_changed(&self, layout: &Layout, shared: usize) -> Option<usize> {
        let mut changed = shared + 1;
        let mut level = shared;
        // SAFETY: by the caller's word; a frame is looked at if the one inside of it has linked it just now.
        unsafe {
            for pair in self.levels[..=shared].windows(2).rev() {
                let [outer, known] = pair else { return None };
                if !frames::is_at(layout, &known.link) {
                    changed = level;
                }
                if frames::previous(layout, known.link.frame) != outer.link.frame {
                    return None;
                }
                level -= 1;
            }
            let outermost = &self.levels[0].link;
            if !frames::is_at(layout, outermost) {
                changed = 0;
            }
            frames::previous(layout, outermost.frame).is_null().then_some(changed)
        }
    }

    /// The entry of the stack whose frames are those of the levels up to `shared`, from `changed` on with other links, and the
    /// `new` ones.
    ///
    /// # Safety
    /// As for [`Walker::entry_of_known`]; that is the stack that runs.
    #[inline(always)]
    unsafe fn entry_of_changed(&mut self, layout: &Layout, changed: usize, shared: usize, new: usize) -> Option<Entry> {
        // Until all is in place, the levels are no stack.
        let state = core::mem::replace(&mut self.state, core::ptr::null_mut());
        let end = shared + 1 + new;
        if end > MAX_LEVELS {
            return None;
        }
        let outer = if changed == 0 { NO_LEVEL } else { self.levels[changed - 1] };
        let (mut node, mut frames) = (outer.node, outer.frames);
        for level in changed..end {
            let frame = if level <= shared { self.levels[level].link.frame } else { self.new[end - 1 - level] };
            // SAFETY: by the caller's word.
            unsafe {
                let link = frames::link(layout, frame);
                if let Some(frame) = frames::of_link(layout, link) {
                    let Ok((child, true)) = self.child(node, frame) else { return None };
                    node = child;
                    frames += 1;
                }
                self.set_level(level, Level { link, node, frames });
            }
        }
        if frames as usize > self.max_frames {
            return None;
        }
        self.len = end;
        self.state = state;
        self.entry = self.site(node);
        Some(self.entry)
    }

    /// The entry of the stack that runs, all of it walked. It becomes the last one.
    ///
    /// # Safety
    /// `state` is the calling thread's, which holds the GIL.
    #[inline(never)]
    unsafe fn entry_of_walked(&mut self, layout: &Layout, state: *mut ffi::PyThreadState) -> Entry {
        self.state = core::ptr::null_mut();
        let (mut links, mut frames, mut outer) = (0, 0, 0);
        // SAFETY: by the caller's word; each frame is linked by the one before.
        unsafe {
            let mut frame = frames::innermost(layout, state);
            while !frame.is_null() && (links < MAX_LEVELS || !self.folds) {
                let link = frames::link(layout, frame);
                let mut counted = frames::of_link(layout, link);
                if counted.is_some() {
                    if frames == self.max_frames || links >= MAX_LEVELS {
                        outer += 1;
                        counted = None;
                    } else {
                        frames += 1;
                    }
                }
                if let Some(place) = self.walked.get_mut(links) {
                    *place = (link, counted);
                }
                links += 1;
                frame = frames::previous(layout, frame);
            }
            let is_all = frame.is_null() && links <= MAX_LEVELS;
            let mut node = match outer {
                0 if is_all => NodeId::EMPTY,
                _ if self.folds => NodeId::TRUNCATED,
                _ => truncated_in_tables(frames + outer),
            };
            let mut may_return = is_all;
            let kept = links.min(MAX_LEVELS);
            frames = 0;
            for level in 0..kept {
                let (link, counted) = self.walked[kept - 1 - level];
                if let Some(frame) = counted {
                    match self.child(node, frame) {
                        Ok((child, is_kept)) => {
                            node = child;
                            frames += 1;
                            may_return &= is_kept;
                        }
                        Err(Full) => return Entry::OTHERS,
                    }
                }
                self.set_level(level, Level { link, node, frames: frames as u32 });
            }
            self.len = kept;
            self.is_whole = outer == 0;
            self.entry = self.site(node);
            // Where nothing runs, there is nothing to recognize.
            self.state = if may_return && kept > 0 { state } else { core::ptr::null_mut() };
        }
        self.entry
    }

    /// The stack `parent` with `frame` in it, and whether the code object is kept alive.
    ///
    /// # Safety
    /// The frame runs, and the GIL is held.
    #[inline(always)]
    unsafe fn child(&mut self, parent: NodeId, frame: RawFrame) -> Result<(NodeId, bool), Full> {
        let RawFrame { code, offset_bytes } = frame;
        let hash = parent.mixed(code.addr() ^ offset_bytes as usize);
        let is_it = |known: &Child| known.code == code && known.parent == parent && known.offset_bytes == offset_bytes;
        if let Some(known) = self.children.find(hash, is_it) {
            return Ok((known.node, true));
        }
        // SAFETY: by the caller's word.
        let (node, is_kept) = unsafe { child_in_tables(parent, code, offset_bytes, self.folds) }?;
        if is_kept {
            self.children.insert(hash, Child { parent, node, offset_bytes, code });
        }
        Ok((node, is_kept))
    }

    /// The entry of a stack in the calling thread.
    #[inline(always)]
    fn site(&mut self, node: NodeId) -> Entry {
        // The number that `threading.get_ident` gives.
        // SAFETY: has no conditions.
        let thread = ThreadId(unsafe { libc::pthread_self() } as usize);
        let hash = node.mixed(thread.0);
        if let Some(known) = self.sites.find(hash, |known| known.node == node && known.thread == thread) {
            return known.entry;
        }
        let entry = site_in_tables(node, thread);
        self.sites.insert(hash, Site { node, thread, entry });
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
