//! What outlives a session's input plane: the devices that it has made, so that a game's pad does not vanish when the
//! plane dies, the memory that tells its heir what is pressed, and the rings in which there may be events that it has
//! not taken. Nothing of it outlives the session. Devices on a compositor are as old as the connection that they were made on:
//! [`desk`].

mod desk;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::OwnedFd;

use ipc::shm::sealed_memfd;
use ipc::{DeviceId, Generation, Hands, Kept, MAX_BEFORE, RingFds, STATE_BYTES};

use self::desk::Desk;
use crate::rate::Rate;

/// Devices that a plane may want at once, which is more than there are, and in the long run.
const BURST: u32 = 64;
const PER_SECOND: u32 = 4;

#[derive(Debug)]
pub struct Keep {
    /// None until it is wanted.
    state: Option<OwnedFd>,
    /// As many as there are kinds of device and pads.
    devices: BTreeMap<DeviceId, OwnedFd>,
    /// Their devices are destroyed: used for the next that are wanted, as there may be no more where they came from.
    spare: Vec<OwnedFd>,
    rate: Rate,
    desk: Desk,
    /// The plane's ends of rings of events, each of a later generation than the one before it. The last is what the plane
    /// has; in the others, [`MAX_BEFORE`] at most as with the plane itself, something may be left.
    rings: VecDeque<(Generation, RingFds<OwnedFd>)>,
    /// Of the client's events the first that no plane has taken, as one of them has said last.
    pub next: u32,
}

impl Keep {
    pub fn new(now: u64) -> Self {
        Self {
            state: None,
            devices: BTreeMap::new(),
            spare: Vec::new(),
            rate: Rate::new(now, BURST, PER_SECOND),
            desk: Desk::default(),
            rings: VecDeque::new(),
            next: 0,
        }
    }

    /// For a plane to map.
    pub fn state(&mut self) -> io::Result<OwnedFd> {
        if self.state.is_none() {
            self.state = Some(sealed_memfd("lumen-hands", STATE_BYTES)?);
        }
        self.state.as_ref().map_or_else(|| Err(io::ErrorKind::OutOfMemory.into()), OwnedFd::try_clone)
    }

    /// The same hands over the connection of a dead plane, if there is one and it had made its devices in the same place.
    pub fn hands(&mut self, fresh: Hands<OwnedFd>) -> io::Result<Hands<OwnedFd>> {
        self.desk.hand_over(fresh)
    }

    /// The plane has its devices, and has taken what was in the rings before that of this generation. Net may still have
    /// to learn of it, and so the last of them is kept.
    pub fn wired(&mut self, generation: Generation) {
        self.desk.made();
        while self.rings.get(1).is_some_and(|&(next, _)| next < generation) {
            self.rings.pop_front();
        }
    }

    /// The plane ends in order, and takes its devices on a compositor with it; or they are of no use any more.
    pub fn leaves(&mut self) {
        self.desk = Desk::default();
    }

    /// The plane broke a rule: its heir gets nothing in which it may have left something, and so what was held is lifted.
    /// Devices are made anew. `blank` empties a descriptor, if that can be done.
    pub fn broke(&mut self, mut blank: impl FnMut(OwnedFd) -> Option<OwnedFd>) {
        self.forsake();
        let devices = std::mem::take(&mut self.devices).into_iter();
        self.devices = devices.filter_map(|(device, fd)| Some((device, blank(fd)?))).collect();
        self.spare = std::mem::take(&mut self.spare).into_iter().filter_map(blank).collect();
    }

    /// The plane was given up and lives, with everything that it had: as if it had broken a rule, and its descriptors are
    /// of no more use to anybody else. `supply` has others. The connection and the devices are its too, and so they are
    /// ended, not only let go of: nobody would lift what is held by them.
    pub fn strayed(
        &mut self,
        mut blank: impl FnMut(OwnedFd) -> Option<OwnedFd>,
        mut supply: impl FnMut() -> Option<OwnedFd>,
    ) {
        self.desk.cut();
        self.forsake();
        let spare = std::mem::take(&mut self.spare).into_iter();
        let (devices, fds): (Vec<_>, Vec<_>) = std::mem::take(&mut self.devices).into_iter().unzip();
        fds.into_iter().chain(spare).for_each(|fd| drop(blank(fd)));
        self.devices = devices.into_iter().filter_map(|device| Some((device, supply()?))).collect();
    }

