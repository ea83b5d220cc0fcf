//! From a type to its implementation.
//!
//! Every field is visited by its own type's implementation, named in full, where the field's type stands in the source: so a
//! type that cannot be traced is reported there.

use proc_macro2::{Span, TokenStream, TokenTree};
use quote::{format_ident, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Data, DeriveInput, Fields, Ident, Path, parse_quote};

use crate::attributes::{TypeOptions, is_skipped, refuse_packed};

pub(crate) fn trace(input: &DeriveInput) -> syn::Result<TokenStream> {
    let TypeOptions { finalize, krate } = TypeOptions::parse(&input.attrs)?;
    refuse_packed(&input.attrs)?;
    let mut all = Parts::default();
    let visits = match &input.data {
        Data::Struct(data) => {
            let (pattern, visits) = all.add(&krate, &data.fields)?;
            quote!(let Self #pattern = self; #visits)
        }
        Data::Enum(data) if data.variants.is_empty() => quote!(match *self {}),
        Data::Enum(data) => {
            let mut arms = TokenStream::new();
            for variant in &data.variants {
                let (pattern, visits) = all.add(&krate, &variant.fields)?;
                let name = &variant.ident;
                arms.extend(quote!(Self::#name #pattern => { #visits }));
            }
            quote!(match self { #arms })
        }
        Data::Union(data) => {
            return Err(syn::Error::new(
                data.union_token.span(),
                "Trace cannot be derived for a union: nothing says which of its fields is there; use an enum",
            ));
        }
    };
    let leaf = &all.leaf;

    let mut generics = input.generics.clone();
    for parameter in generics.type_params_mut() {
        if mentions(&all.types, &parameter.ident) {
            parameter.bounds.push(parse_quote!(#krate::Trace));
        }
    }
    let (implementation, _, conditions) = generics.split_for_impl();
    let (_, arguments, _) = input.generics.split_for_impl();
    let name = &input.ident;
    let finalizer = finalize.then(|| {
        quote! {
            #[inline(always)]
            fn finalizer() -> ::core::option::Option<fn(&#krate::Gc<Self>)> {
                ::core::option::Option::Some(<Self as #krate::Finalize>::finalize)
            }
        }
    });
    Ok(quote! {
        #[automatically_derived]
        // SAFETY: every field is visited once, by its own implementation, or left out.
        unsafe impl #implementation #krate::Trace for #name #arguments #conditions {
            #[inline]
            fn trace(&self, __tracer: &mut #krate::Tracer<'_>) {
                #visits
            }

            #[inline(always)]
            fn is_leaf<__L: #krate::derive::Depth>() -> bool {
                <__L as #krate::derive::Depth>::LEFT #leaf
            }

            #finalizer
        }
    })
}

/// What is gathered over all fields.
#[derive(Default)]
struct Parts {
    /// `&& …` for each field that is not left out.
    leaf: TokenStream,
    /// The types of these fields.
    types: TokenStream,
}

impl Parts {
    /// The pattern that binds the fields, and the code that visits them.
    fn add(&mut self, krate: &Path, fields: &Fields) -> syn::Result<(TokenStream, TokenStream)> {
        let (mut bindings, mut visits) = (TokenStream::new(), TokenStream::new());
        for (place, field) in fields.iter().enumerate() {
            let binding = format_ident!("__field{place}");
            bindings.extend(bind(field.ident.as_ref(), &binding));
            if is_skipped(&field.attrs)? {
                visits.extend(quote!(__tracer.skip(#binding);));
                continue;
            }
            let kind = &field.ty;
            self.types.extend(quote!(#kind));
            // Errors point at the field's type; names are the derive's own, also where a macro wrote the type.
            let span = kind.span().resolved_at(Span::call_site());
            visits.extend(quote_spanned!(span=> <#kind as #krate::Trace>::trace(#binding, __tracer);));
            self.leaf.extend(quote_spanned! {span=>
                && <#kind as #krate::Trace>::is_leaf::<<__L as #krate::derive::Depth>::Below>()
            });
        }
        let pattern = match fields {
            Fields::Named(_) => quote!({ #bindings }),
            Fields::Unnamed(_) => quote!((#bindings)),
            Fields::Unit => TokenStream::new(),
        };
        Ok((pattern, visits))
    }
}

fn bind(name: Option<&Ident>, binding: &Ident) -> TokenStream {
    match name {
        Some(name) => quote!(#name: #binding,),
        None => quote!(#binding,),
    }
}

/// Whether a type parameter occurs: one that only fields with `skip` have need not be traceable.
fn mentions(types: &TokenStream, parameter: &Ident) -> bool {
    types.clone().into_iter().any(|token| match token {
        TokenTree::Ident(ident) => ident == *parameter,
        TokenTree::Group(group) => mentions(&group.stream(), parameter),
        TokenTree::Punct(_) | TokenTree::Literal(_) => false,
    })
}
