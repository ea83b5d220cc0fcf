/* A program that embeds CPython: starts and ends it several times, each time with work to do, and runs Python on a thread of its own.
 * Arguments: the python of an environment, the number of turns, the code; "own-table" for a table of built-in modules of its own. */
#include <Python.h>
#include <pthread.h>

static void *on_a_thread(void *code) {
    PyGILState_STATE state = PyGILState_Ensure();
    int failed = PyRun_SimpleString(code);
    PyGILState_Release(state);
    return failed ? code : NULL;
}

static struct _inittab *copied_table(size_t *bytes) {
    size_t count = 0;
    while (PyImport_Inittab[count].name)
        count++;
    *bytes = (count + 1) * sizeof(struct _inittab);
    return memcpy(malloc(*bytes), PyImport_Inittab, *bytes);
}

int main(int argc, char **argv) {
    if (argc != 4 && argc != 5)
        return 64;
    size_t table_bytes = 0;
    struct _inittab *own_table = argc == 5 ? copied_table(&table_bytes) : NULL;
    if (own_table)
        PyImport_Inittab = own_table;
    for (int turn = 0; turn < atoi(argv[2]); turn++) {
        PyConfig config;
        PyConfig_InitPythonConfig(&config);
        PyStatus status = PyConfig_SetBytesString(&config, &config.program_name, argv[1]);
        if (!PyStatus_Exception(status))
            status = Py_InitializeFromConfig(&config);
        PyConfig_Clear(&config);
        if (PyStatus_Exception(status))
            Py_ExitStatusException(status);
#if PY_VERSION_HEX >= 0x030C0000
        /* The interpreter has taken a copy: a program may let go of its own. */
        if (own_table)
            memset(own_table, 0xff, table_bytes);
#endif
        if (PyRun_SimpleString(argv[3]))
            return 1;
        void *failed;
        pthread_t thread;
        PyThreadState *saved = PyEval_SaveThread();
        if (pthread_create(&thread, NULL, on_a_thread, argv[3]) || pthread_join(thread, &failed) || failed)
            return 2;
        PyEval_RestoreThread(saved);
        /* Blocks of the raw domain may outlive the interpreter. */
        char *kept = PyMem_RawMalloc(100000);
        memset(kept, turn, 100000);
        if (Py_FinalizeEx() < 0)
            return 3;
        PyMem_RawFree(kept);
    }
    return 0;
}
