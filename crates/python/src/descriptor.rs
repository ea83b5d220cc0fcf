//! Descriptors of ours, in a process whose program may close any descriptor and be given its number for a file of its own.
//!
//! Daemons close all that they do not know. So before a number is used, or closed, the file behind it is looked at: what is not
//! the file that was opened is the program's, and left alone.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Programs count on getting the lowest numbers themselves, and a daemon may close 0, 1 and 2 and open files in their place.
const LOWEST: RawFd = 100;

/// The number of a descriptor, and the file that is behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Descriptor {
    number: RawFd,
    device: u64,
    inode: u64,
}

impl Descriptor {
    /// What is behind a number now; `None` if it is closed.
    pub fn of(number: RawFd) -> Option<Descriptor> {
        let metadata = borrowed(number).metadata().ok()?;
        Some(Descriptor { number, device: metadata.dev(), inode: metadata.ino() })
    }

    /// What was just opened, under a number that programs do not count on. Whoever gets it closes it.
    ///
    /// # Errors
    /// What the OS says.
    pub fn raised(opened: OwnedFd) -> io::Result<Descriptor> {
        // SAFETY: has no conditions.
        let moved = unsafe { libc::fcntl(opened.as_raw_fd(), libc::F_DUPFD_CLOEXEC, LOWEST) };
        // A limit on descriptors may leave no room up there.
        let number = if moved < 0 { opened.into_raw_fd() } else { moved };
        Descriptor::of(number).ok_or_else(io::Error::last_os_error)
    }

    /// The number.
    pub fn number(self) -> RawFd {
        self.number
    }

    /// Whether the same file is behind it still.
    pub fn is_there(self) -> bool {
        Descriptor::of(self.number) == Some(self)
    }

    /// The file, which is not closed with it.
    ///
    /// # Errors
    /// It is closed, or another's.
    pub fn file(self) -> io::Result<ManuallyDrop<File>> {
        if self.is_there() { Ok(borrowed(self.number)) } else { Err(io::Error::other("the program has closed it")) }
    }

    /// Close it, unless it is another's.
    pub fn close(self) {
        if let Ok(file) = self.file() {
            drop(ManuallyDrop::into_inner(file));
        }
    }
}

fn borrowed(number: RawFd) -> ManuallyDrop<File> {
    // SAFETY: never dropped but by `Descriptor::close`; a number that is closed gives an error with each call.
    ManuallyDrop::new(unsafe { File::from_raw_fd(number) })
}

/// A new file that only we write to.
pub struct OurFile {
    descriptor: Descriptor,
    path: PathBuf,
}

impl OurFile {
    /// Create the file, which must not exist, for its owner alone.
    ///
    /// # Errors
    /// What the OS says.
    pub fn create(path: &Path) -> io::Result<OurFile> {
        // Read by who fetches what has been written so far.
        let file = OpenOptions::new().read(true).append(true).create_new(true).mode(0o600).open(path)?;
        let descriptor = Descriptor::raised(file.into())?;
        Ok(OurFile { descriptor, path: path.to_owned() })
    }

    pub fn descriptor(&self) -> Descriptor {
        self.descriptor
    }

    /// Names that the file has: 0 if it was deleted.
    ///
    /// # Errors
    /// What the OS says.
    pub fn links(&mut self) -> io::Result<u64> {
        Ok(self.with_file(|file| file.metadata())?.nlink())
    }

    /// How long it is.
    ///
    /// # Errors
    /// What the OS says.
    pub fn bytes(&mut self) -> io::Result<u64> {
        Ok(self.with_file(|file| file.metadata())?.len())
    }

    /// Do something with the file, and again if the program has closed it in the middle of that.
    fn with_file<T>(&mut self, work: impl Fn(&mut File) -> io::Result<T>) -> io::Result<T> {
        let done = self.file().and_then(|mut file| work(&mut file));
        if done.is_ok() || self.descriptor.is_there() {
            return done;
        }
        self.file().and_then(|mut file| work(&mut file))
    }

    /// The file, opened again where the program has closed it.
    fn file(&mut self) -> io::Result<ManuallyDrop<File>> {
        if !self.descriptor.is_there() {
            let again = OpenOptions::new().append(true).custom_flags(libc::O_NOFOLLOW).open(&self.path)?;
            let found = Descriptor::of(again.as_raw_fd()).ok_or_else(io::Error::last_os_error)?;
            if (found.device, found.inode) != (self.descriptor.device, self.descriptor.inode) {
                return Err(io::Error::other("the program has closed it, and another file has its name"));
            }
            self.descriptor = Descriptor { number: again.into_raw_fd(), ..found };
        }
        self.descriptor.file()
    }
}

impl Write for OurFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.with_file(|file| file.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for OurFile {
    fn drop(&mut self) {
        self.descriptor.close();
    }
}