    fn forsake(&mut self) {
        self.desk = Desk::default();
        self.rings.clear();
        self.state = None;
    }

    /// The plane has died.
    pub fn died(&mut self, now: u64) {
        self.desk.orphaned(now);
    }

    /// When the compositor is to notice that there is no heir.
    pub fn deadline(&self) -> Option<u64> {
        self.desk.deadline()
    }

    /// Lets go of what is due.
    pub fn tick(&mut self, now: u64) {
        if self.deadline().is_some_and(|at| now >= at) {
            self.leaves();
        }
    }

    /// Keeps another handle on the ring that a plane is about to get.
    pub fn ring(&mut self, generation: Generation, events: &RingFds<OwnedFd>) -> io::Result<()> {
        self.rings.push_back((generation, again(events)?));
        while self.rings.len() > MAX_BEFORE + 1 {
            self.rings.pop_front();
        }
        Ok(())
    }

    /// The rings that the heir of a dead plane is to empty, oldest first: the last ones, if there are too many. It is about to
    /// get one of its own.
    pub fn rings(&self) -> io::Result<Vec<RingFds<OwnedFd>>> {
        let too_many = self.rings.len().saturating_sub(MAX_BEFORE);
        self.rings.iter().skip(too_many).map(|(_, ring)| again(ring)).collect()
    }

    /// For the heir of the plane that made them.
    pub fn kept(&self) -> io::Result<Vec<Kept<OwnedFd>>> {
        self.devices.iter().map(|(&device, fd)| Ok(Kept { device, fd: fd.try_clone()? })).collect()
    }

    /// A descriptor for `device`, from `supply` if there is none left over. One that is kept already is handed out
    /// again: that a device is wanted twice makes no second one.
    pub fn grant(
        &mut self,
        now: u64,
        device: DeviceId,
        supply: impl FnOnce() -> io::Result<OwnedFd>,
    ) -> io::Result<OwnedFd> {
        if !self.rate.take(now) {
            return Err(io::Error::other("devices are wanted faster than anybody could plug them in"));
        }
        if let Some(fd) = self.devices.get(&device) {
            return fd.try_clone();
        }
        let fd = self.spare.pop().map_or_else(supply, Ok)?;
        let theirs = fd.try_clone();
        self.devices.insert(device, fd);
        theirs
    }

    /// The plane has destroyed the device.
    pub fn dropped(&mut self, device: DeviceId) {
        self.spare.extend(self.devices.remove(&device));
    }

    /// The devices that are there, for people.
    pub fn devices(&self) -> impl Iterator<Item = DeviceId> + '_ {
        self.devices.keys().copied()
    }

    /// Everything that came from the supply, once no plane has it any more.
    pub fn into_fds(self) -> impl Iterator<Item = OwnedFd> {
        self.devices.into_values().chain(self.spare)
    }
}

