//! Milestones: empty lists of ours in the lists of the two older generations, by which these are entered in many places at once.
//!
//! ```text
//! head ⇄ o ⇄ o ⇄ milestone ⇄ o ⇄ o ⇄ o ⇄ milestone ⇄ o ⇄ head
//!        → →   ←    first stretch    →   ←    second     → ←       each arrow waits for memory on its own
//! ```
//! Who follows a list learns of an object where to find the next one, and where objects lie in another order than they stand
//! in, waits for memory at each of them. A full collection spent most of its time like that in services, whose heap is
//! renewed a little everywhere.
//!
//! - In the oldest generation one is placed where a collection of the middle one has added enough, and all anew when the list is
//!   put in order. If there are too many, every second one goes.
//! - In the middle generation the first is placed in front, and one at the end after each further collection of the youngest.
//!   A collection of the middle generation begins with a walk of ours by them, if its objects lie apart, and they are taken up
//!   (`young.rs`). CPython's last collections move the list without a word; then the first is not in front any more.
//! - Nobody sees them: they are no candidates of ours, they are left out of what `gc.get_objects` answers, and they are taken up
//!   before `gc.freeze`, before a collection that CPython searches itself, and where a debug flag is set. What else follows the lists
//!   (`PyUnstable_GC_VisitObjects`, and CPython's last collections, which tell nobody) finds empty lists that somebody refers to.

use std::cell::Cell;
use std::ptr;

use pyo3_ffi::{self as ffi, PyObject};

use crate::collect::list::HeaderPtr;
use crate::collect::state::{CollectorState, MIDDLE, OLD};

/// How many there are for the oldest generation. They take 4 KiB an interpreter.
const COUNT: usize = 64;
/// How many there are for the middle one: CPython collects it after ten collections of the youngest.
const MIDDLE_COUNT: usize = 16;
/// Ways through a list of the one and the other, up and down each stretch between two milestones.
pub const WAYS: usize = 2 * (COUNT + 1);
pub const MIDDLE_WAYS: usize = 2 * (MIDDLE_COUNT + 1);
/// No closer than so many objects.
const MIN_APART: usize = 4096;

/// An interpreter's milestones. Used under its GIL; each method is called with it held.
pub struct Milestones {
    /// A reference to each of [`COUNT`], then of [`MIDDLE_COUNT`], or nothing.
    objects: Vec<*mut PyObject>,
    /// Those that stand in the oldest generation's list, in its order: the first so many of this.
    placed: Cell<[usize; COUNT]>,
    count: Cell<usize>,
    /// Objects from one to the next.
    apart: Cell<usize>,
    /// How many of the objects that came to the oldest generation stand before the last milestone.
    passed: Cell<usize>,
    /// How many stand in the middle generation's list: the first so many of theirs, in this order.
    in_middle: Cell<usize>,
}

impl Milestones {
    /// No milestones: lists are entered from both ends alone.
    pub fn none() -> Milestones {
        Milestones {
            objects: Vec::new(),
            placed: Cell::new(std::array::from_fn(|i| i)),
            count: Cell::new(0),
            apart: Cell::new(MIN_APART),
            passed: Cell::new(0),
            in_middle: Cell::new(0),
        }
    }

    /// None stand anywhere yet. Without memory for them there are none.
    pub fn new() -> Milestones {
        let mut milestones = Milestones::none();
        for _ in 0..COUNT + MIDDLE_COUNT {
            // SAFETY: the GIL is held; a new object is tracked, and nobody else knows it.
            unsafe {
                let object = ffi::PyList_New(0);
                if object.is_null() {
                    ffi::PyErr_Clear();
                    return Milestones::none();
                }
                ffi::PyObject_GC_UnTrack(object.cast());
                milestones.objects.push(object);
            }
        }
        milestones
    }

    fn header(&self, number: usize) -> HeaderPtr {
        // SAFETY: a list, which has the GC flag.
        unsafe { HeaderPtr::of(self.objects[number]) }
    }

    /// Those that stand in the oldest generation's list, in its order.
    pub fn placed(&self) -> impl Iterator<Item = HeaderPtr> {
        let placed = self.placed.get();
        (0..self.count.get()).map(move |i| self.header(placed[i]))
    }

    /// A collection of the youngest generation is over: what survived came to the end of the middle one's list.
    pub fn after_youngest(&self, state: CollectorState) {
        let count = self.in_middle.get();
        if self.objects.is_empty() || count == MIDDLE_COUNT {
            return;
        }
        self.in_middle.set(count + 1);
        let (head, milestone) = (state.head(MIDDLE), self.header(COUNT + count));
        // SAFETY: it stands in no list; the middle generation's is canonical.
        unsafe { if count == 0 { head.prepend(milestone) } else { head.append(milestone) } };
    }

