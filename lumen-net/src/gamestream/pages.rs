//! The pages' answers (docs/gamestream.md §2 and §3): what clients look for in them, and under which names.

use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};

use ipc::AppId;

use super::http::Reply;
use super::xml::Xml;

/// Generation 7 with the extensions that a negative fourth part stands for.
const APP_VERSION: &str = "7.1.431.-1";
/// Of the software that clients take the host for: below 3, moonlight-qt would not ask for 4K.
const GFE_VERSION: &str = "3.23.0.74";
/// H.264.
const CODECS: u32 = 1;

/// Sizes that are shown to clients that ask for none of their own; a host makes any other too.
const SIZES: [(u16, u16); 6] = [(1280, 720), (1280, 800), (1600, 900), (1920, 1080), (2560, 1440), (3840, 2160)];
const RATES: [u16; 4] = [30, 60, 90, 120];

/// Who the host is, to clients.
#[derive(Debug)]
pub struct HostNames {
    pub unique_id: [u8; 16],
    pub host_name: String,
    /// Of HTTP; the other ports follow from it.
    pub base_port: u16,
}

impl HostNames {
    pub fn https_port(&self) -> u16 {
        self.base_port.wrapping_sub(5)
    }

    pub fn rtsp_port(&self) -> u16 {
        self.base_port.wrapping_add(21)
    }

    /// As a UUID is written.
    fn unique_id(&self) -> String {
        let mut text = String::with_capacity(36);
        for (at, byte) in self.unique_id.iter().enumerate() {
            if matches!(at, 4 | 6 | 8 | 10) {
                text.push('-');
            }
            let _ = write!(text, "{byte:02X}");
        }
        text
    }
}

/// `/serverinfo`. `paired` only to a client that has shown its certificate; `running` is what that client has.
pub fn server_info(host: &HostNames, local: SocketAddr, paired: bool, running: Option<AppId>) -> Reply {
    let state = if running.is_some() { "SUNSHINE_SERVER_BUSY" } else { "SUNSHINE_SERVER_FREE" };
    let xml = Xml::ok()
        .element("hostname", &host.host_name)
        .element("appversion", APP_VERSION)
        .element("GfeVersion", GFE_VERSION)
        .element("GsVersion", GFE_VERSION)
        .element("uniqueid", host.unique_id())
        .element("HttpsPort", host.https_port())
        .element("ExternalPort", host.base_port)
        .element("mac", "00:00:00:00:00:00");
    let xml = match local.ip().to_canonical() {
        IpAddr::V4(address) => xml.element("LocalIP", address),
        // Clients take it for IPv4.
        IpAddr::V6(_) => xml,
    };
    let mode = |xml: Xml, (width, height): (u16, u16), rate: u16| {
        xml.group("DisplayMode", |xml| {
            xml.element("Width", width).element("Height", height).element("RefreshRate", rate)
        })
    };
    let modes = |xml| {
        SIZES
            .iter()
            .flat_map(|size| RATES.map(|rate| (*size, rate)))
            .fold(xml, |xml, (size, rate)| mode(xml, size, rate))
    };
    let xml = xml
        .element("MaxLumaPixelsHEVC", 0)
        .element("ServerCodecModeSupport", CODECS)
        .group("SupportedDisplayMode", modes)
        .element("gputype", "Lumen")
        .element("PairStatus", u8::from(paired))
        .element("currentgame", running.map_or(0, AppId::get))
        .element("state", state);
    Reply::Xml(xml.finish())
}

/// `/applist`.
pub fn app_list<'a>(apps: impl Iterator<Item = (AppId, &'a str)>) -> Reply {
    let app = |xml: Xml, (app, title): (AppId, &str)| {
        xml.group("App", |xml| xml.element("IsHdrSupported", 0).element("AppTitle", title).element("ID", app.get()))
    };
    Reply::Xml(apps.fold(Xml::ok(), app).finish())
}

/// `/launch` and `/resume`, granted: where the client finds the session's RTSP. `scheme` comes without "://".
pub fn session(verb: Verb, scheme: &str, local: SocketAddr, port: u16) -> Reply {
    let url = match local.ip().to_canonical() {
        IpAddr::V4(address) => format!("{scheme}://{address}:{port}"),
        IpAddr::V6(address) => format!("{scheme}://[{address}]:{port}"),
    };
    Reply::Xml(Xml::ok().element("sessionUrl0", url).element(verb.name(), 1).finish())
}

/// `/launch` or `/resume`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verb {
    Launch,
    Resume,
}

impl Verb {
    const fn name(self) -> &'static str {
        match self {
            Self::Launch => "gamesession",
            Self::Resume => "resume",
        }
    }
}

