//! ENet 1.3 as it looks from outside: the commands in a datagram, without doing any of them (rusty_enet, c/protocol.rs).
//!
//! The library gets only what has passed here: whole datagrams of the few commands that a client has any use for.

/// Channels of a session's control stream (moonlight-common-c, Limelight-internal.h: CTRL_CHANNEL_COUNT).
pub const CHANNELS: usize = 0x30;
/// Most bytes of a datagram that the library has room for.
pub const MOST_BYTES: usize = rusty_enet::MTU_MAX;
/// Most commands that a sender puts into one datagram.
pub const MOST_COMMANDS: usize = 32;

/// The peer that a datagram is for while the host has not said which it is.
const NOBODY: u16 = 0x0FFF;
const SENT_TIME: u16 = 0x8000;
const COMPRESSED: u16 = 0x4000;
const PEER: u16 = 0x0FFF;
const KIND: u8 = 0x0F;

/// What a client may say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Command {
    /// The first of all, and alone in its datagram.
    Connect {
        connect_id: u32,
        data: u32,
    },
    Reliable {
        channel: u8,
        sequence: u16,
    },
    /// Waits for the reliable one before it.
    Unreliable {
        channel: u8,
        after: u16,
    },
    Unsequenced {
        channel: u8,
    },
    Disconnect,
    /// Acknowledgements, pings and settings: nothing of them is kept.
    Service,
}

/// It is not from a client of this kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Strange;

/// Puts the commands of a datagram into `commands`, in order and instead of what was there. Fragments are strange:
/// everything that clients say fits into one packet, and what is put together from many is a place to store things.
pub fn parse(datagram: &[u8], commands: &mut Vec<Command>) -> Result<(), Strange> {
    commands.clear();
    if datagram.len() > MOST_BYTES {
        return Err(Strange);
    }
    let mut bytes = Bytes(datagram);
    let head = bytes.u16()?;
    if head & COMPRESSED != 0 {
        return Err(Strange);
    }
    if head & SENT_TIME != 0 {
        bytes.u16()?;
    }
    while !bytes.0.is_empty() {
        if commands.len() >= MOST_COMMANDS {
            return Err(Strange);
        }
        commands.push(bytes.command()?);
    }
    let connects = commands.iter().any(|command| matches!(command, Command::Connect { .. }));
    let nobody = head & PEER == NOBODY;
    let alone = commands.len() == 1 && head & SENT_TIME != 0;
    if commands.is_empty() || connects != nobody || connects && !alone { Err(Strange) } else { Ok(()) }
}

/// The reliable packets, by channel and number, that a datagram of the library acknowledges. It puts those first
/// (rusty_enet, c/protocol.rs).
pub fn acknowledged(datagram: &[u8]) -> impl Iterator<Item = (u8, u16)> {
    const ACKNOWLEDGE: u8 = 1;
    let mut bytes = Bytes(datagram);
    let head = bytes.u16().unwrap_or_default();
    if head & SENT_TIME != 0 {
        // Without it there is nothing after it either.
        let _ = bytes.u16();
    }
    std::iter::from_fn(move || {
        let [kind, channel] = bytes.take().ok()?;
        let (_, sequence, _) = (bytes.u16().ok()?, bytes.u16().ok()?, bytes.u16().ok()?);
        (kind & KIND == ACKNOWLEDGE).then_some((channel, sequence))
    })
}

struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], Strange> {
        let (taken, rest) = self.0.split_first_chunk::<N>().ok_or(Strange)?;
        self.0 = rest;
        Ok(*taken)
    }

    fn u16(&mut self) -> Result<u16, Strange> {
        self.take().map(u16::from_be_bytes)
    }

    fn skip(&mut self, count: usize) -> Result<(), Strange> {
        self.0 = self.0.get(count..).ok_or(Strange)?;
        Ok(())
    }

    /// What follows a data command's own fields.
    fn data(&mut self) -> Result<(), Strange> {
        let length = self.u16()?;
        self.skip(usize::from(length))
    }

    fn command(&mut self) -> Result<Command, Strange> {
        let [kind, channel] = self.take()?;
        let sequence = self.u16()?;
        match kind & KIND {
            // Acknowledge; bandwidth limit.
            1 => self.skip(4)?,
            10 => self.skip(8)?,
            // Throttle configure.
            11 => self.skip(12)?,
            // Ping.
            5 => {}
            2 => {
                // Peer, sessions, MTU, window, channels, bandwidths and throttle.
                self.skip(2 + 2 + 4 * 8)?;
                // As the library keeps it: not swapped, since it only comes back.
                let connect_id = u32::from_ne_bytes(self.take()?);
                return Ok(Command::Connect { connect_id, data: u32::from_be_bytes(self.take()?) });
            }
            4 => {
                self.skip(4)?;
                return Ok(Command::Disconnect);
            }
            6 => {
                self.data()?;
                return on_channel(channel, Command::Reliable { channel, sequence });
            }
            7 => {
                self.u16()?;
                self.data()?;
                return on_channel(channel, Command::Unreliable { channel, after: sequence });
            }
            9 => {
                self.u16()?;
                self.data()?;
                return on_channel(channel, Command::Unsequenced { channel });
            }
            // None; verify connect, which only hosts say; fragments.
            _ => return Err(Strange),
        }
        Ok(Command::Service)
    }
}

