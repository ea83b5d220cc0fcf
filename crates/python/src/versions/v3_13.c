/* CPython 3.13: no cframe, the thread state holds the frame; `instr_ptr` is the instruction that is running. */
#define Py_BUILD_CORE_MODULE 1

#include <stddef.h>

#include <Python.h>
#include <internal/pycore_frame.h>
#include <internal/pycore_interp.h>

#include "layout.h"

#if PY_VERSION_HEX >> 16 != 0x030d
#error "these are not the headers of CPython 3.13"
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
    .tstate_cframe = HK_ABSENT,
    .tstate_frame = offsetof(PyThreadState, current_frame),
    .cframe_frame = HK_ABSENT,
    .interp_id = offsetof(PyInterpreterState, id),
    .interp_flags = offsetof(PyInterpreterState, feature_flags),
    .flag_main_obmalloc = Py_RTFLAGS_USE_MAIN_OBMALLOC,
    .flags_of_main = Py_RTFLAGS_USE_MAIN_OBMALLOC | Py_RTFLAGS_FORK | Py_RTFLAGS_EXEC | Py_RTFLAGS_THREADS
                     | Py_RTFLAGS_DAEMON_THREADS,
    .frame_code = offsetof(_PyInterpreterFrame, f_executable),
    .frame_previous = offsetof(_PyInterpreterFrame, previous),
    .frame_lasti = HK_ABSENT,
    .frame_instr = offsetof(_PyInterpreterFrame, instr_ptr),
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
