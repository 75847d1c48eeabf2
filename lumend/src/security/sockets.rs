//! The kernel's tables of sockets, which tell what the number of an open socket stands for.

use std::collections::BTreeMap;
use std::fs;

use ipc::sandbox::profile::Handle;

/// In a table of IP sockets, the state of one that listens.
const LISTEN: &str = "0A";
/// In the table of local sockets, the flag of one that listens.
const ACCEPTS: u32 = 0x1_0000;

/// What a socket is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Socket {
    pub handle: Handle,
    /// Where strangers reach it, of TCP listeners and of bound UDP; not of local ones.
    pub port: Option<u16>,
    /// A local one that accepts connections.
    pub accepts: bool,
}

/// Sockets by number, of all network namespaces that were read.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Sockets(BTreeMap<u64, Socket>);

impl Sockets {
    /// Of the namespaces of these processes. What cannot be read is passed over: its sockets are of no known kind then.
    pub fn read(pids: &[u32]) -> Self {
        let mut sockets = Self::default();
        for pid in pids {
            for (name, add) in [
                ("unix", Self::add_local as fn(&mut Self, &str)),
                ("tcp", Self::add_tcp),
                ("tcp6", Self::add_tcp),
                ("udp", Self::add_udp),
                ("udp6", Self::add_udp),
            ] {
                add(&mut sockets, &fs::read_to_string(format!("/proc/{pid}/net/{name}")).unwrap_or_default());
            }
        }
        sockets
    }

    pub fn get(&self, inode: u64) -> Option<Socket> {
        self.0.get(&inode).copied()
    }

    fn add_local(&mut self, table: &str) {
        for line in table.lines().skip(1) {
            let words: Vec<&str> = line.split_whitespace().collect();
            let (Some(flags), Some(kind), Some(inode)) = (words.get(3), words.get(4), words.get(6)) else { continue };
            let handle = match *kind {
                "0001" => Handle::Stream,
                "0002" => Handle::Datagram,
                "0005" => Handle::Link,
                _ => Handle::OtherSocket,
            };
            let accepts = u32::from_str_radix(flags, 16).is_ok_and(|flags| flags & ACCEPTS != 0);
            if let Ok(inode) = inode.parse() {
                self.0.insert(inode, Socket { handle, port: None, accepts });
            }
        }
    }

    fn add_tcp(&mut self, table: &str) {
        self.add_ip(table, |state| if state == LISTEN { Handle::TcpListener } else { Handle::Tcp });
    }

    fn add_udp(&mut self, table: &str) {
        self.add_ip(table, |_| Handle::Udp);
    }

    fn add_ip(&mut self, table: &str, handle: impl Fn(&str) -> Handle) {
        for line in table.lines().skip(1) {
            let words: Vec<&str> = line.split_whitespace().collect();
            let (Some(local), Some(state), Some(inode)) = (words.get(1), words.get(3), words.get(9)) else { continue };
            let port = local.rsplit(':').next().and_then(|port| u16::from_str_radix(port, 16).ok());
            let handle = handle(state);
            let port = port.filter(|_| handle != Handle::Tcp);
            if let Ok(inode) = inode.parse() {
                self.0.insert(inode, Socket { handle, port, accepts: false });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::os::fd::AsRawFd;
    use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};

    use super::*;

    fn seen(fd: &impl AsRawFd) -> Option<Socket> {
        let link = fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).unwrap();
        let inode = link.to_str().unwrap().trim_start_matches("socket:[").trim_end_matches(']').parse().unwrap();
        Sockets::read(&[std::process::id()]).get(inode)
    }

    #[test]
    fn knows_the_sockets_of_this_very_process() {
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = Some(udp.local_addr().unwrap().port());
        assert_eq!(seen(&udp), Some(Socket { handle: Handle::Udp, port, accepts: false }));
        let tcp = TcpListener::bind("[::1]:0").or_else(|_| TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = tcp.local_addr().unwrap();
        let listener = Socket { handle: Handle::TcpListener, port: Some(address.port()), accepts: false };
        assert_eq!(seen(&tcp), Some(listener));
        let stream = TcpStream::connect(address).unwrap();
        assert_eq!(seen(&stream), Some(Socket { handle: Handle::Tcp, port: None, accepts: false }));
        let (one, _other) = UnixStream::pair().unwrap();
        assert_eq!(seen(&one), Some(Socket { handle: Handle::Stream, port: None, accepts: false }));
        let datagram = UnixDatagram::unbound().unwrap();
        assert_eq!(seen(&datagram), Some(Socket { handle: Handle::Datagram, port: None, accepts: false }));
        let place = std::env::temp_dir().join(format!("lumend-sockets-{}", std::process::id()));
        let local = UnixListener::bind(&place).unwrap();
        fs::remove_file(&place).unwrap();
        assert_eq!(seen(&local), Some(Socket { handle: Handle::Stream, port: None, accepts: true }));
    }

    #[test]
    fn a_table_that_is_none_has_no_sockets() {
        let mut sockets = Sockets::default();
        for text in ["", "x", "Num\n1 2 3", "a b\n: : : : : : : :", "sl\n0: 1:2 3:4 0A 5 6 x 8 9 -1"] {
            sockets.add_local(text);
            sockets.add_tcp(text);
            sockets.add_udp(text);
        }
        assert_eq!(sockets, Sockets::default());
    }
}
