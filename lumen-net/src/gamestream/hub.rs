//! The hub of GameStream sessions: one task on the control thread that owns their RTSP listener, their ENet host, their
//! audio socket and their branches. What a session means is decided in the control loop, which it obeys and to which it
//! reports.

use std::net::{TcpListener, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use ipc::plane::PlaneError;
use ipc::{EndCode, SessionId, Tuning};
use lumen_core::gamestream::Encryption;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::guest::Guest;
use crate::branches::{BranchOrder, Broken};
use crate::counters::Counters;
use crate::media::GuestMedia;

mod greet;
mod loss;
mod net;
pub(crate) mod seat;
mod task;

use task::Task;

/// Sockets that lumend has bound, and what is said on them.
pub struct HubSockets {
    pub rtsp: TcpListener,
    pub control: UdpSocket,
    pub audio: UdpSocket,
    pub ports: HubPorts,
    pub encryption: Encryption,
}

/// UDP ports, as clients are told them.
#[derive(Clone, Copy, Debug)]
pub struct HubPorts {
    pub video: u16,
    pub control: u16,
    pub audio: u16,
}

/// Orders of the control loop, in the order in which they were given. One for a session that is not there is ignored:
/// its end is being reported.
pub enum HubOrder {
    /// Listen on these from now on. Sessions that are live on older ones lose them.
    Sockets(Box<HubSockets>),
    /// A granted launch: its client will speak RTSP. To be said before the launch is answered.
    Open(Box<Guest>),
    /// Rings of sound, input and rumble come and go.
    Branch { session: SessionId, order: Box<BranchOrder> },
    /// Tell the client that it is over, and forget it. Nothing more is reported of it.
    End { session: SessionId, code: EndCode },
}

/// Reports of the hub.
pub enum HubEvent {
    /// The client has said the rest of its wish; once for each session. `media` is for the media thread, when lumend
    /// wires the session.
    Tuned { session: SessionId, tuning: Tuning, media: Box<GuestMedia> },
    /// The client is ready for pictures; once for each session, after `Tuned`.
    Started { session: SessionId },
    /// The client cannot go on without a keyframe.
    Keyframe { session: SessionId },
    /// What the client sees of packets lost, in thousandths.
    Loss { session: SessionId, permille: u32 },
    /// A plane of the session broke the protocol.
    BranchBroken { session: SessionId, broken: Broken },
    /// The client has gone, has fallen silent or has never come. The hub has forgotten the session.
    Gone { session: SessionId, reason: String },
}

/// Orders that may wait. The hub takes them at once, so a full queue means that it hangs, and the plane gives up.
const ORDERS: usize = 256;

/// The hub has this long to take its leave.
const PARTING: Duration = Duration::from_millis(200);

/// The control loop's end of the hub, which ends with it.
pub struct Hub {
    orders: mpsc::Sender<HubOrder>,
    task: JoinHandle<()>,
}

impl Hub {
    /// Starts the hub inside the control thread's runtime. It waits when `events` is full, so the queue drops nothing,
    /// until that is closed.
    pub fn start(events: mpsc::Sender<HubEvent>, counters: Arc<Counters>) -> Self {
        let (orders, for_task) = mpsc::channel(ORDERS);
        let task = tokio::spawn(Task::new(for_task, events, counters).run());
        Self { orders, task }
    }

    /// Gives an order.
    pub fn tell(&self, order: HubOrder) -> Result<(), PlaneError> {
        self.orders.try_send(order).map_err(|_| PlaneError::failed("the GameStream hub takes no orders"))
    }

    /// Carries out what has been ordered, tells every client that it is over, and waits a moment for that to leave. The
    /// other end of `events` is given up: a hub that waited for it would hear of none of this.
    pub async fn shut_down(&mut self, events: &mut mpsc::Receiver<HubEvent>) {
        events.close();
        // The end of the orders is the order to stop.
        self.orders = mpsc::channel(1).0;
        let _ = timeout(PARTING, &mut self.task).await;
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.task.abort();
    }
}
