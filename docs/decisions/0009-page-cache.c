// What it costs at least to send a file over loopback, by seven ways in turn: CPU seconds of the sending thread, on core 0, a GB; the reader is on core 1.
// gcc -O2 -o /tmp/page-cache docs/decisions/0009-page-cache.c -lpthread && sudo /tmp/page-cache FOLDER/file 512 5
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MIB = 1 << 20, ADVICE, NOWHERE, MAPPED, DIRECT, ALONE, WARM, MEMORY, LAST = MEMORY };

static const char *names[] = {[ADVICE] = "fadvise, one byte, sendfile", [NOWHERE] = "sendfile to /dev/null, then to the socket",
                              [MAPPED] = "mapped and populated, sendfile", [DIRECT] = "O_DIRECT, send", [ALONE] = "sendfile alone",
                              [WARM] = "sendfile of what is in the page cache", [MEMORY] = "send of one MiB of memory, again and again"};

static double seconds(clockid_t clock) {
    struct timespec time;
    clock_gettime(clock, &time);
    return time.tv_sec + time.tv_nsec / 1e9;
}

static void need(int holds, const char *what) {
    if (!holds) {
        perror(what);
        exit(1);
    }
}

static void run_on(int core) {
    cpu_set_t cores;
    CPU_ZERO(&cores);
    CPU_SET(core, &cores);
    need(sched_setaffinity(0, sizeof cores, &cores) == 0, "core");
}

static void *drain(void *door) {
    run_on(1);
    int socket = accept(*(int *)door, NULL, NULL);
    char *bytes = malloc(MIB);
    while (recv(socket, bytes, MIB / 4, 0) > 0) {}
    return NULL;
}

int main(int count, char **given) {
    need(count == 4, "FILE MIB ROUNDS");
    int mib = atoi(given[2]), nowhere = open("/dev/null", O_WRONLY), file = open(given[1], O_RDWR | O_CREAT, 0644);
    char *bytes = aligned_alloc(4096, MIB);
    for (int at = 0; at < MIB; at++) bytes[at] = rand();
    for (int at = 0; at < mib; at++) need(pwrite(file, bytes, MIB, (off_t)at * MIB) == MIB, "write");
    need(fsync(file) == 0, "sync");
    int door = socket(AF_INET, SOCK_STREAM, 0), out = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    need(bind(door, (void *)&address, size) == 0 && getsockname(door, (void *)&address, &size) == 0 && listen(door, 1) == 0, "listen");
    pthread_t reader;
    pthread_create(&reader, NULL, drain, &door);
    need(connect(out, (void *)&address, size) == 0, "connect");
    run_on(0);
    for (int round = 0; round < atoi(given[3]); round++) for (int way = ADVICE; way <= LAST; way++) {
        int in = open(given[1], O_RDONLY | (way == DIRECT ? O_DIRECT : 0)), drop = open("/proc/sys/vm/drop_caches", O_WRONLY);
        sync();
        need(write(drop, "3", 1) == 1, "drop_caches, as root");
        close(drop);
        for (off_t at = 0; way == WARM && at < (off_t)mib * MIB;) need(sendfile(nowhere, in, &at, MIB) > 0, "sendfile");
        double cpu = seconds(CLOCK_THREAD_CPUTIME_ID), began = seconds(CLOCK_MONOTONIC), before = 0;
        for (off_t at = 0; at < (off_t)mib * MIB; at += MIB) {
            double from = seconds(CLOCK_THREAD_CPUTIME_ID);
            if (way == ADVICE) {
                posix_fadvise(in, at, MIB, POSIX_FADV_WILLNEED);
                need(pread(in, bytes, 1, at + MIB - 1) == 1, "read");
            } else if (way == NOWHERE) {
                for (off_t next = at; next < at + MIB;) need(sendfile(nowhere, in, &next, at + MIB - next) > 0, "sendfile");
            } else if (way == MAPPED) {
                void *map = mmap(NULL, MIB, PROT_READ, MAP_SHARED, in, at);
                need(madvise(map, MIB, MADV_SEQUENTIAL) == 0 && madvise(map, MIB, 22 /* MADV_POPULATE_READ */) == 0, "madvise");
                munmap(map, MIB);
            } else if (way == DIRECT) {
                need(pread(in, bytes, MIB, at) == MIB, "read");
            }
            before += seconds(CLOCK_THREAD_CPUTIME_ID) - from;
            if (way == DIRECT || way == MEMORY) {
                for (ssize_t sent = 0, more; sent < MIB; sent += more) need((more = send(out, bytes + sent, MIB - sent, 0)) > 0, "send");
            } else {
                for (off_t next = at; next < at + MIB;) need(sendfile(out, in, &next, at + MIB - next) > 0, "sendfile");
            }
        }
        double gb = mib * (double)MIB / 1e9;
        printf("%-42s %.3f s a GB, of it %.3f before the sending, %.0f MB/s\n", names[way], (seconds(CLOCK_THREAD_CPUTIME_ID) - cpu) / gb, before / gb, gb * 1000 / (seconds(CLOCK_MONOTONIC) - began));
        fflush(stdout);
        close(in);
    }
}
