/* Where CPython keeps what a hook must read: one constant, filled in by one file a version from that version's headers.
 *
 * Offsets and sizes are in bytes. HK_ABSENT: this version has no such field. The mirror in Rust is src/layout.rs; a field
 * is added in both, at the same place. */
#ifndef HK_LAYOUT_H
#define HK_LAYOUT_H

#include <stdint.h>

#define HK_ABSENT UINT32_MAX

struct hk_layout {
    uint32_t supported;           /* 1: all of the below is known */
    uint32_t version_hex;         /* of the headers: PY_VERSION_HEX */
    uint32_t free_threaded;       /* 1: the headers are a free-threaded build's */

    /* PyThreadState → current frame, in 3.11 and 3.12 by way of a cframe on the C stack */
    uint32_t tstate_interp;
    uint32_t tstate_cframe;
    uint32_t tstate_frame;
    uint32_t cframe_frame;

    /* PyInterpreterState, 3.12 and later */
    uint32_t interp_id;           /* int64_t */
    uint32_t interp_flags;        /* unsigned long */
    uint32_t flag_main_obmalloc;  /* the interpreter shares the main one's allocator */
    uint32_t flags_of_main;       /* all flags of the main interpreter, by which the offset is checked */

    /* a frame: PyFrameObject in 3.10, _PyInterpreterFrame since */
    uint32_t frame_code;
    uint32_t frame_previous;
    uint32_t frame_lasti;         /* int, in code units; 3.10 */
    uint32_t frame_instr;         /* pointer to a code unit; 3.11 and later */
    uint32_t frame_owner;         /* char */
    uint32_t owner_generator;
    uint32_t owner_cstack;        /* not a frame of Python code but a mark of the C stack */

    /* PyCodeObject */
    uint32_t code_units;          /* the first code unit, inside the object */
    uint32_t code_unit_bytes;
    uint32_t code_firsttraceable; /* int, in code units: a frame before it is still being set up */
    uint32_t code_firstlineno;    /* int */
    uint32_t code_filename;
    uint32_t code_name;           /* the qualified name where there is one */
    uint32_t code_linetable;
};

extern const struct hk_layout hk_layout;

#define HK_FIELD_IS(type, field, bytes) \
    _Static_assert(sizeof(((type *)0)->field) == (bytes), #type "." #field " has another size than src/frames.rs reads")

#endif
