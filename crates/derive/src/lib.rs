//! `#[derive(Trace)]` for the crate `heapkeeper`, where it is documented.
#![warn(missing_docs)]

mod attributes;
mod expand;

use proc_macro::TokenStream;
use syn::{DeriveInput, parse_macro_input};

/// Says which handles a struct or enum holds: all of its fields', except those with `#[trace(skip)]`. On the type itself,
/// `#[trace(finalize)]` runs its `Finalize` before an object goes, and `#[trace(crate = path)]` says where the crate
/// `heapkeeper` is found, if not under its name.
#[proc_macro_derive(Trace, attributes(trace))]
pub fn derive_trace(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    expand::trace(&input).unwrap_or_else(syn::Error::into_compile_error).into()
}
