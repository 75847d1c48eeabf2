//! The HTTP half of a client: who it is, which host it speaks to, and every page.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustls::ClientConfig;
use rustls::pki_types::CertificateDer;

use super::http::{Answer, PATIENCE, get, get_tls, tls};
use super::identity::Identity;
use super::wish::{Keys, Wish};
use super::xml::Xml;

/// moonlight-embedded's, the same for all: nobody is known by it.
const UNIQUE_ID: &str = "0123456789ABCDEF";
const HOST: &str = "host.der";

/// An entry of the host's list.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct App {
    pub id: u32,
    pub name: String,
}

/// What the host granted.
#[derive(Clone, Debug)]
pub struct Launched {
    /// `sessionUrl0`: where RTSP is.
    pub url: String,
    pub keys: Keys,
}

/// A Moonlight client of one host.
pub struct Moonlight {
    identity: Identity,
    host: IpAddr,
    /// HTTP's port, from which others follow.
    base: u16,
    /// The host's certificate since pairing.
    pinned: Option<CertificateDer<'static>>,
    directory: Option<PathBuf>,
}

impl Moonlight {
    /// A client that has never been here.
    pub fn new(host: IpAddr, base: u16) -> Result<Self> {
        Ok(Self { identity: Identity::new()?, host, base, pinned: None, directory: None })
    }

    /// The client whose identity and pinned host are kept in a directory.
    pub fn open(directory: &Path, host: IpAddr, base: u16) -> Result<Self> {
        let identity = Identity::open(directory)?;
        let pinned = fs::read(directory.join(HOST)).ok().map(CertificateDer::from);
        Ok(Self { identity, host, base, pinned, directory: Some(directory.to_owned()) })
    }

    pub const fn identity(&self) -> &Identity {
        &self.identity
    }

    pub const fn host(&self) -> IpAddr {
        self.host
    }

    pub const fn base(&self) -> u16 {
        self.base
    }

    pub const fn pinned(&self) -> Option<&CertificateDer<'static>> {
        self.pinned.as_ref()
    }

    /// From now on the host is who has this certificate's key.
    pub fn pin(&mut self, certificate: CertificateDer<'static>) -> Result<()> {
        if let Some(directory) = &self.directory {
            fs::write(directory.join(HOST), &certificate)?;
        }
        self.pinned = Some(certificate);
        Ok(())
    }

    /// Whose key this client holds, and who has shown it.
    pub fn tls(&self) -> Result<Arc<ClientConfig>> {
        let host = self.pinned.clone().context("not paired: no host is pinned")?;
        tls(Some(&self.identity), host, rustls::DEFAULT_VERSIONS)
    }

    fn path(page: &str, query: &[(&str, &str)]) -> String {
        let fixed = [("uniqueid", UNIQUE_ID), ("uuid", "52cd3c2c3c6e4c8e9d0f5d4a0e1b2c3d")];
        let pairs: Vec<String> = fixed.iter().chain(query).map(|(name, value)| format!("{name}={value}")).collect();
        format!("/{page}?{}", pairs.join("&"))
    }

    /// A page over HTTP. Values must need no escapes.
    pub fn http(&self, page: &str, query: &[(&str, &str)], patience: Duration) -> Result<Xml> {
        get(SocketAddr::new(self.host, self.base), &Self::path(page, query), patience)?.xml()
    }

    /// A page over HTTPS, as it came.
    pub fn https(&self, page: &str, query: &[(&str, &str)]) -> Result<Answer> {
        get_tls(SocketAddr::new(self.host, self.base - 5), &self.tls()?, &Self::path(page, query), PATIENCE)
    }

    /// An XML page over HTTPS that must have status 200.
    pub fn page(&self, page: &str, query: &[(&str, &str)]) -> Result<Xml> {
        self.https(page, query)?.xml()?.good()
    }

    /// What the host tells strangers.
    pub fn stranger_info(&self) -> Result<Xml> {
        self.http("serverinfo", &[], PATIENCE)?.good()
    }

    /// What the host tells its clients.
    pub fn info(&self) -> Result<Xml> {
        let info = self.page("serverinfo", &[])?;
        ensure!(info.must("HttpsPort")? == (self.base - 5).to_string(), "HTTPS is elsewhere");
        Ok(info)
    }

    pub fn apps(&self) -> Result<Vec<App>> {
        let entry = |app: &Xml| {
            let name = app.text("AppTitle").unwrap_or_default();
            Ok(App { id: app.must("ID")?.parse::<i32>()?.try_into()?, name })
        };
        self.page("applist", &[])?.all("App").iter().map(entry).collect()
    }

    /// The number of an app by its name.
    pub fn app(&self, name: &str) -> Result<u32> {
        let apps = self.apps()?;
        let found = apps.iter().find(|app| app.name == name);
        Ok(found.with_context(|| format!("no {name} among {apps:?}"))?.id)
    }

    /// An app's picture.
    pub fn asset(&self, app: u32) -> Result<Vec<u8>> {
        let answer = self.https("appasset", &[("appid", &app.to_string()), ("AssetType", "2"), ("AssetIdx", "0")])?;
        ensure!(answer.status == 200, "HTTP status {}", answer.status);
        Ok(answer.body)
    }

    /// Asks for an app that does not run yet.
    pub fn launch(&self, wish: &Wish) -> Result<Launched> {
        self.start("launch", "gamesession", wish)
    }

    /// Comes back to the app that runs, with new keys.
    pub fn resume(&self, wish: &Wish) -> Result<Launched> {
        self.start("resume", "resume", wish)
    }

    /// The same, as clients said it that are older than every other parameter: the keys alone.
    pub fn resume_tersely(&self, wish: &Wish) -> Result<Launched> {
        let keys = Keys::new()?;
        let query = wish.query(&keys).into_iter().filter(|(name, _)| name.starts_with("rikey")).collect();
        self.ask("resume", "resume", keys, query)
    }

    fn start(&self, page: &str, done: &str, wish: &Wish) -> Result<Launched> {
        let keys = Keys::new()?;
        self.ask(page, done, keys, wish.query(&keys))
    }

    fn ask(&self, page: &str, done: &str, keys: Keys, query: Vec<(&str, String)>) -> Result<Launched> {
        let pairs: Vec<(&str, &str)> = query.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let xml = self.page(page, &pairs)?;
        match xml.text(done).as_deref() {
            Some("1") => Ok(Launched { url: xml.must("sessionUrl0")?, keys }),
            other => bail!("{page} says {other:?}"),
        }
    }

    /// Ends what this client has running.
    pub fn cancel(&self) -> Result<bool> {
        Ok(self.page("cancel", &[])?.text("cancel").as_deref() == Some("1"))
    }

    pub fn unpair(&self) -> Result<()> {
        self.http("unpair", &[], PATIENCE)?.good().map(drop)
    }
}