fn on_channel(channel: u8, command: Command) -> Result<Command, Strange> {
    if usize::from(channel) < CHANNELS { Ok(command) } else { Err(Strange) }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A CONNECT as a client sends it.
    pub fn connect(connect_id: u32, data: u32) -> Vec<u8> {
        let mut datagram = vec![0x8F, 0xFF, 0, 1, 0x82, 0xFF, 0, 1, 0, 0, 0xFF, 0xFF];
        // MTU, window, channels; bandwidths and throttle.
        for field in [900, 65_536, CHANNELS as u32, 0, 0, 5_000, 2, 2] {
            datagram.extend_from_slice(&u32::to_be_bytes(field));
        }
        datagram.extend_from_slice(&connect_id.to_ne_bytes());
        datagram.extend_from_slice(&data.to_be_bytes());
        datagram
    }

    /// A datagram to peer 0 with one reliable packet.
    pub fn reliable(channel: u8, sequence: u16, data: &[u8]) -> Vec<u8> {
        let [high, low] = sequence.to_be_bytes();
        let mut datagram = vec![0x80, 0, 0, 1, 0x86, channel, high, low];
        datagram.extend_from_slice(&(data.len() as u16).to_be_bytes());
        datagram.extend_from_slice(data);
        datagram
    }

    fn parsed(datagram: &[u8]) -> Result<Vec<Command>, Strange> {
        let mut commands = Vec::new();
        parse(datagram, &mut commands).map(|()| commands)
    }

    #[test]
    fn what_clients_say_is_understood() {
        assert_eq!(parsed(&connect(7, 9)), Ok(vec![Command::Connect { connect_id: 7, data: 9 }]));
        let mut datagram = reliable(5, 3, b"abc");
        datagram.extend_from_slice(&[0x49, 0, 0, 0, 0, 1, 0, 2, 1, 2]);
        datagram.extend_from_slice(&[7, 0x10, 0, 4, 0, 1, 0, 0]);
        datagram.extend_from_slice(&[0x85, 0xFF, 0, 1]);
        datagram.extend_from_slice(&[1, 0xFF, 0, 1, 0, 1, 0, 1]);
        datagram.extend_from_slice(&[0x84, 0xFF, 0, 2, 0, 0, 0, 0]);
        let commands = [
            Command::Reliable { channel: 5, sequence: 3 },
            Command::Unsequenced { channel: 0 },
            Command::Unreliable { channel: 0x10, after: 4 },
            Command::Service,
            Command::Service,
            Command::Disconnect,
        ];
        assert_eq!(parsed(&datagram), Ok(commands.to_vec()));
    }

    #[test]
    fn a_real_client_is_understood() {
        let line = |line: &str| -> Vec<u8> {
            (0..line.len() / 2).map(|at| u8::from_str_radix(&line[2 * at..][..2], 16).unwrap()).collect()
        };
        let recorded = include_str!("recorded.txt").lines().filter(|line| !line.starts_with('#'));
        let said: Vec<Vec<Command>> = recorded.map(|datagram| parsed(&line(datagram)).expect(datagram)).collect();
        assert!(matches!(said[0][..], [Command::Connect { data, .. }] if data != 0), "it brings what RTSP gave it");
        assert!(said.iter().flatten().any(|command| matches!(command, Command::Reliable { channel: 0, sequence: 1 })));
        assert!(
            said.iter().flatten().any(|command| matches!(command, Command::Reliable { channel: 3, .. })),
            "a mouse"
        );
        assert!(said.iter().flatten().any(|command| *command == Command::Disconnect), "and takes its leave");
    }

    #[test]
    fn what_they_never_say_is_strange() {
        let whole = reliable(0, 1, b"abc");
        let mut wrong: Vec<Vec<u8>> = (0..whole.len()).map(|length| whole[..length].to_vec()).collect();
        // A channel that was not agreed on; compression; a fragment; VERIFY_CONNECT; no command.
        wrong.push(reliable(CHANNELS as u8, 1, b""));
        wrong.push([&[0xC0, 0], &whole[2..]].concat());
        wrong.push([&[0x80, 0, 0, 1, 0x88, 0, 0, 1, 0, 1, 0, 1, 0, 0, 0, 2, 0, 0, 0, 0][..], &[0; 9]].concat());
        wrong.push([&[0x80, 0, 0, 1, 0x83, 0xFF, 0, 1][..], &[0; 40]].concat());
        wrong.push(vec![0x80, 0, 0, 1]);
        // CONNECT to somebody, with something after it, without a time; something else to nobody.
        let hello = connect(1, 1);
        wrong.push([&[0x80, 0], &hello[2..]].concat());
        wrong.push([&hello[..], &[0x85, 0xFF, 0, 1]].concat());
        wrong.push([&[0x0F, 0xFF], &hello[4..]].concat());
        wrong.push([&[0x8F, 0xFF], &whole[2..]].concat());
        // More than a sender ever puts together, and more than there is room for.
        wrong.push([&[0x80, 0, 0, 1][..], &[0x85, 0xFF, 0, 1].repeat(MOST_COMMANDS + 1)].concat());
        wrong.push(reliable(0, 1, &[0; MOST_BYTES]));
        for datagram in wrong {
            assert_eq!(parsed(&datagram), Err(Strange), "{datagram:02x?}");
        }
    }

    #[test]
    fn acknowledgements_are_found_in_front() {
        let acknowledgement = |channel, [high, low]: [u8; 2]| [1, channel, high, low, high, low, 0x12, 0x34];
        let acknowledgements = [acknowledgement(3, [1, 2]), acknowledgement(0xFF, [0, 9])].concat();
        let rest = [0x85, 0xFF, 0, 1];
        for head in [&[0, 7][..], &[0x80, 7, 0xAB, 0xCD]] {
            let found: Vec<_> = acknowledged(&[head, &acknowledgements, &rest].concat()).collect();
            assert_eq!(found, [(3, 0x102), (0xFF, 9)]);
            assert_eq!(acknowledged(&[head, &rest].concat()).count(), 0);
        }
    }

    proptest::proptest! {
        #[test]
        fn anything_is_parsed_or_refused(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            let mut commands = Vec::new();
            if parse(&bytes, &mut commands).is_ok() {
                proptest::prop_assert!((1..=MOST_COMMANDS).contains(&commands.len()));
            }
        }
    }
}
