//! Five kills of each plane at random moments of real sessions: nothing is lost, wrong or left behind, and what a client
//! misses is short. The full table, on a machine that does nothing else, is `cargo xtask chaos`.

use xtask::binaries::Profile;
use xtask::chaos::{Blow, Manner, Rig, Row, Scene, plan, print, run};

const KILLS: usize = 5;
/// Small, since tests run unoptimised builds on machines that do other things too.
const MODE: &str = "640x360x60";
/// By how much the median of a few kills on such a machine may be longer than a hundred may take on a quiet one.
const GENEROUS: f64 = 4.0;

#[test]
fn any_plane_may_be_killed_at_any_moment() {
    let rig = Rig::new(Profile::Dev, MODE, Vec::new()).unwrap();
    let manner = Manner { blow: Blow::Kill, seed: 5 };
    let rows = run(&rig, &plan(&[], Scene::Moving, KILLS), manner);
    print(&rows);
    let unsound: Vec<&Row> = rows.iter().filter(|row| !row.is_sound()).collect();
    assert!(unsound.is_empty(), "something was lost, wrong or left behind: {unsound:#?}");
    for row in &rows {
        let (median, target) = (row.quantile(500).unwrap(), row.case.target());
        let bound = target.map(|target| target.p99 * GENEROUS);
        assert!(bound.is_none_or(|bound| median <= bound), "{}: {:?} ms", row.case.name(), row.gaps_ms);
    }
}
