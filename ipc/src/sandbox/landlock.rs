//! Landlock: no path at all, no TCP port, and where the kernel can scope them no abstract sockets and no signals
//! beyond the plane itself. Descriptors that are already open, or arrive over the link, keep working.
//!
//! A plane that loads libraries between the two halves of its lockdown may read where they are, and nothing else; the
//! second half then takes opening as such away.

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, LandlockStatus, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetStatus, Scope, path_beneath_rules,
};

use super::SandboxError;

/// The newest ABI whose rights this code was tested with. A kernel that knows less gets what it knows.
const NEWEST: ABI = ABI::V7;

/// Forbids the calling thread, and those it will start, everything that Landlock can forbid, but for reading files
/// beneath `readable`; what does not exist of it is passed over.
///
/// Returns the ABI in force, 0 where the kernel has no Landlock.
pub fn restrict(readable: &[&str]) -> Result<u32, SandboxError> {
    let status = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(NEWEST))
        .and_then(|ruleset| ruleset.handle_access(AccessNet::from_all(NEWEST)))
        .and_then(|ruleset| ruleset.scope(Scope::from_all(NEWEST)))
        .and_then(|ruleset| ruleset.create())
        .and_then(|ruleset| ruleset.add_rules(path_beneath_rules(readable, AccessFs::ReadFile)))
        .and_then(|ruleset| ruleset.restrict_self())
        .map_err(|error| SandboxError::Landlock(error.to_string()))?;
    match (status.ruleset, status.landlock) {
        (RulesetStatus::NotEnforced, _) => Ok(0),
        (_, LandlockStatus::Available { effective_abi, .. }) => Ok((effective_abi as u32).min(NEWEST as u32)),
        (_, LandlockStatus::NotEnabled | LandlockStatus::NotImplemented) => Ok(0),
    }
}
