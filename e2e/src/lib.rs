//! End-to-end tests of Lumen: real compositors, planes and clients in a world that can be made bad on purpose.
//!
//! [`trial`] is what the tests begin with; [`relay`] is a bad network, [`inject`] puts system calls into running
//! planes, [`needed`] traces which of those they need, [`memory`] searches what they have in mind for [`secrets`], [`tone`]
//! plays known sound and [`heard`] judges a recording of it, [`replay`] judges the pictures that a client has shown, [`hands`] reads what a window saw,
//! [`forge`] has them lie to lumend and to each other, [`attacker`] is a client that means harm, [`guest`] one that speaks GameStream, [`wayland`] holds the instruments that
//! draw and read a real desktop.

#![forbid(unsafe_code)]

pub mod activator;
pub mod attacker;
pub mod forge;
pub mod guest;
pub mod hands;
pub mod heard;
pub mod inject;
pub mod memory;
pub mod needed;
pub mod relay;
pub mod replay;
pub mod secrets;
pub mod tone;
pub mod trial;
pub mod wayland;

/// Holds a page against a table in the code: what stands between `<!-- NAME -->` and `<!-- end of NAME -->`. With
/// `LUMEN_WRITE_DOCS` set it writes the table there; `filter` names the tests that do.
#[cfg(test)]
fn documented(page: &str, name: &str, table: &str, filter: &str) {
    let path = xtask::binaries::root().join(page);
    let text = std::fs::read_to_string(&path).unwrap();
    let marks = [format!("<!-- {name} -->\n"), format!("<!-- end of {name} -->")];
    let (before, rest) = text.split_once(&marks[0]).expect("a place for the table");
    let (shown, after) = rest.split_once(&marks[1]).expect("the end of the table");
    if shown == table {
        return;
    }
    // One test at a time: both tables stand on one page.
    if std::env::var_os("LUMEN_WRITE_DOCS").is_some() {
        std::fs::write(&path, [before, &marks[0], table, &marks[1], after].concat()).unwrap();
    } else {
        panic!("{page} shows another table; run: LUMEN_WRITE_DOCS=1 cargo test -p e2e --lib {filter}");
    }
}
