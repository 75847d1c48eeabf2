//! As much of XML as a host's answers need: a root with a status, and elements with text.

use std::error::Error;
use std::fmt;

use anyhow::{Context, Result, ensure};

/// A host's answer.
#[derive(Clone, Debug)]
pub struct Xml(String);

/// An answer whose status is not 200.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refused {
    pub status: u32,
    pub message: String,
}

impl fmt::Display for Refused {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "refused with {}: {}", self.status, self.message)
    }
}

impl Error for Refused {}

impl Xml {
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let text = String::from_utf8(bytes.to_vec()).context("not UTF-8")?;
        ensure!(text.starts_with("<?xml"), "no XML declaration: {text}");
        let xml = Self(text);
        xml.status().with_context(|| xml.0.clone())?;
        Ok(xml)
    }

    /// `status_code` of the root.
    pub fn status(&self) -> Result<u32> {
        Ok(self.attribute("status_code").context("no status_code")?.parse()?)
    }

    /// Itself if its status is 200.
    pub fn good(self) -> Result<Self> {
        let status = self.status()?;
        if status == 200 {
            return Ok(self);
        }
        let message = self.attribute("status_message").unwrap_or_default();
        Err(Refused { status, message }.into())
    }

    fn attribute(&self, name: &str) -> Option<String> {
        let root = self.0.find("<root")?;
        let end = root + self.0[root..].find('>')?;
        let (_, value) = self.0[root..end].split_once(&format!("{name}=\""))?;
        Some(unescape(&value[..value.find('"')?]))
    }

    /// The text of the first element of a name.
    pub fn text(&self, name: &str) -> Option<String> {
        element(&self.0, name).map(|(inside, _)| unescape(inside))
    }

    /// The same, where it must be there.
    pub fn must(&self, name: &str) -> Result<String> {
        self.text(name).with_context(|| format!("no {name} in {}", self.0))
    }

    /// The insides of all elements of a name.
    pub fn all(&self, name: &str) -> Vec<Self> {
        let mut found = Vec::new();
        let mut rest = self.0.as_str();
        while let Some((inside, after)) = element(rest, name) {
            found.push(Self(inside.to_owned()));
            rest = after;
        }
        found
    }
}

/// What is in the first element of a name, and what is behind it.
fn element<'a>(text: &'a str, name: &str) -> Option<(&'a str, &'a str)> {
    let (_, behind) = text.split_once(&format!("<{name}>"))?;
    behind.split_once(&format!("</{name}>"))
}

fn unescape(text: &str) -> String {
    let named = text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&apos;", "'");
    named.replace("&#39;", "'").replace("&#34;", "\"").replace("&amp;", "&")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_hosts_say() {
        let text = "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<root status_code=\"200\"><App><AppTitle>A &amp; B</AppTitle>\
                    <ID>7</ID></App><App><AppTitle/><ID>8</ID></App></root>";
        let xml = Xml::parse(text.as_bytes()).unwrap().good().unwrap();
        let ids: Vec<_> = xml.all("App").iter().filter_map(|app| app.text("ID")).collect();
        assert_eq!(ids, ["7", "8"]);
        assert_eq!(xml.must("AppTitle").unwrap(), "A & B");
        let refused =
            Xml::parse(b"<?xml?><root status_code=\"401\" status_message=\"no &lt;entry&gt;\"></root>").unwrap();
        let error = refused.good().unwrap_err();
        let refused = error.downcast_ref::<Refused>().unwrap();
        assert_eq!((refused.status, refused.message.as_str()), (401, "no <entry>"));
        assert!(Xml::parse(b"<?xml?><root></root>").is_err());
    }
}
