//! Names and line tables of code objects, read without the GIL and without a call.
//!
//! What a code object says of itself does not change once it has run, and lives as long as it does. So whoever keeps it
//! alive may read it at any time, from any thread.

use heapkeeper_profile::Code;
use pyo3_ffi as ffi;

use super::identity::is_ready;
use crate::layout::Layout;

/// What a capture says of a code object.
///
/// # Safety
/// `code` is a code object that stays alive, and the layout has been checked.
pub unsafe fn of_code(code: *mut ffi::PyCodeObject) -> heapkeeper_record::capture::Code {
    let layout = Layout::get();
    // SAFETY: the layout says where these fields of a code object are; they are objects, and alive with it.
    unsafe {
        let at = |offset_bytes: u32| code.cast::<u8>().add(offset_bytes as usize);
        let object = |field| at(field).cast::<*mut ffi::PyObject>().read();
        heapkeeper_record::capture::Code {
            function: text(object(layout.code_name)),
            file: text(object(layout.code_filename)),
            first_line: at(layout.code_firstlineno).cast::<i32>().read(),
            line_table: bytes(object(layout.code_linetable)),
        }
    }
}

/// Whether a code object is part of the import system, whose frames tracebacks leave out too (`remove_importlib_frames`,
/// Python/import.c). Allocates nothing.
///
/// # Safety
/// As for [`of_code`].
pub unsafe fn is_import_system(code: *mut ffi::PyCodeObject) -> bool {
    const FILES: &[u8] = b"<frozen importlib._bootstrap";
    // SAFETY: as for `of_code`; such a name has one byte a character.
    unsafe {
        let file = code.cast::<u8>().add(Layout::get().code_filename as usize).cast::<*mut ffi::PyObject>().read();
        if file.is_null() || ffi::PyUnicode_Check(file) == 0 || !is_ready(file) || ffi::PyUnicode_KIND(file) != 1 {
            return false;
        }
        let length = ffi::PyUnicode_GET_LENGTH(file) as usize;
        std::slice::from_raw_parts(ffi::PyUnicode_DATA(file).cast::<u8>(), length).starts_with(FILES)
    }
}

/// What stands for frames without a code object.
pub fn of_no_code(code: Code) -> String {
    match code {
        Code::Object(_) => String::new(),
        Code::Interpreter(number) => format!("<interpreter {number}>"),
        Code::Omitted => "<function not recorded>".to_owned(),
        Code::Recursion => "<recursion>".to_owned(),
        Code::Outer => "<outer frames>".to_owned(),
    }
}

/// The text of a `str`; characters that are none, as file names may have, become U+FFFD. Empty for anything else.
///
/// # Safety
/// `object` is an object that stays alive and as it is, or null.
unsafe fn text(object: *mut ffi::PyObject) -> String {
    // SAFETY: by the caller's word; the characters lie where the object says, as many and as wide.
    unsafe {
        if object.is_null() || ffi::PyUnicode_Check(object) == 0 || !is_ready(object) {
            return String::new();
        }
        let (data, length) = (ffi::PyUnicode_DATA(object), ffi::PyUnicode_GET_LENGTH(object) as usize);
        let character = |value: u32| char::from_u32(value).unwrap_or(char::REPLACEMENT_CHARACTER);
        match ffi::PyUnicode_KIND(object) {
            1 => std::slice::from_raw_parts(data.cast::<u8>(), length).iter().map(|value| char::from(*value)).collect(),
            2 => {
                let values = std::slice::from_raw_parts(data.cast::<u16>(), length);
                values.iter().map(|value| character(u32::from(*value))).collect()
            }
            _ => std::slice::from_raw_parts(data.cast::<u32>(), length).iter().map(|value| character(*value)).collect(),
        }
    }
}

/// # Safety
/// As for [`text`].
unsafe fn bytes(object: *mut ffi::PyObject) -> Vec<u8> {
    // SAFETY: by the caller's word.
    unsafe {
        if object.is_null() || ffi::PyBytes_Check(object) == 0 {
            return Vec::new();
        }
        let start = (&raw const (*object.cast::<ffi::PyBytesObject>()).ob_sval).cast::<u8>();
        std::slice::from_raw_parts(start, ffi::Py_SIZE(object) as usize).to_vec()
    }
}
