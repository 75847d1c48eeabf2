//! PipeWire's library, made ready before the seal: every module and plugin that a stream will need is loaded and held,
//! and its thread runs, because afterwards nothing can be opened or started.
//!
//! No file of configuration is read: what the library would learn from `client.conf` is said here.

#![allow(unsafe_code)]

use std::ffi::CStr;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::ptr::{self, NonNull};

use pipewire::context::ContextRc;
use pipewire::core::CoreRc;
use pipewire::loop_::{Loop, Timeout};
use pipewire::main_loop::MainLoopRc;
use pipewire::properties::properties;
use pipewire::sys;

use crate::priority;

/// What speaks the protocol, exports a node, wraps a stream's node in a converter, and knows the metadata interface.
const MODULES: [&CStr; 4] = [
    c"libpipewire-module-protocol-native",
    c"libpipewire-module-client-node",
    c"libpipewire-module-adapter",
    c"libpipewire-module-metadata",
];
/// What streams make of plugins, each with the pattern of its kind and the plugin's library: the converter of channels
/// and rates, and the adder for several programs on one sink.
const PLUGINS: [(&CStr, &CStr, &CStr); 2] = [
    (c"audio.convert", c"audio.convert.*", c"audioconvert/libspa-audioconvert"),
    (c"audio.mixer.dsp", c"audio.mixer.*", c"audiomixer/libspa-audiomixer"),
];

/// PipeWire's library cannot be used on this machine.
#[derive(Debug, thiserror::Error)]
#[error("PipeWire's library is not usable: {0}; is it installed whole (libpipewire, its modules and SPA plugins)?")]
pub struct Unusable(String);

/// The library, loaded and with its thread running, connected to nothing.
pub struct Client {
    context: ContextRc,
    main_loop: MainLoopRc,
}

impl Client {
    /// Loads everything. Starts one thread, the one that PipeWire's graph runs this process's node on.
    ///
    /// # Errors
    /// A part of the library is missing.
    pub fn load() -> Result<Self, Unusable> {
        priority::raise();
        pipewire::init();
        // SAFETY: sets a number. What goes wrong is told by callbacks; the library has nothing to say on stderr.
        unsafe { sys::pw_log_set_level(0) };
        let main_loop = MainLoopRc::new(None).map_err(|error| Unusable(error.to_string()))?;
        let settings = properties! {
            "config.name" => "null",
            "context.modules.allow-empty" => "true",
            "support.dbus" => "false",
            // The lockdown has no use for it: it would need a call of its own and a limit that nobody raises.
            "mem.allow-mlock" => "false",
            "mem.warn-mlock" => "false",
            "application.name" => "Lumen",
        };
        let context = ContextRc::new(&main_loop, Some(settings)).map_err(|error| Unusable(error.to_string()))?;
        let client = Self { context, main_loop };
        client.load_plugins()?;
        client.start_thread()?;
        Ok(client)
    }

    fn load_plugins(&self) -> Result<(), Unusable> {
        let context = self.context.as_raw_ptr();
        for module in MODULES {
            // SAFETY: the context lives and owns the module from here on; the strings are copied; no properties.
            let loaded = unsafe { sys::pw_context_load_module(context, module.as_ptr(), ptr::null(), ptr::null_mut()) };
            NonNull::new(loaded).ok_or_else(|| Unusable(format!("no module {}", module.to_string_lossy())))?;
        }
        for (factory, factories, library) in PLUGINS {
            // SAFETY: the context lives, and both strings are copied.
            unsafe { sys::pw_context_add_spa_lib(context, factories.as_ptr(), library.as_ptr()) };
            // SAFETY: the context lives; no properties. What is made here keeps the library in memory, is never
            // unloaded, and so outlives all that points to it. Streams make their own.
            let held = unsafe { sys::pw_context_load_spa_handle(context, factory.as_ptr(), ptr::null()) };
            NonNull::new(held).ok_or_else(|| Unusable(format!("no plugin {}", library.to_string_lossy())))?;
        }
        Ok(())
    }

    /// Newer libraries would start the thread with the first stream, which is after the seal.
    fn start_thread(&self) -> Result<(), Unusable> {
        // SAFETY: the context lives, and so does the loop that it owns. Starting one that runs does nothing.
        let started = unsafe {
            let data_loop = sys::pw_context_get_data_loop(self.context.as_raw_ptr());
            if data_loop.is_null() { -libc::ENOENT } else { sys::pw_data_loop_start(data_loop) }
        };
        if started < 0 { Err(Unusable(format!("its thread does not start ({started})"))) } else { Ok(()) }
    }

    /// Speaks to a PipeWire daemon over a connected socket that nobody has spoken on.
    ///
    /// # Errors
    /// The library refuses; a daemon that does not answer shows later.
    pub fn connect(&self, socket: OwnedFd) -> Result<CoreRc, pipewire::Error> {
        self.context.connect_fd_rc(socket, None)
    }

    /// Readable when [`dispatch`](Self::dispatch) has something to do.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.events().fd()
    }

    /// Runs what is due, which calls the listeners. Never blocks.
    pub fn dispatch(&self) {
        self.events().iterate(Timeout::None);
    }

    fn events(&self) -> &Loop {
        self.main_loop.loop_()
    }
}