fn again(ring: &RingFds<OwnedFd>) -> io::Result<RingFds<OwnedFd>> {
    let RingFds { memory, data, credit, geometry } = ring;
    let (memory, data, credit) = (memory.try_clone()?, data.try_clone()?, credit.try_clone()?);
    Ok(RingFds { memory, data, credit, geometry: *geometry })
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::AsRawFd;

    use ipc::RingGeometry;
    use lumen_core::input::PadIndex;

    use super::*;

    fn null() -> io::Result<OwnedFd> {
        Ok(File::open("/dev/null")?.into())
    }

    fn none() -> io::Result<OwnedFd> {
        Err(io::ErrorKind::NotFound.into())
    }

    #[test]
    fn a_device_is_kept_for_the_heir_and_its_descriptor_used_again() {
        let mut keep = Keep::new(0);
        let pad = DeviceId::Pad(PadIndex::new(3).unwrap());
        assert!(keep.grant(0, pad, none).is_err() && keep.kept().unwrap().is_empty());
        let theirs = keep.grant(0, pad, null).unwrap();
        let kept = keep.kept().unwrap();
        assert!(kept.len() == 1 && kept[0].device == pad && kept[0].fd.as_raw_fd() != theirs.as_raw_fd());
        keep.grant(0, pad, none).expect("wanted twice, opened once");
        keep.dropped(pad);
        keep.dropped(DeviceId::Mouse);
        assert!(keep.kept().unwrap().is_empty());
        keep.grant(0, DeviceId::Mouse, none).expect("what the pad has left");
        assert_eq!(keep.into_fds().count(), 1);
    }

    #[test]
    fn a_ring_is_kept_until_a_later_plane_says_that_it_is_empty() {
        let mut keep = Keep::new(0);
        // Rings are told apart by the size that is said of them.
        let add = |keep: &mut Keep, generation: u32| {
            let geometry = RingGeometry { frame_chunks: generation, ..RingGeometry::INPUT };
            let [memory, data, credit] = [null(), null(), null()].map(Result::unwrap);
            keep.ring(Generation(generation), &RingFds { memory, data, credit, geometry }).unwrap();
        };
        let kept =
            |keep: &Keep| keep.rings().unwrap().iter().map(|ring| ring.geometry.frame_chunks).collect::<Vec<_>>();
        // Two die before they are ready, the third takes what all have left.
        (1..=3).for_each(|generation| add(&mut keep, generation));
        assert_eq!(kept(&keep), [1, 2, 3]);
        keep.wired(Generation(1));
        assert_eq!(kept(&keep), [1, 2, 3], "said before it had the next");
        keep.wired(Generation(3));
        assert_eq!(kept(&keep), [2, 3], "net may not have let go of the second");
        (4..=9).for_each(|generation| add(&mut keep, generation));
        // Those that a plane which was moved so often has are one more: the last is what its heir has before its own.
        assert_eq!((kept(&keep), keep.rings.len()), (vec![6, 7, 8, 9], MAX_BEFORE + 1));
        keep.broke(Some);
        assert!(kept(&keep).is_empty());
    }

    #[test]
    fn an_heir_gets_nothing_of_a_plane_that_broke_a_rule_or_lives_on() {
        let inode = |fd: OwnedFd| nix::sys::stat::fstat(fd).unwrap().st_ino;
        let pads = [1, 2].map(|pad| DeviceId::Pad(PadIndex::new(pad).unwrap()));
        let keep = || {
            let mut keep = Keep::new(0);
            for device in [pads[0], pads[1], DeviceId::Mouse] {
                keep.grant(0, device, null).unwrap();
            }
            keep.dropped(DeviceId::Mouse);
            keep
        };
        let left = |keep: &Keep| keep.kept().unwrap().into_iter().map(|kept| kept.device).collect::<Vec<_>>();
        // Without a cause the memory is the same for all.
        let mut broken = keep();
        let before = inode(broken.state().unwrap());
        broken.died(1);
        assert_eq!(inode(broken.state().unwrap()), before);
        // Pads stay plugged in, as devices that are to be made; every descriptor is emptied, or gone.
        let mut emptied = 0;
        broken.broke(|fd| {
            emptied += 1;
            (emptied != 2).then_some(fd)
        });
        assert_eq!((emptied, left(&broken)), (3, vec![pads[0]]));
        assert_ne!(inode(broken.state().unwrap()), before);
        assert_eq!(broken.into_fds().count(), 2);

        let mut strayed = keep();
        let before = inode(strayed.state().unwrap());
        let theirs: Vec<_> = strayed.devices.values().map(AsRawFd::as_raw_fd).collect();
        let fresh = [null().unwrap()];
        let (number, mut fresh) = (fresh[0].as_raw_fd(), fresh.into_iter());
        let mut emptied = 0;
        strayed.strayed(
            |fd| {
                emptied += 1;
                Some(fd)
            },
            || fresh.next(),
        );
        assert_eq!(emptied, 3, "the spare one too");
        assert_eq!(left(&strayed), [pads[0]], "there is one for one of them");
        assert_ne!(inode(strayed.state().unwrap()), before);
        let ours: Vec<_> = strayed.into_fds().map(|fd| fd.as_raw_fd()).collect();
        assert!(ours == [number] && !theirs.contains(&number));
    }

    #[test]
    fn a_flood_of_wants_opens_no_more_than_there_are_devices() {
        let mut keep = Keep::new(0);
        let mut opened = 0;
        let pads = (0..16).filter_map(PadIndex::new).map(DeviceId::Pad);
        let devices: Vec<_> = pads.chain([DeviceId::Keyboard, DeviceId::Mouse, DeviceId::Touch]).collect();
        let mut granted = 0;
        for device in devices.iter().cycle().take(1000) {
            let grant = keep.grant(0, *device, || {
                opened += 1;
                null()
            });
            granted += u32::from(grant.is_ok());
            if granted % 3 == 0 {
                keep.dropped(*device);
            }
        }
        assert_eq!(granted, BURST);
        assert!(opened <= devices.len());
    }
}
