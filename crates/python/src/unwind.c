/* The functions by which Rust's standard library unwinds, led to libgcc_s when they are first called, as glibc does for itself.
 *
 * Linked as usual, libgcc_s would be loaded with us by every process that starts, which takes as long as our own relocations.
 * Hardly any ever needs it: only where a thread that runs our code is killed (pthread_exit, which loads it first), and for the
 * backtrace of a panic.
 */
#include <dlfcn.h>
#include <stdlib.h>
#include <unwind.h>

static void *libgcc(const char *name)
{
    void *library = dlopen("libgcc_s.so.1", RTLD_NOW);
    void *function = library != NULL ? dlsym(library, name) : NULL;
    if (function == NULL) {
        abort(); /* Nobody can unwind then; pthread_exit ends the process in the same case. */
    }
    return function;
}

/* Threads that come here together store the same address. */
#define LED(result, name, parameters, arguments)                                                                       \
    result name parameters                                                                                             \
    {                                                                                                                  \
        static result(*led) parameters;                                                                                \
        result(*function) parameters = __atomic_load_n(&led, __ATOMIC_RELAXED);                                        \
        if (function == NULL) {                                                                                        \
            function = (result(*) parameters)libgcc(#name);                                                            \
            __atomic_store_n(&led, function, __ATOMIC_RELAXED);                                                        \
        }                                                                                                              \
        return function arguments;                                                                                     \
    }

typedef struct _Unwind_Context context;

LED(_Unwind_Reason_Code, _Unwind_Backtrace, (_Unwind_Trace_Fn visit, void *argument), (visit, argument))
LED(_Unwind_Ptr, _Unwind_GetIP, (context * at), (at))
LED(_Unwind_Ptr, _Unwind_GetIPInfo, (context * at, int *is_before), (at, is_before))
LED(void *, _Unwind_GetLanguageSpecificData, (context * at), (at))
LED(_Unwind_Ptr, _Unwind_GetRegionStart, (context * at), (at))
LED(_Unwind_Ptr, _Unwind_GetTextRelBase, (context * at), (at))
LED(_Unwind_Ptr, _Unwind_GetDataRelBase, (context * at), (at))
LED(void, _Unwind_SetGR, (context * at, int number, _Unwind_Word value), (at, number, value))
LED(void, _Unwind_SetIP, (context * at, _Unwind_Ptr value), (at, value))

void _Unwind_Resume(struct _Unwind_Exception *exception)
{
    ((void (*)(struct _Unwind_Exception *))libgcc("_Unwind_Resume"))(exception);
    abort();
}