/// A launch that was not granted.
pub fn no_session(verb: Verb, status: u16, reason: &str) -> Reply {
    Reply::Xml(Xml::refusal(status, reason).element(verb.name(), 0).finish())
}

/// `/cancel`: nothing of the client's runs any more.
pub fn cancelled() -> Reply {
    Reply::Xml(Xml::ok().element("cancel", 1).finish())
}

/// `/unpair`.
pub fn unpaired_at_its_wish() -> Reply {
    Reply::Xml(Xml::ok().finish())
}

/// Something else went wrong.
pub fn refusal(status: u16, reason: &str) -> Reply {
    Reply::Xml(Xml::refusal(status, reason).finish())
}

/// Pairing, phase 1.
pub fn host_certificate(der: &[u8]) -> Reply {
    let config = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
    let pem = pem::encode_config(&pem::Pem::new("CERTIFICATE", der), config);
    phase("plaincert", pem.as_bytes())
}

/// Phase 2.
pub fn challenge_response(response: &[u8; 48]) -> Reply {
    phase("challengeresponse", response)
}

/// Phase 3.
pub fn pairing_secret(secret: &[u8; 16], signature: &[u8]) -> Reply {
    phase("pairingsecret", &[secret, signature].concat())
}

/// Phases 4 and 5.
pub fn paired() -> Reply {
    Reply::Xml(Xml::ok().element("paired", 1).finish())
}

/// Pairing, at any phase, has come to nothing. 200 where clients know what to say of it themselves.
pub fn unpaired(status: u16, reason: &str) -> Reply {
    let xml = if status == 200 { Xml::ok() } else { Xml::refusal(status, reason) };
    Reply::Xml(xml.element("paired", 0).finish())
}

fn phase(name: &str, bytes: &[u8]) -> Reply {
    let hex = bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    });
    Reply::Xml(Xml::ok().element("paired", 1).element(name, hex).finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(reply: Reply) -> String {
        match reply {
            Reply::Xml(text) => text,
            Reply::Png(_) => panic!("a picture"),
        }
    }

    fn host() -> HostNames {
        let unique_id = std::array::from_fn(|at| at as u8 * 17);
        HostNames { unique_id, host_name: "A & B".into(), base_port: 47_989 }
    }

    #[test]
    fn a_host_without_a_session_is_free() {
        let xml = text(server_info(&host(), "192.0.2.7:47989".parse().unwrap(), false, None));
        for element in [
            "<hostname>A &amp; B</hostname>",
            "<appversion>7.1.431.-1</appversion>",
            "<uniqueid>00112233-4455-6677-8899-AABBCCDDEEFF</uniqueid>",
            "<HttpsPort>47984</HttpsPort>",
            "<LocalIP>192.0.2.7</LocalIP>",
            "<ServerCodecModeSupport>1</ServerCodecModeSupport>",
            "<DisplayMode><Width>1920</Width><Height>1080</Height><RefreshRate>60</RefreshRate></DisplayMode>",
            "<PairStatus>0</PairStatus>",
            "<currentgame>0</currentgame>",
            "<state>SUNSHINE_SERVER_FREE</state>",
        ] {
            assert!(xml.contains(element), "{element} is not in {xml}");
        }
        assert!(!text(server_info(&host(), "[2001:db8::1]:1".parse().unwrap(), true, None)).contains("LocalIP"));
    }

    #[test]
    fn what_a_client_has_running_is_named() {
        let xml = text(server_info(&host(), "[::ffff:192.0.2.7]:1".parse().unwrap(), true, AppId::new(5)));
        for element in [
            "<LocalIP>192.0.2.7</LocalIP>",
            "<PairStatus>1</PairStatus>",
            "<currentgame>5</currentgame>",
            "_SERVER_BUSY</state>",
        ] {
            assert!(xml.contains(element), "{element} is not in {xml}");
        }
    }

    #[test]
    fn a_session_is_at_the_address_that_the_client_has_used() {
        let url = |verb, local: &str| text(session(verb, "rtspenc", local.parse().unwrap(), 48_010));
        let xml = url(Verb::Launch, "[::ffff:192.0.2.7]:47984");
        assert!(xml.contains("<sessionUrl0>rtspenc://192.0.2.7:48010</sessionUrl0><gamesession>1</gamesession>"));
        let xml = url(Verb::Resume, "[2001:db8::1]:47984");
        assert!(xml.contains("<sessionUrl0>rtspenc://[2001:db8::1]:48010</sessionUrl0><resume>1</resume>"));
    }
}
