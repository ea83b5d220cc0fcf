//! A loaded ELF image: its segments, and the tables by which it calls what it imports.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering::Release};

use goblin::elf64::dynamic::{
    DT_GNU_HASH, DT_JMPREL, DT_NULL, DT_PLTRELSZ, DT_RELA, DT_RELACOUNT, DT_RELASZ, DT_STRTAB, DT_SYMTAB, Dyn,
};
use goblin::elf64::program_header::{PT_DYNAMIC, PT_GNU_RELRO, PT_LOAD, ProgramHeader};
use goblin::elf64::reloc::{self, Rela};
use goblin::elf64::section_header::SHN_UNDEF;
use goblin::elf64::sym::Sym;

/// The relocations of a slot that holds the address of an imported function.
#[cfg(target_arch = "x86_64")]
const SLOT_TYPES: [u32; 2] = [reloc::R_X86_64_JUMP_SLOT, reloc::R_X86_64_GLOB_DAT];
#[cfg(target_arch = "aarch64")]
const SLOT_TYPES: [u32; 2] = [reloc::R_AARCH64_JUMP_SLOT, reloc::R_AARCH64_GLOB_DAT];
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const SLOT_TYPES: [u32; 0] = [];

/// A loaded ELF image.
pub struct Image {
    /// What is added to the addresses in its file.
    bias: usize,
    headers: &'static [ProgramHeader],
}

impl Image {
    /// The image whose segments `address` lies in.
    pub fn of(address: *const c_void) -> Option<Image> {
        struct Search {
            address: *const c_void,
            found: Option<Image>,
        }

        unsafe extern "C" fn visit(info: *mut libc::dl_phdr_info, _: usize, search: *mut c_void) -> c_int {
            // SAFETY: the loader passes an image's headers, which stay where they are while it is loaded, and the interpreter
            // that called us is; the last argument is the search below. The two types are ELF's `Elf64_Phdr`.
            let (bias, headers, search) = unsafe {
                let count = usize::from((*info).dlpi_phnum);
                let headers = std::slice::from_raw_parts((*info).dlpi_phdr.cast::<ProgramHeader>(), count);
                ((*info).dlpi_addr as usize, headers, &mut *search.cast::<Search>())
            };
            let image = Image { bias, headers };
            let found = image.contains(search.address);
            if found {
                search.found = Some(image);
            }
            found.into()
        }

        let mut search = Search { address, found: None };
        // SAFETY: `visit` is called with `search`, here.
        unsafe { libc::dl_iterate_phdr(Some(visit), (&raw mut search).cast()) };
        search.found
    }

    /// Whether an address lies in one of its segments.
    pub fn contains(&self, address: *const c_void) -> bool {
        self.segments(PT_LOAD).any(|(start, bytes)| address.addr().wrapping_sub(start) < bytes)
    }

    /// Start and length of its segments of a kind, in memory.
    fn segments(&self, kind: u32) -> impl Iterator<Item = (usize, usize)> {
        let of_kind = self.headers.iter().filter(move |header| header.p_type == kind);
        of_kind.map(|header| (self.bias.wrapping_add(header.p_vaddr as usize), header.p_memsz as usize))
    }

    /// The value of an entry of the dynamic section.
    fn value(&self, tag: u64) -> Option<usize> {
        let (start, _) = self.segments(PT_DYNAMIC).next()?;
        let mut entry: *const Dyn = ptr::with_exposed_provenance(start);
        // SAFETY: an array of the loaded image, which such an entry ends.
        unsafe {
            while (*entry).d_tag != DT_NULL {
                if (*entry).d_tag == tag {
                    return Some((*entry).d_val as usize);
                }
                entry = entry.add(1);
            }
        }
        None
    }

