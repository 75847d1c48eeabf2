//! The app list, as lumend has told it, and the pictures of those that have one.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use ipc::shm::Mapping;
use ipc::{App, AppId, Image};

/// What an app without a picture of its own is shown as.
const PICTURE: &[u8] = include_bytes!("app.png");

/// Largest picture that is read.
const LARGEST: usize = 4 << 20;

struct Entry {
    app: AppId,
    title: String,
    image: Option<Arc<[u8]>>,
}

/// Apps in the order in which clients see them.
pub struct Apps {
    entries: Vec<Entry>,
    picture: Arc<[u8]>,
}

impl Default for Apps {
    fn default() -> Self {
        Self { entries: Vec::new(), picture: PICTURE.into() }
    }
}

impl Apps {
    /// Adds an app, or replaces the one that has its number.
    pub fn put(&mut self, app: App<OwnedFd>) {
        let entry = Entry { app: app.app, title: app.title, image: app.image.as_ref().and_then(read) };
        match self.entries.iter_mut().find(|known| known.app == entry.app) {
            Some(known) => *known = entry,
            None => self.entries.push(entry),
        }
    }

    pub fn has(&self, app: AppId) -> bool {
        self.entries.iter().any(|entry| entry.app == app)
    }

    pub fn list(&self) -> impl Iterator<Item = (AppId, &str)> {
        self.entries.iter().map(|entry| (entry.app, entry.title.as_str()))
    }

    /// An app's picture as PNG.
    pub fn picture(&self, app: AppId) -> Option<Arc<[u8]>> {
        let entry = self.entries.iter().find(|entry| entry.app == app)?;
        Some(entry.image.clone().unwrap_or_else(|| self.picture.clone()))
    }
}

/// A copy of what the memory holds. None if it is not what lumend says, and the app is shown without it.
fn read(image: &Image<OwnedFd>) -> Option<Arc<[u8]>> {
    let bytes = usize::try_from(image.bytes).ok().filter(|bytes| *bytes <= LARGEST)?;
    let mapping = Mapping::read_only(image.memory.as_fd(), bytes).ok()?;
    Some(mapping.as_slice().into())
}

#[cfg(test)]
mod tests {
    use ipc::shm::sealed_memfd;

    use super::*;

    fn app(id: u32, title: &str, image: Option<&[u8]>) -> App<OwnedFd> {
        let image = image.map(|content| {
            let memory = sealed_memfd("picture", content.len()).unwrap();
            Mapping::read_write(memory.as_fd(), content.len())
                .unwrap()
                .as_mut_slice()
                .unwrap()
                .copy_from_slice(content);
            Image { memory, bytes: content.len() as u32 }
        });
        App { app: AppId::new(id).unwrap(), title: title.into(), image }
    }

    #[test]
    fn apps_keep_their_order_and_are_replaced_by_their_number() {
        let mut apps = Apps::default();
        apps.put(app(9, "Desktop", None));
        apps.put(app(3, "Game", None));
        apps.put(app(9, "Desk", Some(b"picture")));
        let list: Vec<_> = apps.list().map(|(app, title)| (app.get(), title)).collect();
        assert_eq!(list, [(9, "Desk"), (3, "Game")]);
        assert_eq!(apps.picture(AppId::new(9).unwrap()).as_deref(), Some(&b"picture"[..]));
        assert_eq!(apps.picture(AppId::new(3).unwrap()).as_deref(), Some(PICTURE));
        assert_eq!(apps.picture(AppId::new(4).unwrap()), None);
    }

    #[test]
    fn memory_that_is_not_what_it_should_be_is_no_picture() {
        let mut lying = app(1, "Lie", Some(b"picture"));
        lying.image.as_mut().unwrap().bytes = 1 << 20;
        let mut apps = Apps::default();
        apps.put(lying);
        assert_eq!(apps.picture(AppId::new(1).unwrap()).as_deref(), Some(PICTURE));
    }

    #[test]
    fn the_picture_of_all_others_is_a_png() {
        assert!(PICTURE.starts_with(b"\x89PNG\r\n\x1a\n") && PICTURE.len() < 8 << 10);
    }
}
