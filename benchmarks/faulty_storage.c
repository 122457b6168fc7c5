/* Storage that fails now and then, for LD_PRELOAD: calls on the files below a folder
 * return EIO or ESTALE, or come late, at random.
 *
 *   cc -shared -fPIC -O2 -o faulty_storage.so faulty_storage.c -ldl
 *
 *   FAULTY_FOLDER   the files below it; nothing happens to others
 *   FAULTY_RATE     share of the calls that fail, 0 .. 1
 *   FAULTY_SLOW     share of the reads that take FAULTY_SLOW_MS longer, 0 .. 1
 *   FAULTY_SEED     of the draws
 *   FAULTY_COUNT    file that gets a byte for each failure: e EIO, s ESTALE, l late
 *   FAULTY_WRITES   1: opening to write, writing, syncing and renaming fail, too
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#define FILES 65536
static unsigned char below[FILES]; /* descriptor -> its file lies below the folder */
static const char *folder;
static double rate, slow;
static int slow_ms, writes, count = -1;
static unsigned long long state;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

#define REAL(name) ((__typeof__(&name))real(#name))
static void *real(const char *name) { return dlsym(RTLD_NEXT, name); }

static double number(const char *name) {
    const char *text = getenv(name);
    return text ? atof(text) : 0;
}

__attribute__((constructor)) static void start(void) {
    const char *path = getenv("FAULTY_COUNT");
    folder = getenv("FAULTY_FOLDER");
    rate = number("FAULTY_RATE");
    slow = number("FAULTY_SLOW");
    slow_ms = (int)number("FAULTY_SLOW_MS");
    writes = (int)number("FAULTY_WRITES");
    state = (unsigned long long)number("FAULTY_SEED") * 2654435761u + 1;
    if (path)
        count = REAL(open)(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
}

static double draw(void) {
    pthread_mutex_lock(&lock);
    state = state * 6364136223846793005ULL + 1442695040888963407ULL;
    double x = (double)(state >> 11) / (double)(1ULL << 53);
    pthread_mutex_unlock(&lock);
    return x;
}

static void note(char what) {
    if (count >= 0 && REAL(write)(count, &what, 1) < 0)
        abort();
}

/* Whether this call fails; errno is then set. */
static int fails(void) {
    if (draw() >= rate)
        return 0;
    int stale = draw() < 0.5;
    note(stale ? 's' : 'e');
    errno = stale ? ESTALE : EIO;
    return 1;
}

static void wait_perhaps(void) {
    if (draw() < slow) {
        note('l');
        usleep((useconds_t)slow_ms * 1000);
    }
}

static int is_below(const char *path) {
    size_t length = folder ? strlen(folder) : 0;
    return length && !strncmp(path, folder, length);
}

static int held(int file) { return file >= 0 && file < FILES && below[file]; }

static int opened(int file, int inside) {
    if (file >= 0 && file < FILES)
        below[file] = (unsigned char)inside;
    return file;
}

static int refused(const char *path, int flags) {
    return is_below(path) && !(flags & (O_DIRECTORY | O_PATH)) &&
           (writes || (flags & O_ACCMODE) == O_RDONLY) && fails();
}

#define MODE(flags, mode)                                                              \
    mode_t mode = 0;                                                                   \
    if (flags & (O_CREAT | O_TMPFILE)) {                                               \
        va_list rest;                                                                  \
        va_start(rest, flags);                                                         \
        mode = va_arg(rest, mode_t);                                                   \
        va_end(rest);                                                                  \
    }

int open(const char *path, int flags, ...) {
    MODE(flags, mode)
    if (refused(path, flags))
        return -1;
    return opened(REAL(open)(path, flags, mode), is_below(path));
}

int open64(const char *path, int flags, ...) {
    MODE(flags, mode)
    if (refused(path, flags))
        return -1;
    return opened(REAL(open64)(path, flags, mode), is_below(path));
}

int openat(int at, const char *path, int flags, ...) {
    MODE(flags, mode)
    if (refused(path, flags))
        return -1;
    return opened(REAL(openat)(at, path, flags, mode), is_below(path));
}

int openat64(int at, const char *path, int flags, ...) {
    MODE(flags, mode)
    if (refused(path, flags))
        return -1;
    return opened(REAL(openat64)(at, path, flags, mode), is_below(path));
}

int close(int file) {
    if (file >= 0 && file < FILES)
        below[file] = 0;
    return REAL(close)(file);
}

int dup2(int from, int to) {
    int inside = held(from);
    return opened(REAL(dup2)(from, to), inside);
}

int dup3(int from, int to, int flags) {
    int inside = held(from);
    return opened(REAL(dup3)(from, to, flags), inside);
}

#define READS(name, arguments, call)                                                   \
    ssize_t name arguments {                                                           \
        if (held(file)) {                                                              \
            wait_perhaps();                                                            \
            if (fails())                                                               \
                return -1;                                                             \
        }                                                                              \
        return REAL(name) call;                                                        \
    }
#define WRITES(type, name, arguments, call)                                            \
    type name arguments {                                                              \
        if (writes && held(file) && fails())                                           \
            return -1;                                                                 \
        return REAL(name) call;                                                        \
    }

READS(read, (int file, void *to, size_t size), (file, to, size))
READS(pread, (int file, void *to, size_t size, off_t at), (file, to, size, at))
READS(pread64, (int file, void *to, size_t size, off64_t at), (file, to, size, at))
WRITES(ssize_t, write, (int file, const void *from, size_t size), (file, from, size))
WRITES(ssize_t, pwrite, (int file, const void *from, size_t size, off_t at),
       (file, from, size, at))
WRITES(ssize_t, pwrite64, (int file, const void *from, size_t size, off64_t at),
       (file, from, size, at))
WRITES(int, fsync, (int file), (file))
WRITES(int, fdatasync, (int file), (file))

int rename(const char *from, const char *to) {
    if (writes && is_below(to) && fails())
        return -1;
    return REAL(rename)(from, to);
}
