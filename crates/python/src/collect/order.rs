//! The order of the survivors' list: by address, for our next walk, with those in front that CPython's own collector had better
//! meet first. It comes by when an interpreter ends, and wherever ours steps back.

use heapkeeper_gc::{Graph, Search, Visitor};
use pyo3_ffi::PyObject;

use crate::collect::graph::{ObjectPtr, Objects};
use crate::collect::list::HeaderPtr;
use crate::collect::milestones::Milestones;

/// Lists are put in order when more than one object in so many has a lower address than the one before, and when there are
/// twice as many objects as the last time.
const DISORDER_SHARE: usize = 16;
/// As many objects come first, in the order in which references lead to them: then CPython's own collector finds most
/// objects after one that refers to them, and does not move them back and forth. Fewer are left as they are.
const LEADING_OBJECTS: usize = 20_000;

/// Whether a list of so many survivors should be put in order: in how many places it descends, and how many survivors there
/// were the last time.
pub fn is_due(descents: usize, survivors: usize, ordered: usize) -> bool {
    descents > LEADING_OBJECTS + survivors / DISORDER_SHARE || survivors > 2 * ordered.max(LEADING_OBJECTS)
}

/// Link all so many survivors anew: the first [`LEADING_OBJECTS`] as references lead to them from the roots, the others by
/// address, with milestones between them.
///
/// # Safety
/// The GIL is held; `list` holds the objects that the search has reached, and no others.
pub unsafe fn put_in_order(
    search: &mut Search<'_>,
    list: HeaderPtr,
    survivors: usize,
    milestones: &Milestones,
    visit_roots: impl FnOnce(&mut dyn FnMut(ObjectPtr)),
) {
    let mut leading: Vec<*mut PyObject> = Vec::with_capacity(LEADING_OBJECTS);
    visit_roots(&mut |root| Lead { search, leading: &mut leading }.visit(root));
    let objects = Objects::new();
    let mut next = 0;
    while next < leading.len() && leading.len() < LEADING_OBJECTS {
        let object = leading[next];
        next += 1;
        objects.trace(ObjectPtr(object), &mut Lead { search, leading: &mut leading });
    }
    milestones.take_up();
    let (mut last, mut linked) = (list, 0);
    // SAFETY: by the caller's word: each of them is linked exactly once.
    unsafe {
        let mut link = |object: *mut PyObject| {
            for header in milestones.at(linked, survivors).into_iter().chain([HeaderPtr::of(object)]) {
                last.link(header);
                last = header;
            }
            linked += 1;
        };
        leading.iter().for_each(|object| link(*object));
        search.for_each_reached(|address| link(address.cast()));
        last.link(list);
    }
    // Nothing is unreached now: the trash was taken out, and who was placed is a survivor.
}

/// Puts children in line.
struct Lead<'a, 'b> {
    search: &'a mut Search<'b>,
    leading: &'a mut Vec<*mut PyObject>,
}

impl Visitor<ObjectPtr> for Lead<'_, '_> {
    fn visit(&mut self, child: ObjectPtr) {
        let address: *mut u8 = child.0.cast();
        if self.leading.len() < LEADING_OBJECTS
            && self.search.is_candidate(address)
            && !self.search.is_unreached(address)
        {
            // Who stands in line does not count as reached any more, and so is not placed twice.
            self.search.set_reached(address, false);
            self.leading.push(child.0);
        }
    }
}
