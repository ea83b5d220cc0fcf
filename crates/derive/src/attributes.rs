//! What stands in `#[trace(…)]`.

use syn::spanned::Spanned;
use syn::{Attribute, Path, parse_quote};

/// On the type.
pub(crate) struct TypeOptions {
    pub(crate) finalize: bool,
    /// Where the crate is found.
    pub(crate) krate: Path,
}

impl TypeOptions {
    pub(crate) fn parse(attributes: &[Attribute]) -> syn::Result<TypeOptions> {
        let mut options = TypeOptions { finalize: false, krate: parse_quote!(::heapkeeper) };
        for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("trace")) {
            attribute.parse_nested_meta(|meta| {
                if meta.path.is_ident("finalize") {
                    options.finalize = true;
                    Ok(())
                } else if meta.path.is_ident("crate") {
                    options.krate = meta.value()?.parse()?;
                    Ok(())
                } else if meta.path.is_ident("skip") {
                    Err(meta.error("`skip` goes on a field: a type that holds no handle needs no attribute"))
                } else {
                    Err(meta.error("unknown option; a type takes `finalize` and `crate = path`"))
                }
            })?;
        }
        Ok(options)
    }
}

/// Whether a field is left out.
pub(crate) fn is_skipped(attributes: &[Attribute]) -> syn::Result<bool> {
    let mut skip = false;
    for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("trace")) {
        attribute.parse_nested_meta(|meta| {
            if meta.path.is_ident("skip") {
                skip = true;
                Ok(())
            } else if meta.path.is_ident("finalize") {
                Err(meta.error("`finalize` goes on the type"))
            } else {
                Err(meta.error("unknown option; a field takes `skip`"))
            }
        })?;
    }
    Ok(skip)
}

/// An error if the representation leaves fields where no reference can lead.
pub(crate) fn refuse_packed(attributes: &[Attribute]) -> syn::Result<()> {
    for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("repr")) {
        attribute.parse_nested_meta(|meta| {
            if meta.path.is_ident("packed") {
                return Err(syn::Error::new(
                    attribute.span(),
                    "Trace cannot be derived for a packed type: no reference may lead to its fields",
                ));
            }
            // The rest is rustc's business.
            if meta.input.peek(syn::token::Paren) {
                let content;
                syn::parenthesized!(content in meta.input);
                content.parse::<proc_macro2::TokenStream>()?;
            }
            Ok(())
        })?;
    }
    Ok(())
}
