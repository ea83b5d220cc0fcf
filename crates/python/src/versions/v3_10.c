/* CPython 3.10: frames are objects, `f_lasti` counts code units. */
#define Py_BUILD_CORE_MODULE 1

#include <stddef.h>

#include <Python.h>
#include <frameobject.h>
#include <internal/pycore_interp.h>

#include "layout.h"

#if PY_VERSION_HEX >> 16 != 0x030a
#error "these are not the headers of CPython 3.10"
#endif

HK_FIELD_IS(PyFrameObject, f_lasti, 4);
HK_FIELD_IS(PyCodeObject, co_firstlineno, 4);
HK_FIELD_IS(PyCodeObject, co_nlocals, 4);
HK_COLLECTOR_IS_KNOWN;

const struct hk_layout hk_layout = {
    .supported = 1,
    .version_hex = PY_VERSION_HEX,
    .free_threaded = 0,
    .tstate_interp = offsetof(PyThreadState, interp),
    .tstate_cframe = HK_ABSENT,
    .tstate_frame = offsetof(PyThreadState, frame),
    .cframe_frame = HK_ABSENT,
    .interp_id = HK_ABSENT,
    .interp_flags = HK_ABSENT,
    .flag_main_obmalloc = 0,
    .flags_of_main = 0,
    .frame_code = offsetof(PyFrameObject, f_code),
    .frame_previous = offsetof(PyFrameObject, f_back),
    .frame_lasti = offsetof(PyFrameObject, f_lasti),
    .frame_instr = HK_ABSENT,
    .frame_owner = HK_ABSENT,
    .owner_generator = HK_ABSENT,
    .owner_cstack = HK_ABSENT,
    .code_units = HK_ABSENT,
    .code_unit_bytes = 2, /* _Py_CODEUNIT, which no public header of 3.10 gives */
    .code_firsttraceable = HK_ABSENT,
    .code_firstlineno = offsetof(PyCodeObject, co_firstlineno),
    .code_filename = offsetof(PyCodeObject, co_filename),
    .code_name = offsetof(PyCodeObject, co_name),
    .code_linetable = offsetof(PyCodeObject, co_linetable),
    .frame_locals = offsetof(PyFrameObject, f_localsplus),
    .code_locals = HK_ABSENT,
    .code_nlocals = offsetof(PyCodeObject, co_nlocals),
    .code_cellvars = offsetof(PyCodeObject, co_cellvars),
    .code_freevars = offsetof(PyCodeObject, co_freevars),
    HK_COLLECTOR,
};