    /// Those that stand in the middle generation's list, in its order.
    pub fn placed_in_middle(&self, state: CollectorState) -> impl Iterator<Item = HeaderPtr> {
        // SAFETY: the list is canonical. Nothing enters it at its front, and objects leave it either one by one or all at once:
        // where the first milestone still stands, the others do, in their order.
        let is_moved = self.in_middle.get() > 0 && unsafe { state.head(MIDDLE).next() } != self.header(COUNT);
        if is_moved {
            self.take_up_middle();
        }
        (0..self.in_middle.get()).map(|i| self.header(COUNT + i))
    }

    /// Take those out that stand in the middle generation's list, or wherever CPython has moved it.
    pub fn take_up_middle(&self) {
        for i in 0..self.in_middle.replace(0) {
            // SAFETY: ours; it stands in a list.
            unsafe { ffi::PyObject_GC_UnTrack(self.objects[COUNT + i].cast()) };
        }
    }

    /// A collection of the middle generation is over: what survived came to the end of the oldest one's list.
    pub fn after_middle(&self, state: CollectorState) {
        let arrived = state.long_lived_pending();
        if arrived < self.passed.get() {
            self.passed.set(0); // CPython has collected all.
        }
        if self.objects.is_empty() || arrived - self.passed.get() < self.apart.get() {
            return;
        }
        self.passed.set(arrived);
        if self.count.get() == COUNT {
            self.thin_out();
        }
        // SAFETY: it stands in no list; the oldest generation's is canonical.
        unsafe { state.head(OLD).append(self.place_next()) };
    }

    /// One more that will stand in the list, behind those that do.
    fn place_next(&self) -> HeaderPtr {
        let i = self.count.replace(self.count.get() + 1);
        self.header(self.placed.get()[i])
    }

    /// All stand in the list: take up every second one.
    fn thin_out(&self) {
        let placed = self.placed.get();
        let mut thinned = placed;
        for (i, number) in placed.into_iter().enumerate() {
            thinned[i / 2 + i % 2 * (COUNT / 2)] = number;
        }
        for number in &thinned[COUNT / 2..] {
            // SAFETY: ours; it stands in a list.
            unsafe { ffi::PyObject_GC_UnTrack(self.objects[*number].cast()) };
        }
        self.placed.set(thinned);
        self.count.set(COUNT / 2);
        self.apart.set(self.apart.get() * 2);
    }

    /// Take all of them out of their lists.
    pub fn take_up(&self) {
        self.take_up_middle();
        for i in 0..self.count.replace(0) {
            // SAFETY: ours; it stands in a list.
            unsafe { ffi::PyObject_GC_UnTrack(self.objects[self.placed.get()[i]].cast()) };
        }
    }

    /// Take them out of an answer of `gc.get_objects`. The interpreter's lists stay as they are: that function tells audit
    /// hooks, which may run anything.
    ///
    /// # Safety
    /// A list in which each object stands once, and which nobody else knows yet.
    pub unsafe fn leave_out_of(&self, answer: *mut PyObject) {
        let (Some(lowest), Some(highest)) = (self.objects.iter().min(), self.objects.iter().max()) else { return };
        // SAFETY: by the caller's word; each reference stays in the list until its end is cut off.
        unsafe {
            let length = ffi::PyList_GET_SIZE(answer) as usize;
            if length == 0 {
                return;
            }
            let items = std::slice::from_raw_parts_mut((*answer.cast::<ffi::PyListObject>()).ob_item, length);
            let (mut ours, mut found, mut kept) = ([ptr::null_mut(); COUNT + MIDDLE_COUNT], 0, 0);
            for i in 0..length {
                let item = items[i];
                if (lowest..=highest).contains(&&item) && self.objects.contains(&item) {
                    ours[found] = item;
                    found += 1;
                } else {
                    items[kept] = item;
                    kept += 1;
                }
            }
            items[kept..].copy_from_slice(&ours[..found]);
            ffi::PyList_SetSlice(answer, kept as ffi::Py_ssize_t, length as ffi::Py_ssize_t, ptr::null_mut());
        }
    }

    /// A list of so many survivors is linked anew, of which `linked` are: the milestone that stands here, if one does.
    /// All were taken up before.
    pub fn at(&self, linked: usize, survivors: usize) -> Option<HeaderPtr> {
        let apart = (survivors / (COUNT / 2)).max(MIN_APART);
        (linked > 0 && linked.is_multiple_of(apart) && self.count.get() < COUNT.min(self.objects.len()))
            .then(|| self.place_next())
    }

    /// A full collection of ours left so many survivors.
    pub fn after_full(&self, survivors: usize) {
        self.passed.set(0);
        self.apart.set((survivors / COUNT).max(MIN_APART));
    }
}

impl Drop for Milestones {
    fn drop(&mut self) {
        // SAFETY: our references. A list takes itself out of whatever list it stands in.
        unsafe { self.objects.iter().for_each(|object| ffi::Py_DECREF(*object)) };
    }
}
