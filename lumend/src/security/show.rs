//! What was seen, for people and for scripts.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::judge::Check;
use super::proc::Unread;

/// One process.
#[derive(Clone, Debug)]
pub struct Row {
    pub name: String,
    pub session: Option<u64>,
    pub pid: u32,
    pub seen: Result<Vec<Check>, Unread>,
}

/// Everything that was looked at.
#[derive(Clone, Debug)]
pub struct Report {
    pub planes: Vec<Row>,
    /// Planes that were given up, and so many that lumend only counts them: nobody can say that they have ended.
    pub forgotten: u64,
    /// Processes that promise next to nothing.
    pub compared: Vec<Row>,
}

const UNREADABLE: &str = "not readable as this user; run as root";
/// Begin and end of red.
const RED: [&str; 2] = ["\x1b[31m", "\x1b[0m"];

impl Row {
    fn checks(&self) -> &[Check] {
        self.seen.as_deref().unwrap_or_default()
    }

    fn differences(&self) -> usize {
        self.checks().iter().filter(|check| check.ok == Some(false)).count()
    }

    /// Something of it this user may not see.
    fn is_partly_hidden(&self) -> bool {
        self.seen.as_ref().err() == Some(&Unread::Hidden)
            || self.checks().iter().any(|check| check.promised.is_some() && check.ok.is_none())
    }

    fn json(&self) -> Value {
        let checks: Vec<Value> = self
            .checks()
            .iter()
            .map(
                |check| json!({ "what": check.what, "promised": check.promised, "found": check.found, "ok": check.ok }),
            )
            .collect();
        // Of a plane of which nothing is known nothing is said.
        let ok = self.seen.as_ref().ok().map(|_| self.differences() == 0);
        json!({
            "plane": self.name,
            "session": self.session,
            "pid": self.pid,
            "ok": ok,
            "ended": self.seen.as_ref().err() == Some(&Unread::Ended),
            "checks": checks,
        })
    }

    fn text(&self, out: &mut String, colour: bool) {
        let session = self.session.map_or_else(String::new, |session| format!(" of session {session}"));
        let _ = write!(out, "{}{session}, pid {}", self.name, self.pid);
        let _ = match self.seen {
            Ok(_) => writeln!(out),
            Err(Unread::Ended) => writeln!(out, ": has ended meanwhile"),
            Err(Unread::Hidden) => writeln!(out, ": {UNREADABLE}"),
        };
        for check in self.checks() {
            let found = check.found.as_deref().unwrap_or(UNREADABLE);
            let line = match &check.promised {
                Some(promised) => format!("  {:<26}  {found:<28}  {promised}", check.what),
                None => format!("  {:<26}  {found}", check.what),
            };
            let _ = match (check.ok, colour) {
                (Some(false), true) => writeln!(out, "{}{line}   <- differs{}", RED[0], RED[1]),
                (Some(false), false) => writeln!(out, "{line}   <- differs"),
                _ => writeln!(out, "{}", line.trim_end()),
            };
        }
        out.push('\n');
    }
}

impl Report {
    /// How much is not as promised.
    pub fn differences(&self) -> usize {
        let shown: usize = self.planes.iter().chain(&self.compared).map(Row::differences).sum();
        shown + usize::from(self.forgotten > 0)
    }

    /// Another look would show nothing else.
    pub fn is_settled(&self) -> bool {
        self.differences() == 0 && self.planes.iter().all(|row| row.seen.as_ref().err() != Some(&Unread::Ended))
    }

    pub fn json(&self) -> Value {
        let rows = |rows: &[Row]| rows.iter().map(Row::json).collect::<Vec<_>>();
        json!({
            "ok": self.differences() == 0,
            "differences": self.differences(),
            "unreadable": self.planes.iter().any(Row::is_partly_hidden),
            "planes": rows(&self.planes),
            "forgotten": self.forgotten,
            "compared": rows(&self.compared),
        })
    }

