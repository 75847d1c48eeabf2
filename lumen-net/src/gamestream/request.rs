//! What a client asks of a page, understood: every value in here is valid, or the request was malformed.

use std::borrow::Cow;
use std::collections::BTreeMap;

use ipc::AppId;
use lumen_core::{AudioLayout, RawMode};

use super::certificate::Certificate;

/// Longest `uniqueid`; Moonlight's have 16 characters.
const ID_CHARS: usize = 64;
/// Longest name of a device that is shown to people.
const NAME_CHARS: usize = 64;
/// What every Moonlight client calls itself, whatever it runs on.
const NO_NAME: &str = "roth";

/// A request, by page.
#[derive(Debug)]
pub enum Page {
    ServerInfo,
    Pair {
        id: GuestId,
        phase: Phase,
    },
    Unpair {
        id: GuestId,
    },
    AppList,
    AppAsset(AppId),
    Launch(Box<LaunchRequest>),
    Resume(Box<LaunchRequest>),
    Cancel,
    Unknown,
    /// Words for whoever wrote the client.
    Malformed(&'static str),
    /// The same, of a page that only paired clients see.
    MalformedPrivate(&'static str),
}

/// `uniqueid`: whose requests belong together, as long as nobody lies. Many clients share one.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct GuestId(String);

/// A step of pairing, as the client takes it (docs/gamestream.md §3).
#[derive(Debug)]
pub enum Phase {
    Begin(Box<Begin>),
    /// Sixteen random bytes, enciphered.
    Challenge([u8; 16]),
    /// A hash, enciphered.
    Response([u8; 32]),
    /// The client's secret and its signature.
    Secret {
        secret: [u8; 16],
        signature: Vec<u8>,
    },
    /// Over HTTPS: has it worked?
    Known,
}

/// Phase 1.
#[derive(Debug)]
pub struct Begin {
    pub salt: [u8; 16],
    pub certificate: Certificate,
    /// For people.
    pub name: String,
}

/// What `/launch` and `/resume` say.
pub struct LaunchRequest {
    /// Always there at `/launch`.
    pub app: Option<AppId>,
    /// Always there at `/launch`. An old client that comes back does not say it again.
    pub mode: Option<RawMode>,
    pub key: [u8; 16],
    pub key_id: i32,
    pub audio: AudioLayout,
    /// The sound is to be heard at the host too.
    pub local_audio: bool,
    /// The client can encrypt RTSP and speak control encryption v2.
    pub sealed: bool,
}

impl std::fmt::Debug for LaunchRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LaunchRequest").field("app", &self.app).field("mode", &self.mode).finish_non_exhaustive()
    }
}

/// A query's parameters; of several with one name, the first counts.
struct Query<'a>(BTreeMap<Cow<'a, str>, Cow<'a, str>>);

type Parsed<T> = Result<T, &'static str>;

impl Page {
    /// Understands the target of a request line: a path, and perhaps a query.
    pub fn parse(target: &str) -> Self {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let query = Query::new(query);
        let page = match path {
            "/serverinfo" => Ok(Self::ServerInfo),
            "/pair" => query.pair(),
            "/unpair" => query.id().map(|id| Self::Unpair { id }),
            "/applist" => Ok(Self::AppList),
            "/appasset" => query.app().and_then(|app| app.ok_or("appid is missing")).map(Self::AppAsset),
            "/launch" => query.launch().and_then(|launch| match (launch.app, launch.mode) {
                (Some(_), Some(_)) => Ok(Self::Launch(Box::new(launch))),
                (None, _) => Err("appid is missing"),
                (_, None) => Err("mode is missing"),
            }),
            "/resume" => query.launch().map(|launch| Self::Resume(Box::new(launch))),
            "/cancel" => Ok(Self::Cancel),
            _ => Ok(Self::Unknown),
        };
        match (page, path) {
            (Ok(page), _) => page,
            (Err(words), "/appasset" | "/launch" | "/resume") => Self::MalformedPrivate(words),
            (Err(words), _) => Self::Malformed(words),
        }
    }
}

