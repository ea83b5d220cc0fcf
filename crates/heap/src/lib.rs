//! The tiered private heap.
