//! What an object has to say about itself: which references it holds.
//!
//! A trace writes what it visits into a small buffer, which the collector reads when the trace is through or the buffer is
//! full: one indirect call for each object, none for each reference.
//!
//! Called by the collector's passes, by inspection and by the verifier.

use core::marker::PhantomData;
use core::mem::MaybeUninit;

use crate::gc::Gc;
use crate::header::ObjectPtr;
use crate::weak::{CellPtr, Weak};

/// A value that can say which handles it holds, so that cycles through it can be found.
///
/// `#[derive(Trace)]` is the safe way to implement it, for structs and enums of any shape:
///
/// ```
/// use heapkeeper::{Gc, Trace};
/// use std::cell::RefCell;
///
/// #[derive(Trace)]
/// struct Node {
///     name: String,
///     edges: RefCell<Vec<Gc<Node>>>,
///     #[trace(skip)]
///     on_visit: Option<Box<dyn Fn(&str)>>,
/// }
/// ```
///
/// - `#[trace(skip)]` on a field leaves it out. That is always safe: what such a field refers to counts as held from
///   elsewhere, so a cycle through it is never collected.
/// - `#[trace(finalize)]` on the type runs its [`Finalize`](crate::Finalize).
///
/// There are implementations for the standard library's values, containers and cells. There is none for `Rc<T>` and
/// `Arc<T>`: two of them may share one value, whose handles would then be visited twice but counted once. Use a [`Gc`] in
/// their place, or skip the field.
///
/// # Safety
/// The collector frees what it cannot account for, so it must be told the truth:
/// - [`trace`](Trace::trace) visits only handles that the value owns, alone, directly or through containers that it owns
///   alone; each at most once, and each where it stands (never a clone made for the purpose)
/// - it changes nothing, makes, clones and drops no handle, runs no code of the program, and does not panic
/// - between two runs of the program it visits the same handles
///
/// To leave one out is safe, and leaks: [`Heap::verify`](crate::Heap::verify) finds such fields.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be traced",
    label = "does not say which `Gc` handles it holds",
    note = "put #[derive(Trace)] on your own types",
    note = "a field of a type that holds no `Gc` (a closure, a handle of another library) can be left out with #[trace(skip)]",
    note = "Rc and Arc share what they hold, so it would be visited more often than it is counted: use Gc in their place, or \
            #[trace(skip)] if it is no part of a cycle",
    note = "for a Box<dyn YourTrait>, write `trait YourTrait: Trace` and heapkeeper::trace_dyn!(dyn YourTrait)"
)]
pub unsafe trait Trace {
    /// Visit every handle that the value holds.
    fn trace(&self, tracer: &mut Tracer<'_>);

    /// Whether no value of this type can ever hold a handle: such objects are not tracked, and cost the collector nothing.
    /// `L` bounds how far a type looks into the types it is made of. **False.**
    #[doc(hidden)]
    #[inline(always)]
    fn is_leaf<L: Depth>() -> bool
    where
        Self: Sized,
    {
        false
    }

    /// What runs before the object is freed. **None.** The derive fills it in for `#[trace(finalize)]`.
    #[doc(hidden)]
    #[inline(always)]
    fn finalizer() -> Option<fn(&Gc<Self>)>
    where
        Self: Sized + 'static,
    {
        None
    }
}

/// How many types deep the question may go whether something is a leaf: so it ends for types that contain themselves.
#[doc(hidden)]
pub trait Depth {
    type Below: Depth;
    const LEFT: bool;
}

#[doc(hidden)]
pub struct Deep<D>(PhantomData<D>);

#[doc(hidden)]
pub struct Bottom;

impl Depth for Bottom {
    type Below = Bottom;
    const LEFT: bool = false;
}

impl<D: Depth> Depth for Deep<D> {
    type Below = D;
    const LEFT: bool = true;
}

/// The depth to start with: 4 types.
pub(crate) type Start = Deep<Deep<Deep<Deep<Bottom>>>>;

/// A reference that an object holds, and where.
#[derive(Clone, Copy)]
pub(crate) enum Edge {
    Counted {
        child: ObjectPtr,
        /// Where the handle stands.
        place: *const u8,
    },
    Weak {
        cell: CellPtr,
        place: *const u8,
    },
    /// A field that is left out on purpose.
    Skipped {
        place: *const u8,
        bytes: usize,
    },
}

/// References that fit before they are read.
const BUFFER: usize = 128;

pub(crate) type Buffer = [MaybeUninit<ObjectPtr>; BUFFER];

pub(crate) const EMPTY: Buffer = [const { MaybeUninit::uninit() }; BUFFER];

/// Receives the handles that a value holds. See [`Trace`].
pub struct Tracer<'a> {
    /// The unused part of the buffer; none for those who want to know more than the child.
    next: *mut MaybeUninit<ObjectPtr>,
    end: *mut MaybeUninit<ObjectPtr>,
    start: *mut MaybeUninit<ObjectPtr>,
    sink: Sink<'a>,
}

enum Sink<'a> {
    /// Empties a full buffer.
    Flush {
        flush: unsafe fn(*mut (), &[ObjectPtr]),
        context: *mut (),
    },
    Each(&'a mut dyn FnMut(Edge)),
}