impl<'a> Query<'a> {
    fn new(text: &'a str) -> Self {
        let mut parameters = BTreeMap::new();
        for (name, value) in form_urlencoded::parse(text.as_bytes()) {
            parameters.entry(name).or_insert(value);
        }
        Self(parameters)
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(|value| &**value)
    }

    fn id(&self) -> Parsed<GuestId> {
        let id = self.get("uniqueid").unwrap_or("");
        if id.len() > ID_CHARS || !id.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("uniqueid is up to 64 printable characters");
        }
        Ok(GuestId(id.to_owned()))
    }

    fn pair(&self) -> Parsed<Page> {
        let phase = match self.get("phrase") {
            Some("getservercert") => {
                let certificate = bytes(self.get("clientcert").ok_or("clientcert is missing")?);
                let certificate = certificate.and_then(|pem| Certificate::from_pem(&pem));
                Phase::Begin(Box::new(Begin {
                    salt: array(self.get("salt")).ok_or("salt is 16 bytes in hexadecimal")?,
                    certificate: certificate.ok_or("clientcert is an RSA certificate as PEM, in hexadecimal")?,
                    name: self.name(),
                }))
            }
            Some("pairchallenge") => Phase::Known,
            Some(_) => return Err("this phrase of pairing is unknown"),
            None => self.later_phase()?,
        };
        Ok(Page::Pair { id: self.id()?, phase })
    }

    fn later_phase(&self) -> Parsed<Phase> {
        let challenge = self
            .get("clientchallenge")
            .map(|text| array(Some(text)).map(Phase::Challenge).ok_or("clientchallenge is 16 bytes in hexadecimal"));
        let response = self
            .get("serverchallengeresp")
            .map(|text| array(Some(text)).map(Phase::Response).ok_or("serverchallengeresp is 32 bytes in hexadecimal"));
        let secret = self.get("clientpairingsecret").map(|text| {
            let bytes = bytes(text);
            let parts = bytes.as_deref().and_then(|bytes| bytes.split_first_chunk());
            let (secret, signature) = parts.ok_or("clientpairingsecret is 16 bytes and a signature, in hexadecimal")?;
            Ok(Phase::Secret { secret: *secret, signature: signature.to_vec() })
        });
        let mut said = [challenge, response, secret].into_iter().flatten();
        match (said.next(), said.next()) {
            (Some(phase), None) => phase,
            _ => Err("a request of pairing is one phase of it"),
        }
    }

    /// What the client calls itself, if that tells anything.
    fn name(&self) -> String {
        let name = self.get("devicename").unwrap_or("").trim();
        let name: String = name.chars().filter(|letter| !letter.is_control()).take(NAME_CHARS).collect();
        if name.is_empty() || name == NO_NAME { "Moonlight".into() } else { name }
    }

    fn app(&self) -> Parsed<Option<AppId>> {
        let Some(text) = self.get("appid") else { return Ok(None) };
        let app = text.parse().ok().and_then(AppId::new);
        app.map(Some).ok_or("appid is a number from 1 to 2147483647")
    }

    fn launch(&self) -> Parsed<LaunchRequest> {
        // Moonlight prints the number as signed; it is the same 32 bits either way.
        let key_id = self.get("rikeyid").and_then(|text| text.parse::<i64>().ok());
        let key_id = key_id.filter(|id| (i64::from(i32::MIN)..=i64::from(u32::MAX)).contains(id));
        Ok(LaunchRequest {
            app: self.app()?,
            mode: self.get("mode").map(|text| mode(text).ok_or("mode is WIDTHxHEIGHTxFPS")).transpose()?,
            key: array(self.get("rikey")).ok_or("rikey is 16 bytes in hexadecimal")?,
            key_id: key_id.ok_or("rikeyid is a number of 32 bits")? as i32,
            audio: self.audio()?,
            local_audio: self.get("localAudioPlayMode").is_some_and(|text| text != "0"),
            sealed: self.get("corever").and_then(|text| text.parse::<u32>().ok()).is_some_and(|version| version >= 1),
        })
    }

    /// `surroundAudioInfo`: the channels' mask in the high half, how many there are in the low one
    /// (moonlight-common-c, Limelight.h). Stereo without it.
    fn audio(&self) -> Parsed<AudioLayout> {
        let Some(text) = self.get("surroundAudioInfo") else { return Ok(AudioLayout::Stereo) };
        let info: u32 = text.parse().map_err(|_| "surroundAudioInfo is a number")?;
        u8::try_from(info & 0xffff)
            .ok()
            .and_then(AudioLayout::from_channels)
            .ok_or("surroundAudioInfo is of 2, 6 or 8 channels")
    }
}

