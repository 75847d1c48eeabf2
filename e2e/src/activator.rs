//! What starts planes where lumend does not: `systemd-socket-activate`, one for each plane, and the manager that planes and
//! lumend tell how they are, and that keeps lumend's sockets.

use std::collections::BTreeMap;
use std::io::IoSliceMut;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use nix::unistd::geteuid;
use xtask::process::{Running, wait_until};
use xtask::stage::Stage;

const PLANES: [&str; 5] = ["net", "capture", "encode", "input", "audio"];

/// Listens where a host of this stage has its planes started.
pub struct Activator {
    // Stopped when dropped.
    _listening: Vec<Running>,
}

impl Activator {
    /// For the host of this name, which must not have been started. Planes tell `manager` how they are. Those in
    /// `strangers` run as another user than lumend, which takes root.
    pub fn start(stage: &Stage, host: &str, manager: &Path, strangers: &[&str]) -> Result<Self> {
        stage.directory(&format!("run/{host}"))?;
        let directory = stage.directory(&format!("run/{host}/planes"))?;
        let listening = PLANES.map(|plane| listen(stage, &directory, plane, manager, strangers.contains(&plane)));
        let listening = listening.into_iter().collect::<Result<_>>()?;
        let socket = |plane: &str| directory.join(format!("{plane}.sock"));
        wait_until(Duration::from_secs(10), || PLANES.iter().all(|plane| socket(plane).exists()).then_some(()))
            .context("systemd-socket-activate does not listen")?;
        for plane in strangers {
            // The listener is root's then, and lumend is to reach it.
            std::os::unix::fs::chown(socket(plane), Some(stage.uid()), None)?;
        }
        Ok(Self { _listening: listening })
    }
}

fn listen(stage: &Stage, directory: &Path, plane: &str, manager: &Path, stranger: bool) -> Result<Running> {
    let mut command = Command::new("/usr/bin/systemd-socket-activate");
    command.args(["--accept", "--seqpacket", "--listen"]).arg(directory.join(format!("{plane}.sock")));
    let mut variable = std::ffi::OsString::from("NOTIFY_SOCKET=");
    variable.push(manager);
    command.arg("--setenv").arg(variable);
    if stranger {
        let [user, group] = [stage.uid(), stage.gid()].map(|id| (id + 1).to_string());
        command.args(["/usr/bin/setpriv", "--reuid", &user, "--regid", &group, "--clear-groups"]);
    }
    command.arg(stage.program(&format!("lumen-{plane}")));
    command.env_clear().stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    if geteuid().is_root() && !stranger {
        command.uid(stage.uid()).gid(stage.gid());
    }
    Ok(Running::new("systemd-socket-activate", command.spawn().context("systemd-socket-activate does not start")?))
}

/// Hears what sd_notify(3) says.
pub struct Manager {
    socket: UnixDatagram,
    path: PathBuf,
    /// In the order in which it came.
    pub told: Vec<String>,
    /// Stored descriptors of this process, by name. They stay open, and are inherited by the processes that it starts.
    pub kept: BTreeMap<String, RawFd>,
}

impl Manager {
    pub fn listen(stage: &Stage) -> Result<Self> {
        let path = stage.path().join("run/manager");
        let socket = UnixDatagram::bind(&path)?;
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o666))?;
        // Planes of another user have to pass.
        std::fs::set_permissions(stage.path().join("run"), std::os::unix::fs::PermissionsExt::from_mode(0o711))?;
        std::os::unix::fs::chown(&path, Some(stage.uid()), Some(stage.gid()))?;
        socket.set_read_timeout(Some(Duration::from_millis(50)))?;
        Ok(Self { socket, path, told: Vec::new(), kept: BTreeMap::new() })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Hears everything that has been said, and on, until `enough`.
    pub fn hear_until(&mut self, limit: Duration, enough: impl Fn(&Self) -> bool) -> Result<()> {
        wait_until(limit, || {
            while self.hear() {}
            enough(self).then_some(())
        })
        .with_context(|| format!("the manager was told nothing but {:?}", self.told))
    }

    fn hear(&mut self) -> bool {
        let mut text = [0; 4096];
        let mut space = nix::cmsg_space!([RawFd; 4]);
        let mut vector = [IoSliceMut::new(&mut text)];
        let received = recvmsg::<()>(self.socket.as_raw_fd(), &mut vector, Some(&mut space), MsgFlags::empty());
        let Ok(message) = received else { return false };
        let rights = message.cmsgs().into_iter().flatten().find_map(|control| match control {
            ControlMessageOwned::ScmRights(fds) => fds.first().copied(),
            _ => None,
        });
        let length = message.bytes;
        let text = String::from_utf8_lossy(&text[..length]).into_owned();
        let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)).map(str::to_owned);
        match (value("FDNAME="), rights) {
            (Some(name), Some(fd)) if value("FDSTORE=").is_some() => drop(self.kept.insert(name, fd)),
            (Some(name), _) if value("FDSTOREREMOVE=").is_some() => drop(self.kept.remove(&name)),
            _ => {}
        }
        self.told.push(text);
        true
    }
}
