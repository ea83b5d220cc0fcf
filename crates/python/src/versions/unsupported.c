/* A version or a build that we have no layout of: says so, and nothing else. */
#include <Python.h>

#include "layout.h"

const struct hk_layout hk_layout = {
    .supported = 0,
    .version_hex = PY_VERSION_HEX,
#ifdef Py_GIL_DISABLED
    .free_threaded = 1,
#endif
};