/// `WIDTHxHEIGHTxFPS`. 0 frames a second is what clients say that leave it to the host.
fn mode(text: &str) -> Option<RawMode> {
    let mut parts = text.split('x');
    let (width, height, fps) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    let fps = match fps.parse::<u32>().ok()? {
        0 => 60,
        fps => fps,
    };
    Some(RawMode { width: width.parse().ok()?, height: height.parse().ok()?, refresh_mhz: fps.checked_mul(1000)? })
}

/// Bytes from hexadecimal digits of either case.
fn bytes(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: &u8| (*byte as char).to_digit(16).map(|digit| digit as u8);
    let (pairs, []) = text.as_bytes().as_chunks::<2>() else { return None };
    pairs.iter().map(|[high, low]| Some(digit(high)? << 4 | digit(low)?)).collect()
}

fn array<const N: usize>(text: Option<&str>) -> Option<[u8; N]> {
    bytes(text?)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LAUNCH: &str = "appid=77&mode=1280x720x60&additionalStates=1&sops=1\
        &rikey=000102030405060708090A0b0c0d0e0f&rikeyid=-5&localAudioPlayMode=0&surroundAudioInfo=4128774&corever=1";

    fn launch(target: &str) -> LaunchRequest {
        match Page::parse(target) {
            Page::Launch(launch) | Page::Resume(launch) => *launch,
            other => panic!("{other:?}"),
        }
    }

    fn malformed(target: &str) {
        assert!(matches!(Page::parse(target), Page::Malformed(_) | Page::MalformedPrivate(_)), "{target}");
    }

    #[test]
    fn a_launch_is_understood() {
        let said = launch(&format!("/launch?uniqueid=0123456789ABCDEF&uuid=1&{LAUNCH}"));
        assert_eq!(said.app, AppId::new(77));
        assert_eq!(said.mode, Some(RawMode { width: 1280, height: 720, refresh_mhz: 60_000 }));
        assert_eq!(said.key, std::array::from_fn(|at| at as u8));
        assert_eq!((said.key_id, said.audio, said.local_audio), (-5, AudioLayout::Surround51, false));
        assert!(said.sealed);
        assert_eq!(launch(&format!("/resume?{}", LAUNCH.replace("rikeyid=-5", "rikeyid=4294967291"))).key_id, -5);
        assert!(!launch(&format!("/launch?{}", LAUNCH.replace("corever=1", "corever=0"))).sealed);
        assert_eq!(launch(&format!("/launch?{}", LAUNCH.replace("x60", "x0"))).mode.unwrap().refresh_mhz, 60_000);
    }

    #[test]
    fn an_old_clients_launch_is_taken_as_it_is() {
        let said = launch("/resume?mode=1920x1080x30&rikey=00000000000000000000000000000000&rikeyid=1");
        assert_eq!((said.app, said.audio, said.local_audio, said.sealed), (None, AudioLayout::Stereo, false, false));
        let said = launch("/resume?rikey=00000000000000000000000000000000&rikeyid=1");
        assert_eq!((said.mode, said.audio), (None, AudioLayout::Stereo), "as it was launched");
        malformed("/launch?appid=5&rikey=00000000000000000000000000000000&rikeyid=1");
    }

    #[test]
    fn what_is_wrong_with_a_private_page_is_kept_apart() {
        for private in ["/launch?appid=0", "/resume?rikey=0", "/appasset?appid=x"] {
            assert!(matches!(Page::parse(private), Page::MalformedPrivate(_)), "{private}");
        }
        assert!(matches!(Page::parse("/pair?phrase=other"), Page::Malformed(_)));
    }

    #[test]
    fn values_that_are_none_are_refused() {
        for (good, bad) in [
            ("appid=77", "appid=0"),
            ("appid=77", "appid=2147483648"),
            ("appid=77&", ""),
            ("mode=1280x720x60", "mode=1280x720"),
            ("mode=1280x720x60&", ""),
            ("mode=1280x720x60", "mode="),
            ("mode=1280x720x60", "mode=1280x720x60x1"),
            ("mode=1280x720x60", "mode=70000x720x60"),
            ("mode=1280x720x60", "mode=1280x720x5000000"),
            ("mode=1280x720x60", "mode=1280x720x-60"),
            ("rikey=00", "rikey=0"),
            ("rikey=00", "rikey=0000"),
            ("rikey=00", "rikey=0g"),
            ("rikeyid=-5", "rikeyid=4294967296"),
            ("rikeyid=-5", "rikeyid=-2147483649"),
            ("surroundAudioInfo=4128774", "surroundAudioInfo=65539"),
            ("surroundAudioInfo=4128774", "surroundAudioInfo=-1"),
        ] {
            assert!(LAUNCH.contains(good));
            malformed(&format!("/launch?{}", LAUNCH.replacen(good, bad, 1)));
        }
        malformed("/appasset?AssetType=2");
        malformed("/pair?phrase=other");
        malformed("/pair?uniqueid=1");
        malformed("/pair?clientchallenge=00112233445566778899aabbccddee");
        malformed("/pair?clientchallenge=00112233445566778899aabbccddeeff&serverchallengeresp=");
        malformed("/pair?phrase=getservercert&salt=00112233445566778899aabbccddeeff&clientcert=2d2d");
        malformed("/pair?phrase=pairchallenge&uniqueid=%00");
        malformed(&format!("/unpair?uniqueid={}", "1".repeat(65)));
    }

    #[test]
    fn pages_are_told_apart() {
        assert!(matches!(Page::parse("/serverinfo"), Page::ServerInfo));
        assert!(matches!(Page::parse("/serverinfo?uniqueid=1&uuid=2"), Page::ServerInfo));
        assert!(matches!(Page::parse("/serverinfo/"), Page::Unknown));
        assert!(matches!(Page::parse("http://host/serverinfo"), Page::Unknown));
        assert!(matches!(Page::parse("/applist?"), Page::AppList));
        assert!(
            matches!(Page::parse("/appasset?appid=5&AssetType=2&AssetIdx=0"), Page::AppAsset(app) if app.get() == 5)
        );
        assert!(matches!(Page::parse("/cancel"), Page::Cancel));
        let challenge = Page::parse("/pair?uniqueid=A&clientchallenge=00112233445566778899aabbccddeeff");
        assert!(matches!(challenge, Page::Pair { phase: Phase::Challenge(said), .. } if said[1] == 0x11));
    }

    #[test]
    fn a_name_is_shown_only_if_it_tells_something() {
        let name = |text: &str| Query::new(text).name();
        assert_eq!(name("devicename=roth"), "Moonlight");
        assert_eq!(name(""), "Moonlight");
        assert_eq!(name("devicename=My%20%1bTV+box"), "My TV box");
        assert_eq!(name(&format!("devicename={}", "x".repeat(500))).len(), NAME_CHARS);
    }

    proptest! {
        #[test]
        fn whatever_is_asked_is_a_page(target in "/?[a-z/]{0,12}\\??[ -~]{0,200}") {
            Page::parse(&target);
        }

        #[test]
        fn whatever_is_said_of_a_launch_is_a_launch_or_malformed(
            mode in "[0-9x-]{0,20}", key in "[0-9a-fA-Fx]{30,34}", id in "-?[0-9]{0,12}", rest in "[ -~]{0,80}",
        ) {
            let page = Page::parse(&format!("/launch?appid=1&mode={mode}&rikey={key}&rikeyid={id}&{rest}"));
            prop_assert!(matches!(page, Page::Launch(_) | Page::MalformedPrivate(_)));
        }

        #[test]
        fn hexadecimal_comes_back(expected in proptest::collection::vec(any::<u8>(), 0..64)) {
            let text: String = expected.iter().map(|byte| format!("{byte:02x}")).collect();
            prop_assert_eq!(bytes(&text), Some(expected));
        }
    }
}
