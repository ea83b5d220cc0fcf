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

    /* what a frame's locals are read with: fast locals, cells and free variables */
    uint32_t frame_locals;        /* the first of them */
    uint32_t code_locals;         /* int, how many; 3.11 and later */
    uint32_t code_nlocals;        /* 3.10: int, how many fast locals, to which the tuples of */
    uint32_t code_cellvars;       /* cells */
    uint32_t code_freevars;       /* and free variables add theirs */

    /* the collector's state, in PyInterpreterState: struct _gc_runtime_state */
    uint32_t gc_enabled;          /* int */
    uint32_t gc_debug;            /* int */
    uint32_t gc_generations;      /* three of struct gc_generation, each with the head of its list first */
    uint32_t gc_generation_bytes; /* sizeof(struct gc_generation) */
    uint32_t gc_threshold;        /* int, in a generation */
    uint32_t gc_count;            /* int, in a generation */
    uint32_t gc_permanent;        /* one more struct gc_generation: frozen objects */
    uint32_t gc_collecting;       /* int */
    uint32_t gc_garbage;          /* the list gc.garbage */
    uint32_t gc_callbacks;        /* the list gc.callbacks */
    uint32_t gc_long_lived_total; /* Py_ssize_t */
    uint32_t gc_long_lived_pending; /* Py_ssize_t */
};

extern const struct hk_layout hk_layout;

/* 3.10 to 3.13: the same names, and the same words before an object (Include/internal/pycore_gc.h). */
#define HK_COLLECTOR \
    .gc_enabled = offsetof(PyInterpreterState, gc.enabled), \
    .gc_debug = offsetof(PyInterpreterState, gc.debug), \
    .gc_generations = offsetof(PyInterpreterState, gc.generations), \
    .gc_generation_bytes = sizeof(struct gc_generation), \
    .gc_threshold = offsetof(struct gc_generation, threshold), \
    .gc_count = offsetof(struct gc_generation, count), \
    .gc_permanent = offsetof(PyInterpreterState, gc.permanent_generation), \
    .gc_collecting = offsetof(PyInterpreterState, gc.collecting), \
    .gc_garbage = offsetof(PyInterpreterState, gc.garbage), \
    .gc_callbacks = offsetof(PyInterpreterState, gc.callbacks), \
    .gc_long_lived_total = offsetof(PyInterpreterState, gc.long_lived_total), \
    .gc_long_lived_pending = offsetof(PyInterpreterState, gc.long_lived_pending)

#define HK_COLLECTOR_IS_KNOWN \
    HK_FIELD_IS(struct _gc_runtime_state, enabled, 4); \
    HK_FIELD_IS(struct _gc_runtime_state, debug, 4); \
    HK_FIELD_IS(struct _gc_runtime_state, collecting, 4); \
    HK_FIELD_IS(struct _gc_runtime_state, long_lived_total, 8); \
    HK_FIELD_IS(struct gc_generation, threshold, 4); \
    HK_FIELD_IS(struct gc_generation, count, 4); \
    _Static_assert(offsetof(struct gc_generation, head) == 0, "a generation does not start with its list"); \
    _Static_assert(sizeof(((struct _gc_runtime_state *)0)->generations) == 3 * sizeof(struct gc_generation), \
                   "not three generations"); \
    _Static_assert(sizeof(PyGC_Head) == 16 && _PyGC_PREV_SHIFT == 2, "another header than src/collect/list.rs reads")

#define HK_FIELD_IS(type, field, bytes) \
    _Static_assert(sizeof(((type *)0)->field) == (bytes), #type "." #field " has another size than src/frames.rs reads")

#endif
