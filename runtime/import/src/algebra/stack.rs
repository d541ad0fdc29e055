//! Stacks: adapters of one base that act together, in order, each of them frozen or trained on.
//!
//! A stack acts as the sum of its members' deltas, and keeps every member's file inside: one can be taken out, frozen or merged
//! by itself, and training goes on from the one that is not frozen: an adapter for a domain, and one for a task on it (Gema et
//! al., 2023). From one, because a trainer holds a site's terms once, and hands their gradients to the parameters of one
//! method: of the sum of two deltas every part has the same gradient, so what members trained together would learn, each in its turn
//! learns beside the others as they are then. A stack of which several are not frozen says which it would be (`ingraft train --from`).

use std::collections::BTreeSet;

use ingraft_adapter::{Adapter, AdapterFacts, HeadSpec, TermSource, TermSpec};
use ingraft_kernel::Sites;

use crate::algebra::{Operation, joined};
use crate::base::Base;
use crate::{Aligned, Fault, ImportError, Imported};

/// A member of a stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// What it is called; no other member is.
    pub name: String,
    /// Whether it stays as it is when training goes on.
    pub frozen: bool,
    /// Its file.
    pub bytes: Vec<u8>,
}

/// The members of the stack in `bytes`, in their order; none of an adapter that is no stack.
///
/// # Errors
/// [`Fault::Adapter`] for a damaged file.
pub fn members(bytes: &[u8]) -> Result<Vec<Member>, ImportError> {
    let file = Aligned::copy_of(bytes);
    let section = Adapter::open(file.as_slice())?.parameters()?;
    let owned = section.members().map(|member| Member {
        name: member.name.to_owned(),
        frozen: member.frozen,
        bytes: member.bytes.to_vec(),
    });
    Ok(owned.collect())
}

/// The stack of `members`, which acts as the sum of their deltas and has the head of the last that has one.
///
/// The sum is that of [`Operation::Sum`], in any order the same but for rounding; `error` of a site is what writing it costs.
///
/// # Errors
/// [`Fault::Combine`] for none, two of one name, or a stack among them; [`Fault::Adapter`] for a file that is not of this
/// base. Each names the member.
pub fn stack(base: &Base<'_>, members: &[Member]) -> Result<Imported, ImportError> {
    check(members)?;
    let files: Vec<Aligned> = members.iter().map(|member| Aligned::copy_of(&member.bytes)).collect();
    let mut adapters = Vec::new();
    for (member, file) in members.iter().zip(&files) {
        let named = |error: ImportError| error.or_about(&member.name);
        let adapter = Adapter::attach(file.as_slice(), &base.plan).map_err(|error| named(error.into()))?;
        if adapter.parameters().map_err(|error| named(error.into()))?.members().next().is_some() {
            let why = "it is a stack itself; give its members";
            return Err(ImportError::at(&member.name, Fault::Combine(why)));
        }
        adapters.push(adapter);
    }
    let head = adapters.iter().rev().find_map(TermSource::head).map(|head| HeadSpec::of(&head));
    let weights = vec![1.0; adapters.len()];
    let mut writer = joined(base, &adapters, &weights, Operation::Sum, head)?;
    for member in members {
        writer.builder.member(&member.name, member.frozen, member.bytes.clone());
    }
    writer.finish(METHOD, &provenance(members))
}

/// The stack of `members` that acts as the adapter `whole` does, which was trained as what they do together.
///
/// # Errors
/// As [`stack`].
pub fn stacked(base: &Base<'_>, whole: &[u8], members: &[Member]) -> Result<Vec<u8>, ImportError> {
    check(members)?;
    let file = Aligned::copy_of(whole);
    let adapter = Adapter::attach(file.as_slice(), &base.plan)?;
    let mut builder = base.builder();
    for (index, _, terms) in adapter.site_terms() {
        let Some(desc) = base.plan.site(index) else { continue };
        TermSpec::of(&terms).into_iter().for_each(|term| builder.term(index, &desc, term));
    }
    if let Some(head) = adapter.head() {
        builder.head(HeadSpec::of(&head));
    }
    for member in members {
        builder.member(&member.name, member.frozen, member.bytes.clone());
    }
    let facts = AdapterFacts {
        method: METHOD.to_owned(),
        provenance: provenance(members),
        ..AdapterFacts::default()
    };
    Ok(Imported::new(base, builder.finish(&facts), Vec::new())?.bytes)
}

/// What a stack says that it was made by.
const METHOD: &str = "stack";

fn check(members: &[Member]) -> Result<(), ImportError> {
    let names: BTreeSet<&str> = members.iter().map(|member| member.name.as_str()).collect();
    if members.is_empty() || names.contains("") {
        return Err(Fault::Combine("a stack has at least one member, and every member a name").into());
    }
    if names.len() < members.len() {
        return Err(Fault::Combine("two members of a stack have one name; rename a file").into());
    }
    Ok(())
}

fn provenance(members: &[Member]) -> String {
    let state = |member: &Member| if member.frozen { "frozen" } else { "trained on" };
    let named: Vec<String> =
        members.iter().map(|member| format!("{} ({})", member.name, state(member))).collect();
    format!("stack: {}", named.join(", "))
}
