//! The XML of answers: a root with a status, elements, and texts in which nothing is taken for markup.

use std::fmt::{Display, Write};

/// An answer under construction.
pub struct Xml(String);

impl Xml {
    /// `<root status_code="200">`.
    pub fn ok() -> Self {
        Self::with_status(200, None)
    }

    /// An answer that says what is wrong.
    pub fn refusal(status: u16, message: &str) -> Self {
        Self::with_status(status, Some(message))
    }

    fn with_status(status: u16, message: Option<&str>) -> Self {
        let mut xml = Self(String::with_capacity(512));
        xml.0.push_str("<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<root");
        let _ = write!(xml.0, " status_code=\"{status}\"");
        if let Some(message) = message {
            xml.0.push_str(" status_message=\"");
            xml.escape(message);
            xml.0.push('"');
        }
        xml.0.push('>');
        xml
    }

    /// `<name>value</name>`.
    #[must_use]
    pub fn element(mut self, name: &str, value: impl Display) -> Self {
        let _ = write!(self.0, "<{name}>");
        self.escape(&value.to_string());
        let _ = write!(self.0, "</{name}>");
        self
    }

    /// `<name>` with what `fill` puts into it `</name>`.
    #[must_use]
    pub fn group(mut self, name: &str, fill: impl FnOnce(Self) -> Self) -> Self {
        let _ = write!(self.0, "<{name}>");
        self = fill(self);
        let _ = write!(self.0, "</{name}>");
        self
    }

    pub fn finish(mut self) -> String {
        self.0.push_str("</root>\n");
        self.0
    }

    fn escape(&mut self, text: &str) {
        for letter in text.chars() {
            match letter {
                '&' => self.0.push_str("&amp;"),
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '"' => self.0.push_str("&quot;"),
                '\'' => self.0.push_str("&apos;"),
                // XML has no way to say these at all.
                letter if letter.is_control() || matches!(letter, '\u{fffe}' | '\u{ffff}') => self.0.push(' '),
                letter => self.0.push(letter),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_stay_texts() {
        let xml = Xml::refusal(503, "\"a\" < b").element("hostname", "R&D's\n<box>").finish();
        assert_eq!(
            xml,
            "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<root status_code=\"503\" status_message=\"&quot;a&quot; &lt; \
             b\"><hostname>R&amp;D&apos;s &lt;box&gt;</hostname></root>\n"
        );
    }

    #[test]
    fn elements_nest() {
        let xml = Xml::ok().group("App", |xml| xml.element("ID", 5)).finish();
        assert!(xml.ends_with("<root status_code=\"200\"><App><ID>5</ID></App></root>\n"), "{xml}");
    }
}
