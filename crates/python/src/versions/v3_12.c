/* CPython 3.12: as 3.11, and frames that only mark where the C stack enters the interpreter. */
#define Py_BUILD_CORE_MODULE 1

#include <stddef.h>

#include <Python.h>
#include <internal/pycore_frame.h>
#include <internal/pycore_interp.h>

#include "layout.h"

#if PY_VERSION_HEX >> 16 != 0x030c
#error "these are not the headers of CPython 3.12"
#endif

HK_FIELD_IS(PyInterpreterState, id, 8);
HK_FIELD_IS(PyInterpreterState, feature_flags, 8);
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
    .interp_id = offsetof(PyInterpreterState, id),
    .interp_flags = offsetof(PyInterpreterState, feature_flags),
    .flag_main_obmalloc = Py_RTFLAGS_USE_MAIN_OBMALLOC,
    .flags_of_main = Py_RTFLAGS_USE_MAIN_OBMALLOC | Py_RTFLAGS_FORK | Py_RTFLAGS_EXEC | Py_RTFLAGS_THREADS
                     | Py_RTFLAGS_DAEMON_THREADS,
    .frame_code = offsetof(_PyInterpreterFrame, f_code),
    .frame_previous = offsetof(_PyInterpreterFrame, previous),
    .frame_lasti = HK_ABSENT,
    .frame_instr = offsetof(_PyInterpreterFrame, prev_instr),
    .frame_owner = offsetof(_PyInterpreterFrame, owner),
    .owner_generator = FRAME_OWNED_BY_GENERATOR,
    .owner_cstack = FRAME_OWNED_BY_CSTACK,
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
