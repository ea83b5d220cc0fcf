//! The heap as programs hold it. **The hot path is [`Heap::try_alloc`]**; its counterpart is `destroy::release`.
//!
//! ```text
//! alloc(value): block ← the spare of its size, or the size class's free list;  header, value;  tracked: a count in the collector
//! ```

use core::fmt;
use core::marker::PhantomData;
use core::ptr::NonNull;

use heapkeeper_gc::Generation;

use crate::error::{BuildError, OutOfMemory};
use crate::gc::Gc;
use crate::header::{Header, Object, ObjectPtr, TO_FINALIZE, UNTRACKED};
use crate::inner::{self, Inner};
use crate::panics::Payload;
use crate::trace::{Start, Trace};

/// A private heap of counted objects, with a collector for their cycles. Clones are handles to the same heap.
///
/// It belongs to the thread that made it, and so do its objects. Heaps share nothing: each has its memory, its collector
/// and its limit. An object may hold handles to objects of another heap of the same thread; a cycle across heaps is never
/// collected.
///
/// When the last `Heap` goes, a last full collection frees what only cycles hold. Objects that the program still has handles
/// to live on, and the memory goes when the last of them does; cycles that it makes of them from then on are not collected,
/// unless [`Gc::heap`] brings the heap back.
pub struct Heap {
    inner: NonNull<Inner>,
    /// Not to be sent to another thread.
    here: PhantomData<*mut ()>,
}

impl Heap {
    /// A heap with CPython's thresholds and no limit.
    ///
    /// # Panics
    /// If the system has no address space for it: [`HeapBuilder::build`] reports that.
    pub fn new() -> Heap {
        Heap::builder().build().unwrap_or_else(|error| panic!("{error}"))
    }

    /// Settings for a heap.
    pub fn builder() -> HeapBuilder {
        HeapBuilder { limit_bytes: None, thresholds: None, growth_percent: None, panic_hook: None }
    }

    /// Put a value on the heap.
    ///
    /// A collection may be due, and run first: see [`Heap::collect`].
    ///
    /// # Panics
    /// If there is no memory: [`Heap::try_alloc`] gives the value back instead. And with what panicked in a collection that
    /// was due.
    #[inline(always)]
    pub fn alloc<T: Trace + 'static>(&self, value: T) -> Gc<T> {
        match self.try_alloc(value) {
            Ok(handle) => handle,
            Err(refused) => out_of_memory(refused.bytes),
        }
    }

    /// Put a value on the heap, if there is room for it.
    ///
    /// # Errors
    /// [`OutOfMemory`], with the value, if the system has no memory or the heap's limit is reached, and a full collection
    /// did not help.
    ///
    /// # Panics
    /// With what panicked in a collection that was due.
    #[inline(always)]
    pub fn try_alloc<T: Trace + 'static>(&self, value: T) -> Result<Gc<T>, OutOfMemory<T>> {
        let inner = self.inner.as_ptr();
        // SAFETY: the state is alive as long as a `Heap`; fields are borrowed for one expression each. The block is ours
        // alone, and large enough for an `Object<T>`.
        unsafe {
            let bytes = Object::<T>::BYTES;
            let mut block = (*inner).spares.take::<T>();
            if block.is_null() {
                block = (*inner).blocks.alloc(bytes);
                if block.is_null() {
                    block = alloc_slow(inner, bytes);
                    if block.is_null() {
                        return Err(OutOfMemory { value, bytes });
                    }
                }
            }
            let mut fresh = (*inner).fresh;
            if T::finalizer().is_some() {
                (*inner).has_finalizers = true;
                fresh = fresh.with(TO_FINALIZE);
            }
            let word = if T::is_leaf::<Start>() { fresh.with(UNTRACKED) } else { fresh };
            block.cast::<Object<T>>().write(Object { header: Header { vtable: Object::<T>::VTABLE, word }, value });
            let object = ObjectPtr::new(block.cast());
            let handle = Gc::from_object(object);
            if !T::is_leaf::<Start>() && (*inner).collector.made() {
                crate::control::collect_if_due_slow(inner);
            }
            Ok(handle)
        }
    }

    #[inline(always)]
    pub(crate) fn inner(&self) -> *mut Inner {
        self.inner.as_ptr()
    }

    /// # Safety
    /// `inner` is alive.
    pub(crate) unsafe fn again(inner: *mut Inner) -> Heap {
        // SAFETY: by the caller's word.
        unsafe {
            inner::add_handle(inner);
            Heap { inner: NonNull::new_unchecked(inner), here: PhantomData }
        }
    }
}

