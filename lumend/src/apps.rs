//! What clients may start: the configured list, with the numbers by which clients know its entries and the pictures
//! that they are shown.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use ipc::shm::sealed_memfd;
use ipc::{AppId, Fingerprint, Image, ToNet};
use tracing::warn;

use crate::config;

/// Most bytes of a picture.
const MAX_IMAGE: u64 = 2 << 20;
const PNG: [u8; 8] = *b"\x89PNG\r\n\x1a\n";

/// One entry; the launcher knows it by its index in [`Apps::list`].
#[derive(Debug)]
pub struct App {
    pub id: AppId,
    /// As configured.
    pub entry: config::App,
    image: Option<Picture>,
}

impl App {
    pub fn title(&self) -> &str {
        &self.entry.name
    }

    /// Whether anything is run for it. What is not is there for whoever may see the desktop.
    pub fn has_commands(&self) -> bool {
        let entry = &self.entry;
        !entry.command.is_empty() || !entry.prep.is_empty() || !entry.undo.is_empty()
    }
}

/// Checked and in memory, which nobody to whom it is handed can write.
#[derive(Debug)]
struct Picture {
    memory: OwnedFd,
    bytes: u32,
}

#[derive(Debug)]
pub struct Apps(Vec<App>);

impl Apps {
    /// "Desktop" comes first, unless the configuration says where. A picture that cannot be used is none.
    pub fn new(configured: &[config::App]) -> Self {
        // As clients look an app up, some without regard to case.
        let given = configured.iter().any(|app| app.name.eq_ignore_ascii_case(config::DESKTOP));
        let desktop = (!given).then(config::App::desktop);
        let mut apps = Vec::<App>::new();
        for entry in desktop.into_iter().chain(configured.iter().cloned()) {
            let mut id = id(&entry.name);
            // Two names with one number are unlikely, not impossible.
            while apps.iter().any(|app| app.id == id) {
                id = AppId::new(id.get() + 1).unwrap_or(FIRST);
            }
            let image = entry.image.as_deref().and_then(|path| {
                read(path)
                    .inspect_err(|error| warn!("app {:?} has no image: {}: {error}", entry.name, path.display()))
                    .ok()
            });
            apps.push(App { id, entry, image });
        }
        Self(apps)
    }

    /// In the order in which they are shown.
    pub fn list(&self) -> &[App] {
        &self.0
    }

    /// An app and its index.
    pub fn find(&self, id: AppId) -> Option<(usize, &App)> {
        self.0.iter().enumerate().find(|(_, app)| app.id == id)
    }

    /// The list as the network plane is told it.
    pub fn messages(&self) -> io::Result<Vec<ToNet<OwnedFd>>> {
        let message = |app: &App| {
            let image = match &app.image {
                Some(picture) => Some(Image { memory: picture.memory.try_clone()?, bytes: picture.bytes }),
                None => None,
            };
            Ok(ToNet::App(ipc::App { app: app.id, title: app.title().to_owned(), image }))
        };
        self.0.iter().map(message).collect()
    }
}

const FIRST: AppId = match AppId::new(1) {
    Some(id) => id,
    None => panic!("1 is an app's id"),
};

/// By name, so that clients find their shortcuts and pictures again when the list changes.
fn id(name: &str) -> AppId {
    let Fingerprint(hash) = Fingerprint::of(format!("lumen app {name}").as_bytes());
    let bits = u32::from_be_bytes([hash[0], hash[1], hash[2], hash[3]]);
    AppId::new(bits >> 1).unwrap_or(FIRST)
}

fn read(path: &Path) -> io::Result<Picture> {
    // Whatever the path names, opening it does not wait.
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    let mut content = Vec::new();
    file.take(MAX_IMAGE + 1).read_to_end(&mut content)?;
    if content.len() as u64 > MAX_IMAGE {
        return Err(io::Error::other("it has more than 2 MiB"));
    }
    if !content.starts_with(&PNG) {
        return Err(io::Error::other("it is no PNG"));
    }
    let memory = File::from(sealed_memfd("lumen-image", content.len())?);
    memory.write_all_at(&content, 0)?;
    // A network plane in bad hands is not to draw on what its successors will show.
    let reader = File::open(format!("/proc/self/fd/{}", memory.as_raw_fd()))?;
    Ok(Picture { memory: reader.into(), bytes: content.len() as u32 })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::fd::AsFd;

    use ipc::shm::Mapping;

    use super::*;

    fn app(name: &str, image: Option<&Path>) -> config::App {
        config::App { name: name.into(), image: image.map(Path::to_owned), ..config::App::desktop() }
    }

    #[test]
    fn the_desktop_is_there_and_first_unless_it_is_configured() {
        let titles = |apps: &Apps| apps.list().iter().map(|app| app.title().to_owned()).collect::<Vec<_>>();
        assert_eq!(titles(&Apps::new(&[])), ["Desktop"]);
        let apps = Apps::new(&[app("Steam", None)]);
        assert_eq!(titles(&apps), ["Desktop", "Steam"]);
        let own = config::App { command: "true".into(), ..app("Desktop", None) };
        let own = Apps::new(&[app("Steam", None), own]);
        assert_eq!(titles(&own), ["Steam", "Desktop"]);
        assert!(own.list()[1].has_commands() && !apps.list()[0].has_commands());
        assert_eq!(titles(&Apps::new(&[app("desktop", None)])), ["desktop"], "no two that differ by case alone");
        // What clients have kept stays right when the list changes.
        let steam = own.list()[0].id;
        assert_eq!(apps.find(steam).map(|(index, app)| (index, app.title())), Some((1, "Steam")));
        let expected = Fingerprint::of(b"lumen app Steam").0;
        assert_eq!(steam.get() >> 23, u32::from(expected[0]), "the number that the documentation gives");
        assert!(apps.find(AppId::new(1).unwrap()).is_none());
    }

    #[test]
    fn pictures_are_checked_and_handed_out_for_reading_alone() {
        let directory = std::env::temp_dir().join(format!("lumen-apps-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let write = |name: &str, content: &[u8]| {
            let path = directory.join(name);
            fs::write(&path, content).unwrap();
            path
        };
        let good = [&PNG[..], b"the rest of it"].concat();
        let large = [&PNG[..], &vec![0; MAX_IMAGE as usize - 7]].concat();
        let (good_path, large, text) = (write("good", &good), write("large", &large), write("text", b"words"));
        for (path, reason) in [(large, "2 MiB"), (text, "no PNG"), (directory.clone(), "no file")] {
            let error = read(&path).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
        assert!(read(&directory.join("missing")).is_err());

        let apps = Apps::new(&[app("Good", Some(&good_path)), app("Gone", Some(&directory.join("missing")))]);
        let messages = apps.messages().unwrap();
        let images: Vec<_> = messages
            .iter()
            .map(|message| match message {
                ToNet::App(app) => app.image.as_ref(),
                other => panic!("{other:?}"),
            })
            .collect();
        assert!(images.len() == 3 && images[0].is_none() && images[2].is_none());
        let image = images[1].unwrap();
        assert_eq!(image.bytes as usize, good.len());
        let mapped = Mapping::read_only(image.memory.as_fd(), good.len()).unwrap();
        assert_eq!(mapped.as_slice()[..good.len()], good);
        let scribble = File::from(image.memory.try_clone().unwrap());
        assert!(scribble.write_all_at(b"x", 0).is_err() && scribble.set_len(1).is_err());
        fs::remove_dir_all(directory).unwrap();
    }
}
