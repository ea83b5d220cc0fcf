//! The Python face: the heap under a running CPython. The only crate that names the interpreter's API.
//!
//! ```text
//! install.rs     puts our hooks in or under the allocators of the three domains (PEP 445)
//! hooks.rs       the hooks: what the interpreter calls for every block. **The hot path.**
//! hosts.rs       which heap serves whom: main interpreter, raw domain, interpreters of their own
//! elsewhere.rs   blocks that are not the calling heap's: CPython's own, other heaps'
//! imports.rs     the interpreter's own calls of libc's free and realloc, which may get blocks of ours, and of dlsym
//! image.rs       the interpreter's image, whose tables imports.rs writes
//! numpy.rs       the data of NumPy's arrays, through NumPy's own handler (NEP 49)
//! fork.rs        locks held across fork
//! child.rs       a child that only looks at the memory, and the library's allocator, of which it has its own part
//! profile/       the sampler's observer and what it found; frames.rs reads the Python stack
//! layout.rs      facts of the interpreter built for, checked against the one found; versions/ has a file for each
//! collect/       full collections by our own search, in the place of CPython's callbacks
//! descriptor.rs  files of ours, whose descriptors the program may close
//! capture/       a thread that writes what the profiler knows to a file
//! watch.rs       a thread that has the state written where memory nears a limit
//! socket.rs      a thread that answers on a unix socket of the process's own
//! file_names.rs  names of files made of the one that the user gave
//! standard_error.rs  lines of ours on standard error
//! counting.rs    the module's functions for exact counts
//! capturing.rs   the module's functions for captures
//! answers.rs     sys.getallocatedblocks() and friends answer for our heap too
//! place.rs       heapkeeper.where(obj)
//! reports.rs     reports of captures, and how captures are read for them
//! stacks.rs      stacks of captures as flame graphs, differences and files for other tools
//! status.rs      everything known, as a record
//! module.rs      the module heapkeeper._native
//! unwind.c       libgcc_s, loaded when somebody unwinds
//! ```
//!
//! Inside a hook: no Python code, no allocation of CPython's, no lock that Python code may hold.

mod answers;
mod capture;
mod capturing;
mod child;
mod collect;
mod counting;
mod descriptor;
mod elsewhere;
mod file_names;
mod fork;
mod frames;
mod hooks;
mod hosts;
mod image;
mod imports;
mod install;
mod interpreter;
mod layout;
mod module;
mod numpy;
mod place;
mod process;
mod profile;
mod reports;
mod socket;
mod stacks;
mod standard_error;
mod status;
mod watch;