/// The heap refused: collect, give memory back, and try once more. Null if that does not help.
#[cold]
#[inline(never)]
unsafe fn alloc_slow(inner: *mut Inner, bytes: usize) -> *mut u8 {
    // SAFETY: the caller holds a `Heap`; borrowed for one expression each.
    unsafe {
        if (*inner).collector.is_collecting() {
            return core::ptr::null_mut();
        }
        crate::control::collect(inner, Generation::Old);
        (*inner).give_spares_back();
        (*inner).blocks.trim();
        // After a refusal the heap lets small blocks go a little beyond the limit, for whoever handles it. That is the
        // program, not we.
        let range = (*inner).range().stats();
        if range.held_bytes.saturating_add(bytes) > range.limit_bytes {
            return core::ptr::null_mut();
        }
        (*inner).blocks.alloc(bytes)
    }
}

#[cold]
#[inline(never)]
fn out_of_memory(bytes: usize) -> ! {
    panic!("{}", OutOfMemory { value: (), bytes });
}

impl Clone for Heap {
    fn clone(&self) -> Heap {
        // SAFETY: the state is alive as long as a `Heap`.
        unsafe { Heap::again(self.inner()) }
    }
}

impl Drop for Heap {
    /// # Panics
    /// With what panicked in the last collection, if this was the last handle.
    fn drop(&mut self) {
        // SAFETY: this handle was counted, and ends here.
        unsafe { inner::remove_handle(self.inner()) };
    }
}

impl Default for Heap {
    fn default() -> Heap {
        Heap::new()
    }
}

impl PartialEq for Heap {
    /// Whether both are handles to the same heap.
    fn eq(&self, other: &Heap) -> bool {
        self.inner == other.inner
    }
}

impl Eq for Heap {}

impl fmt::Debug for Heap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Heap").field("stats", &self.stats()).finish()
    }
}

/// Settings for a heap.
///
/// ```
/// let heap = heapkeeper::Heap::builder().thresholds([2000, 10, 10]).limit(64 << 20).build()?;
/// # Ok::<(), heapkeeper::BuildError>(())
/// ```
#[must_use]
pub struct HeapBuilder {
    limit_bytes: Option<usize>,
    thresholds: Option<[u32; 3]>,
    growth_percent: Option<Option<u32>>,
    panic_hook: Option<Box<dyn Fn(Payload)>>,
}

impl HeapBuilder {
    /// The most that the heap may hold, in bytes of pools and large blocks in use: 16 KiB at least for each size of object.
    /// **No limit.** At the limit a full collection runs before an allocation is refused. What values own outside the heap
    /// (a `Vec`'s buffer) does not count.
    pub fn limit(mut self, bytes: usize) -> HeapBuilder {
        self.limit_bytes = Some(bytes);
        self
    }

    /// When collections start: see [`Heap::set_thresholds`]. **700, 10, 10.**
    pub fn thresholds(mut self, thresholds: [u32; 3]) -> HeapBuilder {
        self.thresholds = Some(thresholds);
        self
    }

    /// A full collection is also due when the heap has grown by so much since the last, in percent, and by 8 MiB. `None` for
    /// whatever the thresholds allow. **100.**
    pub fn growth_percent(mut self, percent: Option<u32>) -> HeapBuilder {
        self.growth_percent = Some(percent);
        self
    }

    /// Who gets the panics of finalizers, callbacks and `Drop`s that the heap runs. Without a hook they go on from the
    /// outermost call into the heap.
    pub fn panic_hook(mut self, hook: impl Fn(Box<dyn core::any::Any + Send>) + 'static) -> HeapBuilder {
        self.panic_hook = Some(Box::new(hook));
        self
    }

    /// The heap.
    ///
    /// # Errors
    /// [`BuildError`] if there is no address space, or there are 4095 heaps.
    pub fn build(self) -> Result<Heap, BuildError> {
        let inner = Inner::build(self.limit_bytes)?;
        // SAFETY: just made, with one handle, which is this one.
        unsafe {
            let pace = (*inner).collector.pace_mut();
            if let Some(thresholds) = self.thresholds {
                pace.set_thresholds(thresholds);
            }
            if let Some(percent) = self.growth_percent {
                pace.growth_percent = percent;
            }
            (*inner).panics.hook = self.panic_hook.map(Into::into);
            Ok(Heap { inner: NonNull::new_unchecked(inner), here: PhantomData })
        }
    }
}

impl fmt::Debug for HeapBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HeapBuilder").field("limit", &self.limit_bytes).finish_non_exhaustive()
    }
}
