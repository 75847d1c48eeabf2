//! The archive format that the kernel unpacks into its first file system ("newc" of initramfs' buffer-format.rst).

use std::io::{self, Write};

const REGULAR: u32 = 0o100_000;
const DIRECTORY: u32 = 0o040_000;
const NODE: u32 = 0o020_000;

/// Writes entries one after the other; all belong to root.
pub struct Archive<W> {
    out: W,
    inode: u32,
    written: usize,
}

impl<W: Write> Archive<W> {
    pub fn new(out: W) -> Self {
        Self { out, inode: 0, written: 0 }
    }

    /// Parents must have been written before.
    pub fn directory(&mut self, path: &str) -> io::Result<()> {
        self.entry(path, DIRECTORY | 0o755, (0, 0), &[])
    }

    /// An executable file.
    pub fn file(&mut self, path: &str, bytes: &[u8]) -> io::Result<()> {
        self.entry(path, REGULAR | 0o755, (0, 0), bytes)
    }

    /// A character device.
    pub fn node(&mut self, path: &str, device: (u32, u32)) -> io::Result<()> {
        self.entry(path, NODE | 0o600, device, &[])
    }

    /// Ends the archive.
    pub fn finish(mut self) -> io::Result<W> {
        self.entry("TRAILER!!!", 0, (0, 0), &[])?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn entry(&mut self, path: &str, mode: u32, device: (u32, u32), bytes: &[u8]) -> io::Result<()> {
        self.inode += 1;
        let size = u32::try_from(bytes.len()).map_err(|_| io::ErrorKind::FileTooLarge)?;
        let name = path.len() as u32 + 1;
        // Inode, mode, owner, group, links, time, size, the file system's device, the node's, length of name, checksum.
        let fields = [self.inode, mode, 0, 0, 1, 0, size, 0, 0, device.0, device.1, name, 0];
        let header: String = fields.iter().map(|field| format!("{field:08X}")).collect();
        self.put(format!("070701{header}{path}\0").as_bytes())?;
        self.put(bytes)
    }

    /// Header with name, and contents, each end at a multiple of four.
    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)?;
        self.written += bytes.len();
        let padding = self.written.next_multiple_of(4) - self.written;
        self.written += padding;
        self.out.write_all(&[0; 3][..padding])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_headers_names_and_contents_at_multiples_of_four() {
        let mut archive = Archive::new(Vec::new());
        archive.file("bin/tool", b"twelve\n").unwrap();
        archive.node("tty", (5, 1)).unwrap();
        let text = String::from_utf8(archive.finish().unwrap()).unwrap();
        let zero = "00000000";
        let one = "00000001";
        let file = format!("070701{one}000081ED{zero}{zero}{one}{zero}00000007{zero}{zero}{zero}{zero}00000009{zero}");
        let node = format!(
            "070701000000020000\
            2180{zero}{zero}{one}{zero}{zero}{zero}{zero}00000005{one}00000004{zero}"
        );
        let end = format!("07070100000003{zero}{zero}{zero}{one}{zero}{zero}{zero}{zero}{zero}{zero}0000000B{zero}");
        assert_eq!(text, format!("{file}bin/tool\0\0twelve\n\0{node}tty\0\0\0{end}TRAILER!!!\0\0\0\0"));
    }
}