impl<'a> Tracer<'a> {
    /// Collects children in `buffer`; `flush` gets `context` and a full one.
    #[inline(always)]
    pub(crate) fn buffered(
        buffer: &'a mut Buffer,
        flush: unsafe fn(*mut (), &[ObjectPtr]),
        context: *mut (),
    ) -> Tracer<'a> {
        let places = buffer.as_mut_ptr_range();
        Tracer { next: places.start, end: places.end, start: places.start, sink: Sink::Flush { flush, context } }
    }

    /// Calls `each` for every edge.
    pub(crate) fn each(each: &'a mut dyn FnMut(Edge)) -> Tracer<'a> {
        let none = core::ptr::NonNull::dangling().as_ptr();
        Tracer { next: none, end: none, start: none, sink: Sink::Each(each) }
    }

    /// What is in the buffer.
    #[inline(always)]
    pub(crate) fn buffer(&self) -> &[ObjectPtr] {
        // SAFETY: what lies before `next` was written, in the buffer that is borrowed for 'a.
        unsafe {
            let length = self.next.offset_from(self.start) as usize;
            core::slice::from_raw_parts(self.start.cast(), length)
        }
    }

    /// A handle that the value holds.
    #[inline(always)]
    pub fn visit<T>(&mut self, handle: &Gc<T>) {
        self.visit_object(handle.object(), (&raw const *handle).cast());
    }

    #[inline(always)]
    pub(crate) fn visit_object(&mut self, child: ObjectPtr, place: *const u8) {
        if self.next == self.end {
            self.visit_slow(child, place);
        } else {
            // SAFETY: there is room before `end`.
            unsafe {
                self.next.write(MaybeUninit::new(child));
                self.next = self.next.add(1);
            }
        }
    }

    #[cold]
    fn visit_slow(&mut self, child: ObjectPtr, place: *const u8) {
        match &mut self.sink {
            Sink::Each(each) => each(Edge::Counted { child, place }),
            Sink::Flush { flush, context } => {
                let (flush, context) = (*flush, *context);
                // SAFETY: the two belong together, by the word of who made the tracer.
                unsafe { flush(context, self.buffer()) };
                // SAFETY: the buffer has room for one.
                unsafe {
                    self.start.write(MaybeUninit::new(child));
                    self.next = self.start.add(1);
                }
            }
        }
    }

    /// A weak reference that the value holds: it keeps nothing alive, but whether its callback is called depends on where it
    /// stands.
    #[inline]
    pub fn visit_weak<T>(&mut self, weak: &Weak<T>) {
        if let (Sink::Each(each), Some(cell)) = (&mut self.sink, weak.cell()) {
            each(Edge::Weak { cell, place: (&raw const *weak).cast() });
        }
    }

    /// A part of the value that is left out on purpose: the verifier does not look there.
    #[inline]
    pub fn skip<T: ?Sized>(&mut self, part: &T) {
        if let Sink::Each(each) = &mut self.sink {
            each(Edge::Skipped { place: (&raw const *part).cast(), bytes: size_of_val(part) });
        }
    }
}

impl core::fmt::Debug for Tracer<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Tracer").finish_non_exhaustive()
    }
}

// SAFETY: a handle owns one reference, to this object. What the object holds is its own business, by its header.
unsafe impl<T> Trace for Gc<T> {
    #[inline(always)]
    fn trace(&self, tracer: &mut Tracer<'_>) {
        tracer.visit(self);
    }
}

// SAFETY: a weak reference is not counted.
unsafe impl<T> Trace for Weak<T> {
    #[inline(always)]
    fn trace(&self, tracer: &mut Tracer<'_>) {
        tracer.visit_weak(self);
    }
}

/// Makes `Box<dyn YourTrait>` something that can be traced, for a trait of yours that has [`Trace`] above it.
///
/// ```
/// use heapkeeper::{Gc, Heap, Trace, trace_dyn};
///
/// trait Shape: Trace {
///     fn area(&self) -> f64;
/// }
/// trace_dyn!(dyn Shape);
///
/// #[derive(Trace)]
/// struct Square(f64);
/// impl Shape for Square {
///     fn area(&self) -> f64 {
///         self.0 * self.0
///     }
/// }
///
/// #[derive(Trace)]
/// struct Drawing {
///     shapes: Vec<Box<dyn Shape>>,
/// }
///
/// let heap = Heap::new();
/// let drawing = heap.alloc(Drawing { shapes: vec![Box::new(Square(3.0))] });
/// assert_eq!(drawing.shapes[0].area(), 9.0);
/// ```
#[macro_export]
macro_rules! trace_dyn {
    ($type:ty) => {
        // SAFETY: a box owns its value alone; the value's own implementation visits what it holds.
        unsafe impl $crate::Trace for ::std::boxed::Box<$type> {
            fn trace(&self, tracer: &mut $crate::Tracer<'_>) {
                // Does not compile unless the trait has `Trace` above it.
                <$type as $crate::Trace>::trace(&**self, tracer);
            }
        }
    };
}
