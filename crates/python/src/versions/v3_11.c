/* CPython 3.11: interpreter frames, found through a cframe. `prev_instr` is the code unit before the next instruction, which
 * is what CPython's own line numbers go by. */
#define Py_BUILD_CORE_MODULE 1

#include <stddef.h>

#include <Python.h>
#include <internal/pycore_frame.h>
#include <internal/pycore_interp.h>

#include "layout.h"

#if PY_VERSION_HEX >> 16 != 0x030b
#error "these are not the headers of CPython 3.11"
#endif

HK_FIELD_IS(_PyInterpreterFrame, owner, 1);
HK_FIELD_IS(PyCodeObject, _co_firsttraceable, 4);
HK_FIELD_IS(PyCodeObject, co_firstlineno, 4);
HK_FIELD_IS(PyCodeObject, co_nlocalsplus, 4);
HK_COLLECTOR_IS_KNOWN;

const struct hk_layout hk_layout = {
    .supported = 1,
    .version_hex = PY_VERSION_HEX,
    .free_threaded = 0,
    .tstate_interp = offsetof(PyThreadState, interp),
    .tstate_cframe = offsetof(PyThreadState, cframe),
    .tstate_frame = HK_ABSENT,
    .cframe_frame = offsetof(_PyCFrame, current_frame),
    .interp_id = HK_ABSENT,
    .interp_flags = HK_ABSENT,
    .flag_main_obmalloc = 0,
    .flags_of_main = 0,
    .frame_code = offsetof(_PyInterpreterFrame, f_code),
    .frame_previous = offsetof(_PyInterpreterFrame, previous),
    .frame_lasti = HK_ABSENT,
    .frame_instr = offsetof(_PyInterpreterFrame, prev_instr),
    .frame_owner = offsetof(_PyInterpreterFrame, owner),
    .owner_generator = FRAME_OWNED_BY_GENERATOR,
    .owner_cstack = HK_ABSENT,
    .code_units = offsetof(PyCodeObject, co_code_adaptive),
    .code_unit_bytes = sizeof(_Py_CODEUNIT),
    .code_firsttraceable = offsetof(PyCodeObject, _co_firsttraceable),
    .code_firstlineno = offsetof(PyCodeObject, co_firstlineno),
    .code_filename = offsetof(PyCodeObject, co_filename),
    .code_name = offsetof(PyCodeObject, co_qualname),
    .code_linetable = offsetof(PyCodeObject, co_linetable),
    .frame_locals = offsetof(_PyInterpreterFrame, localsplus),
    .code_locals = offsetof(PyCodeObject, co_nlocalsplus),
    .code_nlocals = HK_ABSENT,
    .code_cellvars = HK_ABSENT,
    .code_freevars = HK_ABSENT,
    HK_COLLECTOR,
};
