//! A connection to PipeWire's daemon, and what we look at there: the sinks, and the session manager's default.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use pipewire::core::{CoreRc, PW_ID_CORE};
use pipewire::metadata::{Metadata, MetadataListener};
use pipewire::properties::PropertiesBox;
use pipewire::registry::{GlobalObject, RegistryRc};
use pipewire::types::ObjectType;

use crate::client::Client;

/// Which sink the session manager is told to prefer. It writes the one in use to [`CURRENT`].
const CONFIGURED: &str = "default.configured.audio.sink";
const CURRENT: &str = "default.audio.sink";
/// How values of both are written.
const JSON: &str = "Spa:String:JSON";
/// What session managers make so that programs find a sink where there is none.
const DUMMY: &str = "auto_null";
/// How long the session manager may take to say what it was told.
const ANSWER_NS: u64 = 300_000_000;
/// Most sinks that are remembered; more than any machine has.
const MAX_SINKS: usize = 256;

/// The daemon has hung up, or speaks no sense.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Gone;

/// A sink that programs can play to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sink {
    pub name: String,
    /// For people.
    pub description: String,
}

/// What the listeners have heard.
#[derive(Default)]
struct View {
    gone: bool,
    version: String,
    /// The barrier that is being waited for.
    barrier: Option<i32>,
    sinks: BTreeMap<u32, Sink>,
    /// The session manager's metadata, seen and not yet bound.
    found: Option<GlobalObject<PropertiesBox>>,
    /// Its global id.
    metadata: Option<u32>,
    configured: Option<String>,
    /// We have changed that, and the session manager has not said so yet. It is a client as we are: the daemon's word
    /// that it has passed our wish on is not its answer.
    wish: Option<Wish>,
    current: Option<String>,
}

/// What was told to the session manager, and when.
struct Wish {
    configured: Option<String>,
    told_ns: u64,
}

/// A connection to the daemon.
pub struct Desktop {
    // Dropped in this order: listeners, then what they listen to, then the connection.
    _listeners: (pipewire::core::Listener, pipewire::registry::Listener),
    metadata: Option<Bound>,
    registry: RegistryRc,
    core: CoreRc,
    view: Rc<RefCell<View>>,
}

struct Bound {
    id: u32,
    _listener: MetadataListener,
    proxy: Metadata,
}

impl Desktop {
    /// Begins to look around; [`settled`](Self::settled) tells when all is seen.
    pub fn connect(client: &Client, socket: OwnedFd) -> Result<Self, Gone> {
        let core = client.connect(socket).map_err(|_| Gone)?;
        let registry = core.get_registry_rc().map_err(|_| Gone)?;
        let view = Rc::new(RefCell::new(View::default()));
        let (info, done, error) = (Rc::clone(&view), Rc::clone(&view), Rc::clone(&view));
        let to_core = core
            .add_listener_local()
            .info(move |core| info.borrow_mut().version = core.version().chars().take(32).collect())
            .done(move |id, seq| done.borrow_mut().passed(id, seq.raw()))
            // Errors of other objects are those objects' affair: a stream says so itself.
            .error(move |id, _, _, _| error.borrow_mut().gone |= id == PW_ID_CORE)
            .register();
        let (appear, vanish) = (Rc::clone(&view), Rc::clone(&view));
        let to_registry = registry
            .add_listener_local()
            .global(move |global| appear.borrow_mut().appear(global))
            .global_remove(move |id| vanish.borrow_mut().vanish(id))
            .register();
        let desktop = Self { _listeners: (to_core, to_registry), metadata: None, registry, core, view };
        desktop.barrier()?;
        Ok(desktop)
    }

    /// Follows up on what the listeners have heard.
    pub fn turn(&mut self, now_ns: u64) -> Result<(), Gone> {
        if self.view.borrow().gone {
            return Err(Gone);
        }
        let (found, wanted) = {
            let mut view = self.view.borrow_mut();
            view.give_up_waiting(now_ns);
            (view.found.take(), view.metadata)
        };
        if self.metadata.as_ref().is_some_and(|bound| Some(bound.id) != wanted) {
            self.metadata = None;
        }
        if let Some(global) = found.filter(|global| Some(global.id) == wanted) {
            let proxy: Metadata = self.registry.bind(&global).map_err(|_| Gone)?;
            let view = Rc::clone(&self.view);
            let listener = proxy
                .add_listener_local()
                .property(move |subject, key, _, value| {
                    view.borrow_mut().property(subject, key, value);
                    0
                })
                .register();
            self.metadata = Some(Bound { id: global.id, _listener: listener, proxy });
            self.barrier()?;
        }
        Ok(())
    }

    /// Asks to be told, by [`settled`](Self::settled), when the daemon has answered all that was asked until now.
    pub fn barrier(&self) -> Result<(), Gone> {
        let seq = self.core.sync(0).map_err(|_| Gone)?;
        self.view.borrow_mut().barrier = Some(seq.raw());
        Ok(())
    }

    /// True if nothing that was asked for is outstanding.
    pub fn settled(&self) -> bool {
        let view = self.view.borrow();
        view.barrier.is_none() && view.found.is_none()
    }

    /// True if the session manager has done what we asked of it.
    pub fn answered(&self) -> bool {
        self.settled() && self.view.borrow().wish.is_none()
    }