    /// For each of these imported functions, the slots that hold its address.
    pub fn slots<const N: usize>(&self, names: [&CStr; N]) -> [Vec<*mut *mut c_void>; N] {
        let mut slots = [const { Vec::new() }; N];
        // SAFETY: the image is loaded as its headers say; the loader relied on the same tables.
        unsafe {
            let (Some(symbols), Some(strings)) = (self.table::<Sym>(DT_SYMTAB), self.table::<c_char>(DT_STRTAB)) else {
                return slots;
            };
            // Relocations without a symbol are most of them; the linker puts them first, and says how many they are.
            let relative = self.value(DT_RELACOUNT).unwrap_or(0);
            // The table of names has the image's own symbols alone, and these come last; in an executable at a fixed address
            // also imports whose address is that of a table's entry.
            let names_of_own = self.table::<u32>(DT_GNU_HASH).filter(|_| self.bias != 0);
            let own = names_of_own.map_or(u32::MAX, |hash| hash.add(1).read());
            for (table, bytes, skipped) in [(DT_JMPREL, DT_PLTRELSZ, 0), (DT_RELA, DT_RELASZ, relative)] {
                let Some((table, bytes)) = self.table::<Rela>(table).zip(self.value(bytes)) else { continue };
                let relocations = std::slice::from_raw_parts(table, bytes / size_of::<Rela>());
                for relocation in relocations.iter().skip(skipped) {
                    let number = reloc::r_sym(relocation.r_info);
                    if number >= own || !SLOT_TYPES.contains(&reloc::r_type(relocation.r_info)) {
                        continue;
                    }
                    let symbol = symbols.add(number as usize);
                    if u32::from((*symbol).st_shndx) != SHN_UNDEF {
                        continue; // The image's own.
                    }
                    let name = strings.add((*symbol).st_name as usize);
                    if let Some(i) = names.iter().position(|wanted| is_named(name, wanted)) {
                        let slot = self.bias.wrapping_add(relocation.r_offset as usize);
                        slots[i].push(ptr::with_exposed_provenance_mut(slot));
                    }
                }
            }
        }
        slots
    }

    /// The address of a table of the dynamic section. glibc has relocated it already, musl has not.
    fn table<T>(&self, tag: u64) -> Option<*const T> {
        let address = self.value(tag)?;
        let address = if address < self.bias { address + self.bias } else { address };
        Some(ptr::with_exposed_provenance(address))
    }

    /// Write a slot, in one go for the threads that use it. Where the loader has sealed its page (RELRO), that is opened
    /// for the moment.
    ///
    /// # Safety
    /// `slot` is one of this image's, and `function` what may be in it.
    pub unsafe fn write(&self, slot: *mut *mut c_void, function: *mut c_void) -> std::io::Result<()> {
        // SAFETY: no conditions.
        let page_bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as usize;
        let page = slot.map_addr(|address| address & !(page_bytes - 1));
        let sealed = self.segments(PT_GNU_RELRO).any(|(start, bytes)| {
            // Whole pages, as both loaders have it.
            (start & !(page_bytes - 1)..(start + bytes) & !(page_bytes - 1)).contains(&slot.addr())
        });
        let protect = |protection| {
            // SAFETY: a page of the image's own tables, which stays readable.
            match !sealed || unsafe { libc::mprotect(page.cast(), page_bytes, protection) } == 0 {
                true => Ok(()),
                false => Err(std::io::Error::last_os_error()),
            }
        };
        protect(libc::PROT_READ | libc::PROT_WRITE)?;
        // SAFETY: an aligned word, writable now.
        unsafe { AtomicPtr::from_ptr(slot).store(function, Release) };
        // A page that stays open does no harm.
        let _ = protect(libc::PROT_READ);
        Ok(())
    }
}

/// Whether `name` is `wanted`. Most names differ at once.
///
/// # Safety
/// `name` is a string that a zero ends.
#[inline]
unsafe fn is_named(name: *const c_char, wanted: &CStr) -> bool {
    // SAFETY: by the caller's word.
    unsafe { name.read() == wanted.as_ptr().read() && libc::strcmp(wanted.as_ptr(), name) == 0 }
}