    /// The last line says how it is.
    pub fn text(&self, colour: bool) -> String {
        let mut out = format!("  {:<26}  {:<28}  promised\n", "what", "found");
        for row in &self.planes {
            row.text(&mut out, colour);
        }
        if !self.compared.is_empty() {
            out.push_str("For comparison, what promises less:\n\n");
        }
        for row in &self.compared {
            row.text(&mut out, colour);
        }
        let planes = match self.planes.len() {
            1 => "1 plane".to_owned(),
            planes => format!("{planes} planes"),
        };
        let limit = if self.planes.iter().any(Row::is_partly_hidden) {
            "; some of it is not readable as this user: run as root"
        } else {
            ""
        };
        let [red, plain] = if colour { RED } else { [""; 2] };
        if self.forgotten > 0 {
            let _ = writeln!(
                out,
                "{red}more that lumend has given up, of which it does not know whether they live: {}{plain}\n",
                self.forgotten
            );
        }
        let _ = match self.differences() {
            0 => writeln!(out, "{planes}: nothing differs from what is promised{limit}"),
            1 => writeln!(out, "{red}{planes}: 1 thing differs from what is promised{plain}{limit}"),
            many => writeln!(out, "{red}{planes}: {many} things differ from what is promised{plain}{limit}"),
        };
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(ok: Option<bool>, found: Option<&str>) -> Check {
        Check { what: "seccomp".into(), promised: Some("filter".into()), found: found.map(Into::into), ok }
    }

    fn report(seen: Result<Vec<Check>, Unread>) -> Report {
        let row = Row { name: "encode".into(), session: Some(3), pid: 7, seen };
        Report { planes: vec![row], forgotten: 0, compared: Vec::new() }
    }

    #[test]
    fn what_lumend_has_lost_count_of_is_a_difference() {
        let calm = report(Ok(vec![check(Some(true), Some("filter"))]));
        let report = Report { forgotten: 2, ..calm };
        let text = report.text(false);
        assert!(
            text.contains("whether they live: 2\n") && text.ends_with("1 thing differs from what is promised\n"),
            "{text}"
        );
        let json = report.json();
        assert_eq!((&json["ok"], &json["differences"], &json["forgotten"]), (&false.into(), &1.into(), &2.into()));
    }

    #[test]
    fn differences_are_red_where_there_is_colour_and_said_everywhere() {
        let differs = report(Ok(vec![check(Some(true), Some("filter")), check(Some(false), Some("none"))]));
        let (plain, coloured) = (differs.text(false), differs.text(true));
        assert!(
            !plain.contains('\x1b') && plain.contains("encode of session 3, pid 7") && plain.contains("<- differs")
        );
        assert!(plain.ends_with("1 plane: 1 thing differs from what is promised\n"), "{plain}");
        assert_eq!(coloured.matches("\x1b[31m").count(), 2, "{coloured}");
        assert_eq!(coloured.replace("\x1b[31m", "").replace("\x1b[0m", ""), plain);
        let json = differs.json();
        assert_eq!(
            (&json["ok"], &json["planes"][0]["ok"], &json["differences"]),
            (&false.into(), &false.into(), &1.into())
        );
        assert_eq!(json["planes"][0]["checks"][1]["found"], "none");
    }

    #[test]
    fn what_is_hidden_is_said_and_is_no_difference() {
        for seen in [Ok(vec![check(None, None)]), Err(Unread::Hidden)] {
            let report = report(seen);
            assert!(report.is_settled() && report.differences() == 0);
            let text = report.text(false);
            assert!(text.contains(UNREADABLE) && text.ends_with("run as root\n"), "{text}");
            assert_eq!(report.json()["unreadable"], true);
        }
    }

    #[test]
    fn a_plane_that_has_ended_is_looked_for_again() {
        let report = report(Err(Unread::Ended));
        assert!(!report.is_settled() && report.differences() == 0);
        assert!(report.text(false).contains("has ended meanwhile"));
        let json = report.json();
        assert_eq!((&json["planes"][0]["ok"], &json["planes"][0]["ended"]), (&Value::Null, &true.into()));
    }
}
