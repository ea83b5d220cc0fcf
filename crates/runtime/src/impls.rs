//! `Trace` for the standard library's types.
//!
//! Values that hold no handle are **leaves**. Containers visit their elements, and are leaves if these are. Cells are looked
//! into as long as nobody has borrowed them mutably; one that is borrowed visits nothing, so that what it holds counts as
//! held from elsewhere, and survives.

use core::cell::{Cell, OnceCell, RefCell};
use core::marker::PhantomData;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap, HashSet, LinkedList, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

use crate::trace::{Depth, Trace, Tracer};

macro_rules! leaves {
    ($([$($parameters:tt)*] $type:ty),* $(,)?) => {$(
        // SAFETY: values of this type hold no handle.
        unsafe impl<$($parameters)*> Trace for $type {
            #[inline(always)]
            fn trace(&self, _: &mut Tracer<'_>) {}

            #[inline(always)]
            fn is_leaf<L: Depth>() -> bool {
                true
            }
        }
    )*};
}

leaves! {
    [] (), [] bool, [] char, [] f32, [] f64,
    [] u8, [] u16, [] u32, [] u64, [] u128, [] usize, [] i8, [] i16, [] i32, [] i64, [] i128, [] isize,
    [] core::num::NonZeroU8, [] core::num::NonZeroU16, [] core::num::NonZeroU32, [] core::num::NonZeroU64,
    [] core::num::NonZeroU128, [] core::num::NonZeroUsize, [] core::num::NonZeroI8, [] core::num::NonZeroI16,
    [] core::num::NonZeroI32, [] core::num::NonZeroI64, [] core::num::NonZeroI128, [] core::num::NonZeroIsize,
    [] core::sync::atomic::AtomicBool, [] core::sync::atomic::AtomicU8, [] core::sync::atomic::AtomicU16,
    [] core::sync::atomic::AtomicU32, [] core::sync::atomic::AtomicU64, [] core::sync::atomic::AtomicUsize,
    [] core::sync::atomic::AtomicI8, [] core::sync::atomic::AtomicI16, [] core::sync::atomic::AtomicI32,
    [] core::sync::atomic::AtomicI64, [] core::sync::atomic::AtomicIsize,
    [] String, [] Box<str>, [] &'static str,
    [] std::ffi::OsString, [] Box<std::ffi::OsStr>, [] std::ffi::CString, [] Box<std::ffi::CStr>,
    [] std::path::PathBuf, [] Box<std::path::Path>,
    [] core::time::Duration, [] std::time::Instant, [] std::time::SystemTime,
    [] core::net::IpAddr, [] core::net::Ipv4Addr, [] core::net::Ipv6Addr, [] core::net::SocketAddr,
    [] core::any::TypeId, [] core::cmp::Ordering, [] core::alloc::Layout, [] core::marker::PhantomPinned,
    [] std::thread::ThreadId, [] core::ops::RangeFull,
    [T: ?Sized] PhantomData<T>,
    // What lies behind them is not counted here, whatever it is.
    [T: ?Sized] *const T, [T: ?Sized] *mut T,
}

// A place of their own: the compiler shows it when it explains why other `Rc`s have none.
leaves! { [] Rc<str>, [] Arc<str> }

macro_rules! functions {
    ($($parameter:ident)*) => {
        functions!(@one $($parameter)*);
        functions!(@rest $($parameter)*);
    };
    (@rest) => {};
    (@rest $first:ident $($parameter:ident)*) => { functions!($($parameter)*); };
    (@one $($parameter:ident)*) => { leaves!([R, $($parameter),*] fn($($parameter),*) -> R); };
}

functions!(A B C D E F);

macro_rules! tuples {
    ($($element:ident)*) => {
        #[allow(non_snake_case)]
        // SAFETY: a tuple owns its elements.
        unsafe impl<$($element: Trace),*> Trace for ($($element,)*) {
            #[inline]
            fn trace(&self, tracer: &mut Tracer<'_>) {
                let ($($element,)*) = self;
                $($element.trace(tracer);)*
            }

            #[inline(always)]
            fn is_leaf<L: Depth>() -> bool {
                true $(&& $element::is_leaf::<L>())*
            }
        }
    };
}

tuples!(A);
tuples!(A B);
tuples!(A B C);
tuples!(A B C D);
tuples!(A B C D E);
tuples!(A B C D E F);
tuples!(A B C D E F G);
tuples!(A B C D E F G H);
tuples!(A B C D E F G H I);
tuples!(A B C D E F G H I J);
tuples!(A B C D E F G H I J K);
tuples!(A B C D E F G H I J K M);

/// Containers that can be iterated by reference.
macro_rules! sequences {
    ($([$($parameters:tt)*] $type:ty, $element:ident;)*) => {$(
        // SAFETY: the container owns its elements, and iterating over it runs none of their code.
        unsafe impl<$($parameters)*> Trace for $type {
            #[inline]
            fn trace(&self, tracer: &mut Tracer<'_>) {
                if !$element::is_leaf::<crate::trace::Start>() {
                    self.iter().for_each(|element| element.trace(tracer));
                }
            }

            #[inline(always)]
            fn is_leaf<L: Depth>() -> bool {
                $element::is_leaf::<L>()
            }
        }
    )*};
}

sequences! {
    [T: Trace] Option<T>, T;
    [T: Trace] Vec<T>, T;
    [T: Trace] Box<[T]>, T;
    [T: Trace, const N: usize] [T; N], T;
    [T: Trace] VecDeque<T>, T;
    [T: Trace] LinkedList<T>, T;
    [T: Trace] BinaryHeap<T>, T;
    [T: Trace] BTreeSet<T>, T;
    [T: Trace, S] HashSet<T, S>, T;
}

macro_rules! maps {
    ($([$($parameters:tt)*] $type:ty;)*) => {$(
        // SAFETY: the map owns its keys and values, and iterating over it runs none of their code.
        unsafe impl<$($parameters)*> Trace for $type {
            #[inline]
            fn trace(&self, tracer: &mut Tracer<'_>) {
                self.iter().for_each(|(key, value)| {
                    key.trace(tracer);
                    value.trace(tracer);
                });
            }

            #[inline(always)]
            fn is_leaf<L: Depth>() -> bool {
                K::is_leaf::<L>() && V::is_leaf::<L>()
            }
        }
    )*};
}

maps! {
    [K: Trace, V: Trace] BTreeMap<K, V>;
    [K: Trace, V: Trace, S] HashMap<K, V, S>;
}

/// Types with one place for a value, or none.
macro_rules! owners {
    ($([$($parameters:tt)*] $type:ty, $value:ident, $this:ident => $part:expr;)*) => {$(
        // SAFETY: the value is owned by this one alone.
        unsafe impl<$($parameters)*> Trace for $type {
            #[inline(always)]
            fn trace(&self, tracer: &mut Tracer<'_>) {
                let $this = self;
                $part.trace(tracer);
            }

            #[inline(always)]
            fn is_leaf<L: Depth>() -> bool {
                $value::is_leaf::<L>()
            }
        }
    )*};
}

owners! {
    [T: Trace] Box<T>, T, this => **this;
    [T: Trace] core::pin::Pin<Box<T>>, T, this => **this;
    [T: Trace] core::num::Wrapping<T>, T, this => this.0;
    [T: Trace] core::num::Saturating<T>, T, this => this.0;
    [T: Trace] core::cmp::Reverse<T>, T, this => this.0;
    [T: Trace] core::panic::AssertUnwindSafe<T>, T, this => this.0;
}

// SAFETY: a result owns what it holds.
unsafe impl<T: Trace, E: Trace> Trace for Result<T, E> {
    #[inline]
    fn trace(&self, tracer: &mut Tracer<'_>) {
        match self {
            Ok(value) => value.trace(tracer),
            Err(error) => error.trace(tracer),
        }
    }

    #[inline(always)]
    fn is_leaf<L: Depth>() -> bool {
        T::is_leaf::<L>() && E::is_leaf::<L>()
    }
}

// SAFETY: a range owns its ends.
unsafe impl<T: Trace> Trace for core::ops::Range<T> {
    #[inline]
    fn trace(&self, tracer: &mut Tracer<'_>) {
        self.start.trace(tracer);
        self.end.trace(tracer);
    }

    #[inline(always)]
    fn is_leaf<L: Depth>() -> bool {
        T::is_leaf::<L>()
    }
}

// SAFETY: what is borrowed for good is not counted here; what is owned is owned alone.
unsafe impl<T: ToOwned + ?Sized> Trace for Cow<'static, T>
where
    T::Owned: Trace,
{
    #[inline]
    fn trace(&self, tracer: &mut Tracer<'_>) {
        if let Cow::Owned(value) = self {
            value.trace(tracer);
        }
    }

    #[inline(always)]
    fn is_leaf<L: Depth>() -> bool {
        T::Owned::is_leaf::<L>()
    }
}

// SAFETY: a cell owns its value.
unsafe impl<T: Trace> Trace for Cell<T> {
    #[inline]
    fn trace(&self, tracer: &mut Tracer<'_>) {
        // SAFETY: a cell hands out no reference to its value without a `&mut` of the cell, which nobody has of a value on
        // the heap; and a trace runs no code that could set the cell meanwhile, by the contract of `Trace`.
        unsafe { &*self.as_ptr() }.trace(tracer);
    }

    #[inline(always)]
    fn is_leaf<L: Depth>() -> bool {
        T::is_leaf::<L>()
    }
}

// SAFETY: a cell owns its value; while it is mutably borrowed nothing is visited.
unsafe impl<T: Trace> Trace for RefCell<T> {
    #[inline]
    fn trace(&self, tracer: &mut Tracer<'_>) {
        // SAFETY: no mutable borrow begins while the reference is used: a trace runs no code of the program. (A guard would
        // write to the object.)
        if let Ok(value) = unsafe { self.try_borrow_unguarded() } {
            value.trace(tracer);
        }
    }

    #[inline(always)]
    fn is_leaf<L: Depth>() -> bool {
        T::is_leaf::<L>()
    }
}

// SAFETY: a cell owns its value, which stays as it is once it is there.
unsafe impl<T: Trace> Trace for OnceCell<T> {
    #[inline]
    fn trace(&self, tracer: &mut Tracer<'_>) {
        if let Some(value) = self.get() {
            value.trace(tracer);
        }
    }

    #[inline(always)]
    fn is_leaf<L: Depth>() -> bool {
        T::is_leaf::<L>()
    }
}
