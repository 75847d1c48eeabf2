//! Landlock: no path at all, no TCP port, and where the kernel can scope them no abstract sockets and no signals
//! beyond the plane itself. Descriptors that are already open, or arrive over the link, keep working.

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, LandlockStatus, Ruleset, RulesetAttr, RulesetStatus,
    Scope,
};

use super::SandboxError;

/// The newest ABI whose rights this code was tested with. A kernel that knows less gets what it knows.
const NEWEST: ABI = ABI::V7;

/// Forbids the calling thread, and those it will start, everything that Landlock can forbid.
///
/// Returns the ABI in force, 0 where the kernel has no Landlock.
pub fn restrict() -> Result<u32, SandboxError> {
    let status = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(NEWEST))
        .and_then(|ruleset| ruleset.handle_access(AccessNet::from_all(NEWEST)))
        .and_then(|ruleset| ruleset.scope(Scope::from_all(NEWEST)))
        .and_then(|ruleset| ruleset.create())
        .and_then(|ruleset| ruleset.restrict_self())
        .map_err(|error| SandboxError::Landlock(error.to_string()))?;
    match (status.ruleset, status.landlock) {
        (RulesetStatus::NotEnforced, _) => Ok(0),
        (_, LandlockStatus::Available { effective_abi, .. }) => Ok((effective_abi as u32).min(NEWEST as u32)),
        (_, LandlockStatus::NotEnabled | LandlockStatus::NotImplemented) => Ok(0),
    }
}
