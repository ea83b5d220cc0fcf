/* Counts the Python processes of a test run, whether or not they run our code.
 *
 * Preloaded (LD_PRELOAD) into plain and heapkeeper runs alike. Appends one line a record to the file named by STARTS_LOG; fields are
 * separated by tabs, the arguments of a command line by \x1f:
 *
 *   start  PID  ENV  EXE  ARGV   an interpreter began; ENV is 1 when HEAPKEEPER is in its environment
 *   exec   PID  ENV  PATH ARGV   an interpreter is about to begin without this library: its environment was cleared
 *   fork   PID  PARENT           an interpreter forked
 *
 * A process with a cleared environment is seen only by who started it, hence the wrappers round exec and posix_spawn. They also run in the
 * child of a vfork, so nothing here allocates, locks or leaves errno changed.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define RECORD_BYTES 4096

extern char **environ;

static char log_path[1024];
static int (*real_execve)(const char *, char *const[], char *const[]);
static int (*real_execv)(const char *, char *const[]);
static int (*real_execvp)(const char *, char *const[]);
static int (*real_execvpe)(const char *, char *const[], char *const[]);
static int (*real_fexecve)(int, char *const[], char *const[]);
typedef int spawn_function(pid_t *, const char *, const posix_spawn_file_actions_t *, const posix_spawnattr_t *, char *const[], char *const[]);
static spawn_function *real_spawn, *real_spawnp;

static void append(const char *record, size_t length) {
    int saved = errno;
    int fd = open(log_path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
    if (fd >= 0) {
        if (write(fd, record, length) < 0) { /* a full disk shows up as a missing record */ }
        close(fd);
    }
    errno = saved;
}

static int names_python(const char *path) {
    const char *slash = strrchr(path, '/');
    return strncmp(slash ? slash + 1 : path, "python", 6) == 0;
}

static const char *variable(char *const env[], const char *name) {
    size_t length = strlen(name);
    for (; env && *env; env++)
        if (strncmp(*env, name, length) == 0 && (*env)[length] == '=')
            return *env + length + 1;
    return NULL;
}

/* Copies text with the separators blanked; returns the new end. */
static char *copy(char *at, char *end, const char *text) {
    for (; *text && at < end; text++)
        *at++ = (*text == '\t' || *text == '\n' || *text == '\x1f') ? ' ' : *text;
    return at;
}

static void record_exec(pid_t pid, const char *path, char *const argv[], char *const env[]) {
    char record[RECORD_BYTES], *end = record + sizeof record - 2;
    if (!log_path[0] || !path || !names_python(path) || variable(env, "LD_PRELOAD"))
        return;
    if (strchr(path, '/') && access(path, X_OK) != 0)
        return;
    char *at = record + snprintf(record, sizeof record, "exec\t%ld\t%d\t", (long)pid, variable(env, "HEAPKEEPER") != NULL);
    at = copy(at, end, path);
    for (int i = 0; argv && argv[i] && at < end; i++) {
        *at++ = i ? '\x1f' : '\t';
        at = copy(at, end, argv[i]);
    }
    *at++ = '\n';
    append(record, at - record);
}

int execve(const char *path, char *const argv[], char *const env[]) {
    record_exec(getpid(), path, argv, env);
    return real_execve(path, argv, env);
}

int execv(const char *path, char *const argv[]) {
    record_exec(getpid(), path, argv, environ);
    return real_execv(path, argv);
}

int execvp(const char *file, char *const argv[]) {
    record_exec(getpid(), file, argv, environ);
    return real_execvp(file, argv);
}

int execvpe(const char *file, char *const argv[], char *const env[]) {
    record_exec(getpid(), file, argv, env);
    return real_execvpe(file, argv, env);
}

int fexecve(int fd, char *const argv[], char *const env[]) {
    record_exec(getpid(), argv[0], argv, env);
    return real_fexecve(fd, argv, env);
}

static int spawn(spawn_function *real, pid_t *pid, const char *path, const posix_spawn_file_actions_t *actions,
                 const posix_spawnattr_t *attributes, char *const argv[], char *const env[]) {
    pid_t child = 0;
    int status = real(&child, path, actions, attributes, argv, env);
    if (status == 0)
        record_exec(child, path, argv, env);
    if (pid)
        *pid = child;
    return status;
}

int posix_spawn(pid_t *pid, const char *path, const posix_spawn_file_actions_t *actions, const posix_spawnattr_t *attributes,
                char *const argv[], char *const env[]) {
    return spawn(real_spawn, pid, path, actions, attributes, argv, env);
}

int posix_spawnp(pid_t *pid, const char *file, const posix_spawn_file_actions_t *actions, const posix_spawnattr_t *attributes,
                 char *const argv[], char *const env[]) {
    return spawn(real_spawnp, pid, file, actions, attributes, argv, env);
}

static void after_fork(void) {
    char record[64];
    int length = snprintf(record, sizeof record, "fork\t%ld\t%ld\n", (long)getpid(), (long)getppid());
    append(record, length);
}

__attribute__((constructor)) static void begin(void) {
    char exe[1024], command[RECORD_BYTES / 2], record[RECORD_BYTES], *at, *end = record + sizeof record - 2;
    ssize_t length;
    const char *path = getenv("STARTS_LOG");

    real_execve = dlsym(RTLD_NEXT, "execve");
    real_execv = dlsym(RTLD_NEXT, "execv");
    real_execvp = dlsym(RTLD_NEXT, "execvp");
    real_execvpe = dlsym(RTLD_NEXT, "execvpe");
    real_fexecve = dlsym(RTLD_NEXT, "fexecve");
    real_spawn = dlsym(RTLD_NEXT, "posix_spawn");
    real_spawnp = dlsym(RTLD_NEXT, "posix_spawnp");
    if (!path || strlen(path) >= sizeof log_path)
        return;
    strcpy(log_path, path);
    length = readlink("/proc/self/exe", exe, sizeof exe - 1);
    if (length <= 0)
        return;
    exe[length] = 0;
    if (!names_python(exe))
        return;
    pthread_atfork(NULL, NULL, after_fork);

    int fd = open("/proc/self/cmdline", O_RDONLY | O_CLOEXEC);
    length = fd < 0 ? 0 : read(fd, command, sizeof command - 1);
    if (fd >= 0)
        close(fd);
    if (length < 0)
        length = 0;
    command[length] = 0;
    at = record + snprintf(record, sizeof record, "start\t%ld\t%d\t", (long)getpid(), getenv("HEAPKEEPER") != NULL);
    at = copy(at, end, exe);
    *at++ = '\t';
    for (ssize_t i = 0; i < length && at < end; i += strlen(command + i) + 1) {
        if (i)
            *at++ = '\x1f';
        at = copy(at, end, command + i);
    }
    *at++ = '\n';
    append(record, at - record);
}