    /// True if there is a session manager that keeps a default.
    pub fn managed(&self) -> bool {
        self.metadata.is_some()
    }

    pub fn core(&self) -> &CoreRc {
        &self.core
    }

    /// "pipewire 0.3.65".
    pub fn version(&self) -> String {
        format!("pipewire {}", self.view.borrow().version)
    }

    /// True if a sink for which `wanted` holds exists.
    pub fn has_sink(&self, wanted: impl Fn(&str) -> bool) -> bool {
        self.view.borrow().sinks.values().any(|sink| sink.name != DUMMY && wanted(&sink.name))
    }

    /// What people call the sink that is the default now.
    pub fn current_sink(&self) -> Option<String> {
        let view = self.view.borrow();
        let current = view.current.as_ref()?;
        view.sinks.values().find(|sink| sink.name == *current).map(|sink| sink.description.clone())
    }

    /// Node name of the sink that somebody has chosen to be the default.
    pub fn configured_sink(&self) -> Option<String> {
        self.view.borrow().configured.clone()
    }

    /// Chooses the default, or none. Does nothing without a session manager.
    pub fn configure_sink(&self, name: Option<&str>, now_ns: u64) -> Result<(), Gone> {
        let value = name.map(|name| serde_json::json!({ "name": name }).to_string());
        // What is so already is not told again.
        let news = self.view.borrow().configured.as_deref() != name;
        if let (Some(bound), true) = (&self.metadata, news) {
            bound.proxy.set_property(0, CONFIGURED, value.as_ref().map(|_| JSON), value.as_deref());
            let configured = name.map(str::to_owned);
            self.view.borrow_mut().wish = Some(Wish { configured, told_ns: now_ns });
        }
        self.barrier()
    }
}

impl View {
    fn passed(&mut self, id: u32, seq: i32) {
        if id == PW_ID_CORE && self.barrier == Some(seq) {
            self.barrier = None;
        }
    }

    fn appear(&mut self, global: &GlobalObject<&pipewire::spa::utils::dict::DictRef>) {
        let Some(properties) = global.props else { return };
        match global.type_ {
            ObjectType::Metadata if properties.get("metadata.name") == Some("default") => {
                self.metadata = Some(global.id);
                self.found = Some(global.to_owned());
            }
            ObjectType::Node if properties.get("media.class") == Some("Audio/Sink") && self.sinks.len() < MAX_SINKS => {
                let Some(name) = properties.get("node.name") else { return };
                let description = properties.get("node.description").unwrap_or(name);
                let sink = Sink { name: name.to_owned(), description: description.chars().take(128).collect() };
                self.sinks.insert(global.id, sink);
            }
            _ => {}
        }
    }

    fn vanish(&mut self, id: u32) {
        self.sinks.remove(&id);
        if self.metadata == Some(id) {
            self.metadata = None;
            (self.configured, self.current, self.wish) = (None, None, None);
        }
    }

    /// Takes a wish for granted whose answer is overdue. While the daemon tells a new listener what there is, as it
    /// does for every program that asks, it tells the others nothing, and what is so already is not told again.
    fn give_up_waiting(&mut self, now_ns: u64) {
        if let Some(wish) = self.wish.take_if(|wish| now_ns > wish.told_ns + ANSWER_NS) {
            self.configured = wish.configured;
        }
    }

    /// A property of the metadata; none at all means that all are gone.
    fn property(&mut self, subject: u32, key: Option<&str>, value: Option<&str>) {
        if subject != 0 {
            return;
        }
        match key {
            Some(CONFIGURED) => (self.configured, self.wish) = (value.and_then(name_in), None),
            Some(CURRENT) => self.current = value.and_then(name_in),
            Some(_) => {}
            None => (self.configured, self.current) = (None, None),
        }
    }
}

/// The name in `{"name":"alsa_output.pci"}`.
fn name_in(value: &str) -> Option<String> {
    let value: serde_json::Value = serde_json::from_str(value).ok()?;
    value.get("name")?.as_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_default_and_forgets_it() {
        let mut view = View::default();
        view.property(0, Some(CONFIGURED), Some(r#"{ "name": "a" }"#));
        view.property(0, Some(CURRENT), Some(r#"{"name":"b"}"#));
        view.property(1, Some(CURRENT), Some(r#"{"name":"c"}"#));
        assert_eq!((view.configured.as_deref(), view.current.as_deref()), (Some("a"), Some("b")));
        for nonsense in ["", "{", "[]", r#"{"name":7}"#] {
            view.property(0, Some(CONFIGURED), Some(nonsense));
            assert_eq!(view.configured, None, "{nonsense}");
        }
        view.property(0, None, None);
        assert_eq!(view.current, None);
    }

    #[test]
    fn an_answer_that_got_lost_is_not_waited_for_for_ever() {
        let mut view = View::default();
        view.property(0, Some(CONFIGURED), Some(r#"{"name":"a"}"#));
        view.wish = Some(Wish { configured: Some("b".to_owned()), told_ns: 5 });
        view.give_up_waiting(5 + ANSWER_NS);
        assert_eq!(view.configured.as_deref(), Some("a"));
        view.give_up_waiting(6 + ANSWER_NS);
        assert_eq!((view.configured.as_deref(), view.wish.is_none()), (Some("b"), true));
    }
}
