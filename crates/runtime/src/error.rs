//! What can go wrong, each with what to do next.

use core::fmt;

/// No memory for a value, or none below the heap's limit. The value comes back.
#[non_exhaustive]
pub struct OutOfMemory<T> {
    /// What was to be allocated.
    pub value: T,
    /// Bytes that its object would take.
    pub bytes: usize,
}

impl<T> fmt::Debug for OutOfMemory<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OutOfMemory").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

impl<T> fmt::Display for OutOfMemory<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "no memory for {} bytes, after a full collection; drop some handles, or raise the heap's limit",
            self.bytes
        )
    }
}

impl<T> core::error::Error for OutOfMemory<T> {}

/// A handle was used with a heap that its object does not live on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct WrongHeap {
    /// The type of the object.
    pub type_name: &'static str,
}

impl fmt::Display for WrongHeap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "this {} lives on another heap; Gc::heap(&handle) is the one to ask", self.type_name)
    }
}

impl core::error::Error for WrongHeap {}

/// Why there is no heap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum BuildError {
    /// The system has no address space for another heap.
    NoAddressSpace,
    /// There are 4095 heaps.
    TooManyHeaps,
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            BuildError::NoAddressSpace => {
                "no address space for another heap; give heaps a limit (they reserve four times as much), drop some, or \
                 raise `ulimit -v`"
            }
            BuildError::TooManyHeaps => "4095 heaps are alive; drop some",
        })
    }
}

impl core::error::Error for BuildError {}
