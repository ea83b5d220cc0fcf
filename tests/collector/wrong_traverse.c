/* Types whose tp_traverse is wrong. Each instance may own one child and borrow another object.
 *   Right     visits its child.
 *   Forgets   does not visit its child: what it keeps alive looks as if somebody outside did.
 *   Borrows   visits what it borrows as well: one reference too many is taken off that object's count.
 *   Twice     visits its child twice. */
#include <Python.h>

typedef struct {
    PyObject_HEAD
    PyObject *child;
    PyObject *borrowed;
} Holder;

static int traverse_right(Holder *self, visitproc visit, void *arg) {
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->child);
    return 0;
}

static int traverse_forgets(Holder *self, visitproc visit, void *arg) {
    Py_VISIT(Py_TYPE(self));
    return 0;
}

static int traverse_borrows(Holder *self, visitproc visit, void *arg) {
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->child);
    Py_VISIT(self->borrowed);
    return 0;
}

static int traverse_twice(Holder *self, visitproc visit, void *arg) {
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->child);
    Py_VISIT(self->child);
    return 0;
}

static int holder_clear(Holder *self) {
    Py_CLEAR(self->child);
    return 0;
}

static void holder_dealloc(Holder *self) {
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    holder_clear(self);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyObject *own(Holder *self, PyObject *child) {
    Py_INCREF(child);
    Py_XSETREF(self->child, child);
    Py_RETURN_NONE;
}

static PyObject *borrow(Holder *self, PyObject *borrowed) {
    self->borrowed = borrowed == Py_None ? NULL : borrowed;
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"own", (PyCFunction)own, METH_O, NULL},
    {"borrow", (PyCFunction)borrow, METH_O, NULL},
    {NULL},
};

#define TYPE(NAME, TRAVERSE)                                                                                             \
    static PyType_Slot NAME##_slots[] = {{Py_tp_traverse, TRAVERSE},                                                     \
                                         {Py_tp_clear, holder_clear},                                                    \
                                         {Py_tp_dealloc, holder_dealloc},                                                \
                                         {Py_tp_methods, methods},                                                       \
                                         {0, NULL}};                                                                     \
    static PyType_Spec NAME##_spec = {"wrong_traverse." #NAME, sizeof(Holder), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC, NAME##_slots}

TYPE(Right, traverse_right);
TYPE(Forgets, traverse_forgets);
TYPE(Borrows, traverse_borrows);
TYPE(Twice, traverse_twice);

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "wrong_traverse", NULL, -1};

PyMODINIT_FUNC PyInit_wrong_traverse(void) {
    PyObject *module = PyModule_Create(&definition);
    PyType_Spec *specs[] = {&Right_spec, &Forgets_spec, &Borrows_spec, &Twice_spec};
    const char *names[] = {"Right", "Forgets", "Borrows", "Twice"};
    for (int index = 0; module && index < 4; index++) {
        PyObject *type = PyType_FromSpec(specs[index]);
        if (!type || PyModule_AddObject(module, names[index], type) < 0)
            return NULL;
    }
    return module;
}
