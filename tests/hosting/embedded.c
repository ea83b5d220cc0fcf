/* A program that embeds CPython: starts and ends it several times, each time with work to do, and runs Python on a thread of its own.
 * Arguments: the python of an environment, the number of turns, the code. */
#include <Python.h>
#include <pthread.h>

static void *on_a_thread(void *code) {
    PyGILState_STATE state = PyGILState_Ensure();
    int failed = PyRun_SimpleString(code);
    PyGILState_Release(state);
    return failed ? code : NULL;
}

int main(int argc, char **argv) {
    if (argc != 4)
        return 64;
    for (int turn = 0; turn < atoi(argv[2]); turn++) {
        PyConfig config;
        PyConfig_InitPythonConfig(&config);
        PyStatus status = PyConfig_SetBytesString(&config, &config.program_name, argv[1]);
        if (!PyStatus_Exception(status))
            status = Py_InitializeFromConfig(&config);
        PyConfig_Clear(&config);
        if (PyStatus_Exception(status))
            Py_ExitStatusException(status);
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
